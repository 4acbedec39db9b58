"""NAME
    bouncesaying - refuse a message with a text, if a program wants that

SYNOPSIS
    bouncesaying ERROR [ PROGRAM [ARG...] ]

DESCRIPTION
    bouncesaying is for .qmail files. It refuses a message, and tells its sender the text ERROR. With a PROGRAM, which
    is found along PATH, only if that exits with 0.

        |bouncesaying 'This address is no longer in use. (#5.1.6)'
        |bouncesaying 'Not to lists, please.' grep -q '^List-Id:'

    PROGRAM finds the message on descriptor 0. If the message is not refused the next line is followed.

EXIT STATUS
    0      PROGRAM has exited with another code than 0 and 111, or there is none of that name
    100    PROGRAM has exited with 0, or there is no PROGRAM: ERROR is on descriptor 2; or wrong usage
    111    PROGRAM has exited with 111, was killed by a signal, or could not be run now

SEE ALSO
    except(1), condredirect(1), qmail-local(8)
"""

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.loops import subprogram

PROGRAM = b"bouncesaying"
USAGE = b"bouncesaying error [ program [ arg ... ] ]"


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    program = argv[2:]

    def child() -> Exec:
        return Exec(program, env, absent=strerr.NEVER)

    try:
        if program and not subprogram.says_yes(PROGRAM, lambda: chain.spawn(child, env, "bouncesaying")):
            return 0
    except subprogram.Unanswered:
        return strerr.LATER
    strerr.say(argv[1] + b"\n")
    return strerr.NEVER
