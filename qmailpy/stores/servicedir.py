"""servicedir - a service directory as supervise has it: scripts, and supervise/ with its lock, FIFOs and status.

run start stop finish notify down   the administrator's
supervise/lock control ok status    as the original; see formats/svstatus
supervise/child                     the last process that was started, while its supervise has not ended well
supervise/logpipe                   between the service and its log: a FIFO, so that a supervise which comes
                                    after one that was killed finds the same pipe, with what is in it
"""

import errno
import fcntl
import os
import stat

from qmailpy.formats import svstatus
from qmailpy.formats.svstatus import Child, Status
from qmailpy.stores.safeio import Failed
from qmailpy.unix import locks
from qmailpy.unix.fds import read_all, write_all

LOG_PIPE = b"supervise/logpipe"

SMALL = 4096  # bytes; no file of supervise/ is longer
LARGEST_PIPE = 1 << 20  # bytes, pipe-max-size of proc(5) as Linux sets it
MODEST_PIPE = 1 << 18  # bytes; of more, an unprivileged user's 64 MB for pipes would not last for many services
LOOKED_AT = 65536  # bytes; multilog looks at no more before it takes them
TAIL = 2048  # bytes at the end of a log in which its last line is looked for


class Place:
    """A service directory that this process, and no other, supervises; until close.

    name: bytes, for messages; folder: a descriptor of the directory, wherever it is moved to; control: the FIFO for
    reading, non-blocking.
    """

    __slots__ = ("_lock", "_ok", "control", "folder", "name")

    def __init__(self, name: bytes, path: bytes, parent: int | None = None) -> None:
        """path is relative to the directory of the descriptor parent. Raises Failed with the original's complaint;
        EAGAIN if another supervise has the directory."""
        self.name = name
        self.folder = self._lock = self.control = self._ok = -1
        try:
            self._open(path, parent)
        except BaseException:
            self.close()
            raise

    def _open(self, path: bytes, parent: int | None) -> None:
        with _Complaint(b"unable to chdir to " + self.name):
            self.folder = open_folder(path, parent)
        try:
            _make_folder(self.folder)
        except OSError:  # whatever it means, the lock will tell
            pass
        with _Complaint(b"unable to acquire %s/supervise/lock" % self.name):
            self._lock = locks.acquire(b"supervise/lock", self.folder)
        self._make_fifo(b"supervise/control")
        # For writing too: with a writer there never is an end of the file, and control stays readable without spinning.
        with _Complaint(b"unable to read %s/supervise/control" % self.name):
            self.control = _open_fifo(b"supervise/control", os.O_RDWR, self.folder)

    def open_ok(self) -> None:
        """From now on svok says yes: once the first status is written, as in the original. Raises Failed."""
        self._make_fifo(b"supervise/ok")
        with _Complaint(b"unable to read %s/supervise/ok" % self.name):
            self._ok = _open_fifo(b"supervise/ok", os.O_RDONLY, self.folder)

    def _make_fifo(self, path: bytes) -> None:
        try:
            os.mkfifo(path, 0o600, dir_fd=self.folder)
        except OSError:  # it is there, or opening it will tell
            pass

    def close(self) -> None:
        for fd in (self._ok, self.control, self._lock, self.folder):
            if fd >= 0:
                os.close(fd)
        self.folder = self._lock = self.control = self._ok = -1

    def leave(self, lock: bool) -> None:
        """In a forked child that goes on for a while: nobody is to take it for supervise. lock: also the lock, which
        stays with the child that is to be the service."""
        for fd in (self._ok, self.control, *((self._lock,) if lock else ())):
            os.close(fd)

    def normally_down(self) -> bool:
        """Whether there is a file down. Raises Failed if nobody can tell."""
        with _Complaint(b"unable to stat %s/down" % self.name):
            try:
                os.stat(b"down", dir_fd=self.folder)
            except FileNotFoundError:
                return False
        return True

    def has(self, script: bytes) -> bool:
        """Whether there is an executable file of that name; of run, whether there is anything."""
        try:
            mode = os.stat(script, dir_fd=self.folder).st_mode
        except OSError:
            return False
        return script == b"run" or (stat.S_ISREG(mode) and mode & 0o100 != 0)

    def take_commands(self) -> bytes:
        """The bytes that have come by control."""
        try:
            return os.read(self.control, SMALL)
        except BlockingIOError:
            return b""

    def write_status(self, status: Status) -> None:
        """Replace supervise/status. Raises Failed.

        Not by safeio: no fsync, whose wait would be everybody's. Nobody asks for a status from before a crash of the
        machine."""
        new = self.name + b"/supervise/status.new"
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with _Complaint(b"unable to open " + new):
            fd = os.open(b"supervise/status.new", flags, 0o644, dir_fd=self.folder)
        try:
            with _Complaint(b"unable to write " + new):
                write_all(fd, svstatus.pack(status))
        finally:
            os.close(fd)
        with _Complaint(b"unable to rename %s to status" % new):
            folder = self.folder
            os.rename(b"supervise/status.new", b"supervise/status", src_dir_fd=folder, dst_dir_fd=folder)

    def read_status(self) -> Status | None:
        """What a supervise before this one has written last; None if there is nothing."""
        return read_status(self.folder)

    def write_child(self, child: Child) -> None:
        """To be called by the child itself, before it executes anything: while it has not, it shares the lock, and no
        other supervise can be here. Raises OSError."""
        fd = os.open(b"supervise/child", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self.folder)
        try:
            os.pwrite(fd, svstatus.pack_child(child), 0)
        finally:
            os.close(fd)

    def read_child(self) -> Child | None:
        return svstatus.parse_child(_read(b"supervise/child", self.folder))

    def forget_child(self) -> None:
        """This supervise ends well: nobody has to take anything over."""
        try:
            os.unlink(b"supervise/child", dir_fd=self.folder)
        except OSError:
            pass

    def last_line(self) -> bytes:
        """The last line in log/main/current, where the usual log/run has it; b"" if there is none."""
        try:
            # No link: the log's account, whose directory this is, may not choose what we read.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(b"log/main/current", flags, dir_fd=self.folder)
        except OSError:
            return b""
        try:
            size = os.fstat(fd).st_size
            return os.pread(fd, TAIL, max(0, size - TAIL)).rstrip(b"\n").rpartition(b"\n")[2]
        except OSError:
            return b""
        finally:
            os.close(fd)


