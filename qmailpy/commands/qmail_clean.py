"""NAME
    qmail-clean - remove files of the queue for qmail-send

SYNOPSIS
    qmail-clean

DESCRIPTION
    qmail-clean reads requests from descriptor 0 and answers each with one byte on descriptor 1. qmail-send, which may
    not remove these files itself, starts it and makes the requests:

        foop/N NUL    remove intd/N, then mess/S/N
        todo/N NUL    remove intd/N, then todo/N

    N is the number of a message, S the directory where that is. The answers are

        +    these files are gone, now or before
        !    one of them could not be removed
        x    this is no request

    Now and then it also removes what has been in pid for 36 hours: the beginnings of messages whose qmail-queue has
    been killed.

    It runs as the owner of the queue. At the end of the requests it exits.

ENVIRONMENT
    QMAILHOME    the home, /var/qmail if unset

EXIT STATUS
    0      no more requests
    100    an answer could not be written
    111    there is no queue to work in

SEE ALSO
    qmail-queue(8), qmail-make-queue(8)
"""

import os
import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import numbers
from qmailpy.stores import queue
from qmailpy.stores.home import home
from qmailpy.unix import fds, signals

SHORTEST, LONGEST = 7, 100  # bytes of a request with its NUL
DIGITS = b"0123456789"
ROUND = 31  # requests between two looks into pid

BLOCK = 4096
DONE, FAILED, MALFORMED = b"+", b"!", b"x"


def parse(request: bytes) -> tuple[bytes, int] | None:
    """`foop` or `todo` and the number of a request without its NUL; None if it is none."""
    word, number = request[:5], request[5:]
    if not SHORTEST <= len(request) + 1 <= LONGEST or number.strip(DIGITS):
        return None
    if word != b"foop/" and word[:4] != b"todo":  # the original does not look at the fifth byte of this one
        return None
    return word[:4], numbers.scan(number)[0]


def _answer(fd: int, layout: queue.Layout, request: bytes) -> bytes:
    parsed = parse(request)
    if parsed is None:
        return MALFORMED
    word, number = parsed
    last = layout.spread(b"mess", number) if word == b"foop" else layout.todo(b"todo", number)
    return DONE if queue.remove(fd, layout.todo(b"intd", number), last) else FAILED


def _read() -> bytes:
    """Requests, as many as have come. What cannot be read is at its end, as in the original."""
    try:
        return os.read(0, BLOCK)
    except OSError:
        return b""


def _serve(fd: int, layout: queue.Layout) -> int:
    requests: list[bytes] = []
    rest = b""
    served = 0
    while True:
        if served % ROUND == 0:
            queue.clean_pid(fd, int(time.time()))
        while not requests:
            block = _read()
            if not block:
                return 0
            *requests, rest = (rest[:LONGEST] + block).split(b"\0")  # one that is too long stays so
        request = requests.pop(0)
        served += 1
        try:
            fds.write_all(1, _answer(fd, layout, request))
        except OSError:
            return strerr.NEVER


def main(argv: list[bytes], env: Env) -> int:
    try:
        fd = queue.open_queue(home(env))
    except queue.Trouble:
        return strerr.LATER
    signals.ignore(signals.PIPE)
    try:
        layout = queue.find_layout(fd)
        return _serve(fd, layout) if layout.split else strerr.LATER
    except OSError:
        return strerr.LATER
    finally:
        os.close(fd)
