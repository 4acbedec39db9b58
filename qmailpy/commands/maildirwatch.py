"""NAME
    maildirwatch - show new mail on a screen

SYNOPSIS
    maildirwatch

DESCRIPTION
    maildirwatch looks into the Maildir MAILDIR every 30 seconds, clears the screen, and shows what is in new, the
    oldest first:

        FROM <joe@example.org> TO <alice@example.org>
        From: Joe Shmoe <joe@example.org>
        the subject and the beginning of the text

    that is, the envelope sender and the recipient, by the lines Return-Path and Delivered-To, or ? without them; the
    field From, in bold; and two lines of what the message says, 158 bytes. Other bytes than printable ASCII are shown
    as / or ?: a screen is never told anything else by a message. A message of this very second is shown the next
    time. Files in MAILDIR/tmp that nobody has looked at for 36 hours are removed.

    maildirwatch does not end by itself.

ENVIRONMENT
    MAILDIR    the Maildir

EXIT STATUS
    111    MAILDIR is not set, cannot be read, or the screen cannot be written

SEE ALSO
    qbiff(1), maildir2mbox(1), maildirmake(1), maildir(5)
"""

import os
import time
from _collections_abc import Callable

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats.header import Splitter, name
from qmailpy.stores import maildir
from qmailpy.unix import fds

PROGRAM = b"maildirwatch"

PAUSE_S = 30
CLEAR = b"\033[;H\033[;J"
BOLD, NORMAL = b"\033[1m", b"\033[0m"

BLOCK = 65536  # bytes
HEADER = 4 * BLOCK  # bytes of a header that are looked at: a stranger has written it
SHOWN = 158  # bytes of subject and text
BLANKS = b" \t\r\n"


def _plain(instead: bytes) -> bytes:
    return bytes(byte if 32 <= byte < 127 else instead[0] for byte in range(256))


_SLASHES = _plain(b"/")
_QUESTIONS = _plain(b"?")


def listed(now: int) -> list[bytes]:
    """The names in new of messages older than the second now, the oldest first. Raises OSError."""
    found = []
    with os.scandir(b"new") as entries:
        for entry in entries:
            try:
                came = int(entry.stat().st_mtime)
            except OSError:
                continue
            if not entry.name.startswith(b".") and came < now:
                found.append((came, entry.path))
    return [path for _, path in sorted(found)]


def read(path: bytes) -> tuple[list[bytes], bytes]:
    """The fields of a message, and the beginning of its body. Raises OSError."""
    splitter = Splitter()
    fields: list[bytes] = []
    left = HEADER
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while splitter.body is None or len(splitter.body) < SHOWN:
            block = os.read(fd, BLOCK)
            if not block:
                break
            left -= len(block)
            if splitter.body is None and left < 0:
                break
            if splitter.body is None:
                fields += splitter.feed(block)
            else:
                splitter.body += block
    finally:
        os.close(fd)
    if splitter.body is None:
        fields += splitter.finish()
    body = splitter.body or b""
    return fields, body + (b"" if not body or body.endswith(b"\n") else b"\n")


def report(fields: list[bytes], body: bytes) -> bytes:
    """What is shown of a message."""
    values: dict[bytes, bytes] = {b"return-path": b"?", b"delivered-to": b"?", b"from": b""}
    text = b""
    for field in fields:
        kind = name(field)
        if kind == b"subject":
            text += value(field)
        elif kind == b"from":
            values[kind] = field[:-1]
        elif kind in values and value(field):
            values[kind] = value(field)[:-1]
    shown = b"FROM %s TO <%s>\n" % (
        values[b"return-path"].translate(_QUESTIONS),
        values[b"delivered-to"].translate(_QUESTIONS),
    )
    if values[b"from"]:
        shown += BOLD + values[b"from"].translate(_SLASHES) + NORMAL + b"\n"
    return shown + (text + body)[:SHOWN].translate(_SLASHES) + b"\n\n"


def value(field: bytes) -> bytes:
    """A field without its name."""
    return field.partition(b":")[2].lstrip(BLANKS)


def screen(now: int) -> bytes:
    """All that is shown, but for the clearing. Raises OSError if the Maildir cannot be read."""
    parts = []
    for path in listed(now):
        try:
            parts.append(report(*read(path)))
        except FileNotFoundError:  # read and gone meanwhile
            continue
    return b"".join(parts)


def watch(clock: Callable[[], float], rest: Callable[[int], object]) -> int:
    """Show the screen again and again, rest(seconds) between. Returns only the exit code of trouble."""
    while True:
        now = int(clock())
        maildir.clean(now)
        try:
            shown = screen(now)
        except OSError as e:
            return strerr.fail(strerr.LATER, PROGRAM, b"unable to scan $MAILDIR/new", error=e)
        try:
            fds.write_all(1, CLEAR + shown)
        except OSError as e:
            return strerr.fail(strerr.LATER, PROGRAM, b"unable to write to the screen", error=e)
        rest(PAUSE_S)


def main(argv: list[bytes], env: Env) -> int:
    folder = env.get(b"MAILDIR")
    if folder is None:
        return strerr.fail(strerr.LATER, PROGRAM, b"MAILDIR not set")
    try:
        os.chdir(folder)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to chdir to ", folder, error=e)
    return watch(time.time, time.sleep)
