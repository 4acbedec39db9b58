"""accept - take connections on a listening socket, and keep count of the processes that serve them."""

import _socket
import errno
import os
import select
import time
from _collections_abc import Callable

from qmailpy.loops.pool import Pool
from qmailpy.unix import processes, signals

LARGEST_BACKLOG = 0x7FFFFFFF  # an int; the kernel has a smaller limit of its own

# After these, accept would fail again at once, and the peer waits in the backlog all the same.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
SHORTAGE_MS = 1000  # unless a child ends before

Address = tuple[str, int]  # what accept and getsockname give first, for IPv4 and IPv6 alike: text and port


def listen(family: int, address: tuple[str, int] | tuple[str, int, int, int], backlog: int) -> "_socket.socket":
    """A bound, listening, non-blocking, close-on-exec socket. Raises OSError with the failed step in filename:
    create socket, bind, listen. An IPv6 socket on :: takes IPv4 peers too."""
    step = b"create socket"
    try:
        listening = _socket.socket(family, _socket.SOCK_STREAM)
        step = b"bind"
        listening.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            listening.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        step = b"listen"
        listening.listen(min(backlog, LARGEST_BACKLOG))
        listening.setblocking(False)
    except OSError as e:
        raise OSError(e.errno, "", step)
    return listening


class Children:
    """How many processes serve connections now, and for which peers.

    count falls for every process reaped, also for one inherited from before exec, and never below 0, as in
    tcpserver; peers holds only our own: pid -> the peer's address.
    """

    __slots__ = ("count", "limit", "peers")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.peers: dict[int, bytes] = {}


class Acceptor:
    """The loop of a server. connected(fd, address) finds a process for a new connection and returns its pid, or raises
    OSError if it cannot; ended(pid, wait status) and changed() tell of connections that ended and of a new count,
    short(error) of the beginning of a time in which the system has no descriptor or memory for a connection. pool: the
    processes that can serve again, if there are any."""

    def __init__(
        self,
        listening: "_socket.socket",
        children: Children,
        connected: Callable[[int, Address], int],
        ended: Callable[[int, int], None],
        changed: Callable[[], None],
        short: Callable[[OSError], None],
        pool: Pool | None = None,
    ) -> None:
        self._listening = listening
        self._children = children
        self._connected = connected
        self._ended = ended
        self._changed = changed
        self._short = short
        self._pool = pool
        self._is_short = False
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until a signal ends the process."""
        signals.wake(self._waker)
        signals.catch(signals.CHLD, _nothing)
        signals.unblock(signals.CHLD)
        pool, listening_fd = self._pool, self._listening.fileno()
        full = select.poll()
        free = select.poll()
        for poller in full, free:
            poller.register(self._woken, select.POLLIN)
            if pool is not None:
                poller.register(pool.finished_fd, select.POLLIN)
        free.register(listening_fd, select.POLLIN)
        self._reap()  # who ended before there was a handler
        children = self._children
        pause = False
        idle_s: float | None = None
        while True:
            waiting = full if pause or children.count >= children.limit else free
            ready = [fd for fd, _ in waiting.poll(SHORTAGE_MS if pause else idle_s and idle_s * 1000)]
            pause = False
            if pool is not None and (pool.finished_fd in ready or not ready):
                idle_s = self._look_after(pool)
            if self._woken in ready:
                self._reap()
            if listening_fd in ready:
                pause = not self._accept()

    def release(self) -> None:
        """In a forked child: let go of what belongs to the server."""
        signals.wake(-1)
        self._listening.close()
        os.close(self._woken)
        os.close(self._waker)

    def _accept(self) -> bool:
        """Take a connection. False if the system is short of something, so that asking again at once is in vain."""
        try:
            fd, address = self._listening._accept()  # type: ignore[attr-defined]  # what socket.accept calls
        except OSError as e:  # often the peer has left already
            if e.errno not in SHORTAGES:
                return True
            if not self._is_short:
                self._short(e)
            self._is_short = True
            return False
        self._is_short = False
        children = self._children
        children.count += 1
        self._changed()
        try:
            pid = self._connected(fd, address[:2])
        except OSError:
            children.count -= 1
            self._changed()
        else:
            children.peers[pid] = shown(address[0])[0]
        os.close(fd)
        return True

    def _look_after(self, pool: Pool) -> float | None:
        """Of processes that wait; returns for how many seconds nothing is to be done, None for ever."""
        now = time.monotonic()
        for pid in pool.finished(now):
            self._end(pid, 0)
        return pool.let_go(now)

    def _reap(self) -> None:
        try:
            os.read(self._woken, 4096)
        except BlockingIOError:
            pass
        for pid, status in processes.ended():
            if self._pool is None or not self._pool.gone(pid):
                self._end(pid, status)

    def _end(self, pid: int, status: int) -> None:
        self._children.peers.pop(pid, None)
        self._ended(pid, status)
        if self._children.count:
            self._children.count -= 1
        self._changed()


def shown(text: str) -> tuple[bytes, bytes | None]:
    """(address, interface) of an address as accept and getsockname give it: IPv4 mapped into IPv6 is IPv4, and the
    interface of a link-local address, None for others, stands apart."""
    if ":" not in text:
        return text.encode(), None
    text, _, interface = text.partition("%")
    address = text.rpartition(":")[2] if "." in text else text
    return address.encode(), os.fsencode(interface) or None


def _nothing(number: int, frame: object) -> None:
    """The signal's number in the pipe is all that is wanted of it."""
