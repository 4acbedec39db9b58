"""terminal - a question to whoever sits there, whose answer is not shown (getpass(3))."""

import os

from qmailpy.unix import fds

TERMINAL = b"/dev/tty"
LONGEST = 4096  # bytes of an answer: a terminal's own limit


def ask(prompt: bytes) -> bytearray | None:
    """The answer, without its LF; None at the end of the input. Without a terminal the question goes to descriptor 2,
    and a line of descriptor 0 is the answer. Raises OSError."""
    try:
        fd = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        fds.write_all(2, prompt)
        return read_line(0)
    import termios

    try:
        before = termios.tcgetattr(fd)
        silent = termios.tcgetattr(fd)
        silent[3] &= ~termios.ECHO
        termios.tcsetattr(fd, termios.TCSAFLUSH, silent)
        try:
            fds.write_all(fd, prompt)
            return read_line(fd)
        finally:
            termios.tcsetattr(fd, termios.TCSAFLUSH, before)
            fds.write_all(fd, b"\n")
    finally:
        os.close(fd)


def read_line(fd: int) -> bytearray | None:
    """A line, without its LF, and not a byte of the next one; None at the end of the input. Raises OSError."""
    line = bytearray()
    while byte := os.read(fd, 1):
        if byte == b"\n":
            return line
        line += byte
        if len(line) > LONGEST:
            return line
    return line or None
