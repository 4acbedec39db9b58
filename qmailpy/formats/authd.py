"""authd - what is said on the socket of qmail-authd: one question, one answer, each a netstring. Pure.

question    ADDRESS NUL NAME NUL PASSWORD NUL STAMP NUL    ADDRESS is the client's, or empty
answer      K USER    yes, this is USER
            D         no
            Z         nobody can tell now
"""

from qmailpy.formats import fd3, netstrings

ADDRESS = 64  # bytes, at most; an IPv6 address with its interface is shorter
PACKET = fd3.LIMIT + 1  # bytes of the other three: descriptor 3 may lack the last NUL
DIGITS = 3  # of a length
LIMIT = DIGITS + 1 + ADDRESS + 1 + PACKET + 1  # bytes of a question

YES, NO, LATER = b"K", b"D", b"Z"

ANSWER_LIMIT = 1024  # bytes; no name is as long


class Malformed(Exception):
    """What the other side says is not the protocol."""


def build(address: bytes, name: bytes, password: bytearray, stamp: bytes) -> bytearray:
    """The question, for the caller to send and then wipe. The strings hold no NUL and come from a packet of
    descriptor 3; an address that is too long is left out."""
    strings = (address if len(address) <= ADDRESS else b"", name, password, stamp)
    length = sum(map(len, strings)) + len(strings)
    parts = [part for string in strings for part in (string, b"\0")]
    return bytearray().join((b"%d:" % length, *parts, b","))  # of its final size at once: what grows leaves copies


def parse(data: bytearray) -> tuple[bytes, bytes, bytearray] | None:
    """(address, name, packet for descriptor 3) of a question that is there whole; None if there has to be more. The
    packet is to be wiped, and data too. Raises Malformed."""
    start, end = _frame(data)
    if end >= LIMIT:
        raise Malformed
    if len(data) <= end:
        return None
    if data[end] != ord(",") or len(data) > end + 1 or data.count(0) != 4 or data[end - 1] != 0:
        raise Malformed
    first = data.find(0)
    second = data.find(0, first + 1)
    if first - start > ADDRESS or end - first - 1 > PACKET:
        raise Malformed
    last = end - 1 if end - first - 1 == PACKET else end  # without the NUL that descriptor 3 did not have either
    return bytes(data[start:first]), bytes(data[first + 1 : second]), data[first + 1 : last]


def _frame(data: "bytearray | bytes") -> tuple[int, int]:
    """Where the string of a netstring begins and ends: behind all data, while its length is not known. Raises
    Malformed."""
    colon = data.find(b":", 0, DIGITS + 1)
    digits = bytes(data[: DIGITS + 1 if colon < 0 else colon])
    if colon == 0 or len(digits) > DIGITS or digits.strip(b"0123456789"):
        raise Malformed
    return (colon + 1, colon + 1 + int(digits)) if colon > 0 else (0, DIGITS)


def build_answer(letter: bytes, user: bytes = b"") -> bytes:
    """user only with YES."""
    return netstrings.build(letter + user)


def parse_answer(data: bytes) -> tuple[bytes, bytes] | None:
    """(letter, user) of an answer that is there whole; None if there has to be more. Raises Malformed."""
    start, end = _frame(data)
    if len(data) <= end:
        return None
    letter, user = data[start : start + 1], data[start + 1 : end]
    if data[end:] != b"," or letter not in (YES, NO, LATER) or b"\0" in user or (letter == YES) != (user != b""):
        raise Malformed
    return letter, user
