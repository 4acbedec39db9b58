"""maildirsize - whether a Maildir++ has room for a message, and what it holds: formats.maildirsize has the file.

Who adds a message holds a lock, flock(2) on the Maildir itself, from before the look into the file until the message
has its name. So of deliveries at once as many come in as there is room for, and no more. The line in the file stands
before the name does: a process that is killed between them leaves a sum that is too large, never one that is too
small.

And nothing is refused because of a sum: before that, all is counted anew. A reader such as qmail-pop3d removes
messages and tells nobody. But a count is good as long as nothing has changed since, by the times of all folders. So a
full Maildir costs no more than a look at these, however much comes for it.

All is counted, too, if the file is missing, cannot be understood, is too long, or is for another quota. What is in
.Trash, or has been marked as deleted, does not count.

Where a file system has no locks for folders, as NFS, deliveries at once may exceed a quota.
"""

import errno
import os
import time

from qmailpy.formats import maildirname, maildirsize
from qmailpy.unix import fds, locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.formats.maildirsize import Quota, Usage

FILE = b"maildirsize"
SUBFOLDER = b"maildirfolder"  # a file in a folder of a Maildir, which itself is one level up
TRASH = b".Trash"
WARNED = b"quotawarn"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
APPEND = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MODE = 0o600

DOT = ord(".")
COUNTS = 3  # while others change the Maildir
WARN_EACH_S = 86400
RELIABLE = 900 * 10**9  # nanoseconds that a count may be old, 15 minutes
GRAIN = 20_000_000  # nanoseconds; the times of files are those of the last tick of a slower clock

NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
SEEN = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)  # what is passed over: gone, or no folder
CLOSED = (errno.EACCES, errno.EPERM)


class Over(Exception):
    """There is no room for the message."""


class Counter:
    """Of one delivery. quota: what the Maildir may hold; None, what its own file says, if there is one. before: what
    was there, once it was asked; None where there is no quota."""

    __slots__ = ("_quota", "before")

    def __init__(self, quota: "Quota | None") -> None:
        self._quota = quota
        self.before: Usage | None = None

    def taking(self, maildir: int, size: int) -> "_Taking":
        """For `with`, in which a message of size bytes gets its name in the Maildir of that descriptor. Raises Over,
        OSError."""
        return _Taking(self, maildir, size)

    def has_room(self, path: bytes, size: int) -> bool:
        """Whether there would be room now, in the Maildir of that path: a look that spares writing a message for
        nothing. Raises OSError."""
        with _Based(path) as base:
            usage, _ = _read(base)
            quota = self._quota
            if quota is None:
                quota = maildirsize.quota(maildirsize.NOQUOTA if usage is None else usage.quota)
            if not quota or (usage is not None and not quota.exceeded(usage.size + size, usage.count + 1)):
                return True
            lock = _locked(base)
            try:
                self._look(base)
                return self._has_room(base, size)
            finally:
                os.close(lock)

    def percent(self) -> int:
        """How much of the quota was used before the message came; 0 where there is none."""
        return self._quota.percent(self.before.size, self.before.count) if self._quota and self.before else 0

    def _look(self, base: int) -> None:
        """Learn quota and sum. With the lock."""
        usage, _ = _read(base)
        if self._quota is None:
            self._quota = maildirsize.quota(maildirsize.NOQUOTA if usage is None else usage.quota)
        if not self._quota:
            return
        if usage is None or usage.quota != self._quota.text():
            usage = recount(base, self._quota)
        self.before = usage

    def _exceeded(self, size: int) -> bool:
        if not self._quota or self.before is None:
            return False
        return self._quota.exceeded(self.before.size + size, self.before.count + 1)

    def _has_room(self, base: int, size: int) -> bool:
        """After a look. With the lock."""
        if not self._exceeded(size):
            return True
        assert self._quota is not None
        usage, settled = _read(base)
        if usage is None or usage.lines != 1 or usage.quota != self._quota.text() or not _unchanged(base, settled):
            self.before = recount(base, self._quota)
        return not self._exceeded(size)

    def _take(self, base: int, size: int) -> int:
        """The lock: it is held until the message has its name; -1 if none is needed."""
        if self._quota is not None and not self._quota:
            _append_if_there(base, size, 1)
            return -1
        lock = _locked(base)
        try:
            self._look(base)
            if not self._has_room(base, size):
                raise Over
            if self._quota:
                self._count_in(base, size)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _count_in(self, base: int, size: int) -> None:
        """Also if somebody has removed the file meanwhile, as a new quota does. With the lock."""
        assert self._quota is not None
        try:
            _append(base, size, 1)
        except (FileNotFoundError, PermissionError):
            recount(base, self._quota)
            _append(base, size, 1)


