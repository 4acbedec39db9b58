"""NAME
    maildir2mbox - move mail from a Maildir into an mbox file

SYNOPSIS
    maildir2mbox

DESCRIPTION
    maildir2mbox appends the messages of the Maildir MAILDIR, those in new and those in cur, to the mbox file MAIL,
    the oldest first, and removes them from the Maildir. For that it writes a new file, MAILTMP, in the same file
    system, and moves it to MAIL once it is on disk. So a crash loses nothing; one in the moment between that and the
    removal leaves messages in both places. Without messages it does nothing.

    MAIL is locked with flock(2) meanwhile, against a mail reader, and so that two that run at once do not harm each
    other. Its owner alone may read the new file. A message of this very second stays for the next time. Files in
    MAILDIR/tmp that nobody has looked at for 36 hours are removed.

    Each message has a From_ line in front, with the envelope sender from the line Return-Path that it begins with, or
    XXX without one, and the time at which it came, in GMT. Lines that begin with `From `, or with that behind some >,
    get one > more, and an empty line follows.

ENVIRONMENT
    MAIL       the mbox file
    MAILTMP    a file that may be overwritten
    MAILDIR    the Maildir. A relative MAIL or MAILTMP is one in this folder

EXIT STATUS
    0      the messages are in MAIL; one that could not be removed is named on descriptor 2
    111    a variable is not set, or a file could not be read, written or moved; all messages are where they were

BUGS
    Programs that lock mbox files in other ways, with dot files or with fcntl(2), are not kept out. One that waits for
    the lock, and then writes to the file that it has opened before, as the original qmail-local does, writes to a file
    that is gone.

SEE ALSO
    elq(1), pinq(1), qail(1), maildirmake(1), maildirwatch(1), qmail-local(8), maildir(5), mbox(5)
"""

import os
import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import mbox
from qmailpy.stores import maildir, safeio
from qmailpy.unix import fds, locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = b"maildir2mbox"
VARIABLES = (b"MAIL", b"MAILTMP", b"MAILDIR")

BLOCK = 65536  # bytes
MASK = 0o077

RETURN_PATH = b"Return-Path: <"
UNKNOWN = b"XXX"


class Unable(Exception):
    """args[0]: the complaint; args[1]: why, an OSError, or None."""


def sender_of(first: bytes) -> bytes:
    """The envelope sender, by the first line of a message."""
    if not first.startswith(RETURN_PATH) or not first.endswith(b"\n"):
        return UNKNOWN
    return b"" if first[len(RETURN_PATH) :].startswith(b">") else first[len(RETURN_PATH) : -2]


def blocks(path: bytes, shown: bytes) -> "Iterator[bytes]":
    """The content of a file, in blocks, and at least one. Raises Unable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            block = os.read(fd, BLOCK)
            yield block
            while block:
                block = os.read(fd, BLOCK)
                yield block
        finally:
            os.close(fd)
    except OSError as e:
        raise Unable(b"unable to read " + shown, e)


def old_mail(path: bytes) -> "Iterator[bytes]":
    """What is in the mbox file, whose last line gets an end if it has none. Raises Unable."""
    last = b"\n"
    for block in blocks(path, path):
        last = block[-1:] or last
        yield block
    if last != b"\n":
        yield b"\n\n"


def new_mail(path: bytes) -> "Iterator[bytes]":
    """What stands for a message of the Maildir in an mbox file. Raises Unable."""
    quoter = mbox.Quoter()
    first = True
    for block in blocks(path, b"$MAILDIR/" + path):
        if first:
            line = block[: block.find(b"\n") + 1]
            yield mbox.from_line(sender_of(line), came(path))
            first = False
        yield quoter.feed(block)
    yield quoter.finish()


def came(path: bytes) -> int:
    """When a message came, in seconds since 1970. Raises Unable: a reader may have moved it meanwhile."""
    try:
        return int(os.stat(path).st_mtime)
    except OSError as e:
        raise Unable(b"unable to read $MAILDIR/" + path, e)


def messages() -> list[bytes]:
    """Those of the Maildir, in order. Raises Unable."""
    now = int(time.time())
    maildir.clean(now)
    try:
        return maildir.scan(now)[0]
    except OSError as e:
        folder = e.filename if e.filename in (b"new/", b"cur/") else b""
        raise Unable(b"unable to scan $MAILDIR/" + folder.rstrip(b"/"), e)


def lock(path: bytes) -> int:
    """A descriptor that has the lock of the file of that name, which is made if there is none. Raises Unable."""
    try:
        while True:
            fd = fds.open_append(path)
            locks.lock(fd, wait=True)
            try:
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
            except FileNotFoundError:
                pass
            os.close(fd)  # another has put a new file in its place meanwhile
    except OSError as e:
        raise Unable(b"unable to lock " + path, e)


def move(mail: bytes, temporary: bytes, locked: int) -> None:
    """Put the messages into the file mail, on which locked has the lock. Raises Unable, safeio.Failed."""
    try:
        same = os.path.samestat(os.fstat(locked), os.stat(temporary))
    except OSError:
        same = False
    if same:
        raise Unable(b"$MAILTMP is $MAIL: " + mail, None)
    paths = messages()

    def content() -> "Iterator[bytes]":
        yield from old_mail(mail)
        for path in paths:
            yield from new_mail(path)

    safeio.replace(mail, temporary, content())
    sync_folder(mail)
    for path in paths:
        try:
            os.unlink(path)
        except OSError as e:
            strerr.warn(PROGRAM, b"$MAILDIR/", path, b" will be delivered twice; unable to unlink", error=e)


def sync_folder(path: bytes) -> None:
    """Have the name of a file on disk: what it replaces is removed next. Raises Unable."""
    try:
        fd = os.open(os.path.dirname(path) or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise Unable(b"unable to write the folder of " + path, e)


def main(argv: list[bytes], env: Env) -> int:
    os.umask(MASK)
    for name in VARIABLES:
        if name not in env:
            return strerr.fail(strerr.LATER, PROGRAM, name, b" not set")
    mail, temporary, folder = (env[name] for name in VARIABLES)
    try:
        os.chdir(folder)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to chdir to ", folder, error=e)
    try:
        if messages():
            locked = lock(mail)
            try:
                move(mail, temporary, locked)
            finally:
                os.close(locked)
    except Unable as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.args[0], error=e.args[1])
    except safeio.Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.complaint, error=e)
    return 0