class _Complaint:
    """In `with`: an OSError becomes Failed, with what is complained of."""

    __slots__ = ("_complaint",)

    def __init__(self, complaint: bytes) -> None:
        self._complaint = complaint

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Failed(self._complaint, error)


def open_folder(path: bytes, parent: int | None = None) -> int:
    """A descriptor that stands for a directory, of which it takes no right but to enter it. Raises OSError."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)


def read_status(folder: int, path: bytes = b".") -> Status | None:
    """What supervise has written last for the directory path below folder; None if there is nothing."""
    return svstatus.parse(_read(path + b"/supervise/status", folder))


def _read(path: bytes, folder: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return b""
    try:
        return read_all(fd, SMALL)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _make_folder(folder: int) -> None:
    """Have supervise/, which may be a link to a place that is empty after each boot. Raises OSError."""
    try:
        os.mkdir(b"supervise", 0o700, dir_fd=folder)
    except FileExistsError:
        try:
            os.mkdir(os.readlink(b"supervise", dir_fd=folder), 0o700, dir_fd=folder)
        except OSError:  # it is no link, or leads to something
            pass


def _open_fifo(path: bytes, flags: int, folder: int) -> int:
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):  # it would be readable for ever
        os.close(fd)
        raise OSError(errno.ENXIO, "")
    return fd


def open_log_pipe(folder: int) -> tuple[int, int]:
    """Both ends of the pipe between the service in folder and its log, made if it is missing. Raises OSError.

    Whoever supervises both keeps both ends, so that neither's death loses what is in the pipe. The service itself gets
    the end for writing alone: with both it would never find the pipe without a reader, when that supervisor and the log
    are dead, but it could take back what it has said."""
    _make_folder(folder)
    try:
        os.mkfifo(LOG_PIPE, 0o600, dir_fd=folder)
    except FileExistsError:
        pass
    reading = _open_fifo(LOG_PIPE, os.O_RDONLY, folder)
    try:
        writing = _open_fifo(LOG_PIPE, os.O_WRONLY, folder)
    except OSError:
        os.close(reading)
        raise
    for fd in (reading, writing):
        os.set_blocking(fd, True)
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, MODEST_PIPE if os.geteuid() else LARGEST_PIPE)
    except OSError:  # it stays as it is
        pass
    return reading, writing


def may_discard(folder: int) -> bool:
    """Whether the service in folder is not to wait for its log."""
    try:
        os.stat(b"log/discard", dir_fd=folder)
    except OSError:
        return False
    return True


def relieve(folder: int) -> int:
    """Throw away the older half of what is in the log pipe of folder, up to the end of a line; returns how many bytes.
    A log may have looked at the first LOOKED_AT of them, and wait to take them: of a small pipe nothing is thrown away.
    Raises OSError.

    By a descriptor of its own: the one that the log has may not become non-blocking."""
    fd = _open_fifo(LOG_PIPE, os.O_RDONLY, folder)
    try:
        half = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) // 2
        if half < LOOKED_AT:
            return 0
        last = os.read(fd, half)
        size = len(last)
        while last and not last.endswith(b"\n") and size < half + LOOKED_AT // 2:
            last = os.read(fd, 1)
            size += len(last)
        return size
    except BlockingIOError:
        return 0
    finally:
        os.close(fd)
