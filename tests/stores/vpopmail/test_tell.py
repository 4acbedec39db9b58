"""tell: who is qmail-send of a home, and gets its signal."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.stores.vpopmail import tell
from qmailpy.unix import processes, signals
from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]

# Says when it is ready, and when it gets SIGHUP. With an argument, it locks that as qmail-send does.
PROGRAM = (
    "import fcntl, os, signal, sys\n"
    "signal.signal(signal.SIGHUP, lambda *_: (os.write(1, b'hup\\n'), os._exit(0)))\n"
    "if len(sys.argv) > 1: fcntl.flock(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), fcntl.LOCK_EX)\n"
    "os.write(1, b'ready\\n')\n"
    "sys.stdin.read()\n"
)


class Fake:
    def __init__(self, name: str, folder: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [name, "-c", PROGRAM, *words], executable=sys.executable, cwd=folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None and self.process.stdout.readline() == b"ready\n"

    def end(self) -> bytes:
        return self.process.communicate()[0]


@pytest.fixture
def fakes() -> Iterator[list[Fake]]:
    made: list[Fake] = []
    yield made
    for fake in made:
        fake.process.communicate()


def test_qmail_send_is_known_by_its_lock(vpopmail_home: VpopmailHome, fakes: list[Fake]) -> None:
    home = bytes(vpopmail_home.path)
    assert tell.reread(home) == 0
    mutex = str(vpopmail_home.queue / "lock/sendmutex")
    (vpopmail_home.path / "mutex").touch()
    fakes += [Fake("python3", Path("/"), mutex), Fake("qmail-send", vpopmail_home.queue)]
    fakes += [Fake("qmail-send", vpopmail_home.queue, str(vpopmail_home.path / "mutex"))]  # another's
    assert tell.reread(home) == 1
    assert [fake.end() for fake in fakes] == [b"hup\n", b"", b""]


def test_a_home_without_queue_has_nobody_to_tell(tmp_path: Path) -> None:
    assert tell.reread(bytes(tmp_path)) == 0


def test_a_pid_that_is_somebody_elses_now_gets_no_signal(tmp_path: Path, fakes: list[Fake]) -> None:
    fakes.append(Fake("x", tmp_path))
    pid = fakes[0].process.pid
    assert not tell.send(pid, processes.started(pid) + 1, signals.HUP)
    assert tell.send(pid, processes.started(pid), signals.HUP)
    assert fakes[0].end() == b"hup\n"
    assert pid not in tell.pids() or processes.started(pid)
    assert os.getpid() not in tell.pids()
