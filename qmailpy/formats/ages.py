"""ages - lengths of time as people say them: 90, 90s, 2h, 1d12h. Pure."""

UNITS = ((b"w", 604800), (b"d", 86400), (b"h", 3600), (b"m", 60), (b"s", 1))  # seconds

DIGITS = 12  # of a number, at most


def parse(text: bytes) -> int | None:
    """Seconds; None if text is no length of time. Without a unit it is in seconds; units come in any order."""
    if text.isdigit():
        text += b"s"
    sizes = dict(UNITS)
    seconds = 0
    at = 0
    while at < len(text):
        rest = text[at:].lstrip(b"0123456789")
        digits = text[at : len(text) - len(rest)]
        if not 0 < len(digits) <= DIGITS or rest[:1] not in sizes:
            return None
        seconds += int(digits) * sizes[rest[:1]]
        at += len(digits) + 1
    return seconds if text else None


def show(seconds: int) -> bytes:
    """The two largest units of it: 45s, 3h12m, 2d, 1w6d. What is less than 0 is 0s."""
    seconds = max(seconds, 0)
    for place, (unit, size) in enumerate(UNITS[:-1]):
        if seconds >= size:
            smaller, part = UNITS[place + 1]
            count, rest = divmod(seconds, size)
            return b"%d%s" % (count, unit) + (b"%d%s" % (rest // part, smaller) if rest >= part else b"")
    return b"%ds" % seconds
