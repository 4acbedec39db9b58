"""queue - the messages in HOME/queue: how one gets in, and how they are listed. The directories are queuetree's.

Message N is known by the inode of its file mess/S/N, where S is N modulo the number of directories in mess (the split:
found there, 23 as a rule). INTERNALS of qmail calls its states

    S2    mess
    S3    mess, intd           the envelope is being written
    S4    mess, todo           queued
    S5    mess, info           preprocessed by qmail-send: also local, remote, bounce

and all else is not legal, but garbage of the first two that qmail-send removes after 36 hours. todo and intd are split
like mess where the big-todo patch is in use; then todo/0 is a directory.

Durability. Draft makes three calls of fsync(2), each the only one that its step can do without:

    intd/N      before todo/N is linked to it: what qmail-send finds is whole
    mess/S/N    the same. The disk has begun with it before, so that both are one wait, or little more
    todo        after that link, before anybody is told: Linux does not write a link at once, as the originals expect of
                the file system, and a message could be lost seconds after it was acknowledged

The directories of mess and intd need none. On ext4, XFS and btrfs, fsync of a file that is new also writes the names
that it has got; on the first two, whose journals are written in order, that of todo would write them too. intd/N is
another name of todo/N, and may be missing beside it.

Root writes to a queue that is root's own and to no other: whoever owns a folder may put a link in the place of
what is in it. In front of somebody else's queue root becomes that user for good, in a process that does nothing else.
"""

import os
import select
import stat
import time

from qmailpy.formats import envelope, received, report
from qmailpy.unix import fds, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

DEATH = 86400  # seconds that a message may take to come in: below the 36 hours after which its files are garbage
OSSIFIED = 129600  # seconds after which what no one has finished is garbage
BLOCK = 65536  # bytes that are collected before they are written

UMASK = 0o033
MODE = 0o644

CHANNELS = (b"local", b"remote")

# What the Received line says of these who have called qmail-queue; a name without an account is nobody.
INVOKERS = {"alias": b"by alias", "qmaild": b"from network", "qmails": b"for bounce"}


