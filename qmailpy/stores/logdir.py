"""logdir - the directory of a log: files that are filled, finished and in the end removed, as multilog keeps them.

    current            being written: mode 0644 while somebody writes, 0744 after a clean end
    @TAI64N.s          finished, and safely on disk: 0744
    @TAI64N.u          left unfinished by a crash: 0644
    previous           being finished, or what the processor reads
    processed          what the processor writes; 0744 when it is complete, then renamed to @TAI64N.s
    state, newstate    what the processor keeps from one run to the next
    lock               locked as long as somebody writes

Each step is a link, a rename, an unlink or a change of mode, so that whoever finds the directory after a crash, this
program or the original, can tell from names and modes how far it went. What was written is never rewritten.
"""

import os
import time
from _collections_abc import Callable

from qmailpy.formats import tai64n
from qmailpy.stores.safeio import Failed
from qmailpy.unix import fds, locks

MARGIN = 2000  # bytes: a file is full at the first end of a line that is no further from its size

WRITTEN, FINISHED = 0o644, 0o744  # modes
DONE = 0o100  # the bit that tells them apart

# A run-time trouble is said and waited out. complaint is such as `unable to write to DIR/current`; error is None where
# the system gave none.
Pause = Callable[[bytes, "OSError | None"], None]

# Run the processor's command in the directory, of which there is a descriptor, to its end. Returns its exit code,
# negative if a signal killed it. Raises Failed.
Process = Callable[[bytes, int], int]


