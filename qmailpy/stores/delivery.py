"""delivery - a message, as it is on descriptor 0, into a Maildir or at the end of an mbox file.

A Maildir, maildir(5): the message is written to tmp/TIME.PID.HOST, and becomes visible as new/TIME.PID.HOST once it is
whole. Two calls of fsync(2) make it durable:

    tmp/...    before the link to new: neither a reader nor a crash ever finds a part of a message under a name in new
    new        after that link, before anybody is told: Linux does not write a link at once

One call cannot do for both. With the link first, a crash could leave its name to a file whose bytes were not written
yet. The second might as well be one more fsync of the file, which writes its new name too on ext4, XFS and btrfs, at
the same price; that of the directory is what fsync(2) promises, and is cheaper on btrfs.

With a counter of a quota, stores.maildirsize, the name in new tells the size of the file, as TIME.PID.HOST,S=SIZE, and
is only made if the counter takes the message. That is asked once the message is on disk: so others have to wait for no
longer than a link takes.

An mbox file: the message is appended, and cut off again if that fails, under an exclusive flock(2). Its fsync is also
that of its name, if it is new.

Nothing is forked. A process that is killed leaves its file in tmp, or what it had appended; then it has not told
anybody that the message is delivered.
"""

import errno
import os
import time

from qmailpy import strerr
from qmailpy.formats import maildirname, mbox
from qmailpy.unix import fds, locks, processes, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmailpy.stores.maildirsize import Counter

BLOCK = 65536  # bytes that are read at once
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
MODE = 0o644

DEATH = 86400  # seconds that a delivery to a Maildir may take: below the 36 hours after which its file is garbage
PATIENCE = 30  # seconds that another may hold an mbox file
OPENINGS = 10  # of an mbox file that is another one each time
TRIES = 3  # names in tmp, PAUSE seconds apart
PAUSE = 2

# What could not be done.
REWIND, READ = "rewind", "read"  # the message
OPEN, LOCK, WRITE = "open", "lock", "write"  # an mbox file
FOLDER, TIMEOUT, OTHER = "folder", "timeout", "other"  # a Maildir


class Undelivered(Exception):
    """step: one of the above; error: why."""

    def __init__(self, step: str, error: OSError | None = None) -> None:
        super().__init__(step)
        self.step = step
        self.error = OSError() if error is None else error


