"""journal - a change of the virtual domains that is under way, as it will be when it is done: pairs of netstrings, a
name and a value. Each of its steps may have been done before, so whoever finds the file does all of them again.

It is below users/ of the mail system, beside the lock of all who change domains: whoever can write there can change
users/assign. The folder of the domains is their owner's, and root would do what he has written."""

import errno
import os

from qmailpy.formats import netstrings
from qmailpy.stores import safeio
from qmailpy.unix import fds

FOLDER = b"/users"  # below the home of the mail system
JOURNAL = FOLDER + b"/.domains.journal"
LOCK = FOLDER + b"/.domains.lock"
TEMPORARY = b".tmp"
LARGEST = 1 << 24  # bytes
MODE = 0o600  # it may hold a password's hash

ADD, ALIAS, DELETE = b"add", b"alias", b"delete"
KINDS = (ADD, ALIAS, DELETE)

Record = dict[bytes, bytes]


def write(home: bytes, record: Record) -> None:
    """Have record in the journal, durably. Raises OSError."""
    text = b"".join(netstrings.build(name) + netstrings.build(value) for name, value in record.items())
    safeio.replace(home + JOURNAL, home + JOURNAL + TEMPORARY, (text,), MODE)
    safeio.sync_folder(home + FOLDER)


def read(home: bytes) -> Record | None:
    """What the journal has; None if nothing is under way. Raises OSError: EPROTO for a file that is no journal, or that
    neither root nor we have written."""
    path = home + JOURNAL
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        text = fds.read_all(fd, LARGEST)
    finally:
        os.close(fd)
    try:
        words = netstrings.parse(text)
        record = dict(zip(words[::2], words[1::2], strict=True))
        if status.st_uid not in (0, os.geteuid()) or record.get(b"kind") not in KINDS:
            raise ValueError
    except ValueError:
        raise OSError(errno.EPROTO, "", path) from None
    return record


def remove(home: bytes) -> None:
    """All is done, durably. Raises OSError."""
    os.unlink(home + JOURNAL)
    safeio.sync_folder(home + FOLDER)
