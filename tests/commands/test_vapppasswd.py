import json
import os
import re
from pathlib import Path

import pytest

from tests.helpers import BIN
from tests.virtual import OWNER, SHA512, Virtual, virtual

__all__ = ["virtual"]

OURS = str(BIN / "vapppasswd")
CLIENT = "192.0.2.1"


@pytest.fixture
def home(virtual: Virtual) -> Virtual:
    virtual.domain("a.example", f"max:{SHA512}", f"nodir:{SHA512}:1:0:x::NOQUOTA")
    virtual.domain("b.example", alias="a.example")
    return virtual


def do(home: Virtual, *words: str, code: int = 0, **changes: str) -> str:
    result = home.run(OURS, *words, input=b"", **changes)
    assert (result.returncode, result.stderr) == (code, b"")
    return str(result.stdout.decode())


def logs_in(home: Virtual, password: str, user: str = "max") -> bool:
    packet = f"{user}@a.example\0{password}\0".encode()
    return bool(home.login(packet, TCPREMOTEIP=CLIENT, TCPLOCALPORT="110").stdout == b"in\n")


def added(home: Virtual, name: str, address: str = "max@a.example") -> str:
    said = do(home, "add", address, name)
    assert re.fullmatch(r"Random password: (?:[a-z2-7]{5}-){3}[a-z2-7]{5}\n", said)
    return said.split()[-1]


def test_a_password_is_made_used_told_and_taken_away(home: Virtual) -> None:
    phone = added(home, "phone")
    laptop = added(home, "laptop", "MAX@B.example")
    assert logs_in(home, phone) and logs_in(home, laptop) and logs_in(home, "secret")
    os.utime(home.folder / "domains/a.example/max/.app-passwords/.phone", (1795000000, 1795000000))
    lines = do(home, "list", "max@a.example", TZ="UTC").splitlines()
    assert re.fullmatch(r"laptop: made 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d, last used .* from 192.0.2.1", lines[0])
    assert lines[1].endswith(", last used 2026-11-18 11:06:40 from 192.0.2.1")
    assert do(home, "delete", "max@a.example", "phone") == ""
    assert not logs_in(home, phone)
    assert logs_in(home, laptop) and logs_in(home, "secret")


def test_json_has_the_same(home: Virtual) -> None:
    said = json.loads(do(home, "-j", "add", "max@a.example", "phone"))
    assert said["name"] == "phone" and logs_in(home, said["password"])
    added(home, "laptop")
    laptop, phone = [json.loads(line) for line in do(home, "list", "-j", "max@a.example").splitlines()]
    assert (laptop["name"], laptop["used"], laptop["ip"]) == ("laptop", None, None)
    assert (phone["name"], phone["ip"]) == ("phone", CLIENT) and phone["used"] >= phone["made"]


def test_files_are_the_owners_and_closed_to_others(home: Virtual) -> None:
    added(home, "phone")
    folder = home.folder / "domains/a.example/max/.app-passwords"
    for path, mode in (folder, 0o700), (folder / "phone", 0o600):
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (OWNER.pw_uid, mode)


def test_an_account_without_directory_gets_one(home: Virtual) -> None:
    assert do(home, "list", "nodir@a.example") == ""
    assert logs_in(home, added(home, "phone", "nodir@a.example"), "nodir")


def test_a_link_in_the_directory_leads_root_nowhere(home: Virtual, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root could be led astray")
    tmp_path.chmod(0o700)
    (home.folder / "domains/a.example/max/.app-passwords").symlink_to(tmp_path)
    assert home.run(OURS, "add", "max@a.example", "phone").returncode == 111
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["delete", "max@a.example", "none"], 255, "Error: no app password of that name\n"),
        (["add", "max@a.example", "taken"], 255, "Error: there is an app password of that name\n"),
        (["add", "joe@a.example", "x"], 246, "Error: User does not exist\n"),
        (["list", "max@c.example"], 245, "Error: Domain does not exist\n"),
        (["add", "max@a.example", ".."], 236, "Error: bad character\n"),
        (["add", "max@a.example", "a/b"], 236, "Error: bad character\n"),
        (["delete", "max@a.example", ".taken"], 236, "Error: bad character\n"),
        (["add", "max@a.example", "a\nb"], 236, "Error: bad character\n"),
        (["add", "max@a.example", "ä"], 236, "Error: bad character\n"),
        (["add", "max@a.example", "x" * 65], 236, "Error: bad character\n"),
    ],
)
def test_what_cannot_be_is_said(home: Virtual, words: list[str], code: int, said: str) -> None:
    added(home, "taken")
    assert do(home, *words, code=code) == said


@pytest.mark.parametrize(
    "words", [[], ["list"], ["add", "max@a.example"], ["list", "max@a.example", "x"], ["show", "max@a.example"]]
)
def test_misuse_shows_the_usage(home: Virtual, words: list[str]) -> None:
    assert do(home, *words, code=255).startswith("vapppasswd: usage: [options] add|list|delete email_address [name]\n")
    assert home.run(OURS, "-x").returncode == 255
