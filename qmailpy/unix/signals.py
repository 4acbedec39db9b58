"""signals - dispositions by name, without the module signal: that one imports enum, a megabyte per process."""

import _signal

CHLD = _signal.SIGCHLD
TERM = _signal.SIGTERM
PIPE = _signal.SIGPIPE
ALRM = _signal.SIGALRM
HUP = _signal.SIGHUP
INT = _signal.SIGINT


def ignore(number: int) -> None:
    """Ignore a signal; an exec keeps that."""
    _signal.signal(number, _signal.SIG_IGN)


def default(number: int) -> None:
    """Give a signal its default action back."""
    _signal.signal(number, _signal.SIG_DFL)


def catch(number: int, handler) -> None:  # type: ignore[no-untyped-def]
    """Call handler(number, frame) between two bytecodes after the signal; an exec forgets that."""
    _signal.signal(number, handler)
