"""header - the header of a message, field by field, while it comes in. Pure.

The rules are those of qmail-inject: a header ends at an empty line, or before a line that is neither a field nor the
continuation of one; then an empty line belongs between the two. A line `From ...`, as mbox files have it, becomes a
field."""

MBOX = b"MBOX-Line: "

IN_NAME = bytes(range(33, 127))


def name(field: bytes) -> bytes:
    """The name in lower case, b"" if there is none that may be a field's. Blanks may stand before the colon."""
    text, colon, _ = field.partition(b":")
    text = text.rstrip(b" \t")
    return text.lower() if colon and not text.translate(None, IN_NAME) else b""


class Splitter:
    """Takes the message in blocks of any size, and gives the fields of its header, each with all its lines.

    body: None while the header goes on; then what has come of the body, the empty line before it included.
    """

    __slots__ = ("_field", "_pending", "body")

    def __init__(self) -> None:
        self._field: list[bytes] = []  # lines
        self._pending = bytearray()  # a line without its end
        self.body: bytes | None = None

    def feed(self, block: bytes) -> list[bytes]:
        """The fields that are complete now. Not to be called when there is a body."""
        fields: list[bytes] = []
        at = 0
        end = block.find(b"\n") + 1
        while end:
            line = block[at:end]
            if self._pending:
                line = bytes(self._pending) + line
                self._pending.clear()
            at = end
            if not self._take(line, fields):
                self.body = (b"" if line == b"\n" else b"\n") + line + block[at:]
                return fields
            end = block.find(b"\n", at) + 1
        self._pending += block[at:]
        return fields

    def finish(self) -> list[bytes]:
        """The fields that are left when the message has ended within its header; a newline that is missing is added."""
        fields = self.feed(b"\n") if self._pending else []
        return fields + self._complete()

    def _complete(self) -> list[bytes]:
        field = b"".join(self._field)
        self._field = []
        return [field] if field else []

    def _take(self, line: bytes, fields: list[bytes]) -> bool:
        """One line; whether it belongs to the header."""
        if self._field and line[:1] in (b" ", b"\t"):
            self._field.append(line)
            return True
        fields += self._complete()
        if line.startswith(b"From "):
            line = MBOX + line
        elif not name(line):
            return False
        self._field.append(line)
        return True
