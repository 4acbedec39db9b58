"""title - the last argument of this process as ps(1) and /proc/PID/cmdline show it: a place in memory."""

import ctypes

from qmailpy.unix import processes

ARG_START, ARG_END = 45, 46  # fields 48 and 49 of proc(5)


class NotShown(Exception):
    """This process was started with other arguments."""


def _arguments() -> tuple[int, int]:
    """The addresses of the first argument and of what follows the last one's NUL. Raises OSError."""
    fields = processes.stat_fields("self")  # by pid it might be that of another namespace, and its addresses not ours
    return int(fields[ARG_START]), int(fields[ARG_END])


class Title:
    """Where the last argument stands.

    By its address, with ctypes: /proc/self/mem, which would spare 0.7 MB, is closed to a process that has changed
    its uid and not executed anything since, as after a warm step.
    """

    def __init__(self, argument: bytes) -> None:
        """Raises OSError without /proc, and NotShown if the last argument is not this one, as after a warm step from
        another command line."""
        start, end = _arguments()
        whole = b"\0" + argument + b"\0"
        if end - len(whole) < start or ctypes.string_at(end - len(whole), len(whole)) != whole:
            raise NotShown
        self._place = (ctypes.c_char * len(argument)).from_address(end - 1 - len(argument))

    def show(self, text: bytes) -> None:
        """text is as long as the argument."""
        self._place.raw = text
