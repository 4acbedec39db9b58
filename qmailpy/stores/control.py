"""control - the files in HOME/control, qmail-control(5): a line, a list, or a number each.

A file that is not there is no trouble, its reader has a default. One that is there and cannot be read is
Unreadable: mail would be handled by the wrong rules."""

import errno
import os

from qmailpy.formats import numbers
from qmailpy.unix import fds

BLANKS = b"\n \t"  # cut from the ends of lines
SIZE = 1 << 30  # bytes, at most; lists of users may be long


class Unreadable(OSError):
    """name: the control file; errno says why."""

    def __init__(self, name: bytes, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.name = name


class Control:
    """The control files of a home. Each call reads the file anew."""

    __slots__ = ("_folder",)

    def __init__(self, home: bytes) -> None:
        self._folder = home + b"/control/"

    def text(self, name: bytes) -> bytes | None:
        """The whole file; None if there is none. Raises Unreadable."""
        try:
            fd = os.open(self._folder + name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            if e.errno == errno.ENOENT:
                return None
            raise Unreadable(name, e)
        try:
            return fds.read_all(fd, SIZE)
        except OSError as e:
            raise Unreadable(name, e)
        finally:
            os.close(fd)

    def line(self, name: bytes) -> bytes | None:
        """The first line, without blanks at its end; None if there is no file. Raises Unreadable."""
        text = self.text(name)
        return None if text is None else text.partition(b"\n")[0].rstrip(BLANKS)

    def lines(self, name: bytes) -> list[bytes] | None:
        """All lines but empty ones and comments, without blanks at their ends; None if there is no file. Raises
        Unreadable."""
        text = self.text(name)
        if text is None:
            return None
        cut = [line.rstrip(BLANKS) for line in text.split(b"\n")]
        return [line for line in cut if line and not line.startswith(b"#")]

    def number(self, name: bytes) -> int | None:
        """The digits that the first line begins with; None if there are none, or no file. Raises Unreadable."""
        value, length = numbers.scan(self.line(name) or b"")
        return value if length else None

    def me(self) -> bytes | None:
        """The name of this host, for which many control files have no value of their own. Raises Unreadable."""
        return self.line(b"me")
