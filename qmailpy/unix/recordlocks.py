"""recordlocks - a file that one process at a time holds: fcntl(2), as vpopmail's programs. flock(2) locks are others,
unseen here (unix/locks).

Such a lock belongs to the process: it ends when that closes any descriptor of the file, and no child has it.
"""

import errno
import fcntl
import os

from qmailpy.unix import signals

PATIENCE_S = 20  # ten tries, two seconds apart (file_lock.c)


class Busy(OSError):
    """Another has had the lock for all that time."""


def acquire(path: bytes, mode: int = 0o600, patience_s: int = PATIENCE_S) -> int:
    """A descriptor for path, which is created if it is missing, with a write lock on the whole file. Raises OSError:
    Busy after patience_s seconds; ELOOP for a symbolic link.

    It waits in the kernel, in order of arrival; SIGALRM is used meanwhile."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    try:
        _lock(fd, patience_s)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, patience_s: int) -> None:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except OSError as e:
        if e.errno not in (errno.EAGAIN, errno.EACCES):
            raise

    def give_up(number: int, frame: object) -> None:
        raise Busy(errno.EAGAIN, "")

    signals.catch(signals.ALRM, give_up)
    signals.alarm(patience_s)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX)
    finally:
        signals.alarm(0)
        signals.default(signals.ALRM)
