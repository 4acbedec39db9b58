"""What the tests of qmail-qmtpd, qmail-qmqpd and qmail-qmqpc share: a queue that writes down what it gets, and the C
programs of QMAIL_BIN, run as if their compiled-in home were another."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.helpers import BIN, PYTHON, environment, run
from tests.pop3_original import originals

# A stand-in for qmail-queue: takes a message and a whole envelope, and ends with $CODE.
RECORDER = f"""#!{PYTHON} -IS
import os
def read(fd):
    return b"".join(iter(lambda: os.read(fd, 65536), b""))
message, envelope = read(0), read(1)
if not (envelope.startswith(b"F") and envelope.endswith(b"\\0\\0")):
    os._exit(54)
os.write(6, os.environ.get("SAID", "").encode())
with open(f"{{os.environ['RECORDS']}}/{{len(os.listdir(os.environ['RECORDS'])):04}}", "wb") as f:
    f.write(message + b"\\0" + envelope)
os._exit(int(os.environ.get("CODE", "0")))
"""

DATE = re.compile(rb"\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d -0000")
QUEUED = re.compile(rb"\d+:Kok \d+ qp \d+,")

Words = Sequence[str | bytes | Path]


def net(text: bytes) -> bytes:
    return b"%d:%s," % (len(text), text)


def nets(*texts: bytes) -> bytes:
    return b"".join(map(net, texts))


def anonymous(answers: bytes) -> bytes:
    """Answers without times and process numbers."""
    return QUEUED.sub(b"QUEUED,", answers)


class Recorder:
    """A folder in which a QMAILQUEUE leaves what it was given."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "recorder"
        self.program.write_text(RECORDER)
        self.program.chmod(0o755)
        self.folder = folder / "records"
        self.folder.mkdir(exist_ok=True)

    def env(self) -> dict[str, str]:
        return {"QMAILQUEUE": str(self.program), "RECORDS": str(self.folder)}

    def take(self) -> list[tuple[bytes, bytes, bytes]]:
        """(Received, message, envelope) of what has come since the last time; Received without its date."""
        found = []
        for path in sorted(self.folder.iterdir()):
            first, second, rest = path.read_bytes().split(b"\n", 2)
            message, _, envelope = rest.rpartition(b"\0F")
            found.append((DATE.sub(b"DATE", first + b"\n" + second), message, b"F" + envelope))
            path.unlink()
        return found


def programs(name: str) -> list[str]:
    """Ours, and the original where there is one."""
    return [str(BIN / name), *originals(name)]


def in_home(program: str, home: Path) -> Words:
    """How to run program with home: QMAILHOME says it to ours; over the original's own, control is mounted for it."""
    if Path(program).parent == BIN:
        return [program]
    if os.geteuid():
        pytest.skip("a home is put under a C program by root only")
    mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    return [
        "unshare",
        "-m",
        "sh",
        "-c",
        mount,
        "sh",
        home / "control",
        Path(program).parent.parent / "control",
        program,
    ]


def converse(program: str, home: Path, request: bytes, variables: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Exit code and answers for a client that sends request and leaves."""
    env = environment(QMAILHOME=str(home), **(variables or {}))
    ended = run(in_home(program, home), request, env)
    return ended.returncode, anonymous(ended.stdout)
