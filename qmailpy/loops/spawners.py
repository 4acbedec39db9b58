"""spawners - the pipes between qmail-send and the programs beside it: to a spawner as much as it takes, at once, and
never waiting for it; to qmail-clean requests that are answered later, in their order; to the log whole turns.

All wants SIGPIPE ignored."""

import os
import select

from qmailpy.formats.spawning import Reports, Request
from qmailpy.unix import fds, timed

BLOCK = 65536  # bytes: what a pipe holds on Linux
ROOM = 16384  # bytes of requests that wait for a spawner, before no more are made
UNANSWERED = 500  # requests to qmail-clean: with their answers far less than its pipes hold, so nobody waits
LOG = 65536  # bytes of log that are collected


class Lost(Exception):
    """The program at the other end is gone."""


class Spawner:
    """One that runs deliveries. waiting: requests, or the rest of one, for which there was no room yet."""

    __slots__ = ("_reports", "_wide", "fd_in", "fd_out", "waiting")

    def __init__(self, fd_out: int, fd_in: int, wide: bool) -> None:
        """Raises OSError: no request can be written without waiting."""
        os.set_blocking(fd_out, False)
        self.fd_out = fd_out
        self.fd_in = fd_in
        self.waiting = bytearray()
        self._wide = wide
        self._reports = Reports(wide)

    def has_room(self) -> bool:
        return len(self.waiting) < ROOM

    def ask(self, request: Request) -> None:
        """To be sent with the next send."""
        self.waiting += request.encode(self._wide)

    def send(self) -> None:
        """What is waiting, as far as the pipe takes it. Raises Lost."""
        try:
            while self.waiting:
                del self.waiting[: os.write(self.fd_out, self.waiting)]
        except BrokenPipeError:
            raise Lost
        except OSError:  # no room
            pass

    def hear(self) -> list[tuple[int, bytes]]:
        """Slot and report of deliveries that are over. Raises Lost."""
        try:
            block = os.read(self.fd_in, BLOCK)
        except OSError:
            return []
        if not block:
            raise Lost
        return self._reports.feed(block)


class Cleaner:
    """qmail-clean. asked: what has been asked and not answered yet, the first first: word, number, and what is to be
    remembered with it."""

    __slots__ = ("_out", "_unsent", "asked", "fd_in")

    def __init__(self, fd_out: int, fd_in: int) -> None:
        self._out = fd_out
        self.fd_in = fd_in
        self._unsent: list[bytes] = []
        self.asked: list[tuple[bytes, int, tuple[int, ...]]] = []

    def has_room(self) -> bool:
        return len(self.asked) < UNANSWERED

    def ask(self, word: bytes, number: int, remembered: tuple[int, ...] = ()) -> None:
        """To be sent with the next send. word: `todo` or `foop`."""
        self.asked.append((word, number, remembered))
        self._unsent.append(b"%s/%d\0" % (word, number))

    def send(self) -> None:
        """Raises Lost."""
        if not self._unsent:
            return
        requests = b"".join(self._unsent)
        self._unsent.clear()
        try:
            fds.write_all(self._out, requests)
        except OSError:
            raise Lost

    def hear(self) -> list[tuple[bytes, bytes, int, tuple[int, ...]]]:
        """Answer, and what was asked. Raises Lost."""
        try:
            answers = os.read(self.fd_in, BLOCK)
        except OSError:
            raise Lost
        if not answers:
            raise Lost
        heard = [(answers[at : at + 1], *asked) for at, asked in enumerate(self.asked[: len(answers)])]
        del self.asked[: len(answers)]
        return heard


class Log:
    """Lines, written when there are many, and before anybody waits."""

    __slots__ = ("_fd", "_lines", "_size")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= LOG:
            self.write()

    def write(self) -> None:
        """All there is. Waits for whoever reads it; a log that cannot be written is no reason to lose mail."""
        if not self._lines:
            return
        text = b"".join(self._lines)
        self._lines.clear()
        self._size = 0
        view = memoryview(text)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody else has made it non-blocking
                timed.wait(self._fd, select.POLLOUT, timed.LONGEST_S)
            except OSError:
                return
