"""NAME
    fixcrio - insert missing CRs into what a program reads and writes

SYNOPSIS
    fixcrio PROGRAM [ARG...]

DESCRIPTION
    fixcrio runs PROGRAM and inserts a CR (octal 015) before each LF (012) that has none, in the program's input
    and in its output. It helps a server that is strict about line ends with clients that are not.

    The process that was fixcrio becomes PROGRAM, with pipes as descriptors 0 and 1; a child of it does the
    copying, until the program's output ends.

EXIT STATUS
    That of PROGRAM.

    100    wrong usage
    111    PROGRAM could not be run

BUGS
    Since 0 and 1 are pipes, PROGRAM cannot ask a socket who its client is; tcp-environ(5) still says it.

    A message in which bare LFs mean something else than line ends, such as a binary one, is changed as well.

SEE ALSO
    addcr(1), delcr(1), recordio(1), tcpserver(1), tcp-environ(5)
"""

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.newlines import FixCr
from qmailpy.loops.relay import Flow, Pipes, relay, start_copier
from qmailpy.unix import signals

PROGRAM = b"fixcrio"
USAGE = b"fixcrio program [ arg ... ]"


def _copy(pipes: Pipes) -> int:
    signals.ignore(signals.PIPE)
    pipes.become_copier()
    relay(
        Flow(0, pipes.to_program, convert=FixCr().feed, hang_up=True),
        Flow(pipes.from_program, 1, convert=FixCr().feed),
    )
    return 0


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    failed = start_copier(PROGRAM, lambda child: chain.spawn(child, env, "fixcrio"), _copy)
    return failed or Exec(argv[1:], env, who=PROGRAM)
