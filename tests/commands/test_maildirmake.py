"""maildirmake: the same folders, messages and exit codes as the original, which runs too where QMAIL_BIN names it."""

import os
from pathlib import Path

import pytest

from tests.helpers import BIN, run
from tests.pop3_original import originals

everybodys = pytest.mark.parametrize("maildirmake", [str(BIN / "maildirmake"), *originals("maildirmake")])


@everybodys
def test_maildirmake_makes_folders_that_are_their_owners_alone(maildirmake: str, tmp_path: Path) -> None:
    result = run(["sh", "-c", 'umask 0; exec "$@"', "sh", maildirmake, b"Mail\xffdir"], cwd=tmp_path)
    assert (result.stdout, result.stderr, result.returncode) == (b"", b"", 0)
    made = os.path.join(bytes(tmp_path), b"Mail\xffdir")
    assert sorted(os.listdir(made)) == [b"cur", b"new", b"tmp"]
    assert {os.stat(os.path.join(made, name)).st_mode & 0o7777 for name in (b".", b"cur", b"new", b"tmp")} == {0o700}


@everybodys
def test_maildirmake_says_why_it_cannot(maildirmake: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, reason in ((b"there", b"file already exists"), (b"a/b", b"file does not exist"), (b"", b"file does not")):
        result = run([maildirmake, name], cwd=tmp_path)
        assert result.stderr.startswith(b"maildirmake: fatal: unable to mkdir " + name + b": " + reason)
        assert (result.stdout, result.returncode) == (b"", 111)


@everybodys
def test_maildirmake_without_a_name_says_its_usage(maildirmake: str) -> None:
    result = run([maildirmake])
    assert (result.stdout, result.stderr) == (b"", b"maildirmake: usage: maildirmake name\n")
    assert result.returncode == 100
