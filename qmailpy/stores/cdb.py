"""cdb - look-ups in cdb files, and tcpserver's access rules among them. Read only; tcprules(1) makes such files.

A file is opened for one question and closed again, so that the next one sees a file that has replaced it. Nothing
is mapped: a file that is cut short meanwhile gives an error, where a mapped one would give SIGBUS.
"""

import os

from qmailpy.formats import tcprules
from qmailpy.formats.cdb import find as find_in

BLOCK = 4096  # bytes from the start, read once: the header, and all of a small file
PIECE = 65536  # bytes; a file that lies about a length must not cost that much memory


def getter(fd: int):  # type: ignore[no-untyped-def]
    """A function from a key to the data of its first record in the cdb on fd, or to None.

    It raises OSError: EPROTO if the file is none or cut short. fd stays the caller's.
    """
    read = _reader(fd)
    return lambda key: find_in(read, key)


def take(fd: int, key: bytes) -> bytes | None:
    """One answer of getter, after which fd is closed. Raises OSError."""
    try:
        return find_in(_reader(fd), key)
    finally:
        os.close(fd)


def _reader(fd: int):  # type: ignore[no-untyped-def]
    beginning = os.pread(fd, BLOCK, 0)
    whole = len(beginning) < BLOCK

    def read(position: int, length: int) -> bytes:
        if whole or position + length <= BLOCK:
            return beginning[position : position + length]
        pieces = []
        while length > 0:
            piece = os.pread(fd, min(length, PIECE), position)
            if not piece:
                break
            pieces.append(piece)
            position += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    return read


def find(path: bytes, ip: bytes, host: bytes | None = None, info: bytes | None = None) -> tcprules.Rule | None:
    """The rule that path, a cdb by tcprules(1), has for a peer, or None.

    ip is the text of an IPv4 or IPv6 address; host and info are None if not known. Raises OSError: ENOENT if there is
    no file, EPROTO if it is no cdb.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return tcprules.search(getter(fd), ip, host, info)
    finally:
        os.close(fd)
