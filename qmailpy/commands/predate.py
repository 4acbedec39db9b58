"""NAME
    predate - put a Date field in local time before a message

SYNOPSIS
    predate PROGRAM [ARG...]

DESCRIPTION
    predate runs PROGRAM, found along PATH, and gives it as its input a line

        Date: 5 Nov 2001 10:03:07 +0100

    with the time of now in the local time zone, and then what comes on descriptor 0. It waits for the program to end.

        predate sendmail -t < message

ENVIRONMENT
    TZ    the time zone, tzset(3)

EXIT STATUS
    That of PROGRAM.

    100    wrong usage
    111    PROGRAM could not be run or was killed by a signal, or the input could not be read

SEE ALSO
    datemail(1), sendmail(8), qmail-inject(8)
"""

import time
from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.received import MONTHS
from qmailpy.loops.feed import feed
from qmailpy.unix import timezone

PROGRAM = b"predate"
USAGE = b"predate child"


def date_field(seconds: int) -> bytes:
    local = time.localtime(seconds)
    ahead = local.tm_gmtoff
    minutes = (abs(ahead) + 30) // 60
    day = b"%d %s %d" % (local.tm_mday, MONTHS[local.tm_mon - 1], local.tm_year)
    clock = b"%02d:%02d:%02d" % (local.tm_hour, local.tm_min, local.tm_sec)
    return b"Date: %s %s %s%02d%02d\n" % (day, clock, b"-" if ahead < 0 else b"+", minutes // 60, minutes % 60)


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)

    def start(prepare: Callable[[], None]) -> int:
        def child() -> Exec:
            prepare()
            return Exec(argv[1:], env, who=PROGRAM)

        return chain.spawn(child, env, "predate")

    timezone.follow(env)
    return feed(PROGRAM, start, date_field(int(time.time())))