class _Taking:
    """The time in which a message gets its name."""

    __slots__ = ("_base", "_counter", "_lock", "_maildir", "_size")

    def __init__(self, counter: Counter, maildir: int, size: int) -> None:
        self._counter = counter
        self._maildir = maildir
        self._size = size
        self._base = self._lock = -1

    def __enter__(self) -> None:
        self._base = _base(self._maildir)
        try:
            self._lock = self._counter._take(self._base, self._size)
        except BaseException:
            os.close(self._base)
            raise

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is not None:
                _append_if_there(self._base, -self._size, -1)
        finally:
            os.close(self._base)
            if self._lock >= 0:
                os.close(self._lock)


class _Based:
    """A descriptor of the Maildir whose file counts for what is in path, in `with`."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> int:
        maildir = os.open(self._path + b"/.", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fd = _base(maildir)
        finally:
            os.close(maildir)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _base(maildir: int) -> int:
    """A descriptor of the Maildir, or of the one that it is a folder of. Raises OSError."""
    try:
        os.stat(SUBFOLDER, dir_fd=maildir, follow_symlinks=False)
        path = b".."
    except FileNotFoundError:
        path = b"."
    return os.open(path, FOLDER, dir_fd=maildir)


def _locked(base: int) -> int:
    """A descriptor that holds the lock. Raises OSError."""
    fd = os.open(b".", FOLDER, dir_fd=base)
    try:
        locks.lock(fd, wait=True)
    except OSError as e:
        if e.errno not in NO_LOCKS:
            os.close(fd)
            raise
    except BaseException:
        os.close(fd)
        raise
    return fd


def _read(base: int) -> "tuple[Usage | None, int]":
    """What the file says, and when it was written, in nanoseconds. Raises OSError."""
    try:
        fd = os.open(FILE, READ, dir_fd=base)
    except OSError as e:
        if e.errno in SEEN or e.errno in CLOSED:  # who may write into the Maildir can make it new
            return None, 0
        raise
    try:
        return maildirsize.parse(fds.read_all(fd, maildirsize.LARGEST + 1)), os.fstat(fd).st_mtime_ns
    except IsADirectoryError:
        return None, 0
    finally:
        os.close(fd)


def _append(base: int, size: int, count: int) -> None:
    """Raises OSError. A part of a line is not left for the next one to go on with."""
    line = maildirsize.entry(size, count)
    fd = os.open(FILE, APPEND, dir_fd=base)
    try:
        if os.write(fd, line) < len(line):
            os.unlink(FILE, dir_fd=base)
            raise OSError(errno.ENOSPC, "")
    finally:
        os.close(fd)


def _append_if_there(base: int, size: int, count: int) -> None:
    """Where nothing depends on it."""
    try:
        _append(base, size, count)
    except OSError:
        pass


def _folders(base: int) -> list[bytes]:
    """Where there may be messages that count. Raises OSError."""
    subfolders = [name for name in _names(base) if name[0] == DOT and name != TRASH]
    return [b"new", b"cur"] + [name + part for name in subfolders for part in (b"/new", b"/cur")]


def _names(folder: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(folder)]


def _times(base: int) -> list[tuple[bytes, int]]:
    """The folders that there are, and when each has changed. Raises OSError."""
    found = []
    for folder in _folders(base):
        try:
            found.append((folder, os.stat(folder, dir_fd=base).st_mtime_ns))
        except OSError as e:
            if e.errno not in SEEN:
                raise
    return found


def _unchanged(base: int, settled: int) -> bool:
    """Whether a count of that time is good. A folder that is gone shows in no other's time."""
    if not 0 <= time.time_ns() - settled < RELIABLE:
        return False
    return all(changed < settled - GRAIN for _, changed in _times(base))


