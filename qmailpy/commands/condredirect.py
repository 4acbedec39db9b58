"""NAME
    condredirect - send a message on to another address, if a program wants that

SYNOPSIS
    condredirect NEWADDRESS PROGRAM [ARG...]

DESCRIPTION
    condredirect is for .qmail files. If PROGRAM, which is found along PATH, exits with 0, the message goes on to
    NEWADDRESS, with a line Delivered-To in front, and the other lines of the file are not followed any more. Its
    envelope sender stays.

        |condredirect joe-spam@example.org grep -q '^X-Spam-Flag: YES'
        ./Maildir/

    PROGRAM finds the message on descriptor 0, which must be a file that can be read again. If the message does not go
    on the next line is followed.

ENVIRONMENT
    SENDER        the envelope sender
    DTLINE        the line Delivered-To, with its newline
    QMAILQUEUE    the program to be run instead of qmail-queue
    QMAILHOME     the home of the mail system; unset, /var/qmail

EXIT STATUS
    0      PROGRAM has exited with another code than 0 and 111, or there is none of that name
    99     the message is queued, with `condredirect: qp PID` on descriptor 2
    100    wrong usage, SENDER or DTLINE is not set, or qmail-queue refuses the message for good
    111    the message could not be queued now, or PROGRAM has exited with 111, was killed by a signal or cannot be run

SEE ALSO
    forward(1), bouncesaying(1), except(1), qmail-local(8), qmail-queue(8)
"""

import os

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.loops import subprogram
from qmailpy.stores import forwarding
from qmailpy.unix import signals

PROGRAM = b"condredirect"
USAGE = b"condredirect newaddress program [ arg ... ]"

REDIRECTED = 99  # for qmail-local: nothing more is to be done


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 3:
        return strerr.usage(PROGRAM, USAGE)
    program = argv[2:]

    def child() -> Exec:
        return Exec(program, env, absent=strerr.NEVER)

    def spawn(child) -> int:  # type: ignore[no-untyped-def]
        return chain.spawn(child, env, "condredirect")

    try:
        if not subprogram.says_yes(PROGRAM, lambda: spawn(child)):
            return 0
    except subprogram.Unanswered:
        return strerr.LATER
    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to rewind", error=e)
    signals.ignore(signals.PIPE)
    return forwarding.send_as(PROGRAM, env, b"SENDER", argv[1:2], (spawn, Exec)) or REDIRECTED
