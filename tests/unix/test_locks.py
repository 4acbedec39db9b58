"""One at a time: locks that another open of the same file sees, and Debian's setlock too."""

import errno
import os
from pathlib import Path

import pytest

from qmailpy.unix import locks
from tests.helpers import needs, run


def test_a_lock_keeps_others_out_until_it_is_closed(tmp_path: Path) -> None:
    path = bytes(tmp_path / "lock")
    fd = locks.acquire(path)
    with pytest.raises(BlockingIOError):
        locks.acquire(path)
    taken = run([needs("setlock"), "-n", path, "true"])
    assert (taken.returncode, taken.stderr) == (111, b"setlock: fatal: unable to lock %s: temporary failure\n" % path)
    os.close(fd)
    os.close(locks.acquire(path))
    assert run([needs("setlock"), "-n", path, "true"]).returncode == 0


def test_a_lock_is_held_while_a_child_has_the_descriptor(tmp_path: Path) -> None:
    fd = locks.acquire(b"lock", os.open(tmp_path, os.O_PATH))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(fd)
    with pytest.raises(OSError) as caught:
        locks.acquire(bytes(tmp_path / "lock"))
    assert caught.value.errno == errno.EAGAIN
    os.close(writing)
    os.close(reading)
    os.waitpid(pid, 0)
    os.close(locks.acquire(bytes(tmp_path / "lock")))


def test_a_new_lock_file_is_its_owners_alone(tmp_path: Path) -> None:
    os.close(locks.acquire(bytes(tmp_path / "lock")))
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
