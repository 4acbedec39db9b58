"""NAME
    delcr - remove the CR before each LF

SYNOPSIS
    delcr

DESCRIPTION
    delcr copies its input to its output and removes a CR (octal 015) at the end of each line, if there is one:
    one CR before each LF (012). All other CRs stay, also one at the end of a partial last line. What it has read
    it writes before it waits for more, except a CR whose next byte is still to come.

EXIT STATUS
    0      the whole input is copied
    111    it could not be read or written

SEE ALSO
    addcr(1), fixcrio(1), who@(1), http@(1)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.newlines import DelCr
from qmailpy.loops.relay import copy


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        copy(0, 1, DelCr().feed)
    except OSError:
        return strerr.LATER
    return 0
