"""NAME
    qmail-queue - queue a mail message for delivery

SYNOPSIS
    qmail-queue

DESCRIPTION
    qmail-queue reads a message from descriptor 0 to its end, then an envelope from descriptor 1, and puts both into
    the outgoing queue, from where qmail-send delivers the message. The envelope is

        F SENDER NUL    T RECIPIENT NUL    ...    NUL

    without the spaces: the letter F, the sender and a NUL; the letter T, a recipient and a NUL for each recipient;
    and one more NUL. An address may have 1000 bytes. Nothing in message or addresses is looked at or changed, but a
    line is put in front of the message:

        Received: (qmail 4711 invoked by uid 1000); 5 Nov 2001 09:03:07 -0000

    The exit code 0 means that no crash of the machine can lose the message any more.

    The user that owns the queue writes it himself; root becomes that user first. For everybody else qmail-queue hands
    its descriptors to the queue service, qmail-queued(8), waits, and exits as that says. The line names the caller in
    any case. The service takes files, pipes, sockets and /dev/null; anything else, such as a terminal, is 54.

    A qmail-queue that is killed while the service works does not queue the message, unless the service is just about
    to: between its last look at the caller and the end of a call of fsync.

    The home is QMAILHOME, /var/qmail if unset; the queue is its directory queue.

ENVIRONMENT
    QMAILHOME    the home

EXIT STATUS
    0      the message is queued
    11     an address is too long
    51     out of memory
    52     a day has passed
    53     an error while writing, such as a full disk
    54     an error while reading, or an envelope that ends too soon
    61     trouble with the home
    62     trouble with the directory of the queue, or no queue service where there must be one
    63     trouble in pid
    64     trouble in mess
    65     trouble in intd
    66     trouble in todo
    71     the queue service has too many messages in the making
    74     the queue service has ended too soon
    91     the envelope is none

    Codes from 11 to 40 are for ever, all others for now. After 53 and 54 nothing is left behind; after 11, 52, 63 to 66
    and 91, and when a signal has killed qmail-queue, what is left is removed by qmail-send after 36 hours.

SECURITY
    Nothing is set-uid. The sender is whatever the caller says; the uid in the Received line is not.

BUGS
    Signals such as SEGV kill qmail-queue; the original catches them to exit with 81. Callers say `qq crashed` then,
    and not `qq internal bug`; both are for now.

SEE ALSO
    qmail-queued(8), qmail-make-queue(8), qmail-inject(8), qmail-smtpd(8), qmail-clean(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats import report
from qmailpy.stores import injection, queue
from qmailpy.stores.home import home
from qmailpy.unix import fds, ids, signals

IGNORED = ("PIPE", "VTALRM", "PROF", "QUIT", "INT", "HUP", "XCPU", "XFSZ")


def _by_service(place: bytes) -> int:
    _, code, said = injection.answer(injection.call(place, 0, 1))
    if said:
        try:
            fds.write_all(injection.SAID_FD, said)
        except OSError:  # whoever called does not listen
            pass
    return code


def _put(place: bytes) -> int:
    for fd in (0, 1):
        try:
            os.fstat(fd)
        except OSError:  # the next file that is opened would have its number
            return report.READ_ERROR
    if not queue.may_write(place):
        return _by_service(place)
    uid = os.getuid()
    owner = queue.to_become(place)
    if owner is not None:
        try:
            ids.drop(*owner)
        except OSError:
            return report.NO_QUEUE
    queue.enqueue(place, uid, os.getpid(), 0, 1)
    return report.QUEUED


def main(argv: list[bytes], env: Env) -> int:
    signals.release(set())
    for name in IGNORED:
        signals.ignore(signals.number(name))
    place = home(env)
    return queue.code_of(lambda: _put(place), queue.DEATH)
