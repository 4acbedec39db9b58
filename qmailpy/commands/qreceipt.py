"""NAME
    qreceipt - answer a request for a delivery notice

SYNOPSIS
    qreceipt ADDRESS

DESCRIPTION
    qreceipt is for .qmail files. If the message on descriptor 0 has a field Notice-Requested-Upon-Delivery-To that
    lists ADDRESS, qreceipt tells its envelope sender that it was delivered, and repeats its Message-ID. ADDRESS must
    be written as in the field, byte by byte.

        |qreceipt joe@example.org
        ./Maildir/

    The line alone delivers nothing. Bounces, which have an empty sender or #@[], are not answered, and the answer's own
    sender is empty.

ENVIRONMENT
    SENDER        the envelope sender of the message
    QMAILQUEUE    the program to be run instead of qmail-queue
    QMAILHOME     the home of the mail system; unset, /var/qmail

EXIT STATUS
    0      a notice is queued, or none was asked for
    100    wrong usage, SENDER is not set, the field cannot be read, or qmail-queue refuses the notice for good
    111    the notice could not be queued now, or the message could not be read

SECURITY
    Whoever writes to ADDRESS learns that there is such a mailbox, and when mail for it is delivered.

SEE ALSO
    qmail-queue(8), qmail-inject(8), dot-qmail(5)
"""

import os
from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.addresses822 import Tokens, Unparsable, quote, rewrite, unquote_reversed
from qmailpy.formats.header import Splitter, name
from qmailpy.stores.home import home
from qmailpy.stores.injection import open_injection
from qmailpy.unix import fds, signals

PROGRAM = b"qreceipt"
USAGE = b"qreceipt deliveryaddress"

BLOCK = 65536  # bytes
NOT_ANSWERED = (b"", b"#@[]")  # senders of bounces and of double bounces

REQUEST = b"notice-requested-upon-delivery-to"
NOTICE = b"""\
From: DELIVERY NOTICE SYSTEM <%s>
To: <%s>
Subject: success notice

Hi! This is the qreceipt program. Your message was delivered to the
following address: %s. Thanks for asking.
"""


def read_fields() -> list[bytes]:
    """The fields of the message on descriptor 0; its body is left unread. Raises OSError."""
    splitter = Splitter()
    fields: list[bytes] = []
    while block := os.read(0, BLOCK):
        fields += splitter.feed(block)
        if splitter.body is not None:
            return fields
    return fields + splitter.finish()


def asked(fields: list[bytes], address: bytes) -> bool:
    """Whether a notice for address is wanted. Raises Unparsable."""
    found: list[bytes] = []

    def note(tokens: Tokens) -> None:
        found.append(unquote_reversed(tokens))

    for field in fields:
        if name(field) == REQUEST:
            rewrite(field, note)
    return address in found


def notice(fields: list[bytes], address: bytes, sender: bytes) -> bytes:
    text = NOTICE % (quote(sender), quote(sender), address)
    identities = [field for field in fields if name(field) == b"message-id"]
    return text + (b"Your " + identities[-1] if identities else b"")


def answer(text: bytes, sender: bytes, env: Env) -> int:
    """Queue the notice; returns the exit code."""

    def spawn(child: Callable[[], object]) -> int:
        return chain.spawn(child, env, "qreceipt")  # type: ignore[arg-type]  # it returns what become made

    fds.fill_standard()  # what the queue opens must not become 1 or 2
    try:
        injection = open_injection(home(env), env, spawn, Exec)
    except OSError:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to fork")
    injection.write(text)
    problem = injection.close(b"", [sender])
    if problem.startswith(b"D"):
        return strerr.fail(strerr.NEVER, PROGRAM, b"permanent qmail-queue error")
    return strerr.fail(strerr.LATER, PROGRAM, b"temporary qmail-queue error") if problem else 0


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    sender = env.get(b"SENDER")
    if len(argv) < 2 or sender is None:
        return strerr.usage(PROGRAM, USAGE)
    try:
        fields = read_fields()
        wanted = asked(fields, argv[1])
    except OSError:
        return strerr.fail(strerr.LATER, PROGRAM, b"read error")
    except Unparsable as e:
        strerr.say(PROGRAM + b": fatal: unable to parse this: " + e.args[0])
        return strerr.NEVER
    if not wanted or sender in NOT_ANSWERED:
        return 0
    return answer(notice(fields, argv[1], sender), sender, env)
