import errno
import os
import shutil
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from qmailpy.formats import vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores import safeio
from qmailpy.stores.vpopmail import administration
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.unix import crypt, recordlocks
from tests.helpers import BIN, PYTHON, needs, run
from tests.virtual import ROOT, SHA512, Virtual, virtual

__all__ = ["virtual"]


def raising(error: Exception) -> Callable[[], int]:
    def act() -> int:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "out", "err"),
    [
        (Stop(b"a\nb"), 255, b"a\nb\n", b""),
        (Stop(b"", 3), 3, b"", b""),
        (vpopmail.Invalid(vpopmail.NO_USER), 246, b"Error: User does not exist\n", b""),
        (
            vpopmail.Invalid(vpopmail.ILLEGAL_USERNAME, b"user invalid x"),
            255,
            b"Error: Illegal username\n",
            b"user invalid x\n",
        ),
        (recordlocks.Busy(errno.EAGAIN, ""), 111, b"", b"File busy try again later!\n"),
        (PermissionError(errno.EACCES, "", "/x"), 111, b"", b"name: fatal: unable to use /x: access denied\n"),
        (
            safeio.Failed(b"unable to create x", OSError(errno.ENOSPC, "")),
            111,
            b"",
            b"name: fatal: unable to create x: out of disk space\n",
        ),
    ],
)
def test_a_command_ends_as_what_it_ran_into_says(
    capfdbinary: pytest.CaptureFixture[bytes], error: Exception, code: int, out: bytes, err: bytes
) -> None:
    assert administration.end(b"name", raising(error)) == code
    assert capfdbinary.readouterr() == (out, err)


@pytest.mark.parametrize(
    ("word", "length"), [(b"", 12), (b"20", 20), (b"128", 128), (b"x", 12), (b"0", 12), (b"7x", 7)]
)
def test_a_random_password_has_the_length_that_is_wanted(word: bytes, length: int) -> None:
    assert administration.length(word) == length
    password = administration.random(length)
    assert len(password) == length
    assert not password.translate(None, administration.RANDOM)


def test_two_random_passwords_differ() -> None:
    assert administration.random(12) != administration.random(12)
    assert set(administration.random(5000)) == set(administration.RANDOM)


def test_a_hash_is_of_the_password_which_is_overwritten() -> None:
    password = bytearray(b"secret")
    hash = administration.hashed(password)
    assert password == bytes(6)
    assert crypt.crypt(bytearray(b"secret"), hash) == hash


@pytest.mark.parametrize(
    ("password", "code"), [(b"x" * 129, vpopmail.PASSWORD_TOO_LONG), (b"a\0b", vpopmail.BAD_CHARACTER)]
)
def test_a_password_that_cannot_be_is_refused(password: bytes, code: int) -> None:
    given = bytearray(password)
    with pytest.raises(vpopmail.Invalid) as caught:
        administration.hashed(given)
    assert (caught.value.code, bytes(given)) == (code, bytes(len(password)))


@pytest.mark.parametrize("word", [b"a:b", b"a\nb", b"a\x1bb", b"\x7f", b"\0"])
def test_what_would_spoil_a_line_or_a_terminal_is_no_comment_and_no_hash(word: bytes) -> None:
    for check in (administration.comment, administration.crypt_of):
        with pytest.raises(vpopmail.Invalid) as caught:
            check(word)
        assert caught.value.code == vpopmail.BAD_CHARACTER
    assert administration.comment("Jörg / .. é".encode()) == "Jörg / .. é".encode()
    with pytest.raises(vpopmail.Invalid):
        administration.crypt_of("é".encode())


@pytest.mark.parametrize(
    ("clear", "kept", "now"), [(None, False, None), (b"", False, b""), (b"old", False, b"new"), (None, True, b"new")]
)
def test_a_password_is_kept_where_it_was_or_is_wanted(clear: bytes | None, kept: bool, now: bytes | None) -> None:
    account = Account(b"joe", b"x", clear=clear)
    administration.set_password(account, bytearray(b"new"), kept)
    assert account.clear == now
    assert crypt.crypt(bytearray(b"new"), account.password) == account.password


def test_records_are_lines_of_json() -> None:
    assert (
        administration.objects([{"a": b"\xff", "b": [b"x"]}, {"c": None}])
        == b'{"a": "\\\\xff", "b": ["x"]}\n{"c": null}'
    )


def test_what_owners_write_commands_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    try:
        tty.setraw(theirs)
        monkeypatch.setattr(administration, "STDOUT", theirs)
        administration.say(b"a\x1b[2Jb\tc\xc3\xa9\r\nd")
        assert os.read(ours, 100) == b"a?[2Jb\tc\xc3\xa9?\nd\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_goes_elsewhere_is_as_it_is(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    administration.say(b"a\x1b[2Jb")
    assert capfdbinary.readouterr().out == b"a\x1b[2Jb\n"


MOUNT = 'mount --bind "$0" "$1" && shift && exec "$@"'


@pytest.mark.skipif(not ROOT, reason="only root gives rights up: run the tests as root")
@pytest.mark.parametrize(
    "words", ["vuserinfo -j max@a.example", "valias -j -s a.example", "vapppasswd list -j max@a.example"]
)
def test_json_needs_no_library_that_the_domains_owner_may_not_read(
    virtual: Virtual, tmp_path: Path, words: str
) -> None:
    virtual.domain("a.example", f"max:{SHA512}")
    library = run([PYTHON, "-c", "import json; print(*json.__path__)"]).stdout.decode().strip()
    closed = tmp_path / "json"
    shutil.copytree(library, closed)
    closed.chmod(0o700)
    command, *rest = words.split()
    argv = [needs("unshare"), "-m", "sh", "-c", MOUNT, str(closed), library, str(BIN / command), *rest]
    done = virtual.run(*argv)
    assert (done.returncode, done.stderr) == (0, b"")
