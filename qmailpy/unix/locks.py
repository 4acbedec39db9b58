"""locks - a file that one process at a time holds: flock(2), as the originals. fcntl(2) locks are others, unseen here.

A lock belongs to the open file, not to the process: it is held until every copy of the descriptor is closed, also
those in children.
"""

import fcntl
import os

from qmailpy.unix import fds


def lock(fd: int, wait: bool) -> None:
    """Lock fd against everybody else. Raises OSError: EAGAIN if another has the lock and wait is false."""
    fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def held(fd: int, wait: bool) -> int:
    """fd, locked, or closed if that is impossible. Raises OSError, as lock."""
    try:
        lock(fd, wait)
    except OSError:
        os.close(fd)
        raise
    return fd


def acquire(path: bytes, dir_fd: int | None = None) -> int:
    """A locked descriptor for path, at once or never. Raises OSError."""
    return held(fds.open_append(path, dir_fd), wait=False)
