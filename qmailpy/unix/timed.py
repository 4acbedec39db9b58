"""timed - a peer on two descriptors who may be slow, silent, or never read: every wait has an end."""

import _socket
import errno
import os
import select

SMALL_WRITE = 512  # bytes; a pipe or terminal that polls writable takes that many without blocking (PIPE_BUF)
LONGEST_S = 2147483  # that a wait takes: poll(2) counts milliseconds in an int
DRAINED = 256  # blocks of 4 kB, at most, that are read away at the end


def wait(fd: int, event: int, timeout_s: float) -> None:
    """Wait until poll(2) reports event or an error on fd; TimeoutError if nothing comes."""
    poller = select.poll()
    poller.register(fd, event)
    if not poller.poll(min(timeout_s, LONGEST_S) * 1000):
        raise TimeoutError(errno.ETIMEDOUT, "")


class Peer:
    """Timed reading and writing on descriptors that somebody else owns. Use it in `with`: it ends with detach,
    so that no object closes the descriptor later, when another program of the chain uses it.

    Raises OSError, of which TimeoutError is one, when the peer is gone or has been silent for timeout_s seconds.
    """

    __slots__ = ("_readable", "_sending", "_socket_in", "_socket_out", "_writable", "fd_in", "fd_out", "timeout_ms")

    def __init__(self, timeout_s: int, fd_in: int = 0, fd_out: int = 1) -> None:
        self.fd_in = fd_in
        self.fd_out = fd_out
        self.timeout_ms = min(timeout_s, LONGEST_S) * 1000
        self._readable = select.poll()
        self._readable.register(fd_in, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(fd_out, select.POLLOUT)
        self._socket_in = _borrow(fd_in)
        self._socket_out = _borrow(fd_out)

    def __enter__(self) -> "Peer":
        return self

    def renew(self) -> None:
        """The descriptors stand for something else now, under the same numbers."""
        self.__exit__()
        self._socket_in = _borrow(self.fd_in)
        self._socket_out = _borrow(self.fd_out)

    def __exit__(self, *error: object) -> None:
        for borrowed in (self._socket_in, self._socket_out):
            if borrowed is not None:
                borrowed.detach()

    def read(self, size: int) -> bytes:
        """At most size bytes as soon as there are some; b"" at the end of the input."""
        if not self._readable.poll(self.timeout_ms):
            raise TimeoutError(errno.ETIMEDOUT, "")
        return os.read(self.fd_in, size)

    def read_line(self, line: bytearray, limit: int) -> bool:
        """Read one line into line, which is emptied first: without its LF, at most limit + 1 bytes of it, so that
        a line that is too long shows by its length. False at the end of the input.

        Not one byte behind the LF is taken: the next program of the chain finds it. On a socket that is done
        with MSG_PEEK, elsewhere byte by byte.
        """
        line.clear()
        buffer = bytearray(256 if self._socket_in is not None else 1)
        read = bytearray(limit + 1)  # of its final size: what grows is moved, and leaves itself in freed memory
        length = 0
        try:
            while True:
                size = self._peek(buffer)
                end = buffer.find(b"\n", 0, size)
                taken = end + 1 if end >= 0 else size
                if taken == 0:
                    return False
                if self._socket_in is not None:
                    self._socket_in.recv_into(buffer, taken)
                piece = min(limit + 1 - length, end if end >= 0 else size)
                read[length : length + piece] = memoryview(buffer)[:piece]
                length += piece
                if end >= 0:
                    line += memoryview(read)[:length]
                    return True
        finally:
            for held in (buffer, read):  # they may have held a password
                held[:] = bytes(len(held))

    def _peek(self, buffer: bytearray) -> int:
        if not self._readable.poll(self.timeout_ms):
            raise TimeoutError(errno.ETIMEDOUT, "")
        if self._socket_in is None:
            return os.readv(self.fd_in, [buffer])
        return self._socket_in.recv_into(buffer, len(buffer), _socket.MSG_PEEK)

    def drain(self) -> None:
        """Read away what has come already, before the last descriptor of the connection is closed: unread bytes would
        turn the end into a reset, which can take the last reply from a client that pipelines."""
        for _ in range(DRAINED):
            if not self._readable.poll(0) or not os.read(self.fd_in, 4096):
                break

    def write(self, data: "bytes | bytearray") -> None:
        """Write all of data. On a socket each send takes what fits, so that a peer who does not read is seen."""
        if self._socket_out is None:
            self._write_small(data)
            return
        sent = 0
        while sent < len(data):
            try:
                sent += self._socket_out.send(memoryview(data)[sent:] if sent else data, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not self._writable.poll(self.timeout_ms):
                    raise TimeoutError(errno.ETIMEDOUT, "")

    def _write_small(self, data: "bytes | bytearray") -> None:
        for start in range(0, len(data), SMALL_WRITE):
            piece = memoryview(data)[start : start + SMALL_WRITE]
            while piece:
                if not self._writable.poll(self.timeout_ms):
                    raise TimeoutError(errno.ETIMEDOUT, "")
                piece = piece[os.write(self.fd_out, piece) :]


def _borrow(fd: int) -> "_socket.socket | None":
    """A socket object for fd, to be detached again; None if fd is no socket."""
    try:
        return _socket.socket(fileno=fd)
    except OSError:
        return None
