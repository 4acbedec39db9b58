"""netstrings - a stream of netstrings (cr.yp.to/proto/netstrings.txt) taken apart as it comes, in bounded memory. Pure.

What a protocol expects, and in which order, is written down as a generator that takes one part after the other
from an Input with `yield from`. Such a generator yields None when it can go on only with more bytes, and otherwise
the events that its protocol is made of.

    protocols/qmtp.py, protocols/qmqp.py    the two that are made of it
    formats/netstrings.py                   builds them
"""

from _collections_abc import Generator, Iterator

ABSURD = 200_000_000  # bytes; a length above is an attack, or a mistake. The last digit may still go beyond
UNLIMITED = 1 << 62

COLON, COMMA = b":,"

NUL = b"\0"

# What a message with its envelope is made of, in this order: the kinds of events, each with the bytes it is about.
MESSAGE = 0  # the message begins
DATA = 1  # some of the message; never empty
SENDER = 2
RECIPIENT = 3
END = 4  # all is there: answer

Event = tuple[int, bytes]


class Malformed(Exception):
    """These bytes are not what the protocol says."""


class TooLong(Exception):
    """An absurd length."""


class Input:
    """The bytes that have come. left: how many may still be taken, for netstrings inside of another one."""

    __slots__ = ("_at", "_block", "left")

    def __init__(self, left: int = UNLIMITED) -> None:
        self._at = 0
        self._block = b""
        self.left = left

    def add(self, block: bytes) -> None:
        """More bytes, when the ones before have been taken."""
        self._at = 0
        self._block = block

    def byte(self) -> Generator[None, None, int]:
        """The next byte. Raises Malformed where there may be none."""
        if not self.left:
            raise Malformed
        while self._at == len(self._block):
            yield
        self.left -= 1
        self._at += 1
        return self._block[self._at - 1]

    def length(self) -> Generator[None, None, int]:
        """The digits, which may be none, and the colon. Raises Malformed, TooLong."""
        value = 0
        while (byte := (yield from self.byte())) != COLON:
            if value > ABSURD:
                raise TooLong
            if not 48 <= byte <= 57:
                raise Malformed
            value = 10 * value + byte - 48
        return value

    def comma(self) -> Generator[None, None, None]:
        """Raises Malformed if there is another byte."""
        if (yield from self.byte()) != COMMA:
            raise Malformed

    def pieces(self, size: int) -> Iterator[bytes | None]:
        """size bytes as they come. A piece that is a whole block is not copied. Raises Malformed."""
        while size:
            if not self.left:
                raise Malformed
            piece = self._block[self._at : self._at + min(size, self.left)]
            if piece:
                self._at += len(piece)
                self.left -= len(piece)
                size -= len(piece)
                yield piece
            else:
                yield None

    def address(self, size: int, longest: int) -> Generator[None, None, bytes]:
        """An address of so many bytes, and the comma. One that is longer than longest comes as a NUL: what holds one
        cannot go into an envelope either. Raises Malformed."""
        parts = []
        for piece in self.pieces(size):
            if piece is None:
                yield
            elif size <= longest:
                parts.append(piece)
        yield from self.comma()
        return b"".join(parts) if size <= longest else NUL


class Conversation:
    """One side of a protocol: feed it what comes, and act on the events in order."""

    __slots__ = ("_events", "_input")

    def __init__(self, incoming: Input, events: Iterator[Event | None]) -> None:
        self._input = incoming
        self._events = events

    def feed(self, block: bytes) -> Iterator[Event]:
        """What follows from this block. Raises Malformed, TooLong."""
        self._input.add(block)
        for event in self._events:
            if event is None:
                return
            yield event
