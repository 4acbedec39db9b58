"""tai64n - points in time as 12 bytes, and as the labels of log lines (cr.yp.to/libtai/tai64.html). Pure.

A point in time is nanoseconds since 1970, as time.time_ns() has it. TAI counts seconds from 2**62, and was 10 seconds
ahead in 1970; the originals add these 10 and know of no leap seconds, and so does this.
"""

SECONDS_1970 = (1 << 62) + 10  # TAI64 of 1970-01-01 00:00:00 UTC
SECOND = 1_000_000_000  # nanoseconds
SIZE = 12  # bytes of a packed time
LABEL_SIZE = 25  # bytes of a label


def pack(ns: int) -> bytes:
    """12 bytes: seconds in 8, nanoseconds in 4, big-endian."""
    seconds, nanoseconds = divmod(ns, SECOND)
    return (SECONDS_1970 + seconds).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")


def unpack(packed: bytes) -> int:
    """Nanoseconds since 1970 of 12 bytes, which may be any."""
    seconds = int.from_bytes(packed[:8], "big") - SECONDS_1970
    return seconds * SECOND + int.from_bytes(packed[8:SIZE], "big")


def label(ns: int) -> bytes:
    """@ and 24 hexadecimal digits, in lower case."""
    return b"@" + pack(ns).hex().encode()


def labels(text: bytes, first: bytes, label: bytes) -> bytes:
    """text, not empty, with first before it and label before each line that begins in it."""
    return first + text[:-1].replace(b"\n", b"\n" + label) + text[-1:]
