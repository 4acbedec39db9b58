"""fds - descriptors as integers. Whoever opens one closes it before the next step of a chain.

A program finds some descriptors open when it starts, and hands some to the next one: those are inheritable, all
others are close-on-exec. This module alone makes a descriptor inheritable, and so knows which ones may be. That
spares a warm step the listing of /proc/self/fd, 150 microseconds in a process that was just forked.
"""

import errno
import fcntl
import os
import stat

HIGHEST = 1 << 20  # no descriptor is above, where the system has no limit

ASIDE = 100, 10  # from where on copies lie: above any number that a chain gives a meaning to; under a small limit


class _Handed:
    """Numbers that may be inheritable, in order: those open at start, and those made so here. One per process."""

    numbers: tuple[int, ...] | None = None  # not listed yet
    limit = HIGHEST  # of the start: it may be lowered below what is open


def descriptors() -> list[int]:
    """The open descriptors; one more may be listed, that of the listing itself. Without /proc, all there can be."""
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # as in a chroot
        return list(range(_Handed.limit))


def _limit() -> int:
    limit = os.sysconf("SC_OPEN_MAX")
    return limit if 0 < limit < HIGHEST else HIGHEST


def remember() -> None:
    """At a program's start: what is open now was inherited."""
    _Handed.limit = _limit()
    _Handed.numbers = tuple(sorted(descriptors()))


def _note(fd: int) -> None:
    if _Handed.numbers is not None and fd not in _Handed.numbers:
        _Handed.numbers = tuple(sorted((*_Handed.numbers, fd)))


def fill_standard(last: int = 2) -> None:
    """Have something on 0 to last, here and not for the next program: what is opened later gets other numbers."""
    while True:
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if fd > last:
            os.close(fd)
            return


def share(fd: int) -> None:
    """Let the next program have fd."""
    os.set_inheritable(fd, True)
    _note(fd)


def keep(fd: int) -> None:
    """Have fd here, and not for the next program. Raises OSError."""
    os.set_inheritable(fd, False)


def copy(source: int, target: int) -> None:
    """Make target a copy of source that the next program has; two numbers."""
    os.dup2(source, target)
    _note(target)


def move(source: int, target: int) -> None:
    """Make target what source is, for the next program, and close source. The numbers may be the same: the read end
    of a pipe may already be 3 when it is moved to 3."""
    if source == target:
        share(source)
        return
    copy(source, target)
    os.close(source)


def set_aside(fd: int) -> int | None:
    """A copy of fd with a high number, here and not for the next program; None if fd is closed. Raises OSError if there
    is no room."""
    for lowest in ASIDE:
        try:
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError as e:
            if e.errno == errno.EBADF:
                return None
            error = e
    raise error


def put_back(fd: int, copy: int | None, inheritable: bool = True) -> None:
    """Have fd as it was; copy, from set_aside, is closed."""
    try:
        if copy is None:
            os.close(fd)
        else:
            os.dup2(copy, fd, inheritable)
            os.close(copy)
    except OSError:  # closed by a program that closes everything
        pass


def close_on_exec(kept: tuple[int, ...] = ()) -> None:
    """What execve does to descriptors: close those that are not inheritable; but not those in kept."""
    if _Handed.numbers is None:
        remember()
    numbers = _Handed.numbers or ()
    first = 0
    held = frozenset(kept)  # without /proc it may be all there can be
    for fd in sorted((*numbers, *kept)) if kept else numbers:
        if fd in held or _inheritable(fd):
            if first < fd:  # closerange(0, 0) closes all there is
                os.closerange(first, fd)
            first = fd + 1
    os.closerange(first, _Handed.limit)


def _inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # closed meanwhile
        return False


def close_others(*kept: int) -> None:
    """Close every descriptor but these: for a forked child that never execs. A peer sees the end of a connection
    only when nobody holds it any more."""
    for fd in descriptors():
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass


def open_append(path: bytes, dir_fd: int | None = None) -> int:
    """A descriptor for appending to path, which is created if it is missing, for its owner alone (open_append of the
    originals). Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)


def widen() -> tuple[int, int]:
    """Let this process have as many descriptors as the hard limit allows; returns the limits before, for narrow in a
    child: programs are to find the limit that we were started with (select(2) fails above 1024)."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[0] != before[1]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
        _Handed.limit = _limit()
    return before


def narrow(before: tuple[int, int]) -> None:
    """Take widen back."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def write_all(fd: int, data: bytes) -> None:
    """Write all of data; raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def unread(fd: int) -> int:
    """How many bytes wait in a pipe, of which fd is either end. Raises OSError."""
    import sys
    import termios

    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def begin_to_sync(fd: int) -> None:
    """Have the disk begin with what fsync waits for later. Raises nothing: fsync will."""
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # writes what is dirty, as sync_file_range(2) would
    except OSError:
        pass


def read_all(fd: int, limit: int) -> bytes:
    """Read to the end, or until limit bytes are there; raises OSError."""
    parts = []
    while limit > 0:
        part = os.read(fd, min(limit, 65536))
        if not part:
            break
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def read_regular(path: bytes, limit: int, dir_fd: int | None = None) -> bytes:
    """All of a file that somebody else may have put there. Raises OSError: EPROTO for what is no regular file, such as
    /dev/zero, but EISDIR for a folder; EFBIG for one of more than limit bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EPROTO, "", path)
        text = read_all(fd, limit + 1)
    finally:
        os.close(fd)
    if len(text) > limit:
        raise OSError(errno.EFBIG, "", path)
    return text
