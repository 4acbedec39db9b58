"""connect - a TCP connection to an address, from an address. Each step is its own call, as callers say in which
one an error happened. Addresses are 4 or 16 bytes; all raise OSError.

A socket object closes its descriptor when it is collected: use it in `with`, or detach it.
"""

import _socket
import errno
import os
import time

from qmailpy.formats import numbers

GRACE_S = 0.02  # iopause of the originals: a timeout of 0 still lets a neighbour answer
LONGEST_S = 1e6  # poll(2) counts milliseconds in an int


class Deadline:
    """A moment by which several steps have to be done."""

    __slots__ = ("_at",)

    def __init__(self, timeout_s: float) -> None:
        self._at = time.monotonic() + min(timeout_s, LONGEST_S) + GRACE_S

    def left(self) -> float:
        """Seconds, more than 0; raises TimeoutError when it is past."""
        left_s = self._at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "")
        return left_s

    def left_ms(self) -> int:
        """The same in milliseconds, at least 1."""
        return int(self.left() * 1000) + 1


def service(word: bytes) -> int | None:
    """The port that a decimal number, modulo 65536, or a name of services(5) stands for; None for no known name."""
    number, length = numbers.scan(word)
    if length == len(word):
        return number & 0xFFFF
    try:
        return _socket.getservbyname(word.decode(), "tcp")
    except (OSError, UnicodeError):
        return None


def family(ip: bytes) -> int:
    return _socket.AF_INET if len(ip) == 4 else _socket.AF_INET6


def name(ip: bytes, port: int, interface: bytes = b"") -> "tuple[str, int] | tuple[str, int, int, int]":
    """A socket's name as Python has it. interface, a name or a number, is where a link-local address belongs."""
    text = _socket.inet_ntop(family(ip), ip)
    if not interface:
        return text, port
    return text, port, 0, int(interface) if interface.isdigit() else _socket.if_nametoindex(os.fsdecode(interface))


def stream(ip: bytes) -> _socket.socket:
    """A TCP socket of the family of that address, close-on-exec."""
    return _socket.socket(family(ip), _socket.SOCK_STREAM)


def bind(sock: _socket.socket, ip: bytes, port: int, interface: bytes = b"") -> None:
    """Fix the local side; port 0 is any that is free."""
    sock.bind(name(ip, port, interface))


def connect(sock: _socket.socket, ip: bytes, port: int, deadline: Deadline, interface: bytes = b"") -> None:
    """Connect by then; TimeoutError if not. The socket is in timed mode afterwards: settimeout(None) ends that."""
    sock.settimeout(deadline.left())
    try:
        sock.connect(name(ip, port, interface))
    except TimeoutError:  # Python's own has no errno
        raise TimeoutError(errno.ETIMEDOUT, "")


def local(sock: _socket.socket) -> tuple[bytes, int]:
    """(address, port) of our side."""
    return _address(sock, sock.getsockname())


def remote(sock: _socket.socket) -> tuple[bytes, int]:
    """(address, port) of the other side."""
    return _address(sock, sock.getpeername())


def _address(sock: _socket.socket, name: tuple[str, int]) -> tuple[bytes, int]:
    return _socket.inet_pton(sock.family, name[0].partition("%")[0]), name[1]