def count(base: int) -> tuple[int, int]:
    """Bytes and messages that are in the Maildir now. Raises OSError."""
    sizes: dict[bytes, int] = {}
    for _ in range(COUNTS):
        times = _times(base)
        sizes = {}
        for folder, _ in times:
            _add_sizes(base, folder, sizes)
        if times == _times(base):
            break
    return sum(sizes.values()), len(sizes)


def _add_sizes(base: int, folder: bytes, sizes: dict[bytes, int]) -> None:
    """The bytes of each message of a folder, by a name that it keeps while a reader moves it from new to cur: it may be
    met in both."""
    try:
        fd = os.open(folder, FOLDER, dir_fd=base)
    except OSError as e:
        if e.errno in SEEN:
            return
        raise
    try:
        for name in _names(fd):
            if name[0] == DOT or maildirname.is_trashed(name):
                continue
            size = maildirname.size(name)
            if size is None:
                try:
                    size = os.stat(name, dir_fd=fd).st_size
                except OSError:  # it is gone
                    continue
            sizes[folder[: -len(b"new")] + name.partition(b":")[0]] = size
    finally:
        os.close(fd)


def recount(base: int, quota: "Quota") -> "Usage":
    """Count all, and make the file new: as if it had been made when the count began. For one that has the lock. Raises
    OSError."""
    began = time.time_ns()
    size, messages = count(base)
    usage = maildirsize.Usage(quota.text(), size, messages, 1)
    host = os.fsencode(os.uname().nodename)
    name = b"tmp/%d.%d_NeWmAiLdIrSiZe.%s" % (began // 10**9, os.getpid(), host)
    try:
        os.unlink(name, dir_fd=base)  # of one that was killed
    except FileNotFoundError:
        pass
    fd = os.open(name, CREATE, MODE, dir_fd=base)
    try:
        if os.geteuid() == 0:
            status = os.fstat(base)
            os.fchown(fd, status.st_uid, status.st_gid)
        fds.write_all(fd, maildirsize.build(usage.quota, size, messages))
        os.utime(fd, ns=(began, began))
    finally:
        os.close(fd)
    os.rename(name, FILE, src_dir_fd=base, dst_dir_fd=base)
    return usage


def forget(path: bytes) -> None:
    """The quota of the Maildir at path is another one: all is counted anew at the next need. Waits for no lock, which
    anybody who may open the folder can hold for ever: a delivery that finds no file any more makes one. Never fails: a
    file that stays is for another quota, and says so."""
    try:
        with _Based(path) as base:
            os.unlink(FILE, dir_fd=base)
    except OSError:
        pass


def used(path: bytes) -> tuple[int, int]:
    """Bytes and messages that are in the Maildir at path. Raises OSError."""
    with _Based(path) as base:
        return count(base)


def note(path: bytes, size: int) -> None:
    """A message of size bytes has come into the Maildir at path, whatever it may hold. Never fails."""
    try:
        with _Based(path) as base:
            _append_if_there(base, size, 1)
    except OSError:
        pass


def begin_warning(path: bytes, now: float) -> bool:
    """Whether a warning is due in the Maildir at path: there was none in the last day. Then there has been one now.
    Raises OSError."""
    with _Based(path) as base:
        lock = _locked(base)
        try:
            try:
                if os.stat(WARNED, dir_fd=base, follow_symlinks=False).st_mtime + WARN_EACH_S > now:
                    return False
            except FileNotFoundError:
                pass
            flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(WARNED, flags, MODE, dir_fd=base)
            try:
                os.utime(fd, (now, now))
            finally:
                os.close(fd)
            return True
        finally:
            os.close(lock)