class Trouble(Exception):
    """code: what qmail-queue exits with."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def invoked(uid: int) -> bytes:
    """How the Received line calls a user. One look-up, of a user who exists as a rule: where three names do not, asking
    for these takes longer than all the rest."""
    import pwd

    by_number = b"by uid %d" % uid
    if uid == 0:
        return by_number
    try:
        return INVOKERS.get(pwd.getpwuid(uid).pw_name, by_number)
    except LookupError:
        return by_number


def prepare() -> None:
    """For a process that forks: what the first look-up of each child would do besides, such as read nsswitch.conf."""
    invoked(1)


def may_write(home: bytes) -> bool:
    """Whether this process may put messages into the queue itself, as root or as the user whose messages are there."""
    uid = os.geteuid()
    if uid == 0:
        return True
    for path in (home + b"/queue/mess", home):  # a queue that is broken is its owner's to find out
        try:
            return os.stat(path).st_uid == uid
        except OSError:
            continue
    return False


def owner(queue: int) -> tuple[int, int]:
    """uid and gid of whose the queue of a descriptor is: of the first who is not root, else root's own. No link is
    followed, and what is missing is passed over: it may be back soon."""
    for name in (b"mess", b".", b"pid", b"intd", b"todo"):
        try:
            status = os.stat(name, dir_fd=queue, follow_symlinks=False)
        except OSError:
            continue
        if status.st_uid:
            return status.st_uid, status.st_gid
    return 0, 0


def to_become(home: bytes) -> tuple[int, int] | None:
    """uid and gid that a process of root takes on before it writes to the queue; None if it stays what it is."""
    if os.geteuid():
        return None
    try:
        queue = open_queue(home)
    except Trouble:  # Draft will say so
        return None
    try:
        found = owner(queue)
    finally:
        os.close(queue)
    return found if found[0] else None


class Layout:
    """How the files of a queue are spread over directories."""

    __slots__ = ("split", "split_todo")

    def __init__(self, split: int, split_todo: bool) -> None:
        self.split = split
        self.split_todo = split_todo

    def spread(self, folder: bytes, number: int) -> bytes:
        """The path of message number in mess, info, local or remote."""
        return b"%s/%d/%d" % (folder, number % self.split, number)

    def todo(self, folder: bytes, number: int) -> bytes:
        """The path in todo or intd."""
        return self.spread(folder, number) if self.split_todo else b"%s/%d" % (folder, number)

    def todo_folder(self, number: int) -> bytes:
        """The directory that holds todo/N."""
        return b"todo/%d" % (number % self.split) if self.split_todo else b"todo"


def open_queue(home: bytes) -> int:
    """A descriptor for paths below HOME/queue. Raises Trouble."""
    try:
        base = os.open(home + b"/.", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise Trouble(report.NO_HOME)
    try:
        return os.open(b"queue/.", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base)
    except OSError:
        raise Trouble(report.NO_QUEUE)
    finally:
        os.close(base)


def find_layout(queue: int) -> Layout:
    """The layout of the queue of a descriptor; split is 0 if mess has no numbered directory. Raises OSError."""
    fd = _open_folder(queue, b"mess")
    try:
        numbers = [int(name) for name in os.listdir(fd) if name.isascii() and name.isdigit()]
    finally:
        os.close(fd)
    return Layout(max(numbers, default=-1) + 1, _is_there(queue, b"todo/0/."))


def find_layout_of(home: bytes) -> Layout:
    """The same for a home. Raises OSError."""
    fd = os.open(home + b"/queue", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return find_layout(fd)
    finally:
        os.close(fd)


def _open_folder(queue: int, path: bytes) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=queue)


def _is_there(queue: int, path: bytes) -> bool:
    try:
        os.stat(path, dir_fd=queue)
    except OSError:
        return False
    return True


def pull_trigger(queue: int) -> None:
    """Wake qmail-send, if it waits."""
    try:
        fd = os.open(b"lock/trigger", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=queue)
    except OSError:  # it does not run, and will look when it starts
        return
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.write(fd, b"\0")
    except OSError:  # a trigger that is full is pulled
        pass
    finally:
        os.close(fd)


class Known:
    """What a process that queues one message after another finds out with the first: invoker is invoked(uid) of them
    all."""

    __slots__ = ("invoker", "layout")

    def __init__(self) -> None:
        self.invoker = b""
        self.layout: Layout | None = None


class Draft:
    """A message on its way into the queue: write, begin_envelope, add, commit, in this order; or abandon; then release,
    always. Files have the names and modes that qmail-queue gives them, and the same things happen in the same order.
    Every method but the last two raises Trouble, and then all that qmail-queue would remove has been removed.
    """

    __slots__ = ("_buffered", "_intd", "_known", "_layout", "_mess", "_parts", "_pid", "_queue", "_settled", "_start",
                 "_uid", "number")  # fmt: skip

    def __init__(self, home: bytes, uid: int, pid: int, known: Known | None = None) -> None:
        """uid: who has called; pid: who does this. Both are told by the Received line. Root has become whom to_become
        names. known: of an earlier message of the same process, by the same caller."""
        self._start = int(time.time())
        self._uid = uid
        self._pid = pid
        self._mess = self._intd = -1
        self._settled = False  # once nothing is ours to remove
        self._known = known or Known()
        self._queue = open_queue(home)
        try:
            self._create()
        except BaseException:
            self.release()
            raise
        self._known.invoker = self._known.invoker or invoked(uid)
        line = received.queue_line(pid, self._known.invoker, self._start)
        self._parts = [line]
        self._buffered = len(line)

    def _create(self) -> None:
        """To S2."""
        if os.geteuid() == 0 and owner(self._queue)[0]:
            raise Trouble(report.NO_QUEUE)
        pid_path = self._open_pid()
        code = report.NO_PID
        try:
            self.number = os.fstat(self._mess).st_ino
            code = report.NO_MESS
            self._layout = self._known.layout or find_layout(self._queue)
            if not self._layout.split:
                raise Trouble(code)
            self._known.layout = self._layout
            self._link(pid_path, self._path(b"mess"))
            code = report.NO_PID
            os.unlink(pid_path, dir_fd=self._queue)
        except OSError:
            raise Trouble(code)

    def _open_pid(self) -> bytes:
        for sequence in range(1, 10):
            path = b"pid/%d.%d.%d" % (self._pid, self._start, sequence)
            try:
                self._mess = self._open_new(path)
            except OSError:
                continue
            return path
        raise Trouble(report.NO_PID)

    def _open_new(self, path: bytes) -> int:
        before = os.umask(UMASK)
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE, dir_fd=self._queue)
        finally:
            os.umask(before)

    def _link(self, old: bytes, new: bytes) -> None:
        os.link(old, new, src_dir_fd=self._queue, dst_dir_fd=self._queue, follow_symlinks=False)

    def _path(self, folder: bytes) -> bytes:
        return self._layout.spread(folder, self.number)

    def write(self, data: bytes) -> None:
        """Part of the message."""
        self._put(self._mess, data)

    def _put(self, fd: int, data: bytes) -> None:
        self._parts.append(data)
        self._buffered += len(data)
        if self._buffered >= BLOCK:
            self._flush(fd)

    def _flush(self, fd: int) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self._buffered = 0
        try:
            fds.write_all(fd, data)
        except OSError:
            self._fail_writing()

    def _sync(self, fd: int) -> None:
        try:
            os.fsync(fd)
        except OSError:
            self._fail_writing()

    def _fail_writing(self) -> None:
        self.abandon()
        raise Trouble(report.WRITE_ERROR)

    def _keep_time(self) -> None:
        """As the original's alarm, which removes nothing either: the files may be somebody else's soon."""
        if time.time() - self._start >= DEATH:
            raise Trouble(report.TIMEOUT)

    def begin_envelope(self) -> None:
        """The message is complete. To S3."""
        self._flush(self._mess)
        fds.begin_to_sync(self._mess)
        self._keep_time()
        try:
            self._intd = self._open_new(self._layout.todo(b"intd", self.number))
        except OSError:
            raise Trouble(report.NO_INTD)
        self.add(envelope.invoker(self._uid, self._pid))

    def add(self, records: bytes) -> None:
        """Part of the envelope, as it stands in todo: see formats.envelope."""
        self._put(self._intd, records)

    def commit(self, client: int = -1) -> None:
        """The envelope is complete. To S4: once this returns, no crash can lose the message. client: a connection; if
        its other side has hung up, the message is abandoned."""
        self._flush(self._intd)
        for fd in (self._intd, self._mess):
            self._sync(fd)
        self._keep_time()
        try:
            folder = _open_folder(self._queue, self._layout.todo_folder(self.number))
        except OSError:
            raise Trouble(report.NO_TODO)
        try:
            if client >= 0 and _hung_up(client):
                self.fail_reading()
            self._publish(folder)
        finally:
            os.close(folder)
        pull_trigger(self._queue)

    def _publish(self, folder: int) -> None:
        intd, todo = (self._layout.todo(name, self.number) for name in (b"intd", b"todo"))
        try:
            self._link(intd, todo)
            self._settled = True
            os.fsync(folder)
        except OSError:
            if self._settled:
                self._withdraw(todo)
            raise Trouble(report.NO_TODO)

    def _withdraw(self, todo: bytes) -> None:
        """Whoever is told of a failure will send it again. What cannot be withdrawn is better delivered soon."""
        try:
            os.unlink(todo, dir_fd=self._queue)
        except OSError:
            pull_trigger(self._queue)

    def fail_reading(self) -> "NoReturn":
        """Abandon, and raise that Trouble."""
        self.abandon()
        raise Trouble(report.READ_ERROR)

    def abandon(self) -> None:
        """Remove what is there, unless it is queued. Never fails; what cannot be removed is garbage soon."""
        self._parts.clear()
        if self._settled:
            return
        try:
            if self._intd >= 0:
                os.ftruncate(self._intd, 0)
                os.unlink(self._layout.todo(b"intd", self.number), dir_fd=self._queue)
            if self._mess >= 0:
                os.ftruncate(self._mess, 0)
                os.unlink(self._path(b"mess"), dir_fd=self._queue)
        except OSError:
            pass
        self._settled = True

    def release(self) -> None:
        """Close what is open."""
        for fd in (self._mess, self._intd, self._queue):
            if fd >= 0:
                os.close(fd)
        self._mess = self._intd = self._queue = -1


def _hung_up(client: int) -> bool:
    poller = select.poll()
    poller.register(client, select.POLLRDHUP)
    return bool(poller.poll(0))


def enqueue(
    home: bytes, uid: int, pid: int, message: int, addresses: int, client: int = -1, known: Known | None = None
) -> None:
    """All that qmail-queue does: a message and its envelope from two descriptors. Raises Trouble. client: a connection;
    once its other side has hung up, nothing is queued any more. known: of an earlier message of the same uid."""
    draft = Draft(home, uid, pid, known)
    try:
        _copy(draft, message, addresses, client)
    finally:
        draft.release()


def _copy(draft: Draft, message: int, addresses: int, client: int) -> None:
    while block := _read(draft, message, client):
        draft.write(block)
    draft.begin_envelope()
    parser = envelope.Parser()
    while not parser.finished:
        block = _read(draft, addresses, client)
        if not block:
            draft.fail_reading()
        try:
            draft.add(parser.feed(block))
        except envelope.EnvelopeError as e:
            raise Trouble(e.code)
    draft.commit(client)


def _read(draft: Draft, fd: int, client: int) -> bytes:
    try:
        if client < 0 or _waits(fd, client):
            return os.read(fd, BLOCK)
    except OSError:
        pass
    draft.fail_reading()


def _waits(fd: int, client: int) -> bool:
    """Once there is something to read; False if the client has hung up before."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poller.register(client, select.POLLRDHUP)
    return all(ready != client for ready, _ in poller.poll())


