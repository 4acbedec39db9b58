"""netstrings - strings behind their length, `5:hello,` (cr.yp.to/proto/netstrings.txt). Pure.

Readers of streams are protocols, each with its own limits."""

LENGTH = 10  # digits, at most


def build(text: bytes) -> bytes:
    """The netstring of text."""
    return b"%d:%s," % (len(text), text)


def parse(data: bytes) -> list[bytes]:
    """The strings of netstrings that are all in memory, a file's. Raises ValueError: it is not all netstrings."""
    strings = []
    start = 0
    while start < len(data):
        colon = data.find(b":", start, start + LENGTH + 1)
        length = data[start:colon]
        if colon < 0 or not length.isdigit() or data[(end := colon + 1 + int(length)) : end + 1] != b",":
            raise ValueError
        strings.append(data[colon + 1 : end])
        start = end + 1
    return strings
