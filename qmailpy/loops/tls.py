"""tls - the process of one connection that does TLS and nothing else: the handshake, then bytes both ways between the
network and a local socket, until both sides have ended. It holds a block or two each way.

What it needs is imported, made and open before it confines itself; from then on it reads and writes four descriptors:

    0   the network
    1   the local socket: the program has its other side
    2   where it says why there is no TLS, in one datagram
    4   the control socket of UCSPI-TLS, until it has answered

Before, on 3, it waits for a message that brings 0, 1 and 4.
"""

import _socket
import fcntl
import os
import select
import ssl
import struct
import sys

from qmailpy import strerr
from qmailpy.formats import sslenviron, ucspitls
from qmailpy.loops.connect import Deadline
from qmailpy.loops.keeper import DEMAND
from qmailpy.unix import confine, fds, timed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NETWORK, LOCAL, REPORTS, LINE, CONTROL = range(5)
PASSED = struct.Struct("3i")
NAME = 2048  # bytes of a message, at most
DONE = b"+"  # on the line: the connection has had a good end, and there may be another one

BLOCK = 65536  # bytes, each way
RECORD = 16384  # bytes of a record of TLS, at most
HEADER = 5  # bytes of a record that say how long the rest is
BARREN = 1000  # records without data that a side may send beyond one for each with some: new keys, which cost time
FLUSH_S = 60  # for what a program has written before it ended, and the other side has not taken yet
KERNELS = 1 << 19  # bytes of that which the kernel is to take, so that few processes need wait for it
DRAINED = 64  # blocks that are read away at the end
REASON = 400  # bytes of a report, at most

IN, OUT, HUNG_UP = select.POLLIN, select.POLLOUT, select.POLLHUP
AT_ONCE = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL

BROKEN = b"unable to speak SSL: "

LIBRARY = ssl.OPENSSL_VERSION.encode()

EMPTY = memoryview(b"")
BLANK = bytes(BLOCK)