class _TooLong(Exception):
    """The alarm."""


def _too_long(number: int, frame: object) -> None:
    raise _TooLong


def code_of(act: "Callable[[], int]", seconds: int) -> int:
    """What act returns, or the exit code of what it meets: a Trouble, no memory, or the end of its time, which is that
    of the process's alarm."""
    signals.catch(signals.ALRM, _too_long)
    try:
        signals.alarm(seconds)
        return act()
    except Trouble as e:
        return e.code
    except _TooLong:
        return report.TIMEOUT
    except MemoryError:
        return report.NO_MEMORY
    finally:
        signals.alarm(0)


def remove(queue: int, *paths: bytes) -> bool:
    """Remove files in this order, up to one that cannot be. One that is not there is removed already."""
    for path in paths:
        try:
            os.unlink(path, dir_fd=queue)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def clean_pid(queue: int, now: int) -> None:
    """Remove from pid what nobody has read for 36 hours. Never fails."""
    try:
        names = _names(queue, b"pid")
    except Unlisted:
        return
    for name in names:
        try:
            if now >= int(os.stat(b"pid/" + name, dir_fd=queue).st_atime) + OSSIFIED:
                os.unlink(b"pid/" + name, dir_fd=queue)
        except OSError:
            continue


class Listed:
    """A message in state S5, or in S4 if `new`. recipients: (channel, done, address), where channel is `local` or
    `remote`, and empty for a new one, or what kept a list from being read. next: channel to the time of change of its
    file, which is that of the next attempt. mark and mode: of info/S/N; mark is another for each message of a number.
    """

    __slots__ = ("birth", "bouncing", "mark", "mode", "new", "next", "number", "recipients", "sender", "size")

    def __init__(self, number: int, size: int, status: os.stat_result, sender: bytes, bouncing: bool) -> None:
        """status: of the file that tells the sender."""
        self.number = number
        self.size = size
        self.birth = int(status.st_mtime)
        self.sender = sender
        self.bouncing = bouncing
        self.new = False
        self.mark = mark(status)
        self.mode = stat.S_IMODE(status.st_mode)
        self.next: dict[bytes, int] = {}
        self.recipients: list[tuple[bytes, bool, bytes] | OSError] = []


