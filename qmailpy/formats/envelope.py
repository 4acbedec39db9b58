"""envelope - sender and recipients as qmail-queue reads them on descriptor 1, and as they stand in todo and intd. Pure.

    on descriptor 1    F sender NUL, T recipient NUL for each recipient, NUL
    in todo/N          u uid NUL, p pid NUL, F sender NUL, T recipient NUL for each recipient

Source: qmail-queue(8), INTERNALS of qmail. Addresses are any bytes but NUL."""

from qmailpy.formats import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LONGEST = 1002  # bytes of an address; qmail-queue(8) promises 1000
BLOCK = 65536  # bytes that a block has at least, if it is not the last one; and then at most one part more

SENDER = ord("F")
RECIPIENT = ord("T")


class EnvelopeError(Exception):
    """code: what qmail-queue exits with."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def build(sender: bytes, recipients: "Iterable[bytes]") -> bytes:
    """What a program writes to qmail-queue's descriptor 1. As in C, an address ends at its first NUL."""
    return b"".join(blocks(sender, recipients))


def blocks(sender: bytes, recipients: "Iterable[bytes]") -> "Iterator[bytes]":
    """The same, in blocks: of many recipients there is no second copy in memory."""
    block = bytearray(b"F%s\0" % _cut(sender))
    for part in recipients.parts() if isinstance(recipients, Recipients) else map(_record, recipients):
        block += part
        if len(block) >= BLOCK:
            yield bytes(block)
            block.clear()
    block += b"\0"
    yield bytes(block)


def _record(recipient: bytes) -> bytes:
    return b"T%s\0" % _cut(recipient)


def _cut(address: bytes) -> bytes:
    return address.partition(b"\0")[0]


class Recipients:
    """Any number of recipients, as they will be written: a list of objects would be many times as large."""

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records = bytearray()

    def add(self, recipient: bytes) -> None:
        self._records += _record(recipient)

    def clear(self) -> None:
        self._records.clear()

    def __iter__(self) -> "Iterator[bytes]":
        start = 0
        while (end := self._records.find(b"\0", start)) >= 0:
            yield bytes(self._records[start + 1 : end])
            start = end + 1

    def parts(self) -> "Iterator[bytearray]":
        """The records, in parts that end anywhere."""
        for start in range(0, len(self._records), BLOCK):
            yield self._records[start : start + BLOCK]


class Parser:
    """Reads descriptor 1, in blocks of any size. finished: the NUL at the end has come; what follows is ignored."""

    __slots__ = ("_letter", "_rest", "finished")

    def __init__(self) -> None:
        self._letter = SENDER
        self._rest = b""
        self.finished = False

    def feed(self, block: bytes) -> bytes:
        """The records that are complete by now, as they stand in todo. Raises EnvelopeError as soon as no bytes could
        make a right envelope of what has come."""
        text = self._rest + block
        start = 0
        while (end := text.find(b"\0", start)) >= 0:
            if start == end and self._letter == RECIPIENT:
                self.finished = True
                self._rest = b""
                return text[:start]
            self._check(text, start, end)
            self._letter = RECIPIENT
            start = end + 1
        self._rest = text[start:]
        if self._rest:
            self._check(text, start, len(text))
        return text[:start]

    def _check(self, text: bytes, start: int, end: int) -> None:
        if text[start] != self._letter:
            raise EnvelopeError(report.BAD_ENVELOPE)
        if end - start > 1 + LONGEST:
            raise EnvelopeError(report.ADDRESS_TOO_LONG)


def invoker(uid: int, pid: int) -> bytes:
    """The first two records of todo."""
    return b"u%d\0p%d\0" % (uid, pid)


def records(text: bytes) -> "Iterator[tuple[bytes, bytes]]":
    """(letter, value) of each record of todo, info, local or remote, in order. What has no NUL at its end is none."""
    for record in text.split(b"\0")[:-1]:
        yield record[:1], record[1:]
