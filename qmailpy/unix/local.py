"""local - stream sockets with a name in the file system, whose callers the kernel knows by uid. Descriptors are
integers; who opens one closes it."""

import _socket
import errno
import os
import struct

from qmailpy.unix import locks

LONGEST = 107  # bytes of a name: sun_path of unix(7) with its NUL
NEW = b".new"
LOCK = b".lock"
OPEN_MODE = 0o022  # of a folder that others may write

PEERGROUPS = 59  # SO_PEERGROUPS, Linux 4.13
GROUPS_SIZE = 1024  # bytes, which Python gives at most: 256 groups

CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
SECONDS = struct.Struct("ll")  # struct timeval


class Listening:
    """A socket that listens under path until close. fd is non-blocking and close-on-exec."""

    __slots__ = ("_lock", "_path", "fd")

    def __init__(self, path: bytes, mode: int, uid: int = -1, gid: int = -1, backlog: int = 1024) -> None:
        """Listen, with that mode and owner of the socket; -1 leaves them. Raises OSError with the failed step in
        filename: use, lock, bind, listen.

        A lock keeps a second server away (EAGAIN), so that a socket which is there belongs to nobody any more. It is
        replaced by one that listens already and has its mode: no caller ever finds none, or one that is not ready.
        What is no socket is not touched (EEXIST), and no folder is trusted that others than root and this user may
        write (EPERM).
        """
        self._path = path
        self._lock = self.fd = -1
        step = b"use"
        try:
            _look_at(path)
            step = b"lock"
            self._lock = locks.acquire(path + LOCK)
            step = b"bind"
            sock = _bound(path + NEW)
            self.fd = sock.detach()
            if uid >= 0 or gid >= 0:
                os.chown(path + NEW, uid, gid)
            os.chmod(path + NEW, mode)
            step = b"listen"
            _as_socket(self.fd, lambda sock: sock.listen(backlog))
            os.set_blocking(self.fd, False)
            os.rename(path + NEW, path)
        except OSError as e:
            self.release()
            raise OSError(e.errno, "", step)

    def accept(self) -> int:
        """A close-on-exec, non-blocking descriptor of the next caller. Raises OSError: EAGAIN if there is none."""
        fd: int = _as_socket(self.fd, lambda sock: sock._accept()[0])
        os.set_blocking(fd, False)
        return fd

    def close(self) -> None:
        """Listen no more, and take the name away; the lock goes last, so that it is not the next server's name."""
        try:
            os.unlink(self._path)
        except OSError:
            pass
        self.release()

    def release(self) -> None:
        """Close the descriptors alone, as in a forked child."""
        for fd in (self.fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self.fd = self._lock = -1


def _look_at(path: bytes) -> None:
    if len(path + NEW) > LONGEST:
        raise OSError(errno.ENAMETOOLONG, "")
    folder = os.stat(os.path.dirname(path) or b".")
    if folder.st_mode & OPEN_MODE or folder.st_uid not in (0, os.geteuid()):
        raise OSError(errno.EPERM, "")
    try:
        kind = os.lstat(path).st_mode & 0o170000
    except FileNotFoundError:
        return
    if kind != 0o140000:
        raise OSError(errno.EEXIST, "")


def _bound(path: bytes) -> "_socket.socket":
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody else's before it has its mode
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    return sock


def _as_socket(fd: int, act):  # type: ignore[no-untyped-def]
    """What act returns for a socket object that lives as long as the call. The family is given: asking costs more."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
    try:
        return act(sock)
    finally:
        sock.detach()


def peer(fd: int) -> tuple[int, int]:
    """uid and gid of who has called connect, or listen, on the other side of fd."""
    size = CREDENTIALS.size
    found: bytes = _as_socket(fd, lambda sock: sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, size))
    _, uid, gid = CREDENTIALS.unpack(found)
    return uid, gid


def peer_groups(fd: int) -> tuple[int, ...]:
    """The other groups of who is on the other side of fd. Raises OSError, also for more than 256."""
    found: bytes = _as_socket(fd, lambda sock: sock.getsockopt(_socket.SOL_SOCKET, PEERGROUPS, GROUPS_SIZE))
    return struct.unpack(f"{len(found) // 4}I", found)


def send(fd: int, data: "memoryview | bytes") -> int:
    """Write to a socket, whose other side may be gone: an error then, and no signal. The number of bytes."""
    return int(_as_socket(fd, lambda sock: sock.send(data, _socket.MSG_NOSIGNAL)))


def end(fd: int) -> None:
    """Let the other side see the end of what is sent. Raises OSError."""
    _as_socket(fd, lambda sock: sock.shutdown(_socket.SHUT_WR))


def is_other_side(fd: int, accepted: int) -> bool:
    """Whether fd is a caller's side of a connection to the socket that has accepted the other one, or that one itself:
    whoever reads from fd, and holds it open, would wait for himself."""
    one, two = os.fstat(fd), os.fstat(accepted)
    if (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino):
        return True
    try:
        theirs = _name(fd, lambda sock: sock.getpeername())
        return bool(theirs == _name(accepted, lambda sock: sock.getsockname()))
    except OSError:  # it is not connected
        return False


def _name(fd: int, ask):  # type: ignore[no-untyped-def]
    """An address, in the family of its own: fd may be any socket."""
    sock = _socket.socket(fileno=fd)
    try:
        return ask(sock)
    finally:
        sock.detach()


def connect(path: bytes, timeout_s: int) -> int:
    """A blocking descriptor. Each step, connecting among them, fails with EAGAIN after timeout_s. Raises OSError.

    Not by Python's timeout: that makes the socket non-blocking, and then a full backlog is an error at once.
    """
    if len(path) > LONGEST:
        raise OSError(errno.ENAMETOOLONG, "")
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        limit = SECONDS.pack(timeout_s, 0)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, limit)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, limit)
        sock.connect(path)
        return sock.detach()
    except BaseException:
        sock.close()
        raise
