"""NAME
    qmail-qmqpc - queue a message on another host, via QMQP

SYNOPSIS
    qmail-qmqpc

DESCRIPTION
    qmail-qmqpc stands in for qmail-queue(8) on a host that has no queue of its own: it reads a message on descriptor 0
    and its envelope on descriptor 1, and hands both to a QMQP server, such as qmail-qmqpd(8).

        QMAILQUEUE=/var/qmail/bin/qmail-qmqpc qmail-inject

    The servers are tried in order until one can be connected to. From then on that one decides: if it breaks off
    or refuses, no other is asked, as the message might be queued twice.

    A connection has to be made within 10 seconds; after that, the server may be silent for 60.

CONTROL FILES
    qmqpservers    the servers, an address on each line: 192.0.2.1 or 2001:db8::1. The port is 628, unless one
                   stands behind it: 192.0.2.1:1628, [2001:db8::1]:1628. There are no host names, as a host
                   that cannot look them up needs its mail most

ENVIRONMENT
    QMAILHOME    the home of the mail system, /var/qmail unless set

EXIT STATUS
    0      the server has queued the message
    31     the server has refused it for good
    51     out of memory
    54     the message or its envelope could not be read
    55     no control/qmqpservers, or no address in it
    56     no socket
    61     no home directory
    71     the server has refused it for now
    72     no server could be connected to; the last one did not answer in time
    73     no server could be connected to; the last one was not there, or refused
    74     the connection broke, or the server was silent
    91     the envelope is none

    What the server gave as its reason is not passed on.

SECURITY
    The message crosses the network in clear, and nothing proves that the server is the right one. Use it in a
    network of your own, or through a tunnel.

BUGS
    The whole message is kept in memory: its length goes before it. If the connection breaks after the message has
    gone, it may have been queued, and is sent again.

SEE ALSO
    qmail-qmqpd(8), qmail-queue(8), qmail-inject(8)
"""

import errno
import os

from qmailpy.chain import Env
from qmailpy.formats import qmqpservers, report
from qmailpy.loops import connect
from qmailpy.protocols import qmqp
from qmailpy.protocols.netstrings import Malformed
from qmailpy.stores import home
from qmailpy.stores.control import Control
from qmailpy.unix import signals
from qmailpy.unix.timed import Peer

PROGRAM = b"qmail-qmqpc"

MESSAGE_FD, ENVELOPE_FD = 0, 1

CONNECT_S = 10  # qmail-qmqpc(8)
TIMEOUT_S = 60  # per read and per write, qmail-qmqpc(8)

BLOCK = 65536  # bytes
LONGEST_ANSWER = 65536  # bytes without a verdict

EXITS = {b"K": report.QUEUED, b"Z": report.DEFERRED, b"D": report.REJECTED}


def read_message() -> list[bytes]:
    """The message in blocks; raises OSError."""
    blocks = []
    while block := os.read(MESSAGE_FD, BLOCK):
        blocks.append(block)
    return blocks


def read_envelope() -> bytearray:
    """The envelope as netstrings. Raises OSError, and Malformed if it is none."""
    envelope = qmqp.Envelope()
    while not envelope.done:
        block = os.read(ENVELOPE_FD, BLOCK)
        if not block:
            raise Malformed
        envelope.feed(block)
    return envelope.netstrings


def packed(parts: list[bytes]) -> list[bytes]:
    """The same bytes without short parts in between: each would be a packet, and wait for the answer to the last."""
    blocks: list[list[bytes]] = [[]]
    size = 0
    for part in parts:
        if size and size + len(part) > 2 * BLOCK:
            blocks.append([])
            size = 0
        blocks[-1].append(part)
        size += len(part)
    return [b"".join(block) for block in blocks]


def deliver(servers: list[bytes], request: list[bytes]) -> int:
    """Hand request to the first server that can be reached; returns the exit code."""
    code = report.NO_CONFIGURATION
    for line in servers:
        address = qmqpservers.parse(line)
        if address is None:
            continue
        try:
            sock = connect.stream(address[0])
        except OSError:
            return report.NO_NETWORK
        try:
            connect.connect(sock, *address, connect.Deadline(CONNECT_S))
        except OSError as e:
            code = report.CONNECT_TIMEOUT if e.errno == errno.ETIMEDOUT else report.CONNECT_REJECTED
            sock.close()
            continue
        try:
            sock.settimeout(None)
            return converse(sock.fileno(), request)
        except OSError:
            return report.NO_COMMUNICATION
        finally:
            sock.close()
    return code


def converse(fd: int, request: list[bytes]) -> int:
    """Send the request; returns what the answer's verdict means. Raises OSError."""
    with Peer(TIMEOUT_S, fd, fd) as peer:
        for block in request:
            peer.write(block)
        heard = 0
        while heard < LONGEST_ANSWER and (block := peer.read(BLOCK)):
            verdict = qmqp.verdict(block)
            if verdict:
                return EXITS[verdict]
            heard += len(block)
    return report.NO_COMMUNICATION


def queue(folder: bytes) -> int:
    """All of it, but for a lack of memory."""
    try:
        os.stat(folder + b"/.")
    except OSError:
        return report.NO_HOME
    try:
        control = Control(folder)
        control.me()
        servers = control.lines(b"qmqpservers")
    except OSError:
        return report.NO_CONFIGURATION
    if servers is None:
        return report.NO_CONFIGURATION
    try:
        message = read_message()
        envelope = read_envelope()
    except OSError:
        return report.READ_ERROR
    except Malformed:
        return report.BAD_ENVELOPE
    head, tail = qmqp.frame(sum(map(len, message)), envelope)
    return deliver(servers, packed([head, *message, tail]))


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    try:
        return queue(home.home(env))
    except MemoryError:
        return report.NO_MEMORY
