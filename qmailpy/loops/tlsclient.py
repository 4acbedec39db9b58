"""tlsclient - TLS over a connection that exists, as its client. Heavy, as ssl is: import it where it is needed, or
before a long-lived program forks.

Channel has of a socket what its users need, and bounds each step in time: the network is read and written here, ssl
only ever sees memory. TLS 1.2 and 1.3.
"""

import _socket
import hashlib
import ssl

from qmailpy.formats import tlsa
from qmailpy.loops.connect import Deadline

BLOCK = 16384  # bytes: what a record of TLS holds
RECEIVED = 65536

# Whoever it is, TLS is better than none: what a verified server would not get, old key exchanges and short keys.
LOOSE = "DEFAULT:!aNULL:!eNULL:@SECLEVEL=0"

LONGEST_REASON = 200  # bytes
ENCODING_DER = 2  # _ssl.ENCODING_DER


class Failed(Exception):
    """There is no TLS, or not with whom it should be; args[0]: why, in bytes, for people."""


class Unusable(Exception):
    """What this side is to use cannot be used; args[0]: why, in bytes, for people."""


class Settings:
    """What the administrator says. cafile, capath: authorities in place of the system's; certificate: path of our own,
    with its key, if we have one; ciphers: for TLS 1.2, as OpenSSL writes them."""

    __slots__ = ("cafile", "capath", "certificate", "ciphers")

    def __init__(
        self,
        cafile: bytes | None = None,
        capath: bytes | None = None,
        certificate: bytes | None = None,
        ciphers: bytes | None = None,
    ) -> None:
        self.cafile = cafile
        self.capath = capath
        self.certificate = certificate
        self.ciphers = ciphers


def reason(error: BaseException) -> bytes:
    """Why, in one line; nothing of it comes from the other side."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message
    elif isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        text = "the connection has ended"
    elif isinstance(error, TimeoutError):
        text = "timed out"
    elif isinstance(error, ssl.SSLError):
        text = (error.reason or "protocol error").replace("_", " ").lower()
    else:
        text = getattr(error, "strerror", None) or "the connection has ended"
    return text.encode("ascii", "replace")[:LONGEST_REASON].rstrip(b".")


def verifying(settings: Settings, anchors: "list[bytes] | None" = None) -> ssl.SSLContext:
    """For a server that has to show a certificate, from one of the anchors (DER) if some are given. Raises Unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if anchors:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the anchor need not be a root
            _anchor(context, anchors)
        elif settings.cafile or settings.capath:
            context.load_verify_locations(settings.cafile or None, settings.capath or None)
        else:
            context.set_default_verify_paths()
    except (OSError, ValueError) as e:
        raise Unusable(b"unable to read certificates of authorities: " + reason(e))
    _equip(context, settings, None)
    return context


def _anchor(context: ssl.SSLContext, anchors: list[bytes]) -> None:
    """What is no certificate, as DNS may have it, is none of them."""
    for anchor in anchors:
        try:
            context.load_verify_locations(cadata=anchor)
        except (OSError, ValueError):
            pass


