"""NAME
    qmail-make-queue - make a queue, or check and mend one

SYNOPSIS
    qmail-make-queue [-nb] [-s SPLIT]

DESCRIPTION
    qmail-make-queue makes the directory queue of the home and all that belongs in it but messages: directories,
    the FIFO lock/trigger, and the files lock/sendmutex and lock/tcpto. What is there already is checked: kind, mode,
    owner and group, and the size of tcpto. What is wrong is mended. Messages are never touched, neither their files
    nor the modes of these.

    One line is printed for each thing made or mended, and nothing if the queue is right:

        made queue/mess/22: a directory
        mended queue/lock/trigger: mode 0622, was 0644

    As root it gives things to the accounts qmailq, qmails and qmailr and to the group qmail. Where one of these does
    not exist, the owner of the home, or its group, takes its place. As another user it makes a queue for that user
    alone.

    Beside the queue it makes the directory mta-sts, if it may, where qmail-remote(8) keeps the policies of domains;
    without it there are none.

    The queue of the original lacks one directory: last, where qmail-send keeps for qmail-queuectl why recipients have
    been put off. In such a queue it is made, and the original takes no notice of it.

    The messages in a queue are spread over as many directories as there are in mess. That number cannot be changed
    later, but by hand while the queue is empty.

OPTIONS
    -n          make and mend nothing; print what would be done
    -b          in a new queue, spread todo and intd too, as the big-todo patch of qmail does
    -s SPLIT    in a new queue, the number of directories (default 23)

ENVIRONMENT
    QMAILHOME    the home, /var/qmail if unset

EXIT STATUS
    0      the queue is right, now or before; with -n also if it is not
    100    wrong usage; -s or -b is not what the queue has
    111    something could not be made or mended

SECURITY
    Run it as root only while no program that you do not trust runs as an owner of the queue. No symbolic link is
    followed below the home, and no file with a second name is given away.

BUGS
    A mess directory with a number too few is taken for a queue with a smaller split if it is the last one. Do not
    remove directories from a queue.

SEE ALSO
    qmail-queue(8), qmail-qread(8), qmail-qstat(8), qmail-queuectl(8), qmail-remote(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import numbers, options
from qmailpy.stores import queue, queuetree
from qmailpy.stores.home import home
from qmailpy.stores.safeio import Failed
from qmailpy.unix import fds

PROGRAM = b"qmail-make-queue"
USAGE = b"qmail-make-queue [ -nb ] [ -s split ]"

STDOUT = 1
LARGEST = 100000  # directories


class _Report:
    """What is said, and with which code it ends."""

    def __init__(self, dry: bool) -> None:
        self.words = (b"would make ", b"would mend ") if dry else (b"made ", b"mended ")
        self.lines: list[bytes] = []
        self.code = 0

    def tell(self, kind: int, path: bytes, what: bytes) -> None:
        self.lines.append(self.words[kind] + path + b": " + what + b"\n")

    def refuse(self, path: bytes, why: bytes) -> None:
        self.code = strerr.fail(strerr.LATER, PROGRAM, b"unable to mend ", path, b": it ", why)


class _Contradiction(Exception):
    """args[0]: what the queue has, other than asked for."""


def _wanted(place: bytes, split: int, split_todo: bool) -> queue.Layout:
    """The layout of the queue that is there; what is missing in it, as asked for. Raises OSError, _Contradiction."""
    try:
        found = queue.find_layout_of(place)
    except FileNotFoundError:
        found = queue.Layout(0, False)
    if found.split and split and found.split != split:
        raise _Contradiction(b"mess with a split of %d" % found.split)
    if found.split and split_todo and not found.split_todo:
        raise _Contradiction(b"a todo that is not split")
    return queue.Layout(found.split or split or queuetree.SPLIT, found.split_todo or split_todo)


def main(argv: list[bytes], env: Env) -> int:
    split = 0
    try:
        given, words = options.parse(argv, b"nbs:")
    except options.OptionError:
        return strerr.usage(PROGRAM, USAGE)
    letters = [letter for letter, _ in given]
    for letter, text in given:
        if letter == b"s":
            split, length = numbers.scan(text)
            if length != len(text) or not 0 < split <= LARGEST:
                return strerr.usage(PROGRAM, USAGE)
    if words:
        return strerr.usage(PROGRAM, USAGE)
    place = home(env)
    report = _Report(b"n" in letters)
    try:
        layout = _wanted(place, split, b"b" in letters)
        mason = queuetree.Mason(queuetree.Owners(place), b"n" in letters, report.tell, report.refuse)
        mason.work(place, queuetree.tree(layout.split, layout.split_todo))
        if os.access(place, os.W_OK) or os.path.lexists(place + b"/mta-sts"):  # the home may be another's
            mason.work(place, queuetree.policies(), b"mta-sts")
    except _Contradiction as e:
        return strerr.fail(strerr.NEVER, PROGRAM, b"the queue has ", e.args[0])
    except Failed as e:
        _say(report.lines)
        return strerr.fail(strerr.LATER, PROGRAM, e.complaint, error=e)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to work in ", place, error=e)
    return _say(report.lines) or report.code


def _say(lines: list[bytes]) -> int:
    try:
        fds.write_all(STDOUT, b"".join(lines))
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write output", error=e)
    return 0
