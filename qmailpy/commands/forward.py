"""NAME
    forward - send a message on to other addresses

SYNOPSIS
    forward [ADDRESS...]

DESCRIPTION
    forward is for .qmail files. It queues the message on descriptor 0 for each ADDRESS, with a line Delivered-To in
    front. The envelope sender is the one that lines with an address alone would give it.

        |forward "$DEFAULT@example.org"

    A line with an address alone does the same with less; forward is for addresses that are known only to the shell.

ENVIRONMENT
    NEWSENDER     the envelope sender
    DTLINE        the line Delivered-To, with its newline
    QMAILQUEUE    the program to be run instead of qmail-queue
    QMAILHOME     the home of the mail system; unset, /var/qmail

EXIT STATUS
    0      the message is queued, with `forward: qp PID` on descriptor 2
    100    NEWSENDER or DTLINE is not set, or qmail-queue refuses the message for good
    111    the message could not be read, or not be queued now

SEE ALSO
    condredirect(1), qmail-local(8), qmail-queue(8)
"""

from qmailpy import chain
from qmailpy.chain import Env, Exec
from qmailpy.stores import forwarding
from qmailpy.unix import signals

PROGRAM = b"forward"


def main(argv: list[bytes], env: Env) -> int:
    def spawn(child) -> int:  # type: ignore[no-untyped-def]
        return chain.spawn(child, env, "forward")

    signals.ignore(signals.PIPE)
    return forwarding.send_as(PROGRAM, env, b"NEWSENDER", argv[1:], (spawn, Exec))
