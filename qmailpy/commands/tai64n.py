"""NAME
    tai64n - put a label with the time before each line

SYNOPSIS
    tai64n

DESCRIPTION
    tai64n copies its input to its output, with a label and a space before each line. The label says when the first
    byte of the line was read, as TAI64N: @ and 24 hexadecimal digits, which sort as the times do. Lines that were
    read at once have the same label. What has been read is written before tai64n waits for more.

    A last line without a newline gets none.

    tai64nlocal(8) makes the labels readable.

EXIT STATUS
    0      the whole input is copied
    111    it could not be read or written

SEE ALSO
    tai64nlocal(8), multilog(8)
"""

import time

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import tai64n
from qmailpy.loops.relay import copy


class _Stamper:
    __slots__ = ("_within",)

    def __init__(self) -> None:
        self._within = False  # the last byte ended no line

    def feed(self, block: bytes, final: bool) -> bytes:
        if final:
            return b""
        label = tai64n.label(time.time_ns()) + b" "
        first = b"" if self._within else label
        self._within = not block.endswith(b"\n")
        return tai64n.labels(block, first, label)


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        copy(0, 1, _Stamper().feed)
    except OSError:
        return strerr.LATER
    return 0
