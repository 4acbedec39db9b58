"""Whose mail it is: users/cdb and the system's accounts. Those with accounts of their own are in test_qmail_lspawn."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import assign, cdb
from qmailpy.stores import users
from qmailpy.unix import nss


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "users").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_cdb_nothing_is_assigned(home: Path) -> None:
    assert users.assigned(b"joe") is None


def test_the_cdb_is_read_anew_each_time(home: Path) -> None:
    for name in (b"one", b"two"):
        text = b"=joe:%s:1:2:/:-::\n.\n" % name
        (home / "users" / "cdb").write_bytes(b"".join(cdb.make(assign.records(text))))
        assert users.assigned(b"Joe") == b"%s\x001\x002\0/\0-\0" % name
        assert users.assigned(b"Joe", os.fsencode(home)) == users.assigned(b"Joe")
    assert users.assigned(b"jane") is None


def test_a_cdb_that_cannot_be_read_is_trouble(home: Path) -> None:
    (home / "users" / "cdb").mkdir()
    with pytest.raises(OSError):
        users.assigned(b"joe")
    (home / "users" / "cdb").rmdir()
    (home / "users" / "cdb").write_bytes(b"".join(cdb.make([])))
    with pytest.raises(LookupError):
        users.assigned(b"joe")


@pytest.mark.parametrize(
    ("local", "found"),
    [
        (b"Joe", [(b"joe", b"", b"")]),
        (b"joe-A-b", [(b"joe-a-b", b"", b""), (b"joe-a", b"-", b"b"), (b"joe", b"-", b"A-b")]),
        (b"joe-", [(b"joe-", b"", b""), (b"joe", b"-", b"")]),
        (b"-joe", [(b"-joe", b"", b"")]),
        (b"x" * 32 + b"-y", []),
        (b"x" * 31 + b"-y", [(b"x" * 31, b"-", b"y")]),
        (b"", []),
    ],
)
def test_candidates(local: bytes, found: list[tuple[bytes, bytes, bytes]]) -> None:
    assert users.candidates(local) == found


@given(local=st.binary(max_size=80))
def test_each_candidate_is_the_local_part_again(local: bytes) -> None:
    for name, dash, ext in users.candidates(local):
        assert 0 < len(name) <= 31
        assert name + dash + ext.lower() == local.lower()


class Accounts:
    """In the place of nss.passwd."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **homes: Path) -> None:
        self.homes = homes
        self.error: OSError | None = None
        monkeypatch.setattr(nss, "passwd", self.passwd)

    def passwd(self, name: bytes) -> tuple[bytes, bytes, int, int, bytes, bytes, bytes] | None:
        if self.error:
            raise self.error
        home = self.homes.get(name.decode())
        return None if home is None else (name, b"x", os.getuid() or 4242, 77, b"", os.fsencode(home), b"")


def own(path: Path) -> Path:
    path.mkdir()
    if os.getuid() == 0:
        os.chown(path, 4242, 77)
    return path


def test_an_account_must_own_its_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Accounts(monkeypatch, joe=own(home / "joe"), other=Path("/"), gone=home / "gone", alias=home)
    uid = os.getuid() or 4242
    assert users.account(b"joe-x") == b"joe\0%d\x0077\0%s\0-\0x" % (uid, os.fsencode(home / "joe"))
    for name in (b"other", b"gone", b"nobody", b""):
        assert users.account(name) == b"alias\0%d\x0077\0%s\0-\0%s" % (uid, os.fsencode(home), name)


def test_without_alias_there_is_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Accounts(monkeypatch)
    with pytest.raises(users.Trouble) as raised:
        users.account(b"joe")
    assert raised.value.code == users.NO_ALIAS


def test_accounts_that_cannot_be_looked_up_are_not_unknown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Accounts(monkeypatch).error = OSError(errno.EIO, "")
    with pytest.raises(users.Trouble) as raised:
        users.account(b"joe")
    assert raised.value.code == users.SYSTEM


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ENOTCONN, errno.EHOSTUNREACH])
def test_a_home_that_cannot_be_looked_at_for_now_is_not_unknown(
    home: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    Accounts(monkeypatch, joe=home)

    def stale(path: object, **options: object) -> object:
        raise OSError(code, "")

    monkeypatch.setattr(os, "stat", stale)
    with pytest.raises(users.Trouble) as raised:
        users.account(b"joe")
    monkeypatch.undo()
    assert raised.value.code == users.NFS


def test_a_home_of_one_user_has_an_alias_of_its_own(home: Path) -> None:
    folder = os.fsencode(home)
    assert users.own_alias(folder, b"any") is None
    (home / "alias").mkdir()
    wanted = b"alias\0%d\0%d\0%s/alias\0-\0any" % (os.geteuid(), os.getegid(), folder)
    assert users.own_alias(folder, b"any") == wanted


@pytest.mark.parametrize(
    "data",
    [b"", b"a\x001\x002\0/\0-", b"a\x001\0x\0/\0-\0", b"a\x001\0\0/\0-\0", b"a\x004294967295\x001\0/\0-\0",
     b"a\x001\x004294967296\0/\0-\0"],
)  # fmt: skip
def test_what_is_no_user(data: bytes) -> None:
    with pytest.raises(ValueError):
        users.User(data)


def test_a_uid_without_digits_is_roots() -> None:
    user = users.User(b"a\0x\x0012y\0/\0-\0b\0c")
    assert (user.name, user.uid, user.gid, user.home, user.dash, user.ext) == (b"a", 0, 12, b"/", b"-", b"b")


def test_the_files_of_users_are_read_like_control_files(home: Path) -> None:
    (home / "users" / "include").write_bytes(b"joe \n\n# x\njane")
    files = users.Users(os.fsencode(home))
    assert files.lines(b"include") == [b"joe", b"jane"]
    assert files.lines(b"exclude") is None
