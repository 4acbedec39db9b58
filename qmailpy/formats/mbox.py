"""mbox - the lines that keep the messages of an mbox file apart, mbox(5): the From_ line before each of them, one `>`
more before lines of a message that could be taken for one, and an empty line behind it. Pure."""

from qmailpy.formats import received

DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
NOBODY = b"MAILER-DAEMON"  # the sender of a bounce

FROM = b"From "
QUOTED = b">From "
STARTS = (b"F", b"Fr", b"Fro", b"From")

_NO_BLANKS = bytes(ord("-") if byte in b" \t\n" else byte for byte in range(256))


def ctime(seconds: int) -> bytes:
    """`Mon Nov 05 09:03:07 2001`, in GMT: ctime(3), but for the blank in `Nov  5`."""
    day, month, year, clock, _ = received.date822(seconds).split()
    weekday = DAYS[(seconds // received.DAY + 3) % 7]  # 1 January 1970 was a Thursday
    return b"%s %s %s %s %s" % (weekday, month, day.rjust(2, b"0"), clock, year)


def from_line(sender: bytes, seconds: int) -> bytes:
    """The From_ line of a message of this envelope sender that has come at that time."""
    return b"From %s %s\n" % (sender.translate(_NO_BLANKS) or NOBODY, ctime(seconds))


class Quoter:
    """Takes a message in blocks of any size, and gives what stands for it in an mbox file: one `>` more in each line
    that is any number of `>` and then `From `."""

    __slots__ = ("_ended", "_held", "_open")

    def __init__(self) -> None:
        self._held = b""  # may be the beginning of `From `
        self._open = True  # nothing but `>` has come of the line
        self._ended = True  # nothing of the line has come

    def feed(self, block: bytes) -> bytes:
        """What follows from the message so far."""
        text = self._held + block if self._held else block
        self._held = b""
        for start in STARTS if text[-1:] in b"From" else ():
            if text.endswith(start):
                self._held = start
                text = text[: -len(start)]
                break
        return self._quoted(text)

    def finish(self) -> bytes:
        """What is left at the end of the message: a newline too if the last line has none, and the empty line."""
        rest = self._quoted(self._held)
        self._held = b""
        return rest + (b"\n" if self._ended else b"\n\n")

    def _quoted(self, text: bytes) -> bytes:
        if not text:
            return text
        quoted = text
        if QUOTED in text:
            quoted = self._quote_again(text)
        if self._open and text.startswith(FROM):
            quoted = b">" + quoted
        self._ended = text.endswith(b"\n")
        line = text.rfind(b"\n") + 1
        self._open = (line > 0 or self._open) and not text[line:].strip(b">")
        return quoted.replace(b"\nFrom ", b"\n>From ")

    def _quote_again(self, text: bytes) -> bytes:
        """text with a `>` more in each line that has one already."""
        parts = []
        done = 0
        at = text.find(QUOTED)
        while at >= 0:
            before = at - 1
            while before >= 0 and text[before] == QUOTED[0]:
                before -= 1
            if self._open if before < 0 else text[before] == ord("\n"):
                parts += [text[done:at], b">"]
                done = at
            at = text.find(QUOTED, at + len(QUOTED))
        return b"".join(parts) + text[done:]