class Refused(Exception):
    """There will be no TLS. text says why."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text


class Terms:
    """handshake_s: for the handshake; idle_s: after which a connection without a byte is ended; depth: certificates
    between a client's and a root, at most; -1: any number; again: connections that a process serves. blocks: room for
    what comes from the network, for what is decrypted, and for what comes from the program: made before the fork, so
    that a process has pages of its own only where it writes."""

    __slots__ = ("again", "blocks", "depth", "handshake_s", "idle_s")

    def __init__(self, handshake_s: int, idle_s: int, depth: int = -1, again: int = 1) -> None:
        self.handshake_s = handshake_s
        self.idle_s = idle_s
        self.depth = depth
        self.again = again
        self.blocks = [memoryview(bytearray(BLOCK)) for _ in range(3)]


# The process


def take_place(jail: confine.Jail, reports: int, line: int) -> None:
    """In the forked process: enter the jail, and have these two at their numbers, and no other descriptor. Raises
    OSError, Refused."""
    try:
        jail.enter()
        problem = None
    except OSError as e:
        problem = e
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, CONTROL + 1) for fd in (reports, line)]
    for number, fd in zip((REPORTS, LINE), copies, strict=True):
        fds.copy(fd, number)
    os.closerange(0, REPORTS)
    os.closerange(CONTROL, fds.HIGHEST)
    if problem is not None:
        raise Refused(b"unable to drop privileges: " + strerr.reason(problem))


def report(reports: "_socket.socket", text: bytes) -> None:
    """Why there is no TLS, for whoever writes the log."""
    try:
        reports.send(text[:REASON], AT_ONCE)
    except OSError:  # nobody reads
        pass


def answer(control: "_socket.socket", variables: dict[bytes, bytes]) -> None:
    """On the control socket, which is closed: the program reads up to its end, or to that of the answer. What makes it
    too long is left out, the longest first."""
    text = ucspitls.build(variables)
    while len(text) > ucspitls.LIMIT:
        variables = dict(sorted(variables.items(), key=lambda item: len(item[1]))[:-1])
        text = ucspitls.build(variables)
    try:
        control.send(text, AT_ONCE)
    except OSError:  # the program has gone, which is seen elsewhere
        pass
    finally:
        control.close()


def serve(certificates, terms: Terms, jail: confine.Jail, cell: confine.Cell, reports: int, line: int) -> int:  # type: ignore[no-untyped-def]
    """The life of a process for connections to a server, which come down the line: one, or as many as the terms say,
    one after the other, each with a good end. certificates: as in stores.certificates. Returns an exit code."""
    try:
        take_place(jail, reports, line)
    except Refused as e:
        report(_socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, REPORTS), e.text)
        return strerr.LATER
    cell.close_in(CONTROL + 1)
    sys.unraisablehook = _unheard
    reporting = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, REPORTS)
    waiting = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, LINE)
    code = 0
    for left in range(terms.again - 1, -1, -1):
        text, passed, _, _ = waiting.recvmsg(NAME, _socket.CMSG_SPACE(PASSED.size), _socket.MSG_CMSG_CLOEXEC)
        if not text:  # not needed any more
            break
        if not left:
            waiting.close()
        code = _serve_one(certificates, terms, text, PASSED.unpack(passed[0][2]), reporting)
        # A session of TLS 1.2 lives on in the context, and he who resumes it shows no certificate.
        if code or not left or _demand(text):
            break
        for block in terms.blocks:
            block[:] = BLANK
        try:
            waiting.send(DONE, AT_ONCE)
        except OSError:  # the keeper has ended
            break
    return code


def _serve_one(certificates, terms: Terms, text: bytes, given: tuple[int, ...], reporting: "_socket.socket") -> int:  # type: ignore[no-untyped-def]
    """A connection as it comes down the line: text is the command and who the client is, given are descriptors."""
    families = _socket.AF_INET, _socket.AF_UNIX, _socket.AF_UNIX
    network, local, control = [
        _socket.socket(family, _socket.SOCK_STREAM, 0, fd) for family, fd in zip(families, given, strict=True)
    ]
    try:  # records go out whole
        network.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    except OSError:
        pass
    certificates.asked = b""
    return work(certificates, terms, network, local, control, reporting, text[:1] == ucspitls.TELL, text[1:])


def _demand(client: bytes) -> bytes:
    """What is asked of a client who has to show a certificate, or b""; client: as for the keeper."""
    return client.partition(b" ")[2]


def _unheard(unraisable: object) -> None:
    """Python would write pages where a reason belongs, about a name that is no ASCII."""


def work(  # type: ignore[no-untyped-def]
    certificates,
    terms: Terms,
    network: "_socket.socket",
    local: "_socket.socket",
    control: "_socket.socket",
    reports: "_socket.socket",
    tell: bool,
    client: bytes,
) -> int:
    """One connection. tell: whether the program wants to know what TLS is like; client: as for the keeper."""
    address, demand = client.partition(b" ")[0], _demand(client)
    connection = None
    try:
        context = certificates.verifying if demand else certificates.context
        if context is None:
            raise Refused(b"unable to verify client certificate: neither CAFILE nor CADIR is set")
        connection = Connection(network, terms, context, server=True)
        connection.handshake()
        tls = connection.tls
        if demand:
            check_client(tls, terms.depth, demand.removeprefix(DEMAND))
        if tell:
            described = variables(tls, certificates.asked, b"SSL_CLIENT_")
            described[b"SSL_CLIENT_VERIFY"] = b"SUCCESS" if demand else b"NONE"
            answer(control, {**described, **certificates.variables(tls.context)})
        else:
            control.close()
    except Refused as e:
        report(reports, address + b": " + e.text)
        if connection is not None:
            connection.hang_up()
        return strerr.LATER
    connection.relay(local, lambda why: report(reports, BROKEN + address + b": " + why))
    return 0


def connect(  # type: ignore[no-untyped-def]
    make_context,
    terms: Terms,
    account: bytes,
    four: "tuple[_socket.socket, _socket.socket, _socket.socket, _socket.socket]",
    name: str,
    complain: "Callable[[bytes], None] | None" = None,
) -> int:
    """The life of the process of a client's connection. four: network, local, control, reports; account: whom to become
    if this is root; name: of the server; make_context() gives the context, or raises Refused; complain(text) writes on
    descriptor 2, which is left open for that, why TLS has broken later. Returns an exit code."""
    network, local, control, reports = four
    numbers = [sock.fileno() for sock in four]
    try:
        connection = Connection(network, terms, make_context(), server=False, name=name)
        cell = confine.Cell()
        try:
            confine.Jail(account).enter()
        except LookupError:
            raise Refused(b"unknown user " + account)
        except OSError as e:
            raise Refused(b"unable to drop privileges: " + strerr.reason(e))
        fds.close_others(*numbers, *((strerr.STDERR,) if complain else ()))
        cell.hide()
        cell.close_in(max(numbers) + 1, writes=complain is not None)
        connection.handshake()
        tls = connection.tls
        if terms.depth >= 0 and len(_chain(tls, "get_verified_chain")) - 2 > terms.depth:
            raise Refused(b"unable to verify server certificate: chain too long")
        answer(control, variables(tls, b"", b"SSL_SERVER_"))
    except Refused as e:
        report(reports, e.text)
        return strerr.LATER
    connection.relay(local, lambda why: complain(BROKEN + why) if complain else None)
    return 0


# What TLS is like


def variables(tls: ssl.SSLObject, asked: bytes, peer: bytes) -> dict[bytes, bytes]:
    """What was agreed on, and the certificate of the other side; peer: SSL_CLIENT_ or SSL_SERVER_."""
    cipher, _, bits = tls.cipher() or ("", "", 0)
    session = tls.session.id if tls.session is not None else b""
    protocol = (tls.version() or "").encode()
    described = sslenviron.connection(protocol, cipher.encode(), bits, session, LIBRARY, asked)
    certificate = tls.getpeercert(True)
    if certificate:
        described.update(sslenviron.certificate(peer, _chain(tls, "get_unverified_chain") or [certificate]))
    return described


def _chain(tls: ssl.SSLObject, kind: str) -> list[bytes]:
    """Certificates in DER. A public method from Python 3.13 on, before that one of what is behind the object."""
    public = getattr(tls, kind, None)
    if public is not None:
        return list(public())
    found = getattr(tls._sslobj, kind)()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in found or ()]


def check_client(tls: ssl.SSLObject, depth: int, host: bytes) -> None:
    """What OpenSSL has not looked at: how long the way to the root is, and, if host is known, its name. Raises
    Refused."""
    if tls.getpeercert(True) is None:
        raise Refused(b"no client certificate")
    if depth >= 0 and len(_chain(tls, "get_verified_chain")) - 2 > depth:
        raise Refused(b"unable to verify client certificate: chain too long")
    if host and not _is_named(tls, host.lower().rstrip(b".")):
        raise Refused(b"client name does not match certificate")


def _is_named(tls: ssl.SSLObject, host: bytes) -> bool:
    """By the names for DNS, or else by the common name."""
    certificate = tls.getpeercert() or {}
    alternatives: tuple[tuple[str, str], ...] = certificate.get("subjectAltName", ())  # type: ignore[assignment]
    names = [value for kind, value in alternatives if kind == "DNS"]
    if not names:
        subject: tuple[tuple[tuple[str, str], ...], ...] = certificate.get("subject", ())  # type: ignore[assignment]
        names = [value for relative in subject for kind, value in relative if kind == "commonName"]
    return any(_stands_for(name.lower().encode("ascii", "replace"), host) for name in names)


def _stands_for(name: bytes, host: bytes) -> bool:
    return name == host or (name.startswith(b"*.") and name[2:] == host.partition(b".")[2] != b"")


def _reason(error: Exception) -> bytes:
    if isinstance(error, ssl.SSLCertVerificationError):
        return b"certificate verify failed: " + error.verify_message.encode("ascii", "replace")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return b"the other side has gone"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "protocol error").lower().replace("_", " ").encode("ascii", "replace")
    return strerr.reason(error) if isinstance(error, OSError) else b"unusable name"


# The way of the bytes


class Connection:
    """One connection of TLS. tls never touches a descriptor: it takes bytes from one buffer and leaves them in another,
    and so waits for nothing."""

    __slots__ = ("_ahead", "_block", "_head", "_network", "_sealed", "_taken", "_terms", "_unsent", "records", "tls")

    def __init__(
        self, network: "_socket.socket", terms: Terms, context: ssl.SSLContext, server: bool, name: str | None = None
    ) -> None:
        """name: of the server, for a client. Raises Refused."""
        self._network = network
        self._terms = terms
        self._taken, self._sealed = ssl.MemoryBIO(), ssl.MemoryBIO()  # from the network, and for it
        self._unsent = EMPTY
        self._block = terms.blocks[0]
        self.records = 0  # that have come, or have begun to
        self._ahead = 0  # bytes to come before the next one begins
        self._head = b""  # its header, as far as it is there
        try:
            self.tls = context.wrap_bio(self._taken, self._sealed, server_side=server, server_hostname=name)
        except (OSError, ValueError) as e:
            raise Refused(_reason(e))

    def handshake(self) -> None:
        """Its last bytes may be unsent still. Raises Refused."""
        deadline = Deadline(self._terms.handshake_s)
        try:
            while True:
                try:
                    self.tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._flush(deadline)
                    if not self.take():
                        timed.wait(self._network.fileno(), IN, deadline.left())
        except (OSError, ValueError) as e:
            try:
                self._flush(deadline)  # an alert, perhaps
            except OSError:
                pass
            raise Refused(_reason(e))

    def take(self) -> bool:
        """What has come from the network, if something has; its end is that for TLS too."""
        try:
            size = self._network.recv_into(self._block, BLOCK, AT_ONCE)
        except BlockingIOError:
            return False
        except OSError:  # cut off: an end like any other
            size = 0
        if size:
            self._count_records(size)
            self._taken.write(self._block[:size])
        else:
            self._taken.write_eof()
        return True

    def _count_records(self, size: int) -> None:
        """Those that begin in the block, whatever is in them: only TLS can tell that."""
        at = self._ahead
        while at < size:
            head = self._head + bytes(self._block[at : min(at + HEADER - len(self._head), size)])
            at += len(head) - len(self._head)
            self._head = head if len(head) < HEADER else b""
            if not self._head:
                self.records += 1
                at += head[3] << 8 | head[4]
        self._ahead = at - size

    def has_taken(self) -> bool:
        """Whether TLS has something left of what has been taken."""
        return self._taken.pending > 0 or self.tls.pending() > 0

    def unsent(self) -> bool:
        """Whether something is to be sent, from whatever TLS had to say."""
        if not self._unsent and self._sealed.pending:
            self._unsent = memoryview(self._sealed.read())
        return bool(self._unsent)

    def may_take(self) -> bool:
        """Not while the other side reads none of the answers that TLS itself has to give: it may ask for more of them
        as often as it likes (new keys, RFC 8446 section 4.6.3)."""
        return self._sealed.pending < RECORD

    def let_kernel_keep(self) -> None:
        """What is sent from now on, if it can, whether the other side takes it or not."""
        try:
            if self._network.getsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF) < KERNELS:
                self._network.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, KERNELS)
        except OSError:  # it works without
            pass

    def send(self) -> None:
        """As much as the network takes. Raises OSError when nobody is there."""
        try:
            while self.unsent():
                self._unsent = self._unsent[self._network.send(self._unsent, AT_ONCE) :]
        except BlockingIOError:
            pass

    def forget(self) -> None:
        """What cannot be sent."""
        self._sealed.read()
        self._unsent = EMPTY

    def _flush(self, deadline: Deadline) -> None:
        """Raises OSError."""
        self.send()
        while self.unsent():
            timed.wait(self._network.fileno(), OUT, deadline.left())
            self.send()

    def say_end(self) -> None:
        """close_notify. Nothing may be left of what was taken: OpenSSL would look at it, and take it amiss."""
        try:
            self.tls.unwrap()
        except (OSError, ValueError):  # said, but the other side has not answered
            pass

    def relay(self, local: "_socket.socket", complain: "Callable[[bytes], None]") -> None:
        """Until both sides have ended, or nothing has come for too long. Both sockets are closed then. complain(why) is
        told of an end that TLS makes: an alert of the other side, or what nobody can decrypt."""
        try:
            Relay(self, self._network, local, self._terms, complain).run()
            self._flush(Deadline(FLUSH_S))
        except OSError:
            pass
        finally:
            local.close()
            self.hang_up()

    def hang_up(self) -> None:
        """Nothing more is sent: let the other side know, though others may hold the descriptor still; and take what it
        has sent meanwhile away, which would turn the end into a reset."""
        try:
            for _ in range(DRAINED):
                if not self._network.recv_into(self._block, BLOCK, AT_ONCE):
                    break
        except OSError:
            pass
        try:
            self._network.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass
        self._network.close()


class Relay:
    """Two flows. Each reads when what it has read before is through. Nothing is waited for but in poll."""

    __slots__ = (
        "_client",
        "_complain",
        "_connection",
        "_end_due",
        "_fertile",
        "_inward",
        "_inward_block",
        "_local",
        "_local_fd",
        "_network_fd",
        "_outward_block",
        "_patience_ms",
        "_poller",
        "_program",
        "_program_gone",
        "_tls",
        "_waiting",
    )

    def __init__(
        self,
        connection: Connection,
        network: "_socket.socket",
        local: "_socket.socket",
        terms: Terms,
        complain: "Callable[[bytes], None]",
    ) -> None:
        self._complain = complain
        self._connection = connection
        self._fertile = 0  # records in which there was something
        self._tls = connection.tls
        self._local = local
        self._network_fd, self._local_fd = network.fileno(), local.fileno()
        _, self._inward_block, self._outward_block = terms.blocks
        self._patience_ms = min(terms.idle_s, timed.LONGEST_S) * 1000
        self._inward = EMPTY  # decrypted, for the program
        self._client = self._program = True  # whether more may come from there
        self._program_gone = False  # it has closed its side, or has died
        self._end_due = False  # close_notify is to be said
        self._poller = select.poll()
        self._waiting: dict[int, int] = {}

    def run(self) -> None:
        """Raises OSError when the end has to be hard."""
        deadline: Deadline | None = None
        patience_ms = self._patience_ms
        connection = self._connection
        while self._program or ((self._client or self._inward) and not self._program_gone):
            if self._program_gone:
                deadline = deadline or Deadline(FLUSH_S)
                patience_ms = deadline.left_ms()
            ready = self._wait(patience_ms)
            if ready.get(self._local_fd, 0) & HUNG_UP:
                self._program_gone = True
                connection.let_kernel_keep()
            if self._client and not self._inward:
                self._receive(self._network_fd in ready)
            if self._inward:
                self._hand_in()
            if self._program and not connection.unsent() and (self._local_fd in ready or self._program_gone):
                self._take_out()
            if self._end_due and not connection.has_taken():
                self._end_due = False
                connection.say_end()
            if connection.unsent():
                self._send()
        while connection.has_taken() and self._read_tls():  # nobody wants it any more
            pass
        connection.say_end()

    def _wait(self, patience_ms: int) -> dict[int, int]:
        """What has happened. Raises TimeoutError."""
        unsent = self._connection.unsent()
        network = OUT if unsent else 0
        local = OUT if self._inward else 0
        at_once = self._program_gone and not unsent
        if self._client and not self._inward and self._connection.may_take():
            network |= IN
            at_once = at_once or self._connection.has_taken()
        if self._program and not unsent:
            local |= IN
        self._register(self._network_fd, network or -1)
        self._register(self._local_fd, -1 if self._program_gone else local)
        events = self._poller.poll(0 if at_once else patience_ms)
        if not events and not at_once:
            raise TimeoutError
        return dict(events)

    def _register(self, fd: int, events: int) -> None:
        """-1: leave it out. An end is reported whatever is waited for, and once it is known that would be for ever."""
        if events == self._waiting.get(fd, -1):
            return
        if events < 0:
            self._poller.unregister(fd)
        else:
            self._poller.register(fd, events)
        self._waiting[fd] = events

    def _receive(self, readable: bool) -> None:
        connection = self._connection
        if not connection.has_taken() and not (readable and connection.may_take() and connection.take()):
            return
        size = self._read_tls()
        self._inward = self._inward_block[:size]
        if not self._client and not size:
            self._end_inward()

    def _read_tls(self) -> int:
        """Decrypt as much as there is room for. Its end, in whatever way, is the client's."""
        size = 0
        try:
            while size + RECORD <= BLOCK:
                got = self._tls.read(BLOCK - size, self._inward_block[size:])
                if not got:
                    self._client = False
                    break
                size += got  # type: ignore[operator]
                self._fertile += 1
        except ssl.SSLWantReadError:
            if self._connection.records - 2 * self._fertile > BARREN:
                self._break_off(b"too many records without data")
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._client = False
        except OSError as e:
            self._break_off(_reason(e))
        return size

    def _break_off(self, why: bytes) -> None:
        """Take no more from the other side."""
        if self._client:
            self._complain(why)
        self._client = False

    def _hand_in(self) -> None:
        try:
            self._inward = self._inward[self._local.send(self._inward, AT_ONCE) :]
        except BlockingIOError:
            return
        except OSError:  # the program reads no more
            self._inward = EMPTY
            self._client = False
        if not self._client and not self._inward:
            self._end_inward()

    def _end_inward(self) -> None:
        try:
            self._local.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def _take_out(self) -> None:
        try:
            size = self._local.recv_into(self._outward_block, BLOCK, AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._program = False
            self._end_due = self._client and not self._program_gone  # it may be reading still
            return
        block = self._outward_block[:size]
        try:
            while block:
                block = block[self._tls.write(block) :]
        except OSError:  # TLS has broken before, and says nothing more
            self._stop_program()

    def _send(self) -> None:
        try:
            self._connection.send()
        except OSError:  # the client takes no more
            self._connection.forget()
            self._stop_program()

    def _stop_program(self) -> None:
        """Let the program see, when it writes, that nobody reads."""
        self._program = False
        try:
            self._local.shutdown(_socket.SHUT_RD)
        except OSError:
            pass


# Rehearsal

REHEARSALS = 10  # after which Python changes its code no more
REHEARSAL_S = 5


def rehearse(certificates, spawn) -> None:  # type: ignore[no-untyped-def]
    """Before the first fork: do what each process will do, so that it finds the libraries linked, the code specialized
    and memory where it needs it; what it would have to change, the kernel would have to copy for it. A process that is
    spawned for this is the client, without a certificate, and the program. Raises OSError."""
    terms = Terms(REHEARSAL_S, REHEARSAL_S)
    families = _socket.AF_UNIX, _socket.SOCK_STREAM
    pairs = [[_socket.socketpair(*families) for _ in range(4)] for _ in range(REHEARSALS)]

    def act() -> int:
        for pair in pairs:
            for ours, _ in pair:
                ours.close()
        try:
            for network, local, _, _ in pairs:
                _play(network[1], local[1])
        except (OSError, Refused):  # it was a rehearsal
            return strerr.LATER
        return 0

    pid = spawn(act)
    for pair in pairs:
        for _, theirs in pair:
            theirs.close()
    for pair in pairs:
        network, local, control, reports = [ours for ours, _ in pair]
        work(certificates, terms, network, local, control, reports, True, b"")
        for sock in (network, local, control, reports):
            sock.close()
    os.waitpid(pid, 0)


def _play(network: "_socket.socket", program: "_socket.socket") -> None:
    """A few lines each way. Raises OSError, Refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = Connection(network, Terms(REHEARSAL_S, REHEARSAL_S), context, server=False, name="rehearsal.invalid")
    connection.handshake()
    connection.send()
    program.settimeout(REHEARSAL_S)
    for _ in range(4):
        program.send(b"+OK\r\n")
        connection.tls.write(b"NOOP\r\n")
        connection.send()
        program.recv(BLOCK)
    program.close()
    network.settimeout(REHEARSAL_S)
    while network.recv(BLOCK):
        pass
    network.close()