def trusting(settings: Settings) -> ssl.SSLContext:
    """For whoever it is. Raises Unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _equip(context, settings, LOOSE)
    return context


def _equip(context: ssl.SSLContext, settings: Settings, ciphers: str | None) -> None:
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        if settings.ciphers is not None:
            ciphers = settings.ciphers.decode("ascii")
        if ciphers is not None:
            context.set_ciphers(ciphers)
    except (OSError, ValueError):
        raise Unusable(b"unable to use control/tlsclientciphers")
    if settings.certificate is not None:
        try:
            context.load_cert_chain(settings.certificate, password=_nobody)
        except (OSError, ValueError) as e:
            raise Unusable(b"unable to use control/clientcert.pem: " + reason(e))


def _nobody() -> bytes:
    """In place of somebody at a terminal who is asked for the password of a key."""
    return b""


class Channel:
    """What is sent and received through TLS over a connection, a blocking one with timeouts of its own (SO_RCVTIMEO
    and SO_SNDTIMEO). timeout_s: how long one call may take, and as long again where the network is waited for. What the
    methods raise is OSError; a timeout is BlockingIOError where the kernel waits, as with a socket, TimeoutError here.
    """

    __slots__ = ("_engine", "_incoming", "_outgoing", "_sock", "_timeout_s")

    def __init__(
        self, sock: _socket.socket, context: ssl.SSLContext, name: bytes | None, timeout_s: float, handshake_s: float
    ) -> None:
        """Does the handshake within handshake_s; name: what the server is called, or its address. Raises Failed; the
        socket is the caller's then."""
        self._sock = sock
        self._timeout_s = timeout_s
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        deadline = Deadline(handshake_s)
        try:  # of bytes no IDNA is made, which would load tables of Unicode
            self._engine = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        except (OSError, TypeError, ValueError):
            raise Failed(b"no certificate can have that name")
        try:
            while True:
                try:
                    self._engine.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    pass
                sock.settimeout(deadline.left())
                self._flush(deadline)
                sock.settimeout(deadline.left())
                self._fill(deadline)
            self._flush(deadline)
        except (OSError, ValueError) as e:
            self._say_why()
            raise Failed(reason(e))
        sock.settimeout(None)

    def _acknowledge(self) -> None:
        """Of what is no data, as tickets are, tell the other side at once that it has come: many would wait for that,
        40 ms, before they send what we wait for."""
        try:
            self._sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_QUICKACK, 1)
        except OSError:  # not TCP
            pass

    def _say_why(self) -> None:
        """The alert for the other side, if it can go."""
        try:
            self._sock.send(self._outgoing.read(), _socket.MSG_DONTWAIT)
        except OSError:
            pass

    def _flush(self, deadline: Deadline, flags: int = 0) -> None:
        """Send what is to be sent."""
        view = memoryview(self._outgoing.read())
        while view:
            deadline.left()
            view = view[self._sock.send(view, flags) :]

    def _fill(self, deadline: Deadline, flags: int = 0) -> None:
        """Receive something, or the end."""
        deadline.left()
        data = self._sock.recv(RECEIVED, flags)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def send(self, data: "bytes | bytearray | memoryview", flags: int = 0) -> int:
        """Some of data, as much as is said; all of that has gone then."""
        sent = self._engine.write(memoryview(data)[:BLOCK])
        self._flush(Deadline(self._timeout_s), flags)
        return sent

    def recv(self, size: int, flags: int = 0) -> bytes:
        """What has come, b"" at the end. With MSG_DONTWAIT in flags BlockingIOError if there is nothing yet."""
        deadline = Deadline(self._timeout_s)
        filled = False
        while True:
            try:
                return self._engine.read(size)
            except ssl.SSLWantReadError:
                self._flush(deadline)  # an answer to what is no data
                if filled:
                    self._acknowledge()
                self._fill(deadline, flags)
                filled = True
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def leave(self) -> None:
        """Say that nothing will follow, if that can go."""
        try:
            self._engine.unwrap()
        except (OSError, ValueError):  # the other side has not said so yet
            pass
        self._say_why()

    def close(self) -> None:
        self._sock.close()

    @property
    def shown(self) -> bytes:
        """Version and cipher."""
        cipher = self._engine.cipher()
        return f"{self._engine.version()} {cipher[0] if cipher else '-'}".encode()

    @property
    def names(self) -> "tuple[tuple[str, str], ...]":
        """The subjectAltNames of a verified certificate, each with its kind."""
        certificate = self._engine.getpeercert() or {}
        return certificate.get("subjectAltName", ())  # type: ignore[return-value]

    def chain(self) -> list[bytes]:
        """The certificates that the server has sent (DER), its own first."""
        if hasattr(self._engine, "get_unverified_chain"):
            return list(self._engine.get_unverified_chain())
        found = self._engine._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # Python before 3.13
        return [certificate.public_bytes(ENCODING_DER) for certificate in found or ()]


def digest(matching: int, data: bytes) -> bytes:
    """For tlsa.fits."""
    return (hashlib.sha256 if matching == tlsa.SHA256 else hashlib.sha512)(data).digest()
