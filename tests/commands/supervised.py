"""Services for the tests of svc, svok and svstat: real ones, and made up ones, where the test is supervise."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from qmailpy.formats import svstatus
from qmailpy.formats.svstatus import Status
from qmailpy.stores import services
from tests.helpers import BIN, environment, eventually, needs, run

STAYS = "#!/bin/sh\nexec sleep 1000\n"
ENDS = "#!/bin/sh\nexit 0\n"
STUBBORN = '#!/bin/sh\ntrap "" TERM\ntouch ready\nwhile :; do sleep 1000; done\n'

# What makes a program one that may not read everything.
UNPRIVILEGED = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.geteuid() == 0 else []


class Supervised:
    """The service at folder under a supervise, Debian's unless named. `with` ends all its processes."""

    def __init__(
        self, folder: Path, script: str = STAYS, down: bool = False, program: str | Path | None = None
    ) -> None:
        self.folder = folder
        self.program = program or needs("supervise")
        folder.mkdir()
        (folder / "run").write_text(script)
        (folder / "run").chmod(0o700)
        if down:
            (folder / "down").touch()
        self.start()

    def start(self) -> None:
        command = [self.program, self.folder]
        # A session of its own, which its service shares: so that nothing is left.
        self.process = subprocess.Popen(command, env=environment(), start_new_session=True)
        assert eventually(lambda: run([needs("svok"), self.folder]).returncode == 0)
        if not (self.folder / "down").exists():
            assert self.becomes("up ")

    def status(self) -> Status:
        found = svstatus.parse((self.folder / "supervise" / "status").read_bytes())
        assert found is not None
        return found

    def stat(self) -> str:
        """What Debian's svstat says, without the name."""
        return run([needs("svstat"), self.folder]).stdout.decode().partition(": ")[2].rstrip("\n")

    def becomes(self, words: str) -> bool:
        """Whether svstat says this, at last: a word at the beginning, or all after the seconds."""
        return eventually(lambda: self.stat().startswith(words) or self.stat().endswith(words))

    def send(self, letters: str) -> None:
        assert run([needs("svc"), f"-{letters}", self.folder]).stderr == b""

    def kill(self) -> None:
        """End supervise, and leave the service running."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Supervised":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it may have ended by -x
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class MadeUp:
    """A service directory whose supervise is this test: it reads the FIFOs and writes the status."""

    def __init__(self, folder: Path, status: bytes | None = None) -> None:
        self.folder = folder
        (folder / "supervise").mkdir(parents=True)
        self.readers: list[int] = []
        for name in ("control", "ok"):
            os.mkfifo(folder / "supervise" / name)
            self.readers.append(os.open(folder / "supervise" / name, os.O_RDONLY | os.O_NONBLOCK))
        if status is not None:
            self.write(status)

    def write(self, status: bytes, child: bytes | None = None) -> None:
        if child is not None:
            (self.folder / "supervise" / "child").write_bytes(child)
        (self.folder / "supervise" / "status.new").write_bytes(status)
        (self.folder / "supervise" / "status.new").rename(self.folder / "supervise" / "status")

    def unread(self) -> int:
        """How many letters have come."""
        return services.unread(self.readers[0])

    def read(self, size: int = 100) -> bytes:
        """The letters that have come, or the first of them."""
        try:
            return os.read(self.readers[0], size)
        except BlockingIOError:
            return b""

    def end(self) -> None:
        while self.readers:
            os.close(self.readers.pop())

    def __enter__(self) -> "MadeUp":
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()


def programs(name: str) -> dict[str, str | Path]:
    return {"ours": BIN / name, "Debian's": needs(name)}
