"""Locks of fcntl(2): one process at a time, in the order of their arrival, and not for ever."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.unix import recordlocks

HOLD = (
    "import fcntl, os, sys\n"
    "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
    "fcntl.lockf(fd, fcntl.LOCK_EX)\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that has the lock until its descriptor 0 is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    try:
        yield process
    finally:
        process.communicate()


def is_free(path: Path) -> bool:
    """As another process sees it."""
    pid = os.fork()
    if pid == 0:
        try:
            fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def test_a_lock_is_held_until_its_descriptor_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    fd = recordlocks.acquire(bytes(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert not is_free(path)
    os.close(fd)
    assert is_free(path)


def test_who_waits_too_long_is_told_so(tmp_path: Path, holder: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(recordlocks.Busy):
        recordlocks.acquire(bytes(tmp_path / "lock"), patience_s=1)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_who_waits_gets_the_lock_as_soon_as_it_is_free(tmp_path: Path, holder: "subprocess.Popen[bytes]") -> None:
    assert holder.stdin is not None
    child = os.fork()
    if child == 0:
        os.close(holder.stdin.fileno())
        recordlocks.acquire(bytes(tmp_path / "lock"))
        os._exit(0)
    holder.stdin.close()
    holder.stdin = None
    assert os.waitpid(child, 0)[1] == 0


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        recordlocks.acquire(bytes(tmp_path / "link"))
    assert not (tmp_path / "target").exists()
