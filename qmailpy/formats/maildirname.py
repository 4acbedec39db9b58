"""maildirname - names of messages in a Maildir, as paths from the Maildir: new/UNIQUE, cur/UNIQUE:2,FLAGS. Pure.

A UNIQUE may tell the message's size: 1000000000.4711.host,S=2345 (Maildir++)."""

from qmailpy.formats.numbers import scan

NEW = b"new/"
CUR = b"cur/"

SIZE = b",S="
INFO = b":2,"
TRASHED = b"T"


def unique(path: bytes) -> bytes:
    """The part of a message's name that outlives its moves and flags: what UIDL shows (qmail-pop3d: up to the first
    colon). A CR or LF, which a file's name may hold and a line of a reply may not, shows as =0D or =0A."""
    name = path[len(NEW) :].partition(b":")[0]
    return name.replace(b"\r", b"=0D").replace(b"\n", b"=0A")


def seen(path: bytes) -> bytes | None:
    """Where a reader moves a message that it has shown; None for one that is in cur/ already."""
    return CUR + path[len(NEW) :] + b":2," if path.startswith(NEW) else None


def with_size(unique: bytes, size: int) -> bytes:
    """A name that tells how many bytes the message has."""
    return unique + SIZE + b"%d" % size


def size(name: bytes) -> int | None:
    """The bytes that a name, of the last part of a path, tells; None if it does not."""
    _, found, rest = name.partition(b":")[0].rpartition(SIZE)
    number, digits = scan(rest)
    return number if found and digits else None


def is_trashed(name: bytes) -> bool:
    """Whether a reader has marked the message as deleted."""
    return TRASHED in name.partition(INFO)[2]
