"""feed - a program in a process of its own reads some lines, and behind them what comes on descriptor 0 (predate,
mailsubj)."""

import os
from _collections_abc import Callable

from qmailpy import strerr
from qmailpy.unix import signals
from qmailpy.unix.fds import fill_standard, move, write_all

BLOCK = 65536  # bytes: what a pipe holds on Linux


def _copy(target: int) -> None:
    """Raises OSError if descriptor 0 cannot be read. A program that has read enough is nobody's trouble."""
    while block := os.read(0, BLOCK):
        try:
            write_all(target, block)
        except BrokenPipeError:
            return


def feed(who: bytes, spawn: Callable[[Callable[[], None]], int], head: bytes) -> int:
    """Run a program with head and descriptor 0 as its input; returns the exit code of who, the program that waits.

    spawn(prepare) starts it, in a child that calls prepare() first, and returns the pid. If the input cannot be read to
    its end the program is killed, before it could take a part for the whole."""
    signals.ignore(signals.PIPE)
    fill_standard()  # else a closed 0 would be the pipe itself
    try:
        reading, writing = os.pipe()
    except OSError as e:
        return strerr.fail(strerr.LATER, who, b"unable to create pipe", error=e)

    def prepare() -> None:
        os.close(writing)
        move(reading, 0)
        signals.default(signals.PIPE)

    try:
        pid = spawn(prepare)
    except OSError as e:
        return strerr.fail(strerr.LATER, who, b"unable to fork", error=e)
    os.close(reading)
    problem = None
    try:
        write_all(writing, head)
        _copy(writing)
    except BrokenPipeError:
        pass
    except OSError as e:
        problem = e
        os.kill(pid, signals.TERM)
    os.close(writing)
    status = os.waitpid(pid, 0)[1]
    if problem is not None:
        return strerr.fail(strerr.LATER, who, b"unable to read input", error=problem)
    if os.WIFSIGNALED(status):
        return strerr.fail(strerr.LATER, who, b"child crashed")
    return os.WEXITSTATUS(status)