class Message:
    """What is on descriptor 0, from its beginning, as often as it is wanted."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first = b""

    def rewind(self) -> None:
        """Let descriptor 0 be at the beginning, for a program. Raises Undelivered."""
        self._seek(0)

    def _seek(self, offset: int) -> None:
        try:
            os.lseek(0, offset, os.SEEK_SET)
        except OSError as e:
            raise Undelivered(REWIND, e)

    def blocks(self) -> "Iterator[bytes]":
        """All of it, in blocks of any size but 0; the first is read once. Raises Undelivered."""
        self._seek(len(self._first))
        if not self._first:
            self._first = self._read()
        block = self._first
        while block:
            yield block
            block = self._read()

    def _read(self) -> bytes:
        try:
            return os.read(0, BLOCK)
        except OSError as e:
            raise Undelivered(READ, e)

    def size(self) -> int:
        """Its bytes. Raises Undelivered."""
        try:
            return os.fstat(0).st_size
        except OSError as e:
            raise Undelivered(READ, e)

    def header_has(self, line: bytes, any_case: bool = False) -> bool:
        """Whether a line of the header is this one, its newline included; byte by byte, or in capitals or not. Raises
        Undelivered."""
        wanted = b"\n" + (line.lower() if any_case else line)
        text = b"\n"
        for block in self.blocks():
            text += block.lower() if any_case else block
            end = text.find(b"\n\n") + 1
            if wanted in (text[:end] if end else text):
                return True
            if end:
                return False
            text = text[-len(wanted) :]
        return False


class Text(Message):
    """A message that is in memory."""

    __slots__ = ("_text",)

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self._text = text

    def blocks(self) -> "Iterator[bytes]":
        yield self._text


class _TooLong(Exception):
    """The alarm."""


def _too_long(number: int, frame: object) -> None:
    raise _TooLong


def to_maildir(path: bytes, head: bytes, message: Message, counter: "Counter | None" = None) -> None:
    """Put head and message into the Maildir at path, as a file in new. Raises Undelivered, or what the counter raises:
    it is not there."""
    signals.catch(signals.ALRM, _too_long)
    try:
        signals.alarm(DEATH)
        _enter(path, head, message, counter)
    except _TooLong:
        raise Undelivered(TIMEOUT)
    except OSError as e:
        raise Undelivered(OTHER, e)
    finally:
        signals.alarm(0)
        signals.default(signals.ALRM)


def _enter(path: bytes, head: bytes, message: Message, counter: "Counter | None") -> None:
    try:
        maildir = os.open(path + b"/.", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise Undelivered(OTHER if strerr.error_temp(e) else FOLDER, e)
    try:
        fd, name = _open_new(maildir)
        try:
            size = _fill(fd, head, message)
            _publish(maildir, name, size, counter)
        except BaseException:
            _remove(maildir, b"tmp/" + name)
            raise
    finally:
        os.close(maildir)


def _open_new(maildir: int) -> tuple[int, bytes]:
    """A descriptor for a new file in tmp, and its name: TIME.PID.HOST, and from the second delivery of a process on
    TIME.PID_NUMBER.HOST, as they differ also within a second. Raises OSError."""
    label = processes.label()
    host = os.fsencode(os.uname().nodename)
    for attempt in range(1, TRIES + 1):
        name = b"%d.%s.%s" % (time.time(), label, host)
        try:
            return os.open(b"tmp/" + name, NEW, MODE, dir_fd=maildir), name
        except FileExistsError:
            if attempt == TRIES:
                raise
        time.sleep(PAUSE)
    raise AssertionError


def _fill(fd: int, head: bytes, message: Message) -> int:
    """Write all, have it on disk, and close fd. Returns the size. Raises OSError and Undelivered."""
    size = len(head)
    try:
        for block in message.blocks():
            fds.write_all(fd, head + block if head else block)
            head = b""
            size += len(block)
        if head:
            fds.write_all(fd, head)
        os.fsync(fd)
    finally:
        os.close(fd)  # NFS may find only now that there is no room
    return size


def _publish(maildir: int, name: bytes, size: int, counter: "Counter | None") -> None:
    """Give a file that is complete in tmp its name in new, for good. Raises OSError, and what the counter raises; it
    has no such name then."""
    tmp, new = b"tmp/" + name, b"new/" + name
    folder = _open_folder(maildir, tmp)
    try:
        if counter is None:
            _link(maildir, tmp, new)
        else:
            new = maildirname.with_size(new, size)
            with counter.taking(maildir, size):
                _link(maildir, tmp, new)
        _remove(maildir, tmp)  # before fsync: one write of the journal is for both
        try:
            _sync_folder(folder)
        except BaseException:
            _remove(maildir, new)
            raise
    finally:
        os.close(folder)


def _link(maildir: int, tmp: bytes, new: bytes) -> None:
    os.link(tmp, new, src_dir_fd=maildir, dst_dir_fd=maildir, follow_symlinks=False)


def _open_folder(maildir: int, tmp: bytes) -> int:
    """A descriptor whose fsync writes the names in new: of that directory or, if we may not read it, of the file."""
    try:
        return os.open(b"new", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=maildir)
    except PermissionError:
        return os.open(tmp, os.O_WRONLY | os.O_CLOEXEC, dir_fd=maildir)


def _sync_folder(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno != errno.EINVAL:  # the file system has no such thing, and no better way
            raise


def _remove(maildir: int, path: bytes) -> None:
    """Never fails."""
    try:
        os.unlink(path, dir_fd=maildir)
    except OSError:
        pass


def to_mbox(path: bytes, head: bytes, message: Message) -> None:
    """Append head, which begins with the From_ line, and message to an mbox file, which is created if it is missing.
    Raises Undelivered: the file is as before, or nobody could lock it."""
    fd, locked = _open_mbox(path)
    try:
        end = _end_of(fd)
        try:
            _append(fd, _separator(path, end) + head, message)
        except BaseException:
            if locked:
                _cut(fd, end)
            raise
    finally:
        os.close(fd)


def _open_mbox(path: bytes) -> tuple[int, bool]:
    """A descriptor for appending, and whether it has the lock, of the file of that name. Who had the lock before may
    have put a new file in its place, as maildir2mbox does: what is appended to the old one is lost. Raises
    Undelivered."""
    for left in range(OPENINGS - 1, -1, -1):
        try:
            fd = fds.open_append(path)
        except OSError as e:
            raise Undelivered(OPEN, e)
        try:
            locked = _lock(fd)
            if _is_named(fd, path) or not left:
                return fd, locked
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise AssertionError


def _is_named(fd: int, path: bytes) -> bool:
    """Whether path is the name of the file that is open as fd, as far as can be told."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _lock(fd: int) -> bool:
    """Whether fd is locked; where there are no locks mail is delivered without. Raises Undelivered."""
    try:
        locks.lock(fd, wait=False)
        return True
    except BlockingIOError:
        pass
    except OSError:
        return False
    signals.catch(signals.ALRM, _too_long)
    try:
        signals.alarm(PATIENCE)
        locks.lock(fd, wait=True)
        return True
    except _TooLong:
        raise Undelivered(LOCK)
    except OSError:
        return False
    finally:
        signals.alarm(0)
        signals.default(signals.ALRM)


def _end_of(fd: int) -> int:
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    except OSError:  # it is no file
        return 0


def _separator(path: bytes, end: int) -> bytes:
    """What has to stand before a From_ line: nothing, unless a writer was killed in the middle of a line."""
    if not end:
        return b""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            last = os.pread(fd, 1, end - 1)
        finally:
            os.close(fd)
    except OSError:  # we may only write
        return b""
    return b"" if last in (b"\n", b"") else b"\n\n"


def _append(fd: int, text: bytes, message: Message) -> None:
    """Raises Undelivered."""
    quoter = mbox.Quoter()
    for block in message.blocks():
        text += quoter.feed(block)
        if len(text) >= BLOCK:
            _write(fd, text)
            text = b""
    _write(fd, text + quoter.finish())  # all of a small message in one call: one that is killed leaves no part of it
    try:
        os.fsync(fd)
    except OSError as e:
        raise Undelivered(WRITE, e)


def _write(fd: int, data: bytes) -> None:
    try:
        fds.write_all(fd, data)
    except OSError as e:
        raise Undelivered(WRITE, e)


def _cut(fd: int, end: int) -> None:
    try:
        os.ftruncate(fd, end)
    except OSError:
        pass
