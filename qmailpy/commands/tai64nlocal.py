"""NAME
    tai64nlocal - turn the labels of a log into dates

SYNOPSIS
    tai64nlocal

DESCRIPTION
    tai64nlocal copies its input to its output. Where a line begins with a TAI64N label, which is @ and hexadecimal
    digits, it writes date and time in the local time zone instead:

        @400000006b09a96a0618f76c starting
        2026-11-27 16:01:36.102299500 starting

    Everything else is copied as it is, also a label further on in a line, and one of a time that has no date. What
    has been read is written before tai64nlocal waits for more, so it may stand behind `tail -f`.

ENVIRONMENT
    TZ    the time zone, see tzset(3); if it is not set, that of the system

EXIT STATUS
    0      the whole input is copied
    111    it could not be read or written

BUGS
    A label of less than 24 digits, or of more, is read as one of 24, and mostly none of a time that has a date.

SEE ALSO
    tai64n(8), multilog(8)
"""

import time

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.tai64n import SECONDS_1970
from qmailpy.loops.relay import copy
from qmailpy.unix import timezone

HEX = b"0123456789abcdef"
DIGITS = tuple(HEX[at : at + 1] for at in range(len(HEX)))

SECONDS, NANOSECONDS, LABEL = 16, 8, 24  # digits
WRAP, HALF = 1 << 64, 1 << 63  # time_t; a year before 0 is printed as an unsigned number
LONGEST = 1000  # digits that may wait for what follows

DATES = 1000  # seconds that are remembered


class _Dater:
    """Dates for labels, block by block."""

    __slots__ = ("_dates", "_held", "_within")

    def __init__(self) -> None:
        self._dates: dict[bytes, bytes] = {}  # digits of a second -> its date
        self._held = b""  # @ and digits at the end of a block: there may be more
        self._within = False  # the last byte ended no line

    def feed(self, block: bytes, final: bool) -> bytes:
        text = self._held + block
        self._held = b""
        begins_with_label = text.startswith(b"@") and not self._within
        if text:
            self._within = not text.endswith(b"\n")
        pieces = text.split(b"\n@")
        plain = [] if begins_with_label else [pieces.pop(0)]
        if begins_with_label:
            pieces[0] = pieces[0][1:]
        if pieces and not final and len(pieces[-1]) < LONGEST and not pieces[-1].translate(None, HEX):
            self._held = b"@" + pieces.pop()
            self._within = False
        dated = plain + [self._dated(piece) for piece in pieces]
        return b"\n".join(dated) + (b"\n" if self._held and dated else b"")

    def _dated(self, piece: bytes) -> bytes:
        """What stands in place of @ and piece, a label with what is behind it."""
        date = self._dates.get(piece[:SECONDS])
        if date is not None:  # the quick way, for what the next one would do too
            digits, rest = piece[SECONDS:LABEL], piece[LABEL:]
            try:
                nanoseconds = int(digits, 16)
            except ValueError:
                nanoseconds = -1
            if b"%08x" % nanoseconds == digits and not rest.startswith(DIGITS):  # int takes more than HEX
                return b"%s%09d%s" % (date, nanoseconds, rest)
        rest = piece.lstrip(HEX)
        digits = piece[: len(piece) - len(rest)]
        nanoseconds = int(digits[-NANOSECONDS:] or b"0", 16)
        date = self._date(digits[:-NANOSECONDS])
        return b"@" + piece if date is None else b"%s%09d%s" % (date, nanoseconds, rest)

    def _date(self, digits: bytes) -> bytes | None:
        """The date of a second, as of a C program with 64 bits for it; None: it has none."""
        second = int(digits[-SECONDS:] or b"0", 16) - SECONDS_1970
        try:
            year, month, day, hour, minute, second = time.localtime((second + HALF) % WRAP - HALF)[:6]
        except (OSError, OverflowError, ValueError):
            return None
        date = b"%d-%02d-%02d %02d:%02d:%02d." % (year % WRAP, month, day, hour, minute, second)
        if len(digits) == SECONDS:
            if len(self._dates) >= DATES:
                self._dates.clear()
            self._dates[digits] = date
        return date


def main(argv: list[bytes], env: Env) -> int | Exec:
    timezone.follow(env)
    try:
        copy(0, 1, _Dater().feed)
    except OSError:
        return strerr.LATER
    return 0
