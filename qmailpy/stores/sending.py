"""sending - qmail-send's side of HOME/queue: info, local, remote and bounce, which are its own, and the lock. What is
in mess and todo belongs to another user, who removes it when asked (qmail-clean).

    info/S/N             F SENDER NUL; the time of change is the message's birth
    local/S/N remote/S/N T ADDRESS NUL or, done, D ADDRESS NUL for each recipient; the time of change is that of the
                         next attempt, once there has been one
    bounce/N             a paragraph for each recipient that has failed

Durability: what a loss of power may take, and what not.

    preprocessing    info, then local, then remote are synced before qmail-clean is asked to remove todo/N. On ext4, XFS
                     and btrfs that makes the new names durable too, so no directory is synced. While todo/N is there it
                     counts, and all else about N is made again
    a mark D         is not synced: a loss means a second delivery, as in the original
    bounce/N         is synced before its recipient is marked. The original does not, and Linux may write the mark and
                     lose the text that was written half a minute before: nobody would ever hear of the failure
    removing         local or remote once all recipients are done, bounce/N once the bounce is queued, then info, then
                     mess. A journal keeps the order. What comes back is done again, at worst a bounce; a mess without
                     info is garbage, and info without local, remote and bounce ends as soon as it is found
    times            are not synced: an attempt may come too soon

Files are named as in the log, relative to the queue; whoever reads a message for a bounce finds it through mess.
"""

import os
import stat

from qmailpy.formats import numbers, sendlog
from qmailpy.stores import orders
from qmailpy.stores.queue import OSSIFIED, Layout, Unlisted
from qmailpy.unix import fds, locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LISTS = (b"local", b"remote")

BLOCK = 65536  # bytes that are read, or collected before they are written
INFO_SIZE = 4096  # bytes of info that one call reads
MODE = 0o600
DIGITS = 20  # of a number at most

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Trouble(Exception):
    """args[0]: the warning."""


def lock(queue: int) -> int:
    """The descriptor of the one qmail-send. Raises OSError; BlockingIOError if there is another one."""
    fd = os.open(b"lock/sendmutex", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=queue)
    return locks.held(fd, wait=False)


def open_trigger(queue: int) -> int:
    """A descriptor that tells when somebody has pulled the trigger; -1 if there is none. It tells that once: it must be
    opened anew, before todo is looked at. Nothing is ever read from it."""
    try:
        fd = os.open(b"lock/trigger", READ | os.O_NOFOLLOW, dir_fd=queue)
    except OSError:
        return -1
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)  # a file is always readable
    return -1


def _number(name: str) -> int:
    """-1 if it is none."""
    return int(name) if name.isascii() and name.isdigit() and len(name) <= DIGITS else -1


