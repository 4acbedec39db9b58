"""NAME
    argv0 - run a program with another name

SYNOPSIS
    argv0 REALNAME PROGRAM [ARG...]

DESCRIPTION
    argv0 runs the program REALNAME, found along PATH, and gives it PROGRAM as its name, argv[0], with the
    arguments ARG. Some programs behave by the name that they are called by, and some, csh(1) among them,
    wish to be called by a name that begins with a hyphen.

EXIT STATUS
    That of the program.

    100    wrong usage
    111    REALNAME could not be run

BUGS
    A command of this toolkit never looks at its own name, so argv0 changes nothing for it.

SEE ALSO
    tcpserver(1), execve(2)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec

PROGRAM = b"argv0"
USAGE = b"argv0 realname program [ arg ... ]"


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 3:
        return strerr.usage(PROGRAM, USAGE)
    return Exec(argv[2:], env, who=PROGRAM, file=argv[1])
