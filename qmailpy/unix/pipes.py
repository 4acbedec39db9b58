"""pipes - tee(2): a look at what waits in a pipe, which stays there.

Below ctypes, whose own half in Python would be a third of a megabyte in each process that stays.
"""

import os
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, dlopen, dlsym, get_errno

from qmailpy.unix import fds

NONBLOCK = 2  # SPLICE_F_NONBLOCK

FIFO = 0o010000  # S_IFIFO, of S_IFMT
FORMAT = 0o170000


class _Int(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class _Long(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = _Long


class Window:
    """A view of what waits in a pipe, with a name or without. Its copies are pages in a pipe of this process's own,
    shared with the other: nothing moves."""

    __slots__ = ("_copies", "_into", "_tee", "fd")

    def __init__(self, fd: int) -> None:
        """Raises OSError: fd is no pipe, or there is no tee."""
        if os.fstat(fd).st_mode & FORMAT != FIFO:
            raise OSError
        self.fd = fd
        self._tee = _Function(dlsym(dlopen(None, 0), "tee"))  # type: ignore[arg-type]
        self._tee.argtypes = (_Int, _Int, _Long, _Int)
        self._copies, self._into = os.pipe()

    def close(self) -> None:
        """Close the pipe of its own."""
        os.close(self._copies)
        os.close(self._into)

    def look(self, size: int) -> bytes:
        """At most size bytes from the front, as soon as there are some; b"" when nobody can write any more.

        Raises OSError: BlockingIOError if nothing waits; others, first of all EINVAL and ENOSYS, where tee is refused.
        """
        number = self._tee(self.fd, self._into, size, NONBLOCK)
        if number < 0:
            raise OSError(get_errno(), "")
        return fds.read_all(self._copies, number)

    def take(self, size: int) -> None:
        """Remove so many bytes, which were looked at, from the front. Raises OSError."""
        fds.read_all(self.fd, size)
