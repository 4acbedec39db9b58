"""messages - what a process that others depend on says, without ever waiting for whoever reads it: a log viewer that
has stopped must not stop the services."""

import os
import select

from qmailpy import strerr


def write_now(fd: int, text: bytes) -> bool:
    """Write text, at most PIPE_BUF bytes, if that can be done at once, and whether it was. Wants SIGPIPE ignored.

    O_NONBLOCK would do the same, to everybody else who has this terminal or pipe."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not any(event & select.POLLOUT for _, event in poll.poll(0)):
        return False
    try:
        os.write(fd, text)
    except OSError:
        return False
    return True


class Messages:
    """Lines of a program on a descriptor; how many were lost is said with the next one that is not."""

    __slots__ = ("_fd", "_lost", "program")

    def __init__(self, program: bytes, fd: int = strerr.STDERR) -> None:
        self.program = program
        self._fd = fd
        self._lost = 0

    def warn(self, *parts: bytes, error: OSError | None = None) -> None:
        """`program: warning: parts[: reason]`."""
        self.show(strerr.line(self.program, b"warning", parts, error))

    def show(self, line: bytes) -> None:
        """A whole line; what is beyond PIPE_BUF bytes is cut."""
        if len(line) > select.PIPE_BUF:
            line = line[: select.PIPE_BUF - 4] + b"...\n"
        if self._lost and write_now(self._fd, strerr.line(self.program, b"warning", (b"%d lines lost" % self._lost,))):
            self._lost = 0
        if self._lost or not write_now(self._fd, line):
            self._lost += 1
