"""subprogram - a program that is run for how it ends: its exit code is the answer to a question (bouncesaying,
condredirect, except), or it has to succeed before another one is run (elq, pinq, qail)."""

import os

from qmailpy import strerr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Unanswered(Exception):
    """It is not known, for now; why is said."""


def code_of(who: bytes, spawn: "Callable[[], int]") -> int:
    """The exit code of the program. spawn() starts it and returns the pid. Raises Unanswered."""
    try:
        pid = spawn()
    except OSError as e:
        strerr.fail(strerr.LATER, who, b"unable to fork", error=e)
        raise Unanswered
    try:
        status = os.waitpid(pid, 0)[1]
    except OSError:
        strerr.fail(strerr.LATER, who, b"wait failed")
        raise Unanswered
    if os.WIFSIGNALED(status):
        strerr.fail(strerr.LATER, who, b"child crashed")
        raise Unanswered
    return os.WEXITSTATUS(status)


def says_yes(who: bytes, spawn: "Callable[[], int]") -> bool:
    """Whether the program exits with 0; with any other code but 111 it says no. Raises Unanswered."""
    code = code_of(who, spawn)
    if code == strerr.LATER:
        strerr.fail(strerr.LATER, who, b"temporary child error")
        raise Unanswered
    return code == 0


def succeeds(who: bytes, spawn: "Callable[[], int]") -> int:
    """0, or the exit code with which who ends, because the program has not succeeded."""
    try:
        return code_of(who, spawn)
    except Unanswered:
        return strerr.LATER
