"""NAME
    pgrphack - run a program in a session of its own

SYNOPSIS
    pgrphack PROGRAM [ARG...]

DESCRIPTION
    pgrphack starts a new session and process group, with setsid(2), and runs PROGRAM, found along PATH. So signals
    that PROGRAM sends to its process group reach nobody else, and those of a terminal do not reach PROGRAM.

        exec pgrphack ppp on nodetach

EXIT STATUS
    That of PROGRAM.

    100    wrong usage
    111    PROGRAM could not be run

BUGS
    Who leads a process group already, as a shell's job does, cannot start a session: PROGRAM then runs all the same,
    in the group that it had.

SEE ALSO
    fghack(8), supervise(8), setsid(2)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env, Exec

PROGRAM = b"pgrphack"
USAGE = b"pgrphack child"


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    try:
        os.setsid()
    except OSError:  # it leads a group already
        pass
    return Exec(argv[1:], env, who=PROGRAM)
