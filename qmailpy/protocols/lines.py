"""lines - a stream cut into lines, in bounded memory. Pure."""


class Lines:
    """Feed it blocks of any size; it gives whole lines, without their LF, at most limit + 1 bytes of each: a line
    that was longer shows by its length and has lost its rest."""

    __slots__ = ("_limit", "_partial")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial = b""

    def feed(self, block: bytes) -> list[bytes]:
        """The lines that end in this block."""
        lines = (self._partial + block).split(b"\n")
        bound = self._limit + 1
        self._partial = lines.pop()[:bound]
        return [line[:bound] for line in lines]
