"""qmtp - the Quick Mail Transfer Protocol (cr.yp.to/proto/qmtp.txt), on the side of the server. Pure.

    client    message, sender and list of recipients, three netstrings; and so on
    server    a netstring per recipient: K accepted, Z try later, D never

A message begins with a byte that says how its lines end: LF, or CR for CR LF.
"""

from _collections_abc import Iterator

from qmailpy.formats import netstrings
from qmailpy.formats.newlines import DelCr
from qmailpy.protocols import netstrings as stream
from qmailpy.protocols.netstrings import Conversation, Event, Input, Malformed

LF, CR = b"\n\r"

LONGEST = 999  # bytes of an address, qmail-qmtpd(8)
TOGETHER = 512  # answers that are built at a time

# Answers about one recipient
NO_RELAY = b"Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"
UNUSABLE = b"Dsorry, I can't handle that recipient (#5.1.3)"

# Answers about the message, for all recipients that are not refused for a reason of their own
BAD_SENDER = b"Dunacceptable sender (#5.1.7)"
TOO_BIG = b"Dsorry, that message size exceeds my databytes limit (#5.3.4)"


def accepted(seconds: int, qp: int) -> bytes:
    """The answer when the message is in the queue; qp is the process that put it there."""
    return b"Kok %d qp %d" % (seconds, qp)


def answers(verdicts: "bytes | bytearray", texts: tuple[bytes, ...]) -> Iterator[bytes]:
    """One netstring per recipient, many at a time; a verdict is a place in texts."""
    built = [netstrings.build(text) for text in texts]
    for start in range(0, len(verdicts), TOGETHER):
        yield b"".join([built[verdict] for verdict in verdicts[start : start + TOGETHER]])


def server(longest: int = LONGEST) -> Conversation:
    """The events of request after request. longest: bytes that an address of a recipient may have."""
    incoming = Input()
    return Conversation(incoming, _requests(incoming, longest))


def _requests(incoming: Input, longest: int) -> Iterator[Event | None]:
    while True:
        size = yield from incoming.length()
        if not size:
            raise Malformed
        mode = yield from incoming.byte()
        if mode not in (LF, CR):
            raise Malformed
        yield stream.MESSAGE, b""
        lines = DelCr() if mode == CR else None
        for piece in incoming.pieces(size - 1):
            data = lines.feed(piece) if piece and lines else piece
            if data:
                yield stream.DATA, data
            elif piece is None:
                yield None
        data = lines.feed(b"", True) if lines else b""
        if data:
            yield stream.DATA, data
        yield from incoming.comma()
        size = yield from incoming.length()
        yield stream.SENDER, (yield from incoming.address(size, LONGEST))
        incoming.left = yield from incoming.length()
        while incoming.left:
            size = yield from incoming.length()
            if size >= incoming.left:
                raise Malformed
            yield stream.RECIPIENT, (yield from incoming.address(size, longest))
        incoming.left = stream.UNLIMITED
        yield from incoming.comma()
        yield stream.END, b""
