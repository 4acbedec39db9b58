"""NAME
    mconnect-io - copy input to a connection, and the connection to output

SYNOPSIS
    mconnect-io

DESCRIPTION
    mconnect-io copies descriptor 0 to descriptor 7, with a CR inserted before each LF, and at the same time
    descriptor 6 to descriptor 1, unchanged. tcpclient(1) sets 6 and 7 up. mconnect-io ends at the end of 6, or when
    its output cannot be written any more. At the end of 0 the connection stays open.

EXIT STATUS
    0

SEE ALSO
    mconnect(1), tcpclient(1), addcr(1)
"""

from qmailpy.chain import Env, Exec
from qmailpy.formats.newlines import add_cr
from qmailpy.loops.relay import Flow, relay
from qmailpy.unix import signals


def main(argv: list[bytes], env: Env) -> int | Exec:
    signals.ignore(signals.PIPE)
    relay(Flow(0, 7, convert=add_cr), Flow(6, 1))
    return 0
