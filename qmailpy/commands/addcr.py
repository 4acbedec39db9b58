"""NAME
    addcr - insert a CR before each LF

SYNOPSIS
    addcr

DESCRIPTION
    addcr copies its input to its output and inserts a CR (octal 015) before each LF (012), also before one that
    has a CR already. It adds nothing to a partial line at the end. What it has read it writes before it waits
    for more.

EXIT STATUS
    0      the whole input is copied
    111    it could not be read or written

SEE ALSO
    delcr(1), fixcrio(1), mconnect(1)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.newlines import add_cr
from qmailpy.loops.relay import copy


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        copy(0, 1, add_cr)
    except OSError:
        return strerr.LATER
    return 0
