"""maildirsize - the file in which a Maildir++ keeps its quota and what it holds. Pure. Source: Maildir++ specification.

    10485760S,1000C    the quota: bytes, messages, or both
    1234567 321        bytes and messages that there were when the file was made
    2345 1             each line after it: what came, or with a minus went, since then

What the Maildir holds is the sum. A program that adds a message appends a line.

A quota as it is given may also have 10M, 10MB, 10MBS or 500K for bytes, or a number alone; NOQUOTA, or anything that
begins with NO, is none.
"""

from qmailpy.formats.numbers import scan

LARGEST = 5119  # bytes: at 5120 all is counted anew
NOQUOTA = b"NOQUOTA"
NONE = b"NO"  # that is how the originals know it

NUMBERS = b"0123456789- \t\n"  # what there is behind the first line

MESSAGES = b"C"
BYTES = b"Ss"
UNITS = {b"K": 1 << 10, b"k": 1 << 10, b"M": 1 << 20, b"m": 1 << 20}
LAST = (1 << 63) - 1  # what the originals can count


class Quota:
    """size: bytes, count: messages, at most; 0 for any number."""

    __slots__ = ("count", "size")

    def __init__(self, size: int = 0, count: int = 0) -> None:
        self.size = size
        self.count = count

    def __bool__(self) -> bool:
        return bool(self.size or self.count)

    def text(self) -> bytes:
        """As it stands in the first line, and in vpasswd."""
        parts = [b"%dS" % self.size] * bool(self.size) + [b"%dC" % self.count] * bool(self.count)
        return b",".join(parts) or NOQUOTA

    def exceeded(self, size: int, count: int) -> bool:
        """Whether so many bytes and messages are too many."""
        return bool((self.size and size > self.size) or (self.count and count > self.count))

    def percent(self, size: int, count: int) -> int:
        """How much of it is used, of bytes or messages whichever is more; never above 100."""
        bytes_ = 100 * size // self.size if self.size else 0
        messages = 100 * count // self.count if self.count else 0
        return min(100, max(0, bytes_, messages))


def quota(text: bytes) -> Quota:
    """The quota that a text of any kind stands for, as the originals read it; what they cannot read is none."""
    found = Quota()
    if text.startswith(NONE):
        return found
    for part in text.split(b","):
        if part.endswith(MESSAGES):
            found.count = _clipped(scan(part)[0])
        else:
            found.size = _clipped(_bytes(part))
    return found


def checked(text: bytes) -> Quota:
    """The quota that somebody has given. Raises ValueError: it is nothing that can be meant."""
    if text.upper() == NOQUOTA:
        return Quota()
    parts = text.split(b",")
    for part in parts:
        digits = scan(part)[1]
        if not 0 < digits < 20 or part[digits:].upper() not in (
            b"",
            b"S",
            b"C",
            b"K",
            b"KB",
            b"KBS",
            b"M",
            b"MB",
            b"MBS",
        ):
            raise ValueError
    counts = [part.upper().endswith(MESSAGES) for part in parts]
    found = quota(text.upper())
    if len(set(counts)) != len(counts) or not found or max(found.size, found.count) == LAST:
        raise ValueError
    return found


def _bytes(part: bytes) -> int:
    if part[-1:] in (b"S", b"s"):
        part = part[:-1]
    if part[-1:] in (b"B", b"b"):
        part = part[:-1]
    return scan(part)[0] * UNITS.get(part[-1:], 1)


def _clipped(number: int) -> int:
    return min(number, LAST)


class Usage:
    """What a file says: quota, as it stands there; size and count; lines behind the first."""

    __slots__ = ("count", "lines", "quota", "size")

    def __init__(self, quota: bytes, size: int = 0, count: int = 0, lines: int = 0) -> None:
        self.quota = quota
        self.size = size
        self.count = count
        self.lines = lines


def parse(text: bytes) -> Usage | None:
    """None if the text tells nothing: it is too long, has no line of numbers, or one that is not whole or not two
    numbers."""
    first, _, rest = text.partition(b"\n")
    lines = rest.split(b"\n")
    if len(text) > LARGEST or len(lines) < 2 or lines.pop() or rest.translate(None, NUMBERS):
        return None
    size = count = 0
    try:
        for line in lines:
            some, messages = line.split()
            size += int(some)
            count += int(messages)
    except ValueError:
        return None
    return Usage(first, size, count, len(lines))


def entry(size: int, count: int) -> bytes:
    """A line, for what came or went."""
    return b"%d %d\n" % (size, count)


def build(quota: bytes, size: int, count: int) -> bytes:
    """A new file."""
    return quota + b"\n" + entry(size, count)
