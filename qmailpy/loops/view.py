"""view - what several services write, line by line on one screen, each line behind the name of its service."""

import os

from qmailpy.formats.visible import visible
from qmailpy.loops.messages import Messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

COLOURS = (b"36", b"33", b"32", b"35", b"34", b"31")  # SGR codes, in turn
LONGEST = 1024  # bytes; a longer line is shown in parts. In the notation of cat -v it may be four times as long
BLOCK = 65536  # bytes


class Screen:
    """Where the lines go: a descriptor, with colours if it is a terminal and env has nothing against them."""

    def __init__(self, program: bytes, fd: int, env: "Mapping[bytes, bytes]") -> None:
        self._messages = Messages(program, fd)
        self._coloured = os.isatty(fd) and not env.get(b"NO_COLOR") and env.get(b"TERM") != b"dumb"
        self._names: list[bytes] = []

    def expect(self, name: bytes) -> None:
        """Lines of name will come."""
        if name not in self._names:
            self._names.append(name)

    def show(self, name: bytes, line: bytes) -> None:
        """Without what could play tricks on a terminal."""
        head = name.ljust(max(map(len, self._names))) + b" | "
        if self._coloured:
            head = b"\033[%sm%s\033[0m" % (COLOURS[self._names.index(name) % len(COLOURS)], head)
        self._messages.show(head + visible(line.rstrip(b"\r")) + b"\n")


class Tail:
    """The lines of one service: it writes to writing; ready takes what can be read from reading. last: the newest."""

    __slots__ = ("_name", "_rest", "_screen", "last", "reading", "writing")

    def __init__(self, screen: Screen, name: bytes) -> None:
        """Raises OSError."""
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.reading, False)
        self.last = self._rest = b""
        self._screen = screen
        self._name = name
        screen.expect(name)

    def ready(self) -> None:
        try:
            block = os.read(self.reading, BLOCK)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._show(line)
        while len(self._rest) > LONGEST:
            self._show(self._rest[:LONGEST])
            self._rest = self._rest[LONGEST:]

    def _show(self, line: bytes) -> None:
        self.last = line[:LONGEST]
        for at in range(0, max(1, len(line)), LONGEST):
            self._screen.show(self._name, line[at : at + LONGEST])

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)
