"""stage - where code that forked processes will run is rehearsed by their parent, and leaves nothing behind.

Python adapts the code of a function to what it does, from the eighth call on (PEP 659). Each forked process would begin
that anew, and copy the pages of the function for it, all for one connection: a fifth of the time of a session.
"""

import _socket
import os
from _collections_abc import Callable

from qmailpy.unix import fds, signals

TAKEN = 0, 1, 2, 3  # numbers that chains give a meaning to: client, log, the packet of checkpassword
PLACES = b"/dev/shm", b"/tmp", b"/var/tmp"
BLOCK = 65536  # bytes


class Stage:
    """In `with`: 0 to 3 are put aside, nobody hears what is said on 2, and at the end they, the current directory and
    the handlers of signals are what they were. Who is told to end meanwhile does so then. Raises OSError."""

    __slots__ = ("_aside", "_before", "_folder", "_handlers", "_mask")

    def __init__(self) -> None:
        self._aside: dict[int, tuple[int | None, bool]] = {}
        self._before: int | None = None
        self._folder = b""
        self._handlers = signals.Handlers()
        self._mask: set[int] = set()

    def __enter__(self) -> "Stage":
        self._mask = signals.hold_ends()
        signals.ignore(signals.XFSZ)  # under a limit on files there is no folder, but a server all the same
        try:
            here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._before = fds.set_aside(here)
            finally:
                os.close(here)
            for fd in TAKEN:
                copy = fds.set_aside(fd)
                self._aside[fd] = copy, copy is not None and os.get_inheritable(fd)
            os.closerange(TAKEN[0], TAKEN[-1] + 1)
            fds.fill_standard(TAKEN[-1])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._put_back()
        finally:
            signals.release(self._mask)

    def _put_back(self) -> None:
        for fd, (copy, inheritable) in self._aside.items():
            fds.put_back(fd, copy, inheritable)
        self._handlers.put_back()
        if self._before is not None:
            os.fchdir(self._before)
            os.close(self._before)
        if self._folder:
            _remove(self._folder)

    def play(self, said: bytes, act: Callable[[], object], packet: bytes = b"") -> None:
        """act has on 0 and 1 a client who has said this, and nothing more, and on 3 this packet. Raises OSError."""
        fds.fill_standard(TAKEN[-1])
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            ours.send(said)
            ours.shutdown(_socket.SHUT_WR)
            for fd in (0, 1):
                fds.copy(theirs.fileno(), fd)
            theirs.close()
            reading, writing = os.pipe()
            os.write(writing, packet)
            os.close(writing)
            fds.move(reading, 3)
            act()
        finally:
            ours.close()
            theirs.close()
            if self._before is not None:
                os.fchdir(self._before)

    def folder(self) -> bytes:
        """The path of a folder of this stage, which goes with all that is in it. Raises OSError."""
        if not self._folder:
            name = b"/rehearsal." + os.urandom(8).hex().encode()
            place = next((place for place in PLACES if os.access(place, os.W_OK)), PLACES[0])
            os.mkdir(place + name, 0o700)
            self._folder = place + name
        return self._folder


def _remove(folder: bytes) -> None:
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(parent + b"/" + name)
        for name in folders:
            os.rmdir(parent + b"/" + name)
    os.rmdir(folder)
