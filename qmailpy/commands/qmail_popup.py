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

    qmail-popup understands USER, PASS, APOP, AUTH (PLAIN and LOGIN), CAPA, STLS, NOOP and QUIT. After CAPA or AUTH
    the replies to a failed login carry response codes: [AUTH] for wrong credentials (SUBPROGRAM ended with
    1, or with 3 and others as vchkpw does), [SYS/TEMP] for temporary trouble (111), [SYS/PERM] for trouble
    that needs the administrator (2, other codes, a crash). A client that asks for neither gets the replies
    of the original.

    It reads no byte behind the line with the password, so that commands which a client sends in advance
    (PIPELINING) reach the next program.

    A client that sends or takes nothing for 1200 seconds is dropped. Name, password and timestamp of more than
    512 bytes together fail to authorize without a run of SUBPROGRAM, which could not accept them; a line of
    more than 12288 bytes is refused.

TLS
    qmail-popup offers STLS if the server that has started it can do TLS for it: SSLCTLFD, SSLREADFD and SSLWRITEFD
    say so, the interface of UCSPI-TLS. Then a password is only taken under TLS, or from this host: before, USER, PASS
    and AUTH are refused, and CAPA does not have them.

    After STLS everything that the client has said before is forgotten, and what it has sent ahead of TLS is thrown
    away, as it may have been anybody's. The timestamp of the greeting stays. SUBPROGRAM finds in its environment what
    the server says of TLS, in variables that begin with SSL_.

    Where no TLS is offered, as on a port for POP3S, whose server has TLS before it starts qmail-popup, there is nothing
    to be refused.

ENVIRONMENT
    PATH        where SUBPROGRAM is looked for
    UCSPITLS    -: STLS is not offered, and a password may come without. !: nobody logs in without TLS, not by APOP and
                not from this host either. All else, or unset: as above
    ALLOW_INSECURE_AUTH
                if it is set and neither empty nor 0, a password may come without TLS; but not with !
    SSLCTLFD, SSLREADFD, SSLWRITEFD
                numbers of descriptors, as above. SUBPROGRAM gets neither these nor those
    TCPREMOTEIP
                the client: 127.*, or ::1, is this host
    PROTO, SSL, SSL_PROTOCOL
                the connection is under TLS from its beginning if PROTO begins with SSL, or one of the others is set
                and neither empty nor 0. If SSLCTLFD is there it is not, unless what SSLREADFD and SSLWRITEFD
                name is closed: so ucspi-ssl starts a program on TLS

EXIT STATUS
    1    always

SECURITY
    Without TLS the password crosses the network in clear. The private key is in another process, with all of TLS:
    qmail-popup has neither. It overwrites its copies of the password before SUBPROGRAM starts, and writes neither name
    nor password anywhere but into the pipe.

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
from qmailpy.formats import fd3, ucspitls
from qmailpy.loops import starttls
from qmailpy.mta import encryption
from qmailpy.protocols import pop3, sasl
from qmailpy.unix import fds, signals
from qmailpy.unix.timed import Peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.unix.stage import Stage

PROGRAM = b"qmail-popup"

TIMEOUT = 1200  # seconds per read and per write, qmail-popup(8)

# Replies besides those of protocols.pop3
USAGE = b"-ERR usage: popup hostname subprogram\r\n"
NO_PIPE = b"-ERR unable to open pipe\r\n"
NO_FORK = b"-ERR unable to fork\r\n"


class Client:
    """The client until it logs in, and TLS where it is offered. env is for the next program, once there is a login."""

    __slots__ = ("_offer", "_peer", "env", "session")

    def __init__(self, peer: Peer, env: Env) -> None:
        self._peer = peer
        self._offer = offer_of(env)
        self.env = ucspitls.without(env)
        self.session = pop3.Authorization(self._offer is not None, refused(env))

    def read_login(self, greeting: bytes) -> sasl.Credentials | None:
        """Talk until there is a name and a password; None if the client left."""
        peer, session = self._peer, self.session
        peer.write(greeting)
        line = bytearray()
        while session.login is None and not session.ended and peer.read_line(line, sasl.LINE_LIMIT):
            reply = session.line(line)
            if session.starting:
                self._secure(reply)
            elif reply:
                peer.write(reply)
        if self._offer is not None:
            self._offer.decline()
        return session.login

    def _secure(self, reply: bytes) -> None:
        """Raises OSError if the connection is lost."""
        offer = self._offer
        assert offer is not None
        if not offer.holds():
            self._peer.write(self.session.unable())
            return
        self._offer = None
        self._peer.drain()
        self._peer.write(reply)
        self.env = encryption.described(self.env, offer.start())
        self._peer.renew()
        self.session.secured()


def offer_of(env: Env) -> starttls.Offer | None:
    offer = starttls.offered(PROGRAM, env)
    if offer is None or encryption.is_offered(env):
        return offer
    offer.decline()
    return None


def refused(env: Env) -> frozenset[bytes]:
    """Verbs that TLS has to come before."""
    if encryption.is_required(env):
        return pop3.LOGINS
    return pop3.PASSWORDS if encryption.is_offered(env) and not encryption.in_clear_allowed(env) else frozenset()


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
    client = Client(peer, env)
    login = client.read_login(b"+OK " + stamp + b"\r\n")
    if login is not None:
        step = Exec(subprogram, client.env, who=PROGRAM, complaint=b"warning: unable to run")
        reply = authorize(login, stamp, client.session, step, env)
        if not reply:
            return
        peer.write(reply)
    peer.drain()


def rehearse(stage: "Stage", word: bytes, env: Env) -> None:
    """A client who logs in with a subprogram that refuses it: ourselves, with too few arguments."""
    # What the server's environment names for TLS is not ours to close.
    step = Exec([word, b"rehearsal", word], ucspitls.without(env))
    stage.play(b"CAPA\r\nUSER x\r\nPASS x\r\n", lambda: chain.attempt(step, env, tuple(fds.descriptors())))


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    try:
        with Peer(TIMEOUT) as peer:
            if len(argv) < 3:
                peer.write(USAGE)
            else:
                serve(peer, argv[1], argv[2:], starttls.begun(env))
    except OSError:  # the client is gone, or silent for too long
        pass
    return 1
