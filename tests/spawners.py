"""A qmail-send for tests of the spawners, that asks for what it likes; and for root a world with accounts and a home,
in a mount namespace that nobody else sees, where the C programs find all that is ours in the place of their own."""

import os
import pwd
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from qmailpy.formats import spawning
from tests.helpers import BIN, run
from tests.queuehomes import ORIGINALS, QueueHome, nobody, original
from tests.servers import TIMEOUT, public_folder, reachable_python

Word = str | Path

HELLO = b"x"  # 120 slots


def put(home: QueueHome, number: int = 24, text: bytes = b"Subject: one\n\nbody\n") -> bytes:
    """A message in the queue, its owner's; returns what a request calls it."""
    name = f"{number % 23}/{number}"
    path = home.queue / "mess" / name
    path.write_bytes(text)
    owner = (home.queue / "mess").stat()
    os.chown(path, owner.st_uid, owner.st_gid)
    return name.encode()


class Sender:
    """A spawner, and the other ends of its descriptors 0 and 1. In `with`: at the end it must have exited with 0."""

    def __init__(self, argv: Sequence[Word], env: Mapping[str, str], hello: int = 1) -> None:
        self.process = subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.to, self.back = self.process.stdin, self.process.stdout
        self.hello = self.back.read(hello)
        self.wide = hello > 1
        self.reports = spawning.Reports(self.wide)
        self.waiting: list[tuple[int, bytes]] = []

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                assert (self.end(), self.process.wait(TIMEOUT)) == ([], 0)
        finally:
            self.process.kill()
            self.process.wait()
            for file in (self.process.stdin, self.process.stdout, self.process.stderr):
                assert file is not None
                file.close()

    def ask(self, number: int, message: bytes, recipient: bytes, sender: bytes = b"from@a.example") -> None:
        self.to.write(spawning.Request(number, message, sender, recipient).encode(self.wide))

    def report(self) -> tuple[int, bytes]:
        """The next one: number, letter and text."""
        while not self.waiting:
            block = os.read(self.back.fileno(), 65536)
            assert block, self.process.stderr and self.process.stderr.read()
            self.waiting += self.reports.feed(block)
        return self.waiting.pop(0)

    def deliver(self, message: bytes, recipient: bytes, sender: bytes = b"from@a.example", number: int = 0) -> bytes:
        """Ask for one, and wait for its report."""
        self.ask(number, message, recipient, sender)
        found, text = self.report()
        assert found == number
        return text

    def end(self) -> list[tuple[int, bytes]]:
        """No more requests; the reports that are still to come."""
        self.to.close()
        while block := os.read(self.back.fileno(), 65536):
            self.waiting += self.reports.feed(block)
        return self.waiting


# The accounts that the C programs here were built for, by the names that we have for them.
OWN = {"qmailq": "mail", "qmails": "uucp", "qmailr": "news", "qmaill": "bin", "qmailp": "sys"}
ALIAS = "games"

UID = 12345  # of joe
OTHER = 12346  # of joe-smith and others

NAMESPACE = """
for file in passwd group; do mount --bind "$0/$file" "/etc/$file" || exit 99; done
if [ -n "$THEIRS" ]; then
    for name in queue control users; do mount --bind "$0/home/$name" "$THEIRS/$name" || exit 99; done
    for file in "$0"/replaced/*; do
        [ ! -e "$file" ] || mount --bind "$file" "$THEIRS/bin/${file##*/}" || exit 99
    done
fi
exec "$@"
"""


class World:
    """folder: all there is; home: QMAILHOME; joe: the home of one of its accounts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = QueueHome(folder / "home")
        self.theirs = Path(original("qmail-lspawn")).parent.parent if ORIGINALS else None
        for name in ("users", "bin", "alias"):
            (self.home.path / name).mkdir()
        (folder / "replaced").mkdir()
        self.joe = self.folder_of("joe", UID)
        self.alias = self.folder_of("alias", pwd.getpwnam(ALIAS).pw_uid)
        self._accounts()
        owners = {path: self._owner(path) for path in (self.home.queue, *self.home.queue.rglob("*"))}
        for path, account in owners.items():
            os.chown(path, pwd.getpwnam(OWN[account]).pw_uid, pwd.getpwnam("mail").pw_gid)
        self.home.path.chmod(0o755)

    def _owner(self, path: Path) -> str:
        first = path.relative_to(self.home.queue).parts[:1]
        if first in (("info",), ("local",), ("remote",), ("bounce",), ("last",)) or path.name in (
            "sendmutex",
            "trigger",
        ):
            return "qmails"
        return "qmailr" if path.name == "tcpto" else "qmailq"

    def _accounts(self) -> None:
        entry = pwd.getpwnam(ALIAS)
        passwd = "".join(line for line in Path("/etc/passwd").read_text().splitlines(True) if ALIAS not in line)
        for name in (ALIAS, "alias"):
            passwd += f"{name}:x:{entry.pw_uid}:{entry.pw_gid}::{self.alias}:/bin/sh\n"
        for name, theirs in OWN.items():
            ids = pwd.getpwnam(theirs)
            passwd += f"{name}:x:{ids.pw_uid}:{ids.pw_gid}::/:/bin/sh\n"
        other = self.folder_of("other", OTHER)
        accounts = {
            "joe": (UID, self.joe),
            "joe-smith": (OTHER, other),
            "homeless": (OTHER, self.folder / "nowhere"),
            "elsewhere": (OTHER, self.joe),
            "toor": (0, "/root"),
            "x" * 31: (OTHER, other),
            "y" * 32: (OTHER, other),
        }
        for name, (uid, home) in accounts.items():
            passwd += f"{name}:x:{uid}:{uid}::{home}:/bin/sh\n"
        (self.folder / "passwd").write_text(passwd)
        mail = pwd.getpwnam("mail").pw_gid
        group = Path("/etc/group").read_text()
        (self.folder / "group").write_text(f"{group}qmail:x:{mail}:\nnofiles:x:65534:\nextra:x:4321:news,qmailr,joe\n")

    def folder_of(self, name: str, uid: int) -> Path:
        path = self.folder / name
        path.mkdir()
        os.chown(path, uid, uid)
        return path

    def env(self, **changes: str) -> dict[str, str]:
        theirs = {"THEIRS": str(self.theirs)} if self.theirs else {}
        return {**self.home.env(), **reachable_python(), **theirs, **changes}

    def inside(self, *argv: Word) -> list[Word]:
        return ["unshare", "-m", "sh", "-c", NAMESPACE, self.folder, *argv]

    def program(self, which: str, name: str, *arguments: Word) -> list[Word]:
        """A command line for `ours` or `the original`."""
        return self.inside(BIN / name if which == "ours" else original(name), *arguments)

    def script(self, text: str, name: str = "script") -> Path:
        path = self.folder / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return path

    def replace(self, name: str, text: str) -> None:
        """Another program for both: a script, in the places of HOME/bin/NAME."""
        for folder in ("home/bin", "replaced"):
            self.script(text, f"{folder}/{name}")

    def use_other(self, which: str, name: str) -> None:
        """With `ours` the original program name, and the other way round."""
        folder, other = ("home/bin", original(name)) if which == "ours" else ("replaced", BIN / name)
        self.script(f'exec {other} "$@"\n', f"{folder}/{name}")

    def assign(self, *lines: str) -> None:
        (self.home.path / "users" / "assign").write_text("".join(f"{line}\n" for line in (*lines, ".")))
        done = run([BIN / "qmail-newu"], env=self.env())
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture
def world() -> Iterator[World]:
    nobody()
    with public_folder() as folder:
        yield World(folder)


def mode_and_owner(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
