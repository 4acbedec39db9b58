"""lasterrors - why each recipient of a message was put off the last time: HOME/queue/last/N.

qmail-send notes it and qmail-queuectl shows it; the original keeps it nowhere but in its log. Nothing depends on it: it
is written without fsync, and what cannot be written is not noted. Where there is no queue/last nothing is noted.

A file holds records one after the other, and the newest of a recipient counts. The address is a netstring, as it may be
any bytes but NUL; so what a full disk has torn spoils no more than the record behind it:

    1700000000 remote 14:mary@b.example,192.0.2.7 does not like recipient. ... NUL

Only qmail-send writes it, and there is one qmail-send. It appends; a file that has grown too large is written anew
under the name last/new, which then takes the place of the old one. Of very many recipients the last ones are kept.
"""

import os

from qmailpy.formats import netstrings
from qmailpy.unix import fds

FOLDER = b"last"
NEW = b"last/new"

SIZE = 131072  # bytes of a file, at most; then it shrinks to half of it, so that this is rare
ADDRESS_SIZE = 1002  # bytes, what qmail-queue takes; a prefix of virtualdomains may come before it
TEXT_SIZE = 1000  # bytes of a text that are kept

DIGITS = 19  # of a number, less than that

CHANNELS = (b"local", b"remote")

Errors = dict[tuple[bytes, bytes], tuple[int, bytes]]


def _path(number: int) -> bytes:
    return b"last/%d" % number


def _record(channel: bytes, address: bytes, when: int, text: bytes) -> bytes:
    kept = text.replace(b"\0", b" ")[:TEXT_SIZE]
    return b"%d %s %s%s\0" % (when, channel, netstrings.build(address), kept)


def note(queue: int, number: int, channel: bytes, address: bytes, when: int, text: bytes) -> None:
    """A recipient of message number has been put off at `when`, in seconds since 1970, with the text of a report
    without its first letter. channel: `local` or `remote`. Never fails."""
    if len(address) > 2 * ADDRESS_SIZE:
        return
    try:
        fd = os.open(
            _path(number),
            os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=queue,
        )
    except OSError:
        return
    try:
        os.write(fd, _record(channel, address, when, text))
        large = os.fstat(fd).st_size > SIZE
    except OSError:
        return
    finally:
        os.close(fd)
    if large:
        _shrink(queue, number)


def _shrink(queue: int, number: int) -> None:
    kept: list[bytes] = []
    room = SIZE // 2
    for (channel, address), (when, text) in reversed(read(queue, number).items()):
        record = _record(channel, address, when, text)
        room -= len(record)
        if room < 0:
            break
        kept.append(record)
    try:
        fd = os.open(NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=queue)
        try:
            fds.write_all(fd, b"".join(reversed(kept)))
        finally:
            os.close(fd)
        os.rename(NEW, _path(number), src_dir_fd=queue, dst_dir_fd=queue)
    except OSError:  # no room: then none for more of them either
        forget(queue, number)


def read(queue: int, number: int) -> Errors:
    """(channel, address): (when, text) of the last time of each recipient, in the order of these times. What cannot be
    read is not there. Recipients that are done meanwhile may be among them."""
    try:
        fd = os.open(_path(number), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=queue)
    except OSError:
        return {}
    try:
        return parse(os.read(fd, min(os.fstat(fd).st_size, 2 * SIZE)))
    except OSError:
        return {}
    finally:
        os.close(fd)


def noted(queue: int) -> set[int]:
    """The numbers of the messages of which something may be known."""
    try:
        fd = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=queue)
    except OSError:
        return set()
    try:
        return {int(name) for name in os.listdir(fd) if name.isascii() and name.isdigit()}
    except OSError:
        return set()
    finally:
        os.close(fd)


def parse(text: bytes) -> Errors:
    """The records of a file, however it ends. What is none is passed over."""
    found: Errors = {}
    for record in text.split(b"\0")[:-1]:
        when, _, rest = record.partition(b" ")
        channel, _, rest = rest.partition(b" ")
        size, _, rest = rest.partition(b":")
        if channel not in CHANNELS or not _is_number(when) or not _is_number(size):
            continue
        address, comma, said = rest[: int(size)], rest[int(size) : int(size) + 1], rest[int(size) + 1 :]
        if comma == b",":
            found.pop((channel, address), None)  # to the end
            found[channel, address] = int(when), said
    return found


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) < DIGITS


def forget(queue: int, number: int) -> None:
    """Nothing is known of message number any more: it has ended, or a new one has its number. Never fails."""
    try:
        os.unlink(_path(number), dir_fd=queue)
    except OSError:
        pass
