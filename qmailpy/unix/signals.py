"""signals - dispositions by name, without the module signal: that one imports enum, a megabyte per process."""

import _signal
from _collections_abc import Callable

CHLD: int = _signal.SIGCHLD
TERM: int = _signal.SIGTERM
PIPE: int = _signal.SIGPIPE
ALRM: int = _signal.SIGALRM
KILL: int = _signal.SIGKILL
HUP: int = _signal.SIGHUP
INT: int = _signal.SIGINT
XFSZ: int = _signal.SIGXFSZ


# Signals that have a handler: this module is the only one that installs any, so nobody has to ask all 64.
_caught: set[int] = set()


def ignore(number: int) -> None:
    """Ignore a signal; an exec keeps that."""
    _signal.signal(number, _signal.SIG_IGN)
    _caught.discard(number)


def default(number: int) -> None:
    """Give a signal its default action back."""
    _signal.signal(number, _signal.SIG_DFL)


def is_ignored(number: int) -> bool:
    """Whether a signal is ignored, as nohup(1) and a shell's & have it for the programs that they start."""
    return bool(_signal.getsignal(number) == _signal.SIG_IGN)


def catch(number: int, handler: Callable[[int, object], None]) -> None:
    """Call handler(number, frame) between two bytecodes after the signal; an exec forgets that."""
    _signal.signal(number, handler)
    _caught.add(number)


def unblock(number: int) -> None:
    """Let a signal through that whoever started this process has blocked."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (number,))


def number(name: str) -> int:
    """The number of HUP, TERM and so on, on this machine."""
    return int(getattr(_signal, "SIG" + name))


def hold() -> set[int]:
    """Block every signal, around a fork: none may find a handler of the parent's in the child. Returns the mask for
    release."""
    return set(_signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals()))


def hold_ends() -> set[int]:
    """Block the signals by which others end a process, for a short time. Returns the mask for release."""
    return set(_signal.pthread_sigmask(_signal.SIG_BLOCK, (TERM, INT, HUP)))


def release(mask: set[int]) -> None:
    """Block what was blocked before hold, and let all else through."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def send_pidfd(pidfd: int, number: int) -> None:
    """Send a signal to the process of a pidfd, and to no other. Raises OSError."""
    _signal.pidfd_send_signal(pidfd, number)


def wake(fd: int) -> None:
    """Write the number of each caught signal to fd, which is non-blocking: wakes a poll without a race."""
    _signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


def alarm(seconds: int) -> None:
    """SIGALRM after so many seconds; 0 takes it back. An exec keeps it."""
    _signal.alarm(seconds)


TIMERS = _signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF


def stop_timers() -> None:
    """What fork(2) does in the child: no alarm and no interval timer runs."""
    for timer in TIMERS:
        _signal.setitimer(timer, 0)


def forget_handlers() -> None:
    """What execve does: caught signals go back to default, ignored ones stay ignored."""
    _signal.set_wakeup_fd(-1)
    while _caught:
        default(_caught.pop())


class Handlers:
    """What happens at the signals that chains change, and when an alarm or a timer sends one, to be put back."""

    __slots__ = ("_caught", "_others", "_timers", "_wakeup")

    def __init__(self) -> None:
        self._caught = {number: _signal.getsignal(number) for number in _caught}
        self._others = {number: _signal.getsignal(number) for number in (PIPE, XFSZ)}
        self._wakeup = _signal.set_wakeup_fd(-1)
        wake(self._wakeup)
        self._timers = [(timer, *_signal.getitimer(timer)) for timer in TIMERS]

    def put_back(self) -> None:
        forget_handlers()
        for number, handler in (*self._others.items(), *self._caught.items()):
            _signal.signal(number, handler)
        _caught.update(self._caught)
        wake(self._wakeup)
        for timer in self._timers:
            _signal.setitimer(*timer)


def undo_python() -> None:
    """Python ignores SIGPIPE and SIGXFSZ and catches SIGINT when it starts; a C program finds them at default."""
    default(PIPE)
    default(XFSZ)
    if _signal.getsignal(INT) is _signal.default_int_handler:
        default(INT)
