"""vdominfo: the fields of domains, for people and for programs."""

import json

import pytest

from tests.servers import GID, UID
from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]


@pytest.fixture
def home(vpopmail_home: VpopmailHome) -> VpopmailHome:
    vpopmail_home.add("a.example")
    assert vpopmail_home.run("vaddaliasdomain", "a.example", "b.example").returncode == 0
    return vpopmail_home


def fields(home: VpopmailHome, name: str) -> str:
    return f"domain: {name}\nuid:    {UID}\ngid:    {GID}\ndir:    {home.domains}/a.example\nusers:  1\n"


@pytest.mark.parametrize("name", ["a.example", "B.example"])
def test_one_domain_has_its_aliases_behind_it(home: VpopmailHome, name: str) -> None:
    result = home.run("vdominfo", name)
    assert (result.returncode, result.stdout.decode()) == (0, fields(home, "a.example") + "alias: b.example\n")


def test_all_domains_have_an_empty_line_each(home: VpopmailHome) -> None:
    both = fields(home, "a.example") + "\n" + fields(home, "b.example (alias of a.example)") + "\n"
    for options in ([], ["-a"], ["-n", "-a"]):
        assert home.run("vdominfo", *options).stdout.decode() == both


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ("-n", ["a.example"]),
        ("-u", [str(UID)]),
        ("-g", [str(GID)]),
        ("-d", ["DIR"]),
        ("-t", ["1"]),
        ("-r", ["a.example"]),
        ("-rtn", ["a.example", "1", "a.example"]),
        ("-an", ["a.example"]),
    ],
)
def test_single_fields_are_a_line_each(home: VpopmailHome, options: str, lines: list[str]) -> None:
    wanted = [line.replace("DIR", f"{home.domains}/a.example") for line in lines]
    assert home.run("vdominfo", options, "a.example").stdout.decode().splitlines() == [*wanted, "alias: b.example"]


def test_programs_get_json(home: VpopmailHome) -> None:
    first, second = map(json.loads, home.run("vdominfo", "-j").stdout.splitlines())
    common = {"real": "a.example", "uid": UID, "gid": GID, "dir": f"{home.domains}/a.example", "users": 1}
    assert first == {**common, "domain": "a.example", "aliases": ["b.example"]}
    assert second == {**common, "domain": "b.example", "aliases": []}
    assert json.loads(home.run("vdominfo", "-j", "b.example").stdout) == first


def test_what_is_no_domain_is_said_so(home: VpopmailHome) -> None:
    for name in "x.example", "..", "a\nb":
        result = home.run("vdominfo", name)
        assert (result.returncode, result.stdout) == (245, b"Invalid domain name\n")


def test_without_users_assign_there_are_no_entries(vpopmail_home: VpopmailHome) -> None:
    text = b"Can't get domain entries - can't read users/assign file\n"
    for words, code in ((["a.example"], 219), ([], 255)):
        result = vpopmail_home.run("vdominfo", *words)
        assert (result.returncode, result.stdout) == (code, text)
    (vpopmail_home.path / "users/assign").write_text(".\n")
    assert vpopmail_home.run("vdominfo").stdout == b"What now - Success\n"
    assert vpopmail_home.run("vdominfo", "-j").stdout == b""


def test_wrong_usage_prints_the_usage(vpopmail_home: VpopmailHome) -> None:
    result = vpopmail_home.run("vdominfo", "-Z")
    assert result.returncode == 255 and result.stdout.startswith(b"vdominfo: usage: [options] [domain]\n")


def test_a_domain_that_cannot_be_read_hides_no_other(home: VpopmailHome) -> None:
    other = home.add("c.example")
    (home.domains / "a.example/vpasswd").unlink()
    (home.domains / "a.example/vpasswd").symlink_to("/dev/zero")
    result = home.run("vdominfo")
    assert (result.returncode, result.stdout.count(b"users:  0\n"), result.stdout.count(b"users:  1\n")) == (111, 2, 1)
    path = bytes(home.domains / "a.example/vpasswd")
    assert result.stderr == b"vdominfo: warning: unable to read %s: protocol error\n" % path
    assert bytes(other) in result.stdout
