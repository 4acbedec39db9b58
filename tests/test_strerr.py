"""What a program says before it ends, and the code it ends with."""

import errno
import os
import subprocess
import sys

import pytest

from qmailpy import strerr
from tests.helpers import ROOT, environment, needs, run


def said(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err


def test_a_fatal_line_names_program_trouble_and_reason(capfd: pytest.CaptureFixture[str]) -> None:
    code = strerr.fail(
        111, b"tcprules", b"unable to read ", b"input", error=FileNotFoundError(errno.ENOENT, "other text")
    )
    assert (code, said(capfd)) == (111, "tcprules: fatal: unable to read input: file does not exist\n")


def test_a_fatal_line_without_an_error_ends_in_its_parts(capfd: pytest.CaptureFixture[str]) -> None:
    assert (strerr.fail(100, b"x", b"no"), said(capfd)) == (100, "x: fatal: no\n")


def test_a_warning_and_a_usage_line(capfd: pytest.CaptureFixture[str]) -> None:
    strerr.warn(b"tcpserver", b"dropping connection", error=OSError(errno.EMFILE, ""))
    assert said(capfd) == "tcpserver: warning: dropping connection: process cannot open more files\n"
    assert (strerr.usage(b"argv0", b"argv0 x"), said(capfd)) == (100, "argv0: usage: argv0 x\n")


def test_an_error_that_the_originals_do_not_know_is_unknown() -> None:
    assert strerr.reason(OSError(errno.EKEYREJECTED, "")) == b"unknown error"
    assert strerr.reason(OSError("without a number")) == b"no error"


def test_what_cannot_be_said_does_not_stop_anybody() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from qmailpy.strerr import fail; sys.exit(fail(7, b'x', b'y'))"
    )
    result = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-ISc", script, ROOT], env=environment(), check=False
    )
    assert result.returncode == 7


# How to have execve(2) fail; the reason is printed by Debian's argv0 too.
FAILURES = {
    errno.ENOENT: "./missing",
    errno.EACCES: "./forbidden",
    errno.ENOTDIR: "./forbidden/x",
    errno.ENOEXEC: "./noformat",
    errno.ELOOP: "./loop",
    errno.ENAMETOOLONG: "./" + "x" * 300,
    errno.ETXTBSY: "./busy",
}


@pytest.mark.parametrize("number", FAILURES, ids=lambda number: errno.errorcode[number])
def test_the_reasons_are_those_of_debians_programs(number: int, tmp_path: os.PathLike[str]) -> None:
    folder = os.fspath(tmp_path)
    for name, mode in (("forbidden", 0o600), ("noformat", 0o700), ("busy", 0o700)):
        os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY, mode))
    os.symlink("loop", f"{folder}/loop")
    busy = os.open(f"{folder}/busy", os.O_WRONLY)
    file = FAILURES[number].encode()
    result = run([needs("argv0"), file, "x"], cwd=folder)
    os.close(busy)
    expected = strerr.line(b"argv0", b"fatal", (b"unable to run ", file), OSError(number, ""))
    assert (result.stderr, result.returncode) == (expected, strerr.LATER)


@pytest.mark.parametrize(
    ("number", "temporary"),
    [
        (errno.ENOSPC, True),
        (errno.EDQUOT, True),
        (errno.ENOMEM, True),
        (errno.EIO, True),
        (errno.ECONNREFUSED, True),
        (errno.ETIMEDOUT, True),
        (errno.ENOLCK, True),
        (errno.ENOENT, False),
        (errno.EACCES, False),
        (errno.EPERM, False),
        (errno.EINVAL, False),
        (errno.EROFS, False),
    ],
    ids=lambda value: errno.errorcode[value] if type(value) is int else str(value),
)
def test_trying_again_may_help_where_it_may(number: int, temporary: bool) -> None:
    assert strerr.error_temp(OSError(number, "")) is temporary


def test_reasons_are_short_plain_and_lower_case() -> None:
    for text in strerr.REASONS.values():
        assert text.isascii() and b"\n" not in text and b":" not in text
        assert text.lower() == text or text in (b"stale NFS file handle",)