class Arrival:
    """A message whose files are written and not yet synced."""

    __slots__ = ("_files", "channels", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.channels: list[int] = []
        self._files: list[tuple[bytes, int]] = []

    def create(self, path: bytes, queue: int) -> int:
        """Raises Trouble."""
        try:
            fd = os.open(path, NEW, MODE, dir_fd=queue)
        except OSError:
            raise Trouble(b"unable to create " + path)
        self._files.append((path, fd))
        return fd

    def start(self) -> None:
        """Have the disk begin with what sync waits for."""
        for _, fd in self._files:
            fds.begin_to_sync(fd)

    def sync(self) -> None:
        """From now on the message can do without todo/N: info first, then the lists. Raises Trouble."""
        try:
            for path, fd in sorted(self._files):  # info, local, remote
                try:
                    os.fsync(fd)
                except OSError:
                    raise Trouble(b"trouble fsyncing " + path)
        finally:
            self.close()

    def close(self) -> None:
        """Close what is open. What a message that is not synced has is made again, since todo/N is there."""
        for _, fd in self._files:
            os.close(fd)
        self._files.clear()


class _Records:
    """A list that grows in memory, and goes to its file in large parts."""

    __slots__ = ("_fd", "_parts", "_path", "_size")

    def __init__(self, path: bytes, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, record: bytes) -> None:
        self._parts.append(record)
        self._size += len(record)
        if self._size >= BLOCK:
            self.flush()

    def flush(self) -> None:
        """Raises Trouble."""
        try:
            fds.write_all(self._fd, b"".join(self._parts))
        except OSError:
            raise Trouble(b"trouble writing to " + self._path)
        self._parts.clear()
        self._size = 0


class Reading:
    """The records of a list from its beginning. Use close. time: of its last change, in nanoseconds."""

    __slots__ = ("_at", "_fd", "_offset", "_text", "time")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.time = os.fstat(fd).st_mtime_ns
        self._text = b""
        self._at = 0  # of the next record in _text
        self._offset = 0  # of _text in the file

    def next(self) -> tuple[bytes, int, bytes] | None:
        """Letter, position and address; None at the end. What has no NUL at its end is none. Raises OSError."""
        while (end := self._text.find(b"\0", self._at)) < 0:
            if not self._more():
                return None
        at, self._at = self._at, end + 1
        return self._text[at : at + 1] if at < end else b"", self._offset + at, self._text[at + 1 : end]

    def _more(self) -> bool:
        if self._fd < 0:
            return False
        block = os.read(self._fd, BLOCK)
        if len(block) < BLOCK:  # no more than that is there; nobody adds to a list
            self.close()
        self._offset += self._at
        self._text = self._text[self._at :] + block
        self._at = 0
        return bool(block)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class Spool:
    """The files of messages. queue: a descriptor of HOME/queue. Methods raise Trouble, whose text is the log's, where
    nothing else is said."""

    __slots__ = ("_layout", "queue")

    def __init__(self, queue: int, layout: Layout) -> None:
        self.queue = queue
        self._layout = layout

    def message(self, number: int) -> bytes:
        """What the spawners call a message."""
        return b"%d/%d" % (number % self._layout.split, number)

    def recipients(self, channel: int, number: int) -> bytes:
        """local/S/N or remote/S/N."""
        return self._layout.spread(LISTS[channel], number)

    def info(self, number: int) -> bytes:
        """info/S/N."""
        return self._layout.spread(b"info", number)

    def mess(self, number: int) -> bytes:
        """mess/S/N."""
        return self._layout.spread(b"mess", number)

    # What there is

    def exists(self, path: bytes) -> bool:
        """Raises OSError where that is not known."""
        try:
            os.stat(path, dir_fd=self.queue, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def size(self, number: int) -> int:
        """Of the message, in bytes. Raises OSError."""
        return os.stat(self.mess(number), dir_fd=self.queue).st_size

    def is_new(self, number: int) -> bool:
        """Whether todo/N is there. Raises OSError where that is not known."""
        return self.exists(self._layout.todo(b"todo", number))

    def _entries(self, folder: bytes) -> "Iterator[tuple[int, os.DirEntry[str]]]":
        """What has a number for its name. Raises Unlisted."""
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.queue)
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        number = _number(entry.name)
                        if number >= 0:
                            yield number, entry
            finally:
                os.close(fd)
        except OSError as e:
            raise Unlisted(folder, e)

    def arrived(self) -> "Iterator[int]":
        """The numbers in todo, while it is read. Raises Unlisted."""
        places = range(self._layout.split if self._layout.split_todo else 1)
        for folder in (self._layout.todo_folder(place) for place in places):
            for number, _ in self._entries(folder):
                yield number

    def survey(
        self,
        flushed: int,
        wait: "Callable[[int, int, int], None]",
        finish: "Callable[[int], None]",
        unknown: "Callable[[int, int], None]",
    ) -> None:
        """All messages in S5, by the names of files and the times of lists; none is opened. Raises Unlisted.

        Calls wait(channel, when, number) for each list, finish(number) for a message that has none, and
        unknown(channel, number) where the time of a list cannot be read.

        flushed: the moment, if ever, at which all lists became due, whatever their times. A list that has been put off
        since then has changed since then.
        """
        new = set(self.arrived())
        for place in range(self._layout.split):
            here = {number for number, _ in self._entries(b"info/%d" % place)} - new
            left = set(here)
            for channel, folder in enumerate(LISTS):
                for number, entry in self._entries(b"%s/%d" % (folder, place)):
                    if number not in here:
                        continue
                    left.discard(number)
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    except OSError:
                        unknown(channel, number)
                        continue
                    when = int(status.st_mtime)
                    wait(channel, min(when, flushed) if status.st_ctime < flushed else when, number)
            for number in left:
                finish(number)

    def time(self, channel: int, number: int) -> int | None:
        """The time of one list; None if there is none. Raises OSError."""
        try:
            return int(os.stat(self.recipients(channel, number), dir_fd=self.queue).st_mtime)
        except FileNotFoundError:
            return None

    def hurried(self, channel: int, number: int, before: int) -> bool:
        """Whether somebody has set the time of a list, by stores.orders, since it was before, in nanoseconds. A mark of
        ours is at no whole second."""
        try:
            time = os.stat(self.recipients(channel, number), dir_fd=self.queue).st_mtime_ns
        except OSError:
            return False
        return time != before and not time % orders.NS

    def hurried_to(self, channel: int, number: int, when: int) -> int:
        """when, or the earlier time that somebody has set for a list, by stores.orders."""
        try:
            time = os.stat(self.recipients(channel, number), dir_fd=self.queue).st_mtime_ns
        except OSError:
            return when
        return when if time % orders.NS else min(when, time // orders.NS)

    def garbage(self, now: int) -> "Iterator[int]":
        """For each file in mess its number, if nobody has finished that message for 36 hours; else -1. Raises
        Unlisted."""
        for place in range(self._layout.split):
            for number, entry in self._entries(b"mess/%d" % place):
                try:
                    old = now > int(entry.stat(follow_symlinks=False).st_atime) + OSSIFIED
                    yield number if old and not self.exists(self.info(number)) and not self.is_new(number) else -1
                except OSError:  # qmail-queue has removed it
                    yield -1

    # A message that has come in

    def prepare(
        self, number: int, rewrite: "Callable[[bytes], tuple[int, bytes]]", log: "Callable[[bytes], None]"
    ) -> Arrival:
        """Write info and the lists from todo/N; what a crash has left of them goes first. Raises Trouble."""
        path = b"todo/%d" % number
        try:
            todo = Reading(os.open(self._layout.todo(b"todo", number), READ | os.O_NOFOLLOW, dir_fd=self.queue))
        except OSError:
            raise Trouble(b"unable to open " + path)
        arrival = Arrival(number)
        try:
            self._write(number, todo, arrival, rewrite, log)
        except BaseException:
            arrival.close()
            raise
        finally:
            todo.close()
        return arrival

    def _write(
        self,
        number: int,
        todo: Reading,
        arrival: Arrival,
        rewrite: "Callable[[bytes], tuple[int, bytes]]",
        log: "Callable[[bytes], None]",
    ) -> None:
        try:
            size = self.size(number)
        except OSError:
            raise Trouble(b"unable to stat " + self.mess(number))
        info = self.info(number)
        for path in (self.recipients(0, number), self.recipients(1, number), info):
            try:
                os.unlink(path, dir_fd=self.queue)
            except FileNotFoundError:
                continue
            except OSError:
                raise Trouble(b"unable to unlink " + path)
        fd = arrival.create(info, self.queue)
        log(sendlog.new(number))
        lists: dict[int, _Records] = {}
        uid = pid = 0
        try:
            while record := todo.next():
                letter, _, value = record
                if letter == b"T":
                    channel, address = rewrite(value)
                    records = lists.get(channel)
                    if records is None:
                        path = self.recipients(channel, number)
                        records = lists[channel] = _Records(path, arrival.create(path, self.queue))
                        arrival.channels.append(channel)
                    records.add(b"T%s\0" % address)
                elif letter == b"F":
                    try:
                        fds.write_all(fd, b"F%s\0" % value)
                    except OSError:
                        raise Trouble(b"trouble writing to " + info)
                    log(sendlog.info(number, size, value, pid, uid))
                elif letter == b"u":
                    uid = numbers.scan(value)[0]
                elif letter == b"p":
                    pid = numbers.scan(value)[0]
                else:
                    raise Trouble(b"unknown record type in todo/%d" % number)
        except OSError:
            raise Trouble(b"trouble reading todo/%d" % number)
        for records in lists.values():
            records.flush()

    # A pass

    def open_list(self, channel: int, number: int) -> Reading:
        """The recipients. Raises Trouble."""
        path = self.recipients(channel, number)
        try:
            return Reading(os.open(path, READ, dir_fd=self.queue))
        except OSError:
            raise Trouble(b"trouble opening %s; will try again later" % path)

    def read_info(self, number: int) -> tuple[bytes, int, int]:
        """Sender, birth, and the mode, in which stores.orders has what is ordered. Raises Trouble."""
        path = self.info(number)
        try:
            fd = os.open(path, READ, dir_fd=self.queue)
            try:
                status = os.fstat(fd)
                text = os.read(fd, INFO_SIZE)
                if b"\0" not in text:
                    text += fds.read_all(fd, BLOCK)
            finally:
                os.close(fd)
        except OSError:
            text = b""
        sender, end, _ = text.partition(b"\0")
        if not end or sender[:1] != b"F":
            raise Trouble(b"trouble opening %s; will try again later" % path)
        return sender[1:], int(status.st_mtime), status.st_mode

    def mark(self, channel: int, number: int, position: int) -> None:
        """The recipient at position is done. Raises Trouble."""
        path = self.recipients(channel, number)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.queue)
            try:
                os.pwrite(fd, b"D", position)
            finally:
                os.close(fd)
        except OSError:
            raise Trouble(b"trouble marking %s; message will be delivered twice!" % path)

    def remove_list(self, channel: int, number: int) -> None:
        """No recipient is left on this channel. Raises Trouble."""
        path = self.recipients(channel, number)
        try:
            os.unlink(path, dir_fd=self.queue)
        except OSError:
            raise Trouble(b"unable to unlink %s; will try again later" % path)

    def set_time(self, channel: int, number: int, when: int) -> None:
        """The next attempt. Raises Trouble."""
        path = self.recipients(channel, number)
        try:
            os.utime(path, (when, when), dir_fd=self.queue)
        except OSError:
            raise Trouble(b"unable to utime %s; message will be retried too soon" % path)

    # Failures

    def append_bounce(self, number: int, text: bytes) -> None:
        """Add text to bounce/N, all of it, and for good, or nothing. Raises OSError."""
        fd = fds.open_append(b"bounce/%d" % number, self.queue)
        try:
            size = os.fstat(fd).st_size
            try:
                fds.write_all(fd, text)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)

    def has_info(self, number: int) -> bool:
        """Whether there is such a message. Raises Trouble."""
        path = self.info(number)
        try:
            return self.exists(path)
        except OSError:
            raise Trouble(b"unable to stat %s; will try again later" % path)

    def has_bounce(self, number: int) -> bool:
        """Raises Trouble."""
        try:
            return self.exists(b"bounce/%d" % number)
        except OSError:
            raise Trouble(b"unable to stat bounce/%d" % number)

    def remove_bounce(self, number: int) -> None:
        """Whoever was to be told has been told. Raises Trouble."""
        path = b"bounce/%d" % number
        try:
            os.unlink(path, dir_fd=self.queue)
        except OSError:
            raise Trouble(b"unable to unlink " + path)

    def blocks(self, path: bytes) -> "Iterator[bytes]":
        """A file of the queue. Raises OSError at any step."""
        fd = os.open(path, READ, dir_fd=self.queue)
        try:
            while block := os.read(fd, BLOCK):
                yield block
        finally:
            os.close(fd)

    # The end

    def remaining(self, number: int) -> bool:
        """Whether something speaks against the end of a message: a list, or todo/N. Raises Trouble."""
        for path in (self.recipients(0, number), self.recipients(1, number), self._layout.todo(b"todo", number)):
            try:
                if self.exists(path):
                    return True
            except OSError:
                raise Trouble(b"unable to stat %s; will try again later" % path)
        return False

    def remove_info(self, number: int) -> bool:
        """False if there is none. Raises Trouble."""
        path = self.info(number)
        try:
            os.unlink(path, dir_fd=self.queue)
        except FileNotFoundError:
            return False
        except OSError:
            raise Trouble(b"unable to unlink %s; will try again later" % path)
        return True
