"""spawning - what qmail-send and its spawners say to each other, through two pipes for each spawner. Pure.

    hello     SLOTS                                      how many deliveries at a time; once, from the spawner
    request   NUMBER MESSAGE NUL SENDER NUL RECIPIENT NUL
    report    NUMBER LETTER TEXT NUL                     K done, Z later, D never

NUMBER is that of a slot, from 0 to SLOTS - 1; MESSAGE is the path of the message below mess, such as 21/2220372. Slots
and numbers are one byte each; or two, the low one first, with a spawner whose hello was of two: that is what the
big-concurrency patch says. A number may be a NUL, so a NUL ends a report only behind it.
"""

SUCCESS = b"K"
DEFERRAL = b"Z"
FAILURE = b"D"

SLOTS = 120  # of an original that was built without another number
NARROW = 255  # slots that one byte can tell

LONGEST = 10000  # bytes of a report that are kept, number and letter included

PER_RECIPIENT = b"-@[]"  # how a sender ends that is to be another one for each recipient


def hello(slots: int, wide: bool) -> bytes:
    """What a spawner says when it is ready."""
    return slots.to_bytes(2 if wide else 1, "little")


def slots(said: bytes) -> tuple[int, bool]:
    """The number of slots of a hello, and whether it is of two bytes, as all numbers then are."""
    return int.from_bytes(said[:2], "little"), len(said) > 1


def envelope_sender(sender: bytes, recipient: bytes) -> bytes:
    """The sender for one recipient: `owner-@host-@[]` for `box@domain` is `owner-box=domain@host`."""
    if not sender.endswith(PER_RECIPIENT):
        return sender
    owner, at, host = sender[: -len(PER_RECIPIENT)].rpartition(b"@")
    box, also_at, domain = recipient.rpartition(b"@")
    if not at or not also_at:
        return sender
    return b"%s%s=%s@%s" % (owner, box, domain, host)


class Request:
    """One delivery. sender is the one for this recipient: see envelope_sender."""

    __slots__ = ("message", "number", "recipient", "sender")

    def __init__(self, number: int, message: bytes, sender: bytes, recipient: bytes) -> None:
        self.number = number
        self.message = message
        self.sender = sender
        self.recipient = recipient

    def encode(self, wide: bool) -> bytes:
        """The request as it is written. Raises OverflowError: the number has no room."""
        number = self.number.to_bytes(2 if wide else 1, "little")
        return b"%s%s\0%s\0%s\0" % (number, self.message, self.sender, self.recipient)


class Requests:
    """Reads requests in blocks of any size, for a spawner."""

    __slots__ = ("_rest", "_width")

    def __init__(self, wide: bool) -> None:
        self._width = 2 if wide else 1
        self._rest = b""

    def feed(self, block: bytes) -> list[Request]:
        """The requests that are complete now."""
        found = []
        text = self._rest + block
        width = self._width
        start = 0
        while True:
            message = start + width
            sender = text.find(b"\0", message) + 1
            recipient = text.find(b"\0", sender) + 1 if sender else 0
            end = text.find(b"\0", recipient) if recipient else -1
            if end < 0:
                break
            number = int.from_bytes(text[start:message], "little")
            found.append(Request(number, text[message : sender - 1], text[sender : recipient - 1], text[recipient:end]))
            start = end + 1
        self._rest = text[start:]
        return found


def report(number: int, text: bytes, wide: bool) -> bytes:
    """The report of a delivery as it is written; text: letter and text, of which the first NUL is the end."""
    return b"%s%s\0" % (number.to_bytes(2 if wide else 1, "little"), text.partition(b"\0")[0])


class Reports:
    """Reads reports in blocks of any size, for qmail-send. What is too long is cut, and costs no memory."""

    __slots__ = ("_rest", "_width")

    def __init__(self, wide: bool) -> None:
        self._width = 2 if wide else 1
        self._rest = b""

    def feed(self, block: bytes) -> list[tuple[int, bytes]]:
        """Number, and letter and text, of the reports that are complete now."""
        found = []
        text = self._rest + block
        width = self._width
        start = 0
        while (end := text.find(b"\0", start + width)) >= 0:
            body = start + width
            found.append((int.from_bytes(text[start:body], "little"), text[body : min(end, start + LONGEST)]))
            start = end + 1
        self._rest = text[start : start + LONGEST]
        return found
