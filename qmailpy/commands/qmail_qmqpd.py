"""NAME
    qmail-qmqpd - receive mail via QMQP

SYNOPSIS
    qmail-qmqpd

DESCRIPTION
    qmail-qmqpd reads one message with its envelope from a client on descriptors 0 and 1, by the Quick Mail Queueing
    Protocol, hands it to the queue, and answers with one line. Its clients are hosts without a queue of their own,
    where qmail-qmqpc(8) runs.

        tcpserver -R -x qmqp.cdb 0 628 qmail-qmqpd

    The message gets a Received line. Sender and recipients are taken as they are, up to 999 bytes each, to any
    domain.

    The answer is a netstring: K and the number of the process that queued the message, Z if it may be tried again
    later, or D if it is refused for good; with the reason, such as qmail-queue(8)'s.

    A client has 3600 seconds for all it has to say.

ENVIRONMENT
    QMAILHOME        the home of the mail system, /var/qmail unless set
    QMAILQUEUE       the program that takes the message instead of HOME's qmail-queue
    TCPREMOTEIP, TCPREMOTEHOST, TCPREMOTEINFO, TCPLOCALHOST, TCPLOCALIP
                     for the Received line: see tcpserver(1)

EXIT STATUS
    0      the message was answered, or the client has left
    100    what the client sent is not QMQP
    111    trouble: no queue, an absurd length, or too slow a client

SECURITY
    Whoever can connect can send mail to anybody. Let tcpserver's rules admit none but your own hosts.

SEE ALSO
    qmail-qmqpc(8), qmail-qmtpd(8), qmail-queue(8), tcpserver(1), tcprules(1)
"""

import os
import time
from _collections_abc import Iterable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import netstrings
from qmailpy.loops import requests
from qmailpy.protocols import qmqp
from qmailpy.protocols.netstrings import DATA, MESSAGE, NUL, RECIPIENT, SENDER
from qmailpy.stores import home, injection

PROGRAM = b"qmail-qmqpd"


class Session:
    """The message of one client."""

    __slots__ = ("_env", "_usable", "mail")

    def __init__(self, mail: requests.Mail, env: Env) -> None:
        self._env = env
        self._usable = True  # sender and recipients
        self.mail = mail

    def act(self, kind: int, value: bytes) -> Iterable[bytes]:
        """Follow one event; returns the answer at the last, and none before. Raises OSError if there is no queue."""
        if kind == DATA:
            self.mail.write(value)
        elif kind == MESSAGE:
            self.mail.open(requests.received_line(b"QMQP", self._env, int(time.time())))
        elif kind in (SENDER, RECIPIENT):
            self._address(kind, value)
        else:
            answer = self.mail.close(int(time.time()))
            return (netstrings.build(answer if self._usable else qmqp.BAD_ADDRESS),)
        return ()

    def _address(self, kind: int, value: bytes) -> None:
        if NUL in value:
            self._usable = False
            self.mail.fail()
        elif kind == SENDER:
            self.mail.sender = value
        else:
            self.mail.add(value)


def serves_again(argv: list[bytes]) -> bool:
    """See chain.serves_again."""
    return True


def main(argv: list[bytes], env: Env) -> int:
    folder = home.home(env)
    try:
        os.stat(folder + b"/.")
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to use ", folder, error=e)

    def spawn(child) -> int:  # type: ignore[no-untyped-def]
        return chain.spawn(child, env, PROGRAM.decode())

    mail = requests.Mail(lambda: injection.open_injection(folder, env, spawn, Exec))
    try:
        return requests.serve(PROGRAM, qmqp.server(), Session(mail, env).act, once=True)
    finally:
        mail.fail()
