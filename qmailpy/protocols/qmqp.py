"""qmqp - the Quick Mail Queueing Protocol (cr.yp.to/proto/qmqp.html), both sides. Pure.

client    one netstring that holds the message, the sender and each recipient as netstrings
server    one netstring: K queued, Z try later, D never

server      what qmail-qmqpd reads
Envelope    what qmail-qmqpc makes of an envelope as qmail-queue gets it; frame puts it around the message
verdict     what it makes of the answer
"""

from _collections_abc import Iterator

from qmailpy.formats import netstrings
from qmailpy.protocols import netstrings as stream
from qmailpy.protocols.netstrings import Conversation, Event, Input, Malformed

LONGEST = 999  # bytes of an address, qmail-qmqpd(8)
LONGEST_LENGTH = 100  # bytes of the first length with its colon

BAD_ADDRESS = b"Dsorry, I can't accept addresses like that (#5.1.3)"

VERDICTS = b"KZD"


def server() -> Conversation:
    """The events of the one request; what follows it is not looked at."""
    incoming = Input(LONGEST_LENGTH)
    return Conversation(incoming, _request(incoming))


def _request(incoming: Input) -> Iterator[Event | None]:
    incoming.left = yield from incoming.length()
    size = yield from incoming.length()
    yield stream.MESSAGE, b""
    for piece in incoming.pieces(size):
        yield (stream.DATA, piece) if piece else None
    yield from incoming.comma()
    yield stream.SENDER, (yield from _address(incoming))
    while incoming.left:
        yield stream.RECIPIENT, (yield from _address(incoming))
    incoming.left = 1
    yield from incoming.comma()
    yield stream.END, b""


def _address(incoming: Input):  # type: ignore[no-untyped-def]
    size = yield from incoming.length()
    return (yield from incoming.address(size, LONGEST))


class Envelope:
    """Sender and recipients: as they come, F sender NUL, T recipient NUL ..., NUL; as they go, netstrings.

    done: the NUL at the end has come; what follows is not looked at. An address may have any length: the server says
    what it thinks of it.
    """

    __slots__ = ("_record", "done", "netstrings")

    def __init__(self) -> None:
        self._record = bytearray()
        self.netstrings = bytearray()
        self.done = False

    def feed(self, block: bytes) -> None:
        """Raises Malformed."""
        first, *others = block.split(stream.NUL)
        self._record += first
        for other in others:
            self._take(bytes(self._record))
            if self.done:
                return
            self._record = bytearray(other)

    def _take(self, record: bytes) -> None:
        if not record and self.netstrings:
            self.done = True
        elif record.startswith(b"T" if self.netstrings else b"F"):
            self.netstrings += netstrings.build(record[1:])
        else:
            raise Malformed


def frame(size: int, envelope: "bytes | bytearray") -> tuple[bytes, bytes]:
    """What goes before a message of size bytes, and what goes behind it."""
    head = b"%d:" % size
    return b"%d:%s" % (len(head) + size + 1 + len(envelope), head), b",%s," % envelope


def verdict(answer: bytes) -> bytes:
    """The first letter of an answer, or of a part of it, that is one of VERDICTS; b"" if there is none yet."""
    for at in range(len(answer)):
        if answer[at] in VERDICTS:
            return answer[at : at + 1]
    return b""
