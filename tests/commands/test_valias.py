import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers import needs
from tests.virtual import OWNER, Virtual
from tests.vpopusers import home, virtual

__all__ = ["home", "virtual"]


def folder(home: Virtual) -> Path:
    return home.folder / "domains/a.example"


def test_lines_are_added_shown_and_removed(home: Virtual) -> None:
    for line in ("&old@a.example", "|exit 0"):
        done = home.run("valias", "-i", line, "In.Fo@b.example")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    file = folder(home) / ".qmail-in:fo"
    assert file.read_text() == "&old@a.example\n|exit 0\n"
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, OWNER.pw_uid)
    shown = "in.fo@a.example -> &old@a.example\nin.fo@a.example -> |exit 0\n"
    assert home.run("valias", "in.fo@a.example").stdout.decode() == shown
    assert home.run("valias", "-s", "a.example").stdout.decode() == shown
    assert home.run("valias", "-n", "a.example").stdout == b"in.fo\n"
    assert json.loads(home.run("valias", "-j", "in.fo@a.example").stdout) == {
        "alias": "in.fo",
        "domain": "a.example",
        "lines": ["&old@a.example", "|exit 0"],
    }
    again = home.run("valias", "-i", "|exit 0", "in.fo@a.example")
    assert (again.returncode, again.stderr) == (255, b"Error: alias in.fo@a.example -> |exit 0 already exists.\n")
    assert home.run("valias", "-d", "in.fo@a.example").returncode == 0
    assert not file.exists()
    assert home.run("valias", "-d", "in.fo@a.example").returncode == 0


def test_what_is_not_there_is_not_found(home: Virtual) -> None:
    (folder(home) / ".qmail-default").write_text("| x\n")
    for words, said in (
        (["info@a.example"], "No aliases info@a.example found"),
        (["a.example"], "No aliases found for domain a.example"),
        (["info@d.example"], "invalid domain, not in qmail assign file"),
    ):
        done = home.run("valias", *words)
        assert (done.returncode, done.stdout.decode()) == (255, said + "\n")
    assert home.run("valias", "-n", "a.example").returncode == 255
    assert home.run("valias", "-j", "a.example").stdout == b""
    assert home.run("valias", "default@a.example").stdout == b"default@a.example -> | x\n"


def test_names_are_sorted_and_a_mailing_list_has_one(home: Virtual, tmp_path: Path) -> None:
    for name in (".qmail-b", ".qmail-A", ".qmail-x-default"):
        (folder(home) / name).write_text("&x@y.example\n")
    for name in (".qmail-list", ".qmail-list-owner", ".qmail-list-default"):
        (folder(home) / name).symlink_to(tmp_path)
    assert home.run("valias", "-n", "a.example").stdout == b"A\nb\nlist\nx-default\n"


@pytest.mark.parametrize(
    ("words", "code", "said", "complaint"),
    [
        (["-i", "x" * 160, "info@a.example"], 224, "Error: alias line too long (max=160)", ""),
        (["-i", "a\nb", "info@a.example"], 236, "Error: bad character", ""),
        (["-i", "", "info@a.example"], 236, "Error: bad character", ""),
        (["-i", "x", "a/b@a.example"], 255, "Error: Illegal username", ""),
        (["-i", "x", "../../x@a.example"], 255, "Error: Illegal username", ""),
        (["-i", "x", "default@a.example"], 255, "Error: Illegal username", ""),
        (["-d", "default@a.example"], 255, "Error: Illegal username", ""),
        (["-i", "x", "a:b@a.example"], 255, "Error: Illegal username", "user invalid a:b"),
        (["-i", "x", "a" * 65 + "@a.example"], 231, "Error: user name too long (max=64)", ""),
        (["-n", "info@a.example"], 255, "", "Please enter domain name only."),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    home: Virtual, words: list[str], code: int, said: str, complaint: str
) -> None:
    (folder(home) / ".qmail-default").write_text("| x\n")
    done = home.run("valias", *words)
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (
        code, said and said + "\n", complaint and complaint + "\n",
    )  # fmt: skip
    assert {path.name for path in home.folder.rglob(".qmail*")} == {".qmail-default"}
    assert (folder(home) / ".qmail-default").read_text() == "| x\n"


def test_wrong_usage_is_told(home: Virtual) -> None:
    done = home.run("valias")
    assert (done.returncode, done.stderr) == (255, b"must supply alias email address\n")
    assert done.stdout.startswith(b"valias: usage: [options] email_address \n")
    assert home.run("valias", "-z").returncode == 254


def test_shells_that_add_lines_at_once_lose_none(home: Virtual) -> None:
    script = 'for number in 1 2 3; do valias -i "&$0-$number@x.example" info@a.example || exit 1; done'
    shells = [subprocess.Popen(["sh", "-c", script, str(shell)], env=home.env()) for shell in range(4)]
    assert [shell.wait() for shell in shells] == [0] * 4
    lines = (folder(home) / ".qmail-info").read_text().splitlines()
    assert sorted(lines) == [f"&{shell}-{number}@x.example" for shell in range(4) for number in (1, 2, 3)]


def test_a_kill_leaves_no_empty_file(home: Virtual) -> None:
    """One that is empty has mail delivered otherwise than one that is not there."""
    for call in ("write", "fsync", "rename"):
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when=1"]
        home.run(needs("strace"), "-o", "/dev/null", *inject, "valias", "-i", "&x@y.example", "info@a.example")
        assert not (folder(home) / ".qmail-info").exists()


def test_a_file_without_end_is_no_alias(home: Virtual) -> None:
    (folder(home) / ".qmail-zero").symlink_to("/dev/zero")
    assert home.run("valias", "zero@a.example").stdout == b"No aliases zero@a.example found\n"
