"""newlines - LF and CRLF into each other, block by block, as addcr, delcr and fixcrio do it. Pure.

Each conversion takes (block, final=False) and gives the bytes that follow from the blocks so far. However the
stream is cut into blocks, the result is the same. final belongs to the last call, whose block may be empty.
"""


def add_cr(block: bytes, final: bool = False) -> bytes:
    """A CR before every LF, also before one that has a CR already."""
    return block.replace(b"\n", b"\r\n")


class DelCr:
    """One CR less before every LF. Other CRs stay, also one at the end of the stream."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""  # the CR at the end of a block waits for what comes after it

    def feed(self, block: bytes, final: bool = False) -> bytes:
        if self._held:
            block = self._held + block
            self._held = b""
        if not final and block.endswith(b"\r"):
            self._held = b"\r"
            block = block[:-1]
        return b"\n".join(block.split(b"\r\n"))  # faster than replace, which counts first


class FixCr:
    """A CR before every LF that has none."""

    __slots__ = ("_after_cr",)

    def __init__(self) -> None:
        self._after_cr = False

    def feed(self, block: bytes, final: bool = False) -> bytes:
        fixed = block.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if self._after_cr and block.startswith(b"\n"):
            fixed = fixed[1:]
        if block:
            self._after_cr = block.endswith(b"\r")
        return fixed


class Body:
    """What comes after the first empty line of LF lines, without further empty lines and with an LF at its end: a page
    behind its header, as awk(1) would take it."""

    __slots__ = ("_at_start", "_inside")

    def __init__(self) -> None:
        self._inside = False  # the header is over
        self._at_start = True  # of a line

    def feed(self, block: bytes, final: bool = False) -> bytes:
        if not self._inside:
            lines = (b"\n" if self._at_start else b"") + block
            end = lines.find(b"\n\n")
            if end < 0:
                self._at_start = lines.endswith(b"\n")
                return b""
            self._inside = self._at_start = True
            block = lines[end + 2 :]
        if self._at_start:
            block = block.lstrip(b"\n")
        while b"\n\n" in block:
            block = block.replace(b"\n\n", b"\n")
        if block:
            self._at_start = block.endswith(b"\n")
        return block if self._at_start or not final else block + b"\n"
