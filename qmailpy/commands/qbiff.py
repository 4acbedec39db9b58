"""NAME
    qbiff - say that mail has come, on the terminals of the user

SYNOPSIS
    qbiff

DESCRIPTION
    qbiff is for .qmail files. It writes two lines about the message on descriptor 0 to each terminal where USER is
    logged in, belongs to him, and has its owner's x bit set: biff(1) with the word y does that, or chmod u+x.

        ./Maildir/
        |qbiff

    It rings the bell, and shows

        *** TO <LOCAL> FROM <SENDER>
            the subject and the beginning of the text

    the second line cut to 78 columns. Bytes that are no printable ASCII are shown as _ in the first line and / in
    the second one: a terminal is never told anything else.

ENVIRONMENT
    USER      the user. Without one of the three, qbiff does nothing
    LOCAL     the local part of the recipient
    SENDER    the envelope sender

EXIT STATUS
    0      always: that nobody is told is no reason to deliver anew

BUGS
    Who is logged in is in /run/utmp. Systems that have given it up show nobody.

SEE ALSO
    maildirwatch(1), biff(1), dot-qmail(5), utmp(5), qmail-local(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats.header import Splitter, name
from qmailpy.formats.utmp import LONGEST_USER, terminals
from qmailpy.unix import fds, signals

UTMP = b"/var/run/utmp"
SIZE = 1 << 24  # bytes of it, at most
BLOCK = 65536  # bytes
HEADER = 4 * BLOCK  # bytes of a header that are looked at: a stranger has written it
DEVICES = b"/dev/"

INDENT = b"    "
COLUMNS = 78
BEFORE = b"\r\n\a"
AFTER = b"\r\n"

WANTED = 0o100  # owner's x bit
BLANKS = b" \t\r\n"


def _plain(instead: bytes) -> bytes:
    return bytes(byte if 32 <= byte < 127 else instead[0] for byte in range(256))


_FIRST = _plain(b"_")
_SECOND = _plain(b"/")


def beginning() -> bytes:
    """Subject and text of the message on descriptor 0, as much of them as is shown. Raises OSError."""
    splitter = Splitter()
    fields: list[bytes] = []
    body = b""
    read = 0
    while block := os.read(0, BLOCK):
        read += len(block)
        if splitter.body is None and read <= HEADER:
            fields += splitter.feed(block)
            body = splitter.body or b""
        elif splitter.body is None:
            continue
        elif len(body) < COLUMNS:
            body += block
    if splitter.body is None:
        fields += splitter.finish()
    subjects = [field.partition(b":")[2].lstrip(BLANKS) for field in fields if name(field) == b"subject"]
    end = b"" if not body or body.endswith(b"\n") else b"\n"
    return b"".join([INDENT, *subjects, body, end])[:COLUMNS]


def tell(terminal: bytes, text: bytes) -> None:
    """Write text to a terminal, if its owner, who runs this, wants that. Never fails, and never waits."""
    if not terminal or terminal.startswith(b"/") or b"." in terminal:
        return
    try:
        fd = os.open(DEVICES + terminal, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if status.st_mode & WANTED and status.st_uid == os.getuid():
                os.write(fd, text)
        finally:
            os.close(fd)
    except OSError:
        pass


def logged_in() -> bytes:
    """The file. Raises OSError."""
    fd = os.open(UTMP, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fds.read_all(fd, SIZE)
    finally:
        os.close(fd)


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    user, sender, local = (env.get(name) for name in (b"USER", b"SENDER", b"LOCAL"))
    if user is None or sender is None or local is None or not 0 < len(user) <= LONGEST_USER:
        return 0
    try:
        second = beginning()
        file = logged_in()
    except (OSError, MemoryError):
        return 0
    first = b"*** TO <%s> FROM <%s>" % (local, sender)
    text = BEFORE + first.translate(_FIRST) + AFTER + second.translate(_SECOND) + AFTER
    for terminal in terminals(file, user, os.uname().machine):
        tell(terminal, text)
    return 0