def mark(status: os.stat_result) -> tuple[int, int]:
    """What tells one info/S/N from a later one of the same name."""
    return status.st_ino, status.st_mtime_ns


class Unlisted(OSError):
    """A directory that cannot be read; name is its path below queue."""

    def __init__(self, name: bytes, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.name = name


def _names(queue: int, folder: bytes) -> list[bytes]:
    """The names in a directory, as the file system has them. Raises Unlisted."""
    try:
        fd = _open_folder(queue, folder)
    except OSError as e:
        raise Unlisted(folder, e)
    try:
        return [os.fsencode(name) for name in os.listdir(fd)]
    except OSError as e:
        raise Unlisted(folder, e)
    finally:
        os.close(fd)


def preprocessed(queue: int, layout: Layout) -> "Iterator[int]":
    """The numbers of the messages in S5, in the order of their directories. Raises Unlisted."""
    for place in range(layout.split):
        for name in _names(queue, b"info/%d" % place):
            if name.isdigit():
                yield int(name)


def look(queue: int, layout: Layout, number: int) -> Listed:
    """What is known of a message in S5. Raises OSError; where a list of recipients is unreadable, that stands in it."""
    size = os.stat(layout.spread(b"mess", number), dir_fd=queue).st_size
    bouncing = _is_there(queue, b"bounce/%d" % number)
    text, status = _contents(queue, layout.spread(b"info", number))
    message = Listed(number, size, status, text.partition(b"\0")[0][1:], bouncing)
    for channel in CHANNELS:
        try:
            text, status = _contents(queue, layout.spread(channel, number))
        except FileNotFoundError:
            continue
        except OSError as e:
            message.recipients.append(e)
            continue
        message.next[channel] = int(status.st_mtime)
        for letter, address in envelope.records(text):
            if letter in (b"T", b"D"):
                message.recipients.append((channel, letter == b"D", address))
    return message


def waiting(queue: int, layout: Layout) -> "Iterator[int]":
    """The numbers of the messages in S4. Raises Unlisted."""
    folders = [b"todo/%d" % place for place in range(layout.split)] if layout.split_todo else [b"todo"]
    for folder in folders:
        for name in _names(queue, folder):
            if name.isdigit():
                yield int(name)


def is_new(queue: int, layout: Layout, number: int) -> bool:
    """Whether a message is in S4, whatever info and the like say."""
    return _is_there(queue, layout.todo(b"todo", number))


def look_new(queue: int, layout: Layout, number: int) -> Listed:
    """What is known of a message in S4. Raises OSError."""
    size = os.stat(layout.spread(b"mess", number), dir_fd=queue).st_size
    text, status = _contents(queue, layout.todo(b"todo", number))
    message = Listed(number, size, status, b"", False)
    message.new = True
    for letter, value in envelope.records(text):
        if letter == b"F":
            message.sender = value
        elif letter == b"T":
            message.recipients.append((b"", False, value))
    return message


def beginning(queue: int, layout: Layout, number: int, size: int) -> bytes:
    """At most size bytes from the front of a message. Raises OSError."""
    fd = os.open(layout.spread(b"mess", number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=queue)
    try:
        return fds.read_all(fd, size)
    finally:
        os.close(fd)


def _contents(queue: int, path: bytes) -> tuple[bytes, os.stat_result]:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=queue)
    try:
        status = os.fstat(fd)
        text = os.read(fd, status.st_size + 1)
        if len(text) > status.st_size:  # it has grown meanwhile
            text += fds.read_all(fd, BLOCK)
        return text, status
    finally:
        os.close(fd)


def count(queue: int, folder: bytes) -> int:
    """How many files are below mess, or below todo. Raises Unlisted."""
    files = 0
    try:
        fd = _open_folder(queue, folder)
    except OSError as e:
        raise Unlisted(folder, e)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    files += 1
                elif entry.is_dir(follow_symlinks=False):
                    files += count(queue, folder + b"/" + os.fsencode(entry.name))
    except Unlisted:
        raise
    except OSError as e:
        raise Unlisted(folder, e)
    finally:
        os.close(fd)
    return files
