"""NAME
    fghack - keep a program in the foreground that puts itself into the background

SYNOPSIS
    fghack PROGRAM [ARG...]

DESCRIPTION
    fghack runs PROGRAM, found along PATH, and waits until it and all the processes that it has left behind have ended.
    So supervise(8) can watch a program that has no option to stay in the foreground.

    fghack knows that by a pipe: PROGRAM gets the end for writing, with many descriptors, and keeps what it does not
    close; fghack waits until nobody has it open any more. What is written to the pipe is thrown away.

EXIT STATUS
    That of PROGRAM: of the process that was started, not of those that it left behind.

    100    wrong usage
    111    PROGRAM was killed by a signal or could not be run, or there was no pipe or no process for it

BUGS
    A signal to fghack, such as svc(8) sends, does not reach the process in the background. A program that closes all
    its descriptors, as many that go into the background do, is not waited for.

SEE ALSO
    pgrphack(8), supervise(8), svc(8)
"""

import os

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.unix import fds

PROGRAM = b"fghack"
USAGE = b"fghack child"

COPIES = 30  # of the descriptor: a program that closes a few on its way into the background misses some
BLOCK = 4096  # bytes


def _child(reading: int, writing: int, argv: list[bytes], env: Env) -> Exec:
    os.close(reading)
    fds.share(writing)
    for _ in range(COPIES):
        try:
            fds.share(os.dup(writing))
        except OSError:  # no more are to be had
            break
    return Exec(argv, env, who=PROGRAM)


def _wait_for_all(reading: int) -> None:
    try:
        while os.read(reading, BLOCK):
            pass
    except OSError:  # as good as the end
        pass


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    what = b"unable to create pipe"
    try:
        reading, writing = os.pipe()
        what = b"unable to fork"
        pid = chain.spawn(lambda: _child(reading, writing, argv[1:], env), env, "fghack")
        os.close(writing)
        _wait_for_all(reading)
        what = b"wait failed"
        _, status = os.waitpid(pid, 0)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, what, error=e)
    if os.WIFSIGNALED(status):
        return strerr.fail(strerr.LATER, PROGRAM, b"child crashed")
    return os.WEXITSTATUS(status)
