"""A local user for qmail-local and the programs of .qmail lines: his home, a message, and a QMAILQUEUE that keeps what
is forwarded. Paths are equal for all programs, so that what ours and the original do can be compared."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import environment

RECORDER = """#!/bin/sh
cat > {folder}/message-of-queue
cat 0<&1 > {folder}/envelope
exit {code}
"""

MESSAGE = b"Received: (qmail 1 invoked by uid 0); 5 Nov 2001 09:03:07 -0000\nSubject: test\n\ntext\n"


class Outcome(NamedTuple):
    """files: by their paths in home, `new/` and the like stand for one message in a Maildir; forwarded: message and
    envelope."""

    code: int
    out: bytes
    err: bytes
    files: dict[str, bytes]
    forwarded: tuple[bytes, bytes] | None


def anonymous(text: bytes) -> bytes:
    """text without the time of now and without pids."""
    text = re.sub(rb"\w{3} \w{3} \d\d \d\d:\d\d:\d\d 20\d\d", b"DATE", text)
    return re.sub(rb"qp \d+", b"qp PID", text)


class User:
    """path: the home, which is made anew by each fresh()."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "home"
        self.message = folder / "message"
        self.message.write_bytes(MESSAGE)
        self.queue(0)
        self.fresh()

    def fresh(self) -> None:
        """An empty home."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()

    def queue(self, code: int) -> None:
        """From now on the queue ends with this code."""
        script = self.folder / "recorder"
        script.write_text(RECORDER.format(folder=self.folder, code=code))
        script.chmod(0o755)

    def write(self, name: str | bytes, text: bytes, mode: int = 0o644) -> None:
        """A file in home."""
        path = os.path.join(os.fsencode(self.path), os.fsencode(name))
        with open(path, "wb") as file:
            file.write(text)
        os.chmod(path, mode)

    def maildir(self, name: str = "Maildir") -> Path:
        for part in ("tmp", "new", "cur"):
            (self.path / name / part).mkdir(parents=True)
        return self.path / name

    def env(self, **changes: str) -> dict[str, str]:
        return environment(QMAILHOME=str(self.folder), QMAILQUEUE=str(self.folder / "recorder"), **changes)

    def run(
        self, argv: Sequence[str | bytes | Path], message: bytes | None = None, /, **changes: str
    ) -> "subprocess.CompletedProcess[bytes]":
        """A program with the message on descriptor 0."""
        if message is not None:
            self.message.write_bytes(message)
        with self.message.open("rb") as file:
            return subprocess.run(
                argv, stdin=file, capture_output=True, env=self.env(**changes), timeout=60, check=False,
                cwd=self.path,
            )  # fmt: skip

    def local(
        self,
        program: str | Path,
        ext: bytes = b"",
        dash: bytes | None = None,
        *,
        options: Sequence[str] = (),
        local: bytes = b"joe",
        host: bytes = b"a.example",
        sender: bytes = b"s@b.example",
        otherwise: bytes = b"./Mailbox",
        message: bytes | None = None,
        **changes: str,
    ) -> Outcome:
        """qmail-local, and what it has done."""
        if dash is None:
            dash = b"-" if ext else b""
        words = (b"joe", os.fsencode(self.path), local, dash, ext, host, sender, otherwise)
        done = self.run([program, *options, "--", *words], message, **changes)
        return Outcome(done.returncode, anonymous(done.stdout), anonymous(done.stderr), self.files(), self.forwarded())

    def files(self) -> dict[str, bytes]:
        found = {}
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            if path.is_file() and not path.name.startswith(".qmail"):
                name = re.sub(r"/\d{10}\.\d+(_2)?\..*", "/", name)
                found[name] = anonymous(path.read_bytes())
        return found

    def forwarded(self) -> tuple[bytes, bytes] | None:
        """Message and envelope that the queue has got since this was asked last."""
        envelope = self.folder / "envelope"
        if not envelope.exists():
            return None
        found = (self.folder / "message-of-queue").read_bytes(), envelope.read_bytes()
        envelope.unlink()
        return found


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)
