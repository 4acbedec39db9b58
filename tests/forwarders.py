"""fastforward, dot-forward and their like, ours and the originals. The C programs, where FASTFORWARD_BIN names their
folder, have their home compiled in, the folder's parent, and /etc/aliases too: they run, as root, in a namespace of
their own in which both are ours."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers import BIN
from tests.submissions import Done, Submissions

FOLDER = os.environ.get("FASTFORWARD_BIN", "")
ORIGINALS = bool(FOLDER) and os.geteuid() == 0
EVERYBODY = ["ours"] + ["the original"] * ORIGINALS
BOTH = pytest.mark.parametrize("which", EVERYBODY)

MOUNT = 'mount --bind "$0" "$1" && if [ -d "$2" ]; then mount --bind "$2" /etc; fi && shift 2 && exec "$@"'
PASS_ON = '#!/bin/sh\nexec "$QMAILQUEUE"\n'


def inside(mail: Submissions, argv: Sequence[str | Path]) -> list[str | Path]:
    """argv with the home of mail, and with its folder etc, if it has one, as /etc."""
    home = mail.path / "theirs"
    if not home.exists():
        shutil.copytree(FOLDER, home / "bin")
        (home / "bin" / "qmail-queue").write_text(PASS_ON)
        (home / "bin" / "qmail-queue").chmod(0o755)
    shutil.copytree(mail.path / "control", home / "control", dirs_exist_ok=True)
    return ["unshare", "-m", "sh", "-c", MOUNT, home, Path(FOLDER).parent, mail.path / "etc", *argv]


def program(which: str, name: str, mail: Submissions) -> list[str | Path]:
    """The beginning of the command line of `ours` or of `the original`."""
    return [BIN / name] if which == "ours" else inside(mail, [Path(FOLDER, name)])


def run(which: str, mail: Submissions, words: Sequence[str | Path], input: bytes = b"", **changes: str | None) -> Done:
    """A command, words[0] is its name, in the environment of mail."""
    return mail.run([*program(which, str(words[0]), mail), *words[1:]], input, **changes)


class Compiled:
    """What a program has made of a text: code, its complaint, and the file, None if there is none."""

    def __init__(self, done: Done, file: Path) -> None:
        self.code = done.returncode
        self.said = done.stderr
        self.file = file.read_bytes() if file.exists() else None

    def same(self, other: "Compiled") -> bool:
        """But for the words of a complaint."""
        return (self.code, self.file) == (other.code, other.file)


def compile_aliases(which: str, mail: Submissions, text: bytes) -> Compiled:
    """By newaliases."""
    etc = mail.path / "etc"
    shutil.rmtree(etc, ignore_errors=True)
    etc.mkdir()
    (etc / "aliases").write_bytes(text)
    words = [etc / "aliases"] if which == "ours" else []
    return Compiled(run(which, mail, ["newaliases", *words]), etc / "aliases.cdb")


def compile_list(which: str, mail: Submissions, text: bytes) -> Compiled:
    """By newinclude."""
    (mail.path / "list.bin").unlink(missing_ok=True)
    (mail.path / "list").write_bytes(text)
    return Compiled(run(which, mail, ["newinclude", "list"]), mail.path / "list.bin")


def set_forward(which: str, mail: Submissions, text: bytes) -> Compiled:
    (mail.path / "set.cdb").unlink(missing_ok=True)
    return Compiled(run(which, mail, ["setforward", "set.cdb", "set.tmp"], text), mail.path / "set.cdb")


def set_list(which: str, mail: Submissions, text: bytes) -> Compiled:
    (mail.path / "set.bin").unlink(missing_ok=True)
    return Compiled(run(which, mail, ["setmaillist", "set.bin", "set.tmp"], text), mail.path / "set.bin")
