"""workers - children of a spawner that make one delivery after another: to fork costs more than most deliveries.

A child that has ended a delivery keeps its ids, and waits a while for the next one of the same kind. It has a socket
for that, of packets, whose other end is the spawner's:

    + TEXT              from the child, first, and before it gives up what the spawner trusts it for: what it has found
    = CODE              from the child, a byte: the delivery has ended with this exit code
    TEXT                to the child, with the descriptors of a message and for what is said: the next delivery

Whatever else the child says, it is asked nothing any more. A delivery after which the child exits, or in which it dies,
has ended with that status; so has one of a child without such a socket.

Oracle      a child that answers questions, for a spawner that must not wait for long
Worker      the spawner's side of a child
Idle        those that wait
Seat        the child's side
"""

import _socket
import os
import struct
import time
from _collections_abc import Callable

from qmailpy import strerr
from qmailpy.unix import fds, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Socket = _socket.socket

PATIENCE_S = 10  # that a child waits
MOST = 20  # children that wait
SOON_S = 0.005  # that a spawner waits for an answer
TURNS = 200  # deliveries of a child: nobody collects its garbage

FOUND, ENDED = b"+", b"="
LONGEST = 8192  # bytes of a packet: two addresses, and an entry of users/cdb; what is longer is forked for
DESCRIPTORS = struct.Struct("@2i")


class Worker:
    """A child. kind: of the deliveries that it can make, as soon as that is known; delivery: what it makes; since: when
    it has begun to wait."""

    __slots__ = ("delivery", "kind", "pid", "since", "sock")

    def __init__(self, pid: int, delivery: "Any", sock: Socket | None) -> None:
        self.pid = pid
        self.delivery = delivery
        self.sock = sock
        self.kind: object | None = None
        self.since = 0.0

    def hand(self, text: bytes, message: int, output: int) -> bool:
        """Have it make another delivery; False if it does not take it."""
        if self.sock is None:
            return False
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, DESCRIPTORS.pack(message, output))
        try:
            self.sock.sendmsg([text], [rights], _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def hear(self) -> bytes | None:
        """A packet; b"" once there will be no more, None if there is none now. Descriptors that it has are lost."""
        try:
            return self.sock.recv(LONGEST + 1, _socket.MSG_DONTWAIT) if self.sock is not None else b""
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def shut(self) -> None:
        """Let both sides find the end of the socket."""
        try:
            if self.sock is not None:
                self.sock.shutdown(_socket.SHUT_RDWR)
        except OSError:  # they have
            pass


def pair() -> tuple[Socket, Socket] | tuple[None, None]:
    """The ends of a socket, for a child that is to be forked."""
    try:
        return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    except OSError:
        return None, None


class Oracle:
    """A child that is asked one thing at a time, and nothing while it is late with an answer. It is begun when there is
    something to ask, by begin(sock), which forks a process that calls answer; and again if it has died."""

    __slots__ = ("_begin", "_late", "_sock")

    def __init__(self, begin: Callable[[Socket], int]) -> None:
        """begin raises OSError."""
        self._begin = begin
        self._sock: Socket | None = None
        self._late = False

    def ask(self, question: bytes) -> bytes | None:
        """The answer; None if there is none, or none as soon as that, or one of them is no packet."""
        if len(question) > LONGEST or (self._sock is None and not self._start()):
            return None
        assert self._sock is not None
        try:
            if self._late:
                self._sock.settimeout(0)
                self._sock.recv(LONGEST)
                self._sock.settimeout(SOON_S)
            self._late = True
            self._sock.send(question, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
            answer = self._sock.recv(LONGEST + 1)
            self._late = not answer
        except (TimeoutError, BlockingIOError):
            return None
        except OSError:
            answer = b""
        if answer:
            return answer[len(ENDED) :] or None if len(answer) <= LONGEST else None
        self.end()
        return None

    def end(self) -> None:
        """It is asked nothing more."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _start(self) -> bool:
        ours, theirs = pair()
        if ours is None or theirs is None:
            return False
        try:
            self._begin(theirs)
        except OSError:
            ours.close()
            return False
        finally:
            theirs.close()
        ours.settimeout(SOON_S)
        self._sock, self._late = ours, False
        return True


def answer(sock: Socket, find: Callable[[bytes], bytes | None]) -> int:
    """In the child: find an answer to each question, until there are no more. Returns the exit code."""
    signals.forget_handlers()
    fds.close_others(2, sock.fileno())
    try:
        while question := sock.recv(LONGEST):
            sock.send(ENDED + (find(question) or b""), _socket.MSG_NOSIGNAL)
    except OSError:
        pass
    return 0


class Idle:
    """Children that wait, the one that has waited longest first."""

    __slots__ = ("_clock", "_waiting")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: list[Worker] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, worker: Worker) -> None:
        worker.since = self._clock()
        self._waiting.append(worker)

    def take(self, kind: object) -> Worker | None:
        """The one of this kind that has waited shortest: what it needs is in the caches still."""
        for at in range(len(self._waiting) - 1, -1, -1):
            if self._waiting[at].kind == kind:
                return self._waiting.pop(at)
        return None

    def remove(self, worker: Worker) -> None:
        if worker in self._waiting:
            self._waiting.remove(worker)

    def overdue(self) -> list[Worker]:
        """Those that need not wait any more: they have waited long enough, or too many wait."""
        if not self._waiting:
            return []
        limit = self._clock() - PATIENCE_S
        excess = len(self._waiting) - MOST
        found = [worker for at, worker in enumerate(self._waiting) if at < excess or worker.since <= limit]
        if found:
            self._waiting = self._waiting[len(found) :]
        return found


class Seat:
    """sock: the child's end, None if it makes one delivery only."""

    __slots__ = ("_left", "_ready", "sock")

    def __init__(self, sock: Socket | None) -> None:
        self.sock = sock
        self._left = TURNS
        self._ready = False

    def found(self, text: bytes) -> None:
        """From now on this process can make deliveries of one kind, and is trusted for nothing else."""
        if self.sock is not None and len(text) <= LONGEST:
            try:
                self.sock.send(FOUND + text, _socket.MSG_NOSIGNAL)
                self._ready = True
            except OSError:
                pass

    def last(self) -> None:
        """This delivery is the last one of this process, and ends with it."""
        self._ready = False

    def next(self, code: int) -> tuple[bytes, int, int] | int:
        """Tell how a delivery has ended, of which nothing is kept open, and wait for the next one: a text, and the
        descriptors of a message and for what is said. Or what the process is to exit with: code, if that has not been
        told; else LATER, as there may be a delivery that it cannot take."""
        self._left -= 1
        if self.sock is None or not self._ready or not self._left:
            return code
        try:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            for fd in (0, 1, 2):
                fds.copy(null, fd)
            os.close(null)
            os.chdir("/")
            self.sock.send(ENDED + bytes((code,)), _socket.MSG_NOSIGNAL)
        except OSError:
            return code
        try:
            text, passed, flags, _ = self.sock.recvmsg(
                LONGEST, _socket.CMSG_SPACE(DESCRIPTORS.size), _socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return strerr.LATER
        if not text or flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC) or len(passed) != 1:
            return strerr.LATER
        message, output = DESCRIPTORS.unpack(passed[0][2])
        return text, message, output
