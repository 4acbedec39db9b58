"""orders - what a postmaster has ordered about a message in the queue: qmail-queuectl writes it, qmail-send obeys.

An order is a mode of info/S/N. That file is there from the moment that a message is preprocessed until it
ends, and it goes with the message: so an order outlives restarts and crashes, cannot be left behind for the next
message with the same number, and costs no file. Its owner alone may read or change it, in a folder that is closed
to all others, so the bits for executing it mean nothing else; and the original, which never looks at the mode of that
file, does the right thing with a queue in which there are orders: it delivers.

    PLAIN      0600    none
    HELD       0700    no attempt is made; the message grows older as any other
    BOUNCE    01610    all recipients that are left fail now; the sender is told
    DELETE    01601    all recipients that are left are done; nobody is told

Any other mode is none. Whoever mends a queue with chmod -R 755, or o+x, has not ordered all mail to be deleted: the
sticky bit, which means nothing on a file, comes with no such thing.

More is told by the times of files. That of local/S/N or remote/S/N is the next attempt. The two of lock/sendmutex,
which nobody else uses, are question and answer: `tell` gives it a new time of change and pulls the trigger. qmail-send
compares that time with the one it knows whenever the trigger wakes it; if it is another, qmail-send looks at all modes
and times anew, and then gives the file this time as that of the last access, too. The original never answers.
"""

import os
import time

from qmailpy.stores import lasterrors
from qmailpy.stores.queue import CHANNELS, Layout, Listed, mark, owner, pull_trigger
from qmailpy.unix import locks

PLAIN = 0o600
HELD = 0o700
BOUNCE = 0o1610
DELETE = 0o1601

MUTEX = b"lock/sendmutex"
NS = 1_000_000_000


def of(mode: int) -> int:
    """The order that a mode of info/S/N is, or PLAIN."""
    found = mode & 0o7777
    return found if found in (HELD, BOUNCE, DELETE) else PLAIN


def read(queue: int, layout: Layout, number: int) -> int:
    """The order about a message in S5, or PLAIN. Raises OSError: FileNotFoundError if it has ended."""
    status = os.stat(layout.spread(b"info", number), dir_fd=queue, follow_symlinks=False)
    return of(status.st_mode)


def keeper(queue: int) -> tuple[int, int] | None:
    """uid and gid that a process of root takes on before it reads or gives orders: the owner of info, and the group by
    which that one reads mess and todo. None if it stays what it is."""
    if os.geteuid():
        return None
    uid, gid = owner(queue)
    try:
        uid = os.stat(b"info", dir_fd=queue, follow_symlinks=False).st_uid or uid
    except OSError:
        pass
    return (uid, gid) if uid else None


def lock(queue: int) -> int:
    """A descriptor that holds the lock of those who give orders, as soon as no other has it. Raises OSError."""
    fd = os.open(b"info", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=queue)
    return locks.held(fd, wait=True)


def take_over(queue: int) -> int:
    """A descriptor that keeps any qmail-send from starting; -1 if one runs. Raises OSError."""
    try:
        return locks.acquire(MUTEX, queue)
    except BlockingIOError:
        return -1


def open_info(queue: int, layout: Layout, message: Listed) -> int:
    """A descriptor of info/S/N of that very message. Raises OSError: FileNotFoundError if it has ended."""
    path = layout.spread(b"info", message.number)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=queue)
    if mark(os.fstat(fd)) != message.mark:
        os.close(fd)
        raise FileNotFoundError
    return fd


def current(info: int) -> int:
    """The order that holds now, or PLAIN, by a descriptor of info/S/N. Raises OSError."""
    return of(os.fstat(info).st_mode)


def give(info: int, order: int) -> None:
    """In place of any other, by a descriptor: a name may be the next message's by now. Raises OSError."""
    os.fchmod(info, order)


def has_ended(info: int) -> bool:
    """Whether the message was gone when it was given orders. Raises OSError."""
    return os.fstat(info).st_nlink == 0


def hurry(queue: int, layout: Layout, number: int, now: int) -> None:
    """The next attempt is now. Raises OSError.

    The time is a whole second, and another one than before: so qmail-send, when a pass has ended, knows it from the
    time of its own mark of a recipient, and from that with which the pass began."""
    for channel in CHANNELS:
        path = layout.spread(channel, number)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=queue)
        except FileNotFoundError:
            continue
        try:
            when = now - 1 if os.fstat(fd).st_mtime_ns == now * NS else now
            os.utime(fd, (when, when))
        finally:
            os.close(fd)


def discard(queue: int, layout: Layout, number: int) -> None:
    """A message in S5 to S2, as DELETE has it, for those who have taken over from qmail-send. Raises OSError.

    Crash outcome: it is in S5 with fewer recipients, or none, and the order stands in its mode; or in S2, garbage.
    """
    spread = [layout.spread(folder, number) for folder in (*CHANNELS, b"info")]
    lasterrors.forget(queue, number)
    for path in (b"bounce/%d" % number, *spread):
        try:
            os.unlink(path, dir_fd=queue)
        except FileNotFoundError:
            continue


def asked(queue: int) -> int:
    """The time that tell has left, in nanoseconds. Raises OSError."""
    return os.stat(MUTEX, dir_fd=queue, follow_symlinks=False).st_mtime_ns


def answer(queue: int, seen: int) -> None:
    """All modes and times have been read since asked said `seen`. Another question since then is answered when the
    trigger, which it has pulled, wakes qmail-send again. Never fails."""
    try:
        if asked(queue) == seen:
            os.utime(MUTEX, ns=(seen, seen), dir_fd=queue, follow_symlinks=False)
    except OSError:
        pass


def tell(queue: int) -> int:
    """Have qmail-send look at all modes and times; returns what `answered` takes. Raises OSError."""
    before = os.stat(MUTEX, dir_fd=queue, follow_symlinks=False)
    moment = max(time.time_ns(), before.st_mtime_ns + 1)
    while True:
        os.utime(MUTEX, ns=(before.st_atime_ns, moment), dir_fd=queue, follow_symlinks=False)
        now = os.stat(MUTEX, dir_fd=queue, follow_symlinks=False)
        if now.st_mtime_ns not in (before.st_mtime_ns, now.st_atime_ns):
            break
        moment += NS  # some file systems count in microseconds or in seconds
    pull_trigger(queue)
    return now.st_mtime_ns


def answered(queue: int, told: int) -> bool:
    """Whether qmail-send has looked since. Raises OSError."""
    status = os.stat(MUTEX, dir_fd=queue, follow_symlinks=False)
    return status.st_mtime_ns == status.st_atime_ns == told
