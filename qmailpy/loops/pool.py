"""pool - processes that serve one connection after another, each handed over by the parent that has accepted it.

The parent has a line to each, down which a connection goes as a descriptor with a text. A process that is done with one
writes its pid into a pipe that all share, and waits. It ends when its line does, so also when the parent ends.
"""

import _socket
import os
import struct
import sys

IDLE_S = 10  # after which a process that waits is let go
LONGEST = 1 << 17  # bytes of a text

SPARE = 32  # descriptors of the parent besides its lines

PID = struct.Struct("i")
FD = struct.Struct("i")


class Pool:
    """The parent's side."""

    __slots__ = ("_idle", "_let_go", "_lines", "_most", "_telling", "finished_fd")

    def __init__(self) -> None:
        """Raises OSError."""
        limit = os.sysconf("SC_OPEN_MAX")
        self._most = limit - SPARE if limit >= 0 else sys.maxsize
        self.finished_fd, self._telling = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.finished_fd, False)
        self._lines: dict[int, _socket.socket] = {}
        self._idle: dict[int, float] = {}  # pid -> since when, in this order; the last one has the warmest memory
        self._let_go: set[int] = set()  # idle ones that are to end, or have

    def has_room(self) -> bool:
        """Whether there may be another one: each takes a descriptor, and connections come first."""
        return len(self._lines) < self._most

    def line(self) -> "tuple[_socket.socket, Place]":
        """Before a fork: the parent's end, for add, and what the child takes with it. Raises OSError."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        return ours, Place(theirs, self._telling)

    def add(self, pid: int, line: "_socket.socket") -> None:
        """A process that serves its first connection."""
        self._lines[pid] = line

    def hand_over(self, fd: int, text: bytes) -> int:
        """The pid of the process that gets this connection; 0 if none waits, or the text is too long for it."""
        while self._idle and len(text) <= LONGEST:
            pid, _ = self._idle.popitem()
            try:
                self._lines[pid].sendmsg([text], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, FD.pack(fd))])
            except OSError:  # it has been killed
                self._end(pid)
                continue
            return pid
        return 0

    def finished(self, now: float) -> list[int]:
        """The processes that have become idle."""
        try:
            records = os.read(self.finished_fd, 4096)
        except BlockingIOError:
            return []
        pids = [pid for (pid,) in PID.iter_unpack(records) if pid in self._lines]
        self._idle.update(dict.fromkeys(pids, now))
        return pids

    def let_go(self, now: float) -> float | None:
        """End those that have waited for too long. In how many seconds to look again; None if nobody waits."""
        for pid, since in list(self._idle.items()):
            left = since + IDLE_S - now
            if left > 0:
                return left
            del self._idle[pid]
            self._end(pid)
        return None

    def _end(self, pid: int) -> None:
        self._lines.pop(pid).close()
        self._let_go.add(pid)

    def gone(self, pid: int) -> bool:
        """A process has ended. Whether it was idle, so that its last connection has been told of."""
        line = self._lines.pop(pid, None)
        if line is not None:
            line.close()
        was_idle = self._idle.pop(pid, None) is not None or pid in self._let_go
        self._let_go.discard(pid)
        return was_idle


class Place:
    """The child's side. descriptors: what it needs to go on."""

    __slots__ = ("_line", "_telling", "descriptors")

    def __init__(self, line: "_socket.socket", telling: int) -> None:
        self._line = line
        self._telling = telling
        self.descriptors = (line.fileno(), telling)

    def leave(self) -> None:
        """In the parent, after the fork."""
        self._line.close()

    def done(self) -> None:
        """Ready for the next connection. Raises OSError if nobody will have one."""
        os.write(self._telling, PID.pack(os.getpid()))

    def next(self) -> tuple[int, bytes] | None:
        """A connection and its text; None at the end. Raises OSError."""
        text, passed, _, _ = self._line.recvmsg(LONGEST, _socket.CMSG_SPACE(FD.size), _socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in passed:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                return FD.unpack(data)[0], text
        return None
