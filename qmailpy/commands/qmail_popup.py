"""NAME
    qmail-popup - read a POP3 user name and password

SYNOPSIS
    qmail-popup HOSTNAME SUBPROGRAM [ARG...]

DESCRIPTION
    qmail-popup greets a POP3 client on descriptors 0 and 1, reads a user name and a password, and runs
    SUBPROGRAM, a program with the checkpassword interface, which is given on descriptor 3

        name NUL password NUL <pid.time@HOSTNAME> NUL

    and the arguments ARG, most often qmail-pop3d and a Maildir. With APOP the digest takes the place of the
    password; the third field is the greeting's timestamp, which it was made with.

        tcpserver 0 110 qmail-popup mail.example \\
            checkpassword qmail-pop3d Maildir

    If SUBPROGRAM accepts the password it becomes the program behind it, which talks to the client from then
    on and sends the reply to PASS, APOP or AUTH itself. If it ends with another code than 0, qmail-popup
    tells the client that authorization failed. There is one attempt per connection.

    qmail-popup understands USER, PASS, APOP, AUTH (PLAIN and LOGIN), CAPA, NOOP and QUIT. After CAPA or AUTH
    the replies to a failed login carry response codes: [AUTH] for wrong credentials (SUBPROGRAM ended with
    1, or with 3 and others as vchkpw does), [SYS/TEMP] for temporary trouble (111), [SYS/PERM] for trouble
    that needs the administrator (2, other codes, a crash). A client that asks for neither gets the replies
    of the original.

    It reads no byte behind the line with the password, so that commands which a client sends in advance
    (PIPELINING) reach the next program.

    A client that sends or takes nothing for 1200 seconds is dropped. Name, password and timestamp of more than
    512 bytes together fail to authorize without a run of SUBPROGRAM, which could not accept them; a line of
    more than 12288 bytes is refused.

ENVIRONMENT
    PATH    where SUBPROGRAM is looked for

EXIT STATUS
    1    always

SECURITY
    Without TLS in front, the password crosses the network in clear. qmail-popup overwrites its copies of it
    before SUBPROGRAM starts, and writes neither name nor password anywhere but into the pipe.

    Descriptor 2 stays the log's: what a checker complains about never reaches the client.

BUGS
    When SUBPROGRAM is a command of this toolkit it runs in the process of qmail-popup, not in a child, and
    ps shows no second process. If that process is killed by a signal, nobody is left to tell the client.

SEE ALSO
    tcpserver(1), checkpassword(8), checkpassword-flatfile(8), qmail-pop3d(8), checkpassword-test(8)
"""

import os
import time

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import fd3
from qmailpy.protocols import pop3, sasl
from qmailpy.unix import fds, signals
from qmailpy.unix.timed import Peer

PROGRAM = b"qmail-popup"

TIMEOUT = 1200  # seconds per read and per write, qmail-popup(8)

# Replies besides those of protocols.pop3
USAGE = b"-ERR usage: popup hostname subprogram\r\n"
NO_PIPE = b"-ERR unable to open pipe\r\n"
NO_FORK = b"-ERR unable to fork\r\n"


def read_login(peer: Peer, session: pop3.Authorization, greeting: bytes) -> sasl.Credentials | None:
    """Talk until there is a name and a password; None if the client left."""
    peer.write(greeting)
    line = bytearray()
    while session.login is None and not session.ended and peer.read_line(line, sasl.LINE_LIMIT):
        reply = session.line(line)
        if reply:
            peer.write(reply)
    return session.login


def hand_over(packet: bytearray) -> None:
    """Make descriptor 3 a pipe that holds packet and then ends. The packet is overwritten. Raises OSError.

    Nobody reads yet, and nobody need: a packet is shorter than what any pipe holds (PIPE_BUF)."""
    reading, writing = os.pipe()
    try:
        os.write(writing, packet)
    finally:
        fd3.wipe(packet)
        os.close(writing)
    fds.move(reading, 3)


def authorize(login: sasl.Credentials, stamp: bytes, session: pop3.Authorization, step: Exec, env: Env) -> bytes:
    """Run the subprogram; the reply that is left to give when it has ended, b"" for none."""
    try:
        hand_over(fd3.build(login.name, login.password, stamp))
    except fd3.PacketError as e:
        return session.verdict(e.args[0])
    except OSError as e:
        strerr.warn(PROGRAM, b"unable to open pipe", error=e)
        return NO_PIPE
    finally:
        fd3.wipe(login.password)
    signals.default(signals.PIPE)
    try:
        status = chain.attempt(step, env)
    except OSError as e:
        strerr.warn(PROGRAM, b"unable to fork", error=e)
        return NO_FORK
    finally:
        signals.ignore(signals.PIPE)
    return session.verdict(None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def serve(peer: Peer, host: bytes, subprogram: list[bytes], env: Env) -> None:
    stamp = b"<%d.%d@%s>" % (os.getpid(), time.time(), host)
    session = pop3.Authorization()
    login = read_login(peer, session, b"+OK " + stamp + b"\r\n")
    if login is not None:
        step = Exec(subprogram, env, who=PROGRAM, complaint=b"warning: unable to run")
        reply = authorize(login, stamp, session, step, env)
        if not reply:
            return
        peer.write(reply)
    peer.drain()


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    try:
        with Peer(TIMEOUT) as peer:
            if len(argv) < 3:
                peer.write(USAGE)
            else:
                serve(peer, argv[1], argv[2:], env)
    except OSError:  # the client is gone, or silent for too long
        pass
    return 1
