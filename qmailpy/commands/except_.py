"""NAME
    except - refuse a message unless a program says no to it

SYNOPSIS
    except PROGRAM [ARG...]

DESCRIPTION
    except is for .qmail files, and turns the answer of a program round: a message is refused if PROGRAM, found along
    PATH, exits with 0, and not refused if it exits with anything else but 111.

        |except grep -q '^List-Id:'

    PROGRAM finds the message on descriptor 0. The line alone delivers nothing, and if it does not refuse the message
    the next line is followed.

EXIT STATUS
    0      PROGRAM has exited with another code than 0 and 111, or there is none of that name
    100    PROGRAM has exited with 0; or wrong usage
    111    PROGRAM has exited with 111, was killed by a signal, or could not be run now

SEE ALSO
    bouncesaying(1), condredirect(1), qmail-local(8)
"""

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.loops import subprogram

PROGRAM = b"except"
USAGE = b"except program [ arg ... ]"


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    program = argv[1:]

    def child() -> Exec:
        return Exec(program, env, absent=strerr.NEVER)

    try:
        yes = subprogram.says_yes(PROGRAM, lambda: chain.spawn(child, env, "except"))
    except subprogram.Unanswered:
        return strerr.LATER
    return strerr.NEVER if yes else 0
