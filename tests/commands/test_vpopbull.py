"""vpopbull: who gets the message, in which way, and what it looks like."""

import os
import re
from pathlib import Path

import pytest

from tests.virtual import OWNER, ROOT, Virtual, virtual

__all__ = ["virtual"]

TEXT = b"From: boss\nSubject: news\n\nNews.\n"
USAGE = b"usage: vpopbull [options] -f [email_file] [virtual_domain] [...]\n"
DATE = rb"Date: \w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d \+0000\n"


@pytest.fixture
def home(virtual: Virtual) -> Virtual:
    virtual.domain("one.example", "fred:x", "max:x:1:0:max:DIR/max:1C")
    virtual.domain("two.example", "fred:x")
    virtual.domain("alias.example", alias="one.example")
    (virtual.folder / "news").write_bytes(TEXT)
    return virtual


def texts(home: Virtual, user: str, domain: str = "one.example") -> list[bytes]:
    return [path.read_bytes() for path in (home.folder / "domains" / domain / user / "Maildir" / "new").iterdir()]


def mailfile(home: Virtual) -> str:
    return str(home.folder / "news")


def test_each_account_of_all_domains_gets_a_copy(home: Virtual) -> None:
    done = home.run("vpopbull", "-V", "-f", mailfile(home))
    lines = b"fred@one.example\nmax@one.example\nfred@two.example\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, lines, b"skipping alias.example (alias of one.example)\n")
    for user, domain in (("fred", "one.example"), ("max", "one.example"), ("fred", "two.example")):
        (text,) = texts(home, user, domain)
        assert re.fullmatch(f"To: {user}@{domain}\n".encode() + DATE + TEXT, text)
        (path,) = (home.folder / "domains" / domain / user / "Maildir" / "new").iterdir()
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (OWNER.pw_uid, 0o600)


def test_a_date_that_is_there_stays(home: Virtual) -> None:
    Path(mailfile(home)).write_bytes(b"DATE: today\n" + TEXT)
    assert home.run("vpopbull", "-f", mailfile(home), "two.example").stdout == b""
    assert texts(home, "fred", "two.example") == [b"To: fred@two.example\nDATE: today\n" + TEXT]
    assert texts(home, "fred") == []


def test_domains_may_be_named_by_an_alias_and_one_that_is_none_is_said(home: Virtual) -> None:
    done = home.run("vpopbull", "-f", mailfile(home), "x.example", "alias.example")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"Error: domain x.example does not exist\n")
    assert [len(texts(home, *where)) for where in (("fred",), ("max",), ("fred", "two.example"))] == [1, 1, 0]


@pytest.mark.parametrize("letters", ["-n", "-nV"])
def test_who_would_get_it_is_listed(home: Virtual, letters: str) -> None:
    (home.folder / "but").write_bytes(b"max@one.example\nfred@two.example")
    done = home.run("vpopbull", letters, "-e", str(home.folder / "but"))
    assert (done.returncode, done.stdout) == (0, b"fred@one.example\n")
    assert texts(home, "fred") == []
    home.run("vpopbull", "-f", mailfile(home), "-e", str(home.folder / "but"))
    assert [len(texts(home, *where)) for where in (("fred",), ("max",), ("fred", "two.example"))] == [1, 0, 0]


@pytest.mark.parametrize("letter", ["-h", "-s"])
def test_all_may_have_the_same_file(home: Virtual, letter: str) -> None:
    maildir = home.folder / "domains" / "one.example" / "max" / "Maildir"
    (maildir / "maildirsize").write_bytes(b"1C\n0 0\n")
    home._give(maildir)
    done = home.run("vpopbull", letter, "-f", mailfile(home), "one.example")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (path,) = (maildir / "new").iterdir()
    assert re.fullmatch(rf"\d{{10}}\.\d+\.{re.escape(os.uname().nodename)}", path.name)
    assert path.samefile(mailfile(home)) and path.is_symlink() == (letter == "-s")
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (OWNER.pw_uid, 0o600)
    assert (maildir / "maildirsize").read_bytes() == b"1C\n0 0\n%d 1\n" % len(TEXT)


@pytest.mark.skipif(not ROOT, reason="only root has domains of several owners")
def test_a_file_that_is_linked_to_has_one_owner(home: Virtual) -> None:
    assign = home.folder / "users" / "assign"
    text = re.sub(r"(two.example-:two.example):\d+:", r"\1:4242:", assign.read_text())
    assign.write_text(text)
    (home.folder / "users" / "cdb").unlink()
    done = home.run("vpopbull", "-h", "-f", mailfile(home), "one.example", "two.example")
    said = b"vpopbull: fatal: unable to give the message to two.example: permission denied\n"
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", said)
    assert os.stat(mailfile(home)).st_uid == OWNER.pw_uid


def test_a_maildir_that_is_missing_is_made_and_one_that_cannot_be_is_said(home: Virtual) -> None:
    folder = home.folder / "domains" / "one.example"
    (folder / "fred").rename(folder / "fred.old")
    (folder / "max").rename(folder / "max.old")
    (folder / "max").write_bytes(b"a file")
    done = home.run("vpopbull", "-f", mailfile(home), "one.example")
    said = f"max@one.example: ERROR COPYING TO {folder}/max\n".encode()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", said)
    assert len(texts(home, "fred")) == 1


def test_a_domain_whose_accounts_cannot_be_read_keeps_nobody_else_from_the_message(home: Virtual) -> None:
    folder = home.folder / "domains" / "one.example"
    (folder / "vpasswd").rename(folder / "vpasswd.old")
    (folder / "vpasswd").mkdir()
    done = home.run("vpopbull", "-f", mailfile(home))
    assert (done.returncode, done.stdout) == (111, b"")
    assert done.stderr == b"vpopbull: fatal: unable to read accounts of one.example: is a directory\n"
    assert len(texts(home, "fred", "two.example")) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], b""),
        (["one.example"], b"Error: email_file not specified\n"),
        (["-x"], b"vpopbull: invalid option -- 'x'\n"),
    ],
)
def test_usage(home: Virtual, words: list[str], said: bytes) -> None:
    done = home.run("vpopbull", *words)
    assert (done.returncode, done.stderr) == (255, said)
    assert done.stdout.startswith(USAGE)


def test_files_that_cannot_be_read_or_are_empty(home: Virtual) -> None:
    (home.folder / "empty").touch()
    empty, none = str(home.folder / "empty"), str(home.folder / "none")
    for words, said in {
        ("-f", none): f"Could not open file {none}\n", ("-f", empty): f"Error: {empty} is empty\n",
        ("-f", mailfile(home), "-e", none): f"Could not open file {none}\n",
    }.items():  # fmt: skip
        done = home.run("vpopbull", *words)
        assert (done.returncode, done.stdout, done.stderr) == (255, b"", said.encode())
    assert texts(home, "fred") == []


def test_without_domains_it_says_so(home: Virtual) -> None:
    (home.folder / "users" / "assign").unlink()
    done = home.run("vpopbull", "-n")
    assert (done.returncode, done.stdout) == (255, b"Can't get domain entries - can't read users/assign file\n")
