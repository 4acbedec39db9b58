"""numbers - decimal numbers as the originals read them (scan_ulong). Pure."""

WRAP = 1 << 64  # unsigned long
ENOUGH = 64  # digits: 10**64 is a multiple of WRAP, so digits further left change nothing


def scan(text: bytes) -> tuple[int, int]:
    """(value, length): the digits at the front of text. No digit gives (0, 0); too large a value wraps."""
    length = len(text) - len(text.lstrip(b"0123456789"))
    return (int(text[max(0, length - ENOUGH) : length]) % WRAP if length else 0), length
