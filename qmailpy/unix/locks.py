"""locks - a file that one process at a time holds: flock(2), as the originals. fcntl(2) locks are others, unseen here.

A lock belongs to the open file, not to the process: it is held until every copy of the descriptor is closed, also
those in children.
"""

import fcntl
import os


def open_append(path: bytes, dir_fd: int | None = None) -> int:
    """A descriptor for appending to path, which is created if it is missing, for its owner alone (open_append of the
    originals). Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)


def lock(fd: int, wait: bool) -> None:
    """Lock fd against everybody else. Raises OSError: EAGAIN if another has the lock and wait is false."""
    fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def acquire(path: bytes, dir_fd: int | None = None) -> int:
    """A locked descriptor for path, at once or never. Raises OSError."""
    fd = open_append(path, dir_fd)
    try:
        lock(fd, wait=False)
    except OSError:
        os.close(fd)
        raise
    return fd
