"""NAME
    readproctitle - show the latest lines of a log in ps

SYNOPSIS
    readproctitle [ARG...] LAST

DESCRIPTION
    readproctitle reads descriptor 0 to its end and writes what came last over its own last argument, LAST, so that
    ps(1) shows it. LAST becomes dots first; three of them stay, and the input moves in from the right. NULs are left
    out. Nothing is kept anywhere else, so the log can neither fill a disk nor wait for one.

        svscan /service 2>&1 |
        readproctitle service errors: ...................................

    The other arguments say what it is that ps shows.

EXIT STATUS
    0      the end of the input
    100    no LAST, or one of less than 5 bytes; says nothing
    111    the input could not be read, in silence; or LAST is not the last thing that ps shows of this process

BUGS
    After a warm step from a program with other arguments, ps shows those, and there is nothing to write over. In
    DESCRIPTION each program is started by a shell, and all is well. See doc/CHAINING.md.

SEE ALSO
    svscan(8), multilog(8), ps(1)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.unix import title

PROGRAM = b"readproctitle"
SHORTEST = 5  # bytes, of the last argument
STAYING = b"..."
BLOCK = 65536  # bytes; as much as a pipe holds


def _show(place: title.Title, length: int) -> int:
    """Show what comes on descriptor 0, to its end; the exit code."""
    latest = b"." * (length - len(STAYING))
    place.show(STAYING + latest)
    try:
        while block := os.read(0, BLOCK):
            latest = (latest + block.replace(b"\0", b""))[-len(latest) :]
            place.show(STAYING + latest)
    except OSError:
        return strerr.LATER
    return 0


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 2 or len(argv[-1]) < SHORTEST:
        return strerr.NEVER
    try:
        place = title.Title(argv[-1])
    except title.NotShown:
        why = b"unable to show a title: the last argument in ps is not mine"
        return strerr.fail(strerr.LATER, PROGRAM, why)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to find my arguments in memory", error=e)
    return _show(place, len(argv[-1]))
