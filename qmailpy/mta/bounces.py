"""bounces - what a sender is told of the recipients that have failed: the entries in bounce/N, and the message made of
them, as text (QSBMF) or as a multipart/report with the same text in it (RFC 6522, RFC 3464). Pure.

A bounce goes to the sender, with an empty sender of its own; if the message was itself a bounce, it goes to the
postmaster, with the sender #@[]; and if that fails too, nobody is told.
"""

from qmailpy.formats.addresses822 import one_line, quote, quote_box
from qmailpy.formats.received import date822

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DYING = b"I'm not going to try again; this message has been in the queue too long.\n"
ORDERED = b"The postmaster has taken this message out of the queue. (#5.7.0)\n"

PER_RECIPIENT = b"-@[]"  # ends a sender that is another one for each recipient
DOUBLE = b"#@[]"  # the sender of a double bounce

HEADER = b"Date: %s\nFrom: %s@%s\nTo: %s\nSubject: failure notice\n"
GREETING = b"Hi. This is the qmail-send program at %s.\n"
FAILED = b"""\
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

"""
BOUNCED = b"I tried to deliver a bounce message to this address, but the bounce bounced!\n\n"

COPY = b"--- Below this line is a copy of the message.\n\n"
ORIGINAL = b"--- Below this line is the original bounce.\n\n"
STRIPPED = b"\n--- End of message stripped.\n"
ATTACHED = b"--- The message is attached.\n"
HEADER_ATTACHED = b"--- The header of the message is attached.\n"

PARTS = b'MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status;\n boundary="%s"\n\n'
PART = b"--%s\nContent-Type: %s\n\n"
TEXT = b"text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit"
STATUS = b"message/delivery-status"
MESSAGE = b"message/rfc822\nContent-Transfer-Encoding: 8bit"
HEADERS = b"text/rfc822-headers\nContent-Transfer-Encoding: 8bit"

NO_STATUS = b"5.0.0"
EXPIRED = b"4.4.7"
SAID = b"Remote host said: "
DIAGNOSTIC = 900  # bytes of a text that one line of a field has; RFC 5322 allows 998
_SHOWN = bytes(byte if 32 <= byte < 127 else ord("?") for byte in range(256))


def entry(address: bytes, text: bytes) -> bytes:
    """What is added to bounce/N: a paragraph, with no empty line before its end. text: a report without its letter."""
    paragraph = b"<%s>:\n%s" % (address.replace(b"\n", b"_"), text)
    if not paragraph.endswith(b"\n"):
        paragraph += b"\n"
    if b"\n\n" in paragraph[:-1]:
        first, *lines, last = paragraph[:-1].split(b"\n")
        paragraph = b"%s\n%s%s\n" % (first, b"".join([line + b"\n" if line else b"/" for line in lines]), last)
    return paragraph + b"\n"


class Notice:
    """The bounce of one message. message: its envelope sender; postmaster: where a double bounce goes.

    sender, recipient: of the bounce; recipient is None if nobody is to be told.
    """

    __slots__ = ("_back", "_double", "_from", "_host", "recipient", "sender")

    def __init__(self, message: bytes, postmaster: bytes | None, bouncefrom: bytes, bouncehost: bytes) -> None:
        back = message.removesuffix(PER_RECIPIENT)
        self._back = back
        self._double = not back
        self._from = bouncefrom
        self._host = bouncehost
        self.sender = DOUBLE if self._double else b""
        self.recipient = None if back == DOUBLE else postmaster if self._double else back

    def _header(self, now: int) -> bytes:
        to = one_line(quote(self.recipient or b""))
        return HEADER % (date822(now), quote_box(self._from), self._host, to)

    def _greeting(self) -> bytes:
        return GREETING % self._host + (BOUNCED if self._double else FAILED)

    def _return_path(self) -> bytes:
        return b"Return-Path: <%s>\n" % one_line(quote(self._back))

    def text(
        self, now: int, entries: "Iterable[bytes]", message: "Iterable[bytes]", limit: int = 0
    ) -> "Iterator[bytes]":
        """The bounce, of the blocks of bounce/N and of the message, of which no more than limit bytes are copied, if
        that is not 0."""
        yield self._header(now) + b"\n" + self._greeting()
        yield from entries
        yield (ORIGINAL if self._double else COPY) + self._return_path()
        yield from _first(message, limit) if limit else message

    def report(
        self, now: int, entries: "Iterable[bytes]", message: "Iterable[bytes]", birth: int, whole: bool, boundary: bytes
    ) -> "Iterator[bytes]":
        """The same in parts: the text, one record for each recipient, and the message, or unless whole its header.
        boundary: nothing that the message could hold."""
        yield self._header(now) + PARTS % boundary + PART % (boundary, TEXT) + self._greeting()
        records = [b"Reporting-MTA: dns; %s\nArrival-Date: %s\n" % (shown(self._host), date822(birth))]
        rest = b""
        for block in entries:
            yield block
            *complete, rest = (rest + block).split(b"\n\n")
            records += [record for paragraph in complete if (record := status_record(paragraph))]
        yield (ATTACHED if whole else HEADER_ATTACHED) + b"\n" + PART % (boundary, STATUS) + b"\n".join(records) + b"\n"
        yield PART % (boundary, MESSAGE if whole else HEADERS) + self._return_path()
        yield from message if whole else _header(message)
        yield b"\n--%s--\n" % boundary


def _first(message: "Iterable[bytes]", limit: int) -> "Iterator[bytes]":
    for block in message:
        if len(block) > limit:
            yield block[:limit] + STRIPPED
            return
        yield block
        limit -= len(block)


def _header(message: "Iterable[bytes]") -> "Iterator[bytes]":
    """The message up to its first empty line."""
    last = b""
    for block in message:
        end = (last + block).find(b"\n\n")
        if end >= 0:
            yield block[: max(end + 1 - len(last), 0)]
            return
        yield block
        last = block[-1:]


def shown(text: bytes) -> bytes:
    """text in a field of a report: ASCII, on one line that is not too long."""
    return text.replace(b"\n", b" ").translate(_SHOWN).strip()[:DIAGNOSTIC]


def status_record(paragraph: bytes) -> bytes:
    """The fields about one recipient; b"" if it is no paragraph of entry's."""
    address, end, text = (paragraph.lstrip(b"\n/") + b"\n").partition(b">:\n")
    if not end or not address.startswith(b"<"):
        return b""
    said = text.partition(SAID)[2].partition(b"\nGiving up on ")[0]
    return b"Final-Recipient: rfc822; %s\nAction: failed\nStatus: %s\nDiagnostic-Code: %s; %s\n" % (
        shown(address[1:]),
        _status(text, said),
        b"smtp" if said else b"X-qmail",
        shown(said or text),
    )


def _status(text: bytes, said: bytes) -> bytes:
    """The code that a text shows, as `(#5.1.1)` or as a server's `550 5.1.1`."""
    candidates = [part.partition(b")")[0] for part in text.split(b"(#")[1:]]
    for word in [*said[4:].split(None, 1)[:1], *reversed(candidates)]:
        numbers = word.split(b".")
        if len(numbers) == 3 and numbers[0] in (b"4", b"5") and all(n.isdigit() and len(n) < 4 for n in numbers):
            return word
    return EXPIRED if DYING[:-1] in text else NO_STATUS
