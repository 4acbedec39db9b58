"""NAME
    qmail-qmtpd - receive mail via QMTP

SYNOPSIS
    qmail-qmtpd

DESCRIPTION
    qmail-qmtpd reads messages with their envelopes from a client on descriptors 0 and 1, by the Quick Mail Transfer
    Protocol, and hands them to the queue. It answers once for each recipient.

        tcpserver -R -x tcp.qmtp.cdb 0 209 qmail-qmtpd

    Each message gets a Received line. The lines of a message end in LF, or in CR LF, as its first byte says; in the
    queue they end in LF.

    Which recipients are accepted, and how large a message may be, is decided as in qmail-smtpd(8). Sender and
    recipients may have up to 999 bytes.

    An answer is a netstring: K and the number of the process that queued the message, Z if it may be tried again
    later, or D if it is refused for good; with the reason, such as qmail-queue(8)'s. A client may send the next
    message without waiting for answers. A message without recipients is not queued, and not answered.

    A client has 3600 seconds for all it has to say.

CONTROL FILES
    databytes            most bytes of a message; 0, the default, is no limit
    rcpthosts            domains that mail is accepted for: the part behind the @, or `.tail` for all that end so.
                         Without this file, mail is accepted for every domain
    morercpthosts.cdb    more of them, compiled by qmail-newmrh(8)

ENVIRONMENT
    DATABYTES        instead of databytes
    RELAYCLIENT      set, also to nothing: rcpthosts is not looked at, and the value is appended to each recipient
    QMAILHOME        the home of the mail system, /var/qmail unless set
    QMAILQUEUE       the program that takes the message instead of HOME's qmail-queue
    TCPREMOTEIP, TCPREMOTEHOST, TCPREMOTEINFO, TCPLOCALHOST, TCPLOCALIP
                     for the Received line: see tcpserver(1)

EXIT STATUS
    0      the client has left
    100    what the client sent is not QMTP
    111    trouble: no queue, an unreadable control file, an absurd length, or too slow a client

SECURITY
    Without rcpthosts anybody can send mail to anybody through this host. A recipient without a domain is always
    accepted.

BUGS
    Loops are not looked for, and badmailfrom is not.

SEE ALSO
    qmail-smtpd(8), qmail-qmqpd(8), qmail-queue(8), qmail-newmrh(8), tcpserver(1), tcprules(1)
"""

import os
import time
from _collections_abc import Iterable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import numbers
from qmailpy.loops import requests
from qmailpy.mta import reception
from qmailpy.protocols import qmtp
from qmailpy.protocols.netstrings import DATA, MESSAGE, NUL, RECIPIENT, SENDER
from qmailpy.stores import cdb, home, injection, queue
from qmailpy.stores.control import Control

PROGRAM = b"qmail-qmtpd"

# Verdicts about a recipient; the answer to ACCEPTED is what becomes of the message.
ACCEPTED, NO_RELAY, UNUSABLE = range(3)


class Settings:
    """What control files and environment say."""

    __slots__ = ("_more", "_rcpthosts", "databytes", "suffix")

    def __init__(self, folder: bytes, env: Env) -> None:
        """Raises OSError."""
        control = Control(folder)
        self._rcpthosts = reception.folded(control.lines(b"rcpthosts"))
        self._more = None if self._rcpthosts is None else _look_up(folder + b"/control/morercpthosts.cdb")
        self.suffix = env.get(b"RELAYCLIENT")
        self.databytes = control.number(b"databytes") or 0
        if b"DATABYTES" in env:
            self.databytes = numbers.scan(env[b"DATABYTES"])[0]

    def verdict(self, recipient: bytes) -> int:
        """One of the verdicts. Raises OSError if morercpthosts.cdb cannot tell."""
        if self.suffix is None and not reception.allowed(recipient, self._rcpthosts, self._more):
            return NO_RELAY
        return UNUSABLE if NUL in recipient else ACCEPTED


def _look_up(path: bytes) -> reception.More | None:
    """What a cdb says about a key; None if there is no such file. It stays open. Raises OSError."""
    try:
        found: reception.More = cdb.getter(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError:
        return None
    return found


class Session:
    """The messages of one client, one at a time."""

    __slots__ = ("_env", "_settings", "_size", "_usable", "_verdicts", "mail")

    def __init__(self, mail: requests.Mail, settings: Settings, env: Env) -> None:
        self._env = env
        self._settings = settings
        self._size = 0  # bytes of the message
        self._usable = True  # the sender
        self._verdicts = bytearray()
        self.mail = mail

    def act(self, kind: int, value: bytes) -> Iterable[bytes]:
        """Follow one event; returns the answers at the last of a message, and none before. Raises OSError."""
        if kind == DATA:
            self._data(value)
        elif kind == MESSAGE:
            self._size = 0
            self._usable = True
            self._verdicts.clear()
            self.mail.open(requests.received_line(b"QMTP", self._env, int(time.time())))
        elif kind == SENDER:
            self._sender(value)
        elif kind == RECIPIENT:
            self._recipient(value)
        else:
            return self._answers()
        return ()

    def _data(self, data: bytes) -> None:
        self._size += len(data)
        if self._too_big():
            self.mail.fail()
        else:
            self.mail.write(data)

    def _too_big(self) -> bool:
        return 0 < self._settings.databytes < self._size

    def _sender(self, address: bytes) -> None:
        if NUL in address:
            self._usable = False
            self.mail.fail()
        else:
            self.mail.sender = address

    def _recipient(self, address: bytes) -> None:
        verdict = self._settings.verdict(address)
        self._verdicts.append(verdict)
        if verdict == ACCEPTED:
            self.mail.add(address + (self._settings.suffix or b""))

    def _answers(self) -> Iterable[bytes]:
        if ACCEPTED not in self._verdicts:
            self.mail.fail()
        text = self.mail.close(int(time.time()))
        if self._too_big():
            text = qmtp.TOO_BIG
        elif not self._usable:
            text = qmtp.BAD_SENDER
        return qmtp.answers(self._verdicts, (text, qmtp.NO_RELAY, qmtp.UNUSABLE))


def serves_again(argv: list[bytes]) -> bool:
    """See chain.serves_again."""
    return True


def main(argv: list[bytes], env: Env) -> int:
    folder = home.home(env)
    try:
        os.stat(folder + b"/control/.")  # in a wrong home there would be no rcpthosts, and all could relay
        settings = Settings(folder, env)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to read controls", error=e)

    def spawn(child) -> int:  # type: ignore[no-untyped-def]
        return chain.spawn(child, env, PROGRAM.decode())

    known = queue.Known()
    mail = requests.Mail(lambda: injection.open_injection(folder, env, spawn, Exec, known))
    conversation = qmtp.server(qmtp.LONGEST - len(settings.suffix or b""))
    try:
        return requests.serve(PROGRAM, conversation, Session(mail, settings, env).act, once=False)
    finally:
        mail.fail()
