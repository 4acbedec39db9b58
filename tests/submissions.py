"""A home for the programs that take mail from local users, and a QMAILQUEUE that keeps what they hand over. The C
programs, where QMAIL_BIN names their folder, have their own home; what they need from it is in the environment."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import BIN, environment, run
from tests.pop3_original import originals

SETTINGS = {
    "QMAILDEFAULTHOST": "host",
    "QMAILDEFAULTDOMAIN": "domain.example",
    "QMAILPLUSDOMAIN": "plus.example",
    "QMAILIDHOST": "id.example",
    "USER": "joe",
}

RECORDER = """#!/bin/sh
cat > {folder}/message
cat 0<&1 > {folder}/envelope
printf "%s" "$PWD" > {folder}/folder
exit {code}
"""

Done = subprocess.CompletedProcess[bytes]


def everybodys(name: str) -> list[str]:
    """Ours, and the original where there is one."""
    return [str(BIN / name), *originals(name)]


def normal(text: bytes) -> bytes:
    """text with the date of now, GMT or not, and the Message-ID made from it, as DATE, ZONE and ID."""
    text = re.sub(rb"Date: \d+ \w{3} \d{4} \d\d:\d\d:\d\d ([-+])", rb"Date: DATE \1", text)
    return re.sub(rb"<\d{14}\.\d+\.qmail@", b"<ID@", text)


class Taken(NamedTuple):
    message: bytes
    sender: bytes
    recipients: list[bytes]


class Submissions:
    """path: a home of ours without a queue. env: for all programs, with the queue that only keeps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "control").mkdir()
        (path / "control" / "me").write_text("me.example\n")
        self.recorder(0)
        self.env = environment(QMAILHOME=str(path), QMAILQUEUE=str(path / "recorder"), **SETTINGS)

    def recorder(self, code: int) -> None:
        """From now on the queue ends with this code."""
        script = self.path / "recorder"
        script.write_text(RECORDER.format(folder=self.path, code=code))
        script.chmod(0o755)

    def run(self, argv: Sequence[str | bytes | Path], input: bytes = b"", **changes: str | None) -> Done:
        """A program in this environment; None takes a variable out."""
        env = {**self.env, **changes}
        return run(argv, input, {name: value for name, value in env.items() if value is not None}, cwd=self.path)

    def taken(self) -> Taken | None:
        """What was handed over since this was asked last."""
        if not (self.path / "envelope").exists():
            return None
        message = (self.path / "message").read_bytes()
        sender, *recipients, end, nothing = (self.path / "envelope").read_bytes().split(b"\0")
        os.unlink(self.path / "envelope")
        assert (sender[:1], end, nothing) == (b"F", b"", b"")
        assert all(recipient.startswith(b"T") for recipient in recipients)
        return Taken(normal(message), sender[1:], [recipient[1:] for recipient in recipients])


@pytest.fixture
def mail(tmp_path: Path) -> Submissions:
    return Submissions(tmp_path)