class LogDir:
    """One directory, open and locked. close() ends it cleanly; if that is not called, the directory looks as after a
    crash."""

    __slots__ = ("_command", "_current", "_fd", "_lock", "_number", "_pause", "_process", "bytes", "name", "size")

    def __init__(
        self, name: bytes, size: int, number: int, command: bytes | None, process: Process, pause: Pause
    ) -> None:
        """Take the directory up where the last one left it. Raises Failed.

        size: bytes of a file; number: how many files there may be, current among them; command: the processor's.
        """
        self.name = name
        self.size = size
        self.bytes = 0  # in current
        self._number = number
        self._command = command
        self._process = process
        self._pause = pause
        self._fd = self._lock = self._current = -1
        try:
            self._open()
        except BaseException:
            self._close()
            raise

    def _open(self) -> None:
        try:
            os.mkdir(self.name, 0o700)
        except OSError:  # it exists, or will be missed at once
            pass
        try:
            self._fd = os.open(self.name, os.O_RDONLY | os.O_NONBLOCK | os.O_DIRECTORY)
            os.stat(b".", dir_fd=self._fd)  # may it be searched?
        except OSError as e:
            raise Failed(b"unable to open directory " + self.name, e)
        try:
            self._lock = locks.acquire(b"lock", self._fd)
        except OSError as e:
            raise Failed(b"unable to lock directory " + self.name, e)
        found = self._stat(b"current")
        if found is not None and found.st_mode & DONE:
            try:
                self._current = fds.open_append(b"current", self._fd)
            except OSError as e:
                raise Failed(b"unable to append to " + self._path(b"current"), e)
            self._open_for_writing()
            self.bytes = found.st_size
            return
        self._unlink(b"state")
        self._unlink(b"newstate")
        found = self._stat(b"processed")
        if found is not None and found.st_mode & DONE:
            self._unlink(b"previous")
            self._finish(b"processed", b"s")
        else:
            self._unlink(b"processed")
            self._finish(b"previous", b"u")
        self._finish(b"current", b"u")
        try:
            os.close(self._truncated(b"state"))
        except OSError as e:
            raise Failed(b"unable to write to " + self._path(b"state"), e)
        try:
            self._current = fds.open_append(b"current", self._fd)
        except OSError as e:
            raise Failed(b"unable to write to " + self._path(b"current"), e)
        self._open_for_writing()

    def _open_for_writing(self) -> None:
        try:
            os.fchmod(self._current, WRITTEN)
        except OSError as e:
            raise Failed(b"unable to set mode of " + self._path(b"current"), e)

    def _path(self, file: bytes) -> bytes:
        return self.name + b"/" + file

    def _stat(self, file: bytes) -> os.stat_result | None:
        """None: there is none. Raises Failed."""
        try:
            return os.stat(file, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise Failed(b"unable to stat " + self._path(file), e)

    def _unlink(self, file: bytes) -> None:
        """Remove what need not be there."""
        try:
            os.unlink(file, dir_fd=self._fd)
        except OSError:
            pass

    def _truncated(self, file: bytes) -> int:
        return os.open(file, os.O_WRONLY | os.O_NONBLOCK | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=self._fd)

    def _insist(self, complaint: bytes, act, *arguments, **names):  # type: ignore[no-untyped-def]
        """act's result, as soon as it has one."""
        while True:
            try:
                return act(*arguments, **names)
            except OSError as e:
                self._pause(complaint, e)

    def write(self, data: bytes) -> None:
        """Append data, which may begin and end within a line; finish the file where it is full.

        That is at an end of a line close to its size, or else at its size. What was written once is not written
        again, whatever goes wrong in between.
        """
        at = 0
        while at < len(data):
            room = self.size - self.bytes
            if room <= 0:
                self.rotate()
                continue
            end = len(data)
            if end - at > room - MARGIN:
                full = data.find(b"\n", max(at, at + room - MARGIN - 1), at + room) + 1
                end = full or min(end, at + room)
            at = self._write(data, at, end)
            if self.bytes >= self.size - MARGIN and data[at - 1] == 0x0A:
                self.rotate()

    def _write(self, data: bytes, at: int, end: int) -> int:
        """Write some of data[at:end], at least one byte; returns how far it went."""
        with memoryview(data) as view, view[at:end] as part:
            written: int = self._insist(b"unable to write to " + self._path(b"current"), os.write, self._current, part)
        self.bytes += written
        return at + written

    def rotate(self) -> None:
        """Finish current and begin a new one."""
        current, previous = self._path(b"current"), self._path(b"previous")
        self._insist(b"unable to write %s to disk" % current, os.fsync, self._current)
        os.close(self._current)
        self._insist(
            b"unable to rename current to previous in directory " + self.name,
            os.rename,
            b"current",
            b"previous",
            src_dir_fd=self._fd,
            dst_dir_fd=self._fd,
        )
        self._current = self._insist(b"unable to create " + current, fds.open_append, b"current", self._fd)
        self.bytes = 0
        self._insist(b"unable to set mode of " + current, os.fchmod, self._current, WRITTEN)
        self._insist(b"unable to set mode of " + previous, os.chmod, b"previous", FINISHED, dir_fd=self._fd)
        if self._command is None:
            self._finish(b"previous", b"s")
        else:
            self._run_processor(self._command)

    def _run_processor(self, command: bytes) -> None:
        while not self._processed(command):
            self._pause(b"processor failed in " + self.name, None)
        processed, newstate = self._path(b"processed"), self._path(b"newstate")
        fd = self._insist(b"unable to create " + processed, fds.open_append, b"processed", self._fd)
        self._insist(b"unable to write %s to disk" % processed, os.fsync, fd)
        self._insist(b"unable to set mode of " + processed, os.fchmod, fd, FINISHED)
        os.close(fd)
        fd = self._insist(b"unable to create " + newstate, fds.open_append, b"newstate", self._fd)
        self._insist(b"unable to write %s to disk" % newstate, os.fsync, fd)
        os.close(fd)
        self._insist(b"unable to remove " + self._path(b"previous"), os.unlink, b"previous", dir_fd=self._fd)
        self._insist(
            b"unable to rename newstate to state in directory " + self.name,
            os.rename,
            b"newstate",
            b"state",
            src_dir_fd=self._fd,
            dst_dir_fd=self._fd,
        )
        self._finish(b"processed", b"s")

    def _processed(self, command: bytes) -> bool:
        """Run the processor once. True: it has done its work."""
        while True:
            try:
                code = self._process(command, self._fd)
            except Failed as e:
                self._pause(b"%s %s" % (e.complaint, self.name), e)
                continue
            if code < 0:
                self._pause(b"processor crashed in " + self.name, None)
            return code == 0

    def _finish(self, file: bytes, code: bytes) -> None:
        """Give file its name for good, if it is there, and remove the oldest files if there are too many."""
        while True:
            try:
                links = os.stat(file, dir_fd=self._fd).st_nlink
                break
            except FileNotFoundError:
                return
            except OSError as e:
                self._pause(b"unable to stat " + self._path(file), e)
        while links == 1:  # else the crash came between link and unlink
            name = b"%s.%s" % (tai64n.label(time.time_ns()), code)
            try:
                os.link(file, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
                break
            except OSError as e:
                self._pause(b"unable to link to " + self._path(name), e)
        self._insist(b"unable to remove " + self._path(file), os.unlink, file, dir_fd=self._fd)
        self._make_room()

    def _make_room(self) -> None:
        names = [os.fsencode(name) for name in self._insist(b"unable to read " + self.name, os.listdir, self._fd)]
        old = sorted(name for name in names if name.startswith(b"@") and len(name) >= tai64n.LABEL_SIZE)
        for name in old[: max(0, len(old) - self._number + 1)]:
            try:
                os.unlink(name, dir_fd=self._fd)
            except FileNotFoundError:
                pass
            except OSError as e:  # a directory, perhaps: it stays, and the log goes on
                self._pause(b"unable to remove " + self._path(name), e)

    def close(self) -> None:
        """A clean end: what was written is on disk, and the next one will append to it."""
        current = self._path(b"current")
        self._insist(b"unable to write %s to disk" % current, os.fsync, self._current)
        self._insist(b"unable to set mode of " + current, os.fchmod, self._current, FINISHED)
        self._close()

    def _close(self) -> None:
        for fd in (self._current, self._lock, self._fd):
            if fd >= 0:
                os.close(fd)
        self._current = self._lock = self._fd = -1
