"""NAME
    qmail-qstat - summarize the queue

SYNOPSIS
    qmail-qstat

DESCRIPTION
    qmail-qstat prints how many messages are in the queue, and how many of these qmail-send has not taken up yet:

        messages in queue: 12
        messages in queue but not yet preprocessed: 1

    Files that a crash has left behind are counted in the first line until they are removed.

ENVIRONMENT
    QMAILHOME    the home, /var/qmail if unset

EXIT STATUS
    0      done
    111    the queue could not be read

BUGS
    Who may not read the queue is told so. The original prints a complaint of find(1) then, and 0.

SEE ALSO
    qmail-qread(8), qmail-queue(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.stores import queue
from qmailpy.stores.home import home
from qmailpy.unix import fds

PROGRAM = b"qmail-qstat"

STDOUT = 1


def main(argv: list[bytes], env: Env) -> int:
    path = home(env) + b"/queue"
    try:
        fd = os.open(path + b"/.", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to chdir to ", path, error=e)
    try:
        numbers = queue.count(fd, b"mess"), queue.count(fd, b"todo")
    except queue.Unlisted as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to read ", path, b"/", e.name, error=e)
    finally:
        os.close(fd)
    try:
        fds.write_all(STDOUT, b"messages in queue: %d\nmessages in queue but not yet preprocessed: %d\n" % numbers)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write output", error=e)
    return 0
