"""Homes with a queue for tests, each in a temporary folder: of one account that owns everything, or, for root, with the
queue in another's hands. What got into the queue is read back from the files."""

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from qmailpy.formats import envelope
from qmailpy.stores import queuetree
from tests.helpers import BIN, environment, eventually, needs
from tests.servers import public_folder

ME = "me.example"


class Queued(NamedTuple):
    """A message in state S4. text: mess as it is; received: its first line; body: the rest."""

    number: int
    text: bytes
    uid: int
    pid: int
    sender: bytes
    recipients: list[bytes]

    @property
    def received(self) -> bytes:
        return self.text.partition(b"\n")[0]

    @property
    def body(self) -> bytes:
        return self.text.partition(b"\n")[2]


class QueueHome:
    """path: the home, with control/me and a queue."""

    def __init__(self, path: Path, split: int = queuetree.SPLIT, split_todo: bool = False) -> None:
        self.path = path
        self.queue = path / "queue"
        (path / "control").mkdir(parents=True)
        self.control(me=ME)
        make_queue(path, split, split_todo)

    def env(self, **changes: str) -> dict[str, str]:
        """helpers.environment with this home."""
        return environment(QMAILHOME=str(self.path), **changes)

    def control(self, **files: str | None) -> None:
        """Write control files, each with a final newline; None removes one."""
        for name, text in files.items():
            file = self.path / "control" / name
            if text is None:
                file.unlink(missing_ok=True)
            else:
                file.write_text(text + "\n")

    def files(self) -> set[str]:
        """What is in the queue besides folders and lock, by its path below the queue."""
        found = (file.relative_to(self.queue).as_posix() for file in self.queue.rglob("*") if not file.is_dir())
        return {name for name in found if not name.startswith("lock/")}

    def messages(self) -> list[Queued]:
        """What is in todo, in the order of its arrival."""
        entries = [path for path in (self.queue / "todo").rglob("*") if path.is_file()]
        return [self._read(path) for path in sorted(entries, key=lambda path: path.stat().st_mtime_ns)]

    def message(self) -> Queued:
        """The one that is there."""
        (message,) = self.messages()
        return message

    def _read(self, path: Path) -> Queued:
        number = int(path.name)
        (mess,) = (self.queue / "mess").glob(f"*/{number}")
        assert mess.stat().st_ino == number
        fields: dict[bytes, list[bytes]] = {}
        for letter, value in envelope.records(path.read_bytes()):
            fields.setdefault(letter, []).append(value)
        (uid,), (pid,), (sender,) = fields[b"u"], fields[b"p"], fields[b"F"]
        return Queued(number, mess.read_bytes(), int(uid), int(pid), sender, fields.get(b"T", []))

    def empty(self) -> None:
        """Remove all messages."""
        for name in self.files():
            (self.queue / name).unlink()

    def give(self, uid: int, gid: int) -> None:
        """Make the queue another's, as root."""
        for path in (self.queue, *self.queue.rglob("*")):
            os.chown(path, uid, gid)
        self.path.chmod(0o755)


def make_queue(home: Path, split: int = queuetree.SPLIT, split_todo: bool = False) -> None:
    """A queue in home, as qmail-make-queue makes it."""
    owners = queuetree.Owners(os.fsencode(home))
    mason = queuetree.Mason(owners, False, lambda kind, path, what: None, lambda path, why: None)
    mason.work(os.fsencode(home), queuetree.tree(split, split_todo))


@pytest.fixture
def queue_home(tmp_path: Path) -> QueueHome:
    """A home of the account that runs the tests."""
    return QueueHome(tmp_path / "home")


class QueueService:
    """A running qmail-queued, in `with`."""

    def __init__(self, home: QueueHome, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.socket = home.path / "run" / "qmail-queued"
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [BIN / "qmail-queued", *options], env={**home.env(), **(env or {})}, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> "QueueService":
        if not eventually(lambda: self.process.poll() is not None or self.socket.exists()):
            self.process.kill()  # it has that name once it listens
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        assert self.process.stderr is not None
        self.process.stderr.close()


def nobody() -> tuple[int, int]:
    """uid and gid of an account that owns nothing; a skip unless we are root."""
    if os.geteuid():
        pytest.skip("needs root")
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


@pytest.fixture
def shared_home() -> Iterator[QueueHome]:
    """For root: a home that all may read, and a queue that belongs to somebody else, without a service."""
    nobody()
    with public_folder() as folder:
        home = QueueHome(folder / "home")
        home.give(pwd.getpwnam("mail").pw_uid, pwd.getpwnam("mail").pw_gid)
        yield home


def open_to_all(path: Path) -> None:
    """Let everybody into a temporary folder, and into those above it that pytest has made for us alone."""
    for folder in (path, *path.parents):
        if folder == Path(tempfile.gettempdir()):
            return
        folder.chmod(folder.stat().st_mode | 0o055)


def run_queue(
    argv: Sequence[str | Path], message: bytes, addresses: bytes, env: Mapping[str, str], **more: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Run a qmail-queue: message on descriptor 0, addresses to be read from descriptor 1. Its output is what it says on
    descriptor 2."""
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
        for file, text in ((one, message), (two, addresses)):
            file.write(text)
            file.seek(0)
        return subprocess.run(
            argv, stdin=one, stdout=two, stderr=subprocess.PIPE, env=env, timeout=60, check=False, **more
        )


def inside(home: QueueHome, argv: Sequence[str | Path]) -> list[str | Path]:
    """argv so that a C program, whose home is compiled in, finds this home's queue there; for root. Nobody else sees
    it: it is mounted in a namespace of the program's own."""
    nobody()
    theirs = Path(argv[0]).parent.parent / "queue"
    for path in (home.queue, *home.queue.rglob("*")):
        own = theirs / path.relative_to(home.queue)
        there = next(folder for folder in (own, *own.parents) if folder.exists())
        status = there.stat()  # a message belongs to its folder's owner
        os.chown(path, status.st_uid, status.st_gid)
    return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', home.queue, theirs, *argv]


def program(which: str, name: str, home: QueueHome) -> list[str | Path]:
    """The command line of `ours` or of `the original`, with a queue that is home's. Run it with home.env()."""
    return [BIN / name] if which == "ours" else inside(home, [original(name)])


# The C programs are in no Debian package: where QMAIL_BIN names no folder of theirs, that is no skip.
ORIGINALS = "QMAIL_BIN" in os.environ
BOTH = pytest.mark.parametrize("which", ["ours"] + ["the original"] * ORIGINALS)


def needs_originals(test: Any) -> Any:
    """A test that is none without the C programs."""
    return test if ORIGINALS else None


def original(name: str) -> str:
    """The C program of the folder that QMAIL_BIN names. Its home is compiled in: the folder's parent."""
    path = Path(os.environ["QMAIL_BIN"]) / name
    return str(path) if path.exists() else needs(name)
