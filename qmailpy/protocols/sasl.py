"""sasl - the mechanisms a checkpassword program can serve: PLAIN (RFC 4616), LOGIN and CRAM-MD5 (RFC 2195). Pure.

A mechanism is a generator: it yields challenges, is sent responses, and returns the Credentials. The same
exchange serves POP3 (RFC 5034) and SMTP (RFC 4954), which differ only in how they wrap the lines.
"""

import binascii
from _collections_abc import Generator  # collections.abc imports a megabyte with it

LINE_LIMIT = 12288  # bytes of a base64 line, RFC 4954 §4


class Refused(Exception):
    """The response is no answer to the challenge: bad base64, missing fields, somebody else's authorization."""


class Cancelled(Exception):
    """The client sent `*` (RFC 5034 §4)."""


class Credentials:
    """Who somebody claims to be. Both may hold any byte but NUL; the password is the caller's to overwrite."""

    __slots__ = ("name", "password")

    def __init__(self, name: bytes, password: bytearray) -> None:
        self.name = name
        self.password = password


Mechanism = Generator[bytes, bytearray, Credentials]


def plain() -> Mechanism:
    """authzid NUL authcid NUL password, RFC 4616 §2."""
    response = yield b""
    fields = response.split(b"\0")
    if len(fields) != 3 or not fields[1] or (fields[0] and fields[0] != fields[1]):
        raise Refused
    response[:] = bytes(len(response))
    return Credentials(bytes(fields[1]), fields[2])


def login() -> Mechanism:
    """Name and password one by one; never standardized, still what many clients speak."""
    name = yield b"Username:"
    password = yield b"Password:"
    # A NUL would shift the fields of the packet for the checker.
    if not name or b"\0" in name or b"\0" in password:
        raise Refused
    return Credentials(bytes(name), password)


def cram_md5(stamp: bytes) -> Mechanism:
    """name SP digest, RFC 2195 §2; the digest, 32 hex digits, takes the place of the password.

    The name ends at the last blank: it may have blanks itself."""
    response = yield stamp
    blank = response.rfind(b" ")
    name, digest = bytes(response[: max(blank, 0)]), response[blank + 1 :]
    if not name or b"\0" in name or len(digest) != 32 or digest.strip(b"0123456789abcdefABCDEF"):
        raise Refused
    return Credentials(name, digest.lower())


# Those that need nothing but the password; CRAM-MD5 needs a checker that has it in clear.
MECHANISMS = {b"PLAIN": plain, b"LOGIN": login}
CRAM_MD5 = b"CRAM-MD5"


class Exchange:
    """One run of a mechanism. `challenge` is what the client has to answer, in base64 as it goes on the wire;
    `credentials` is set when the client has said all."""

    def __init__(self, mechanism: bytes, stamp: bytes = b"") -> None:
        """mechanism: a key of MECHANISMS, or CRAM_MD5, whose challenge is stamp, `<pid.time@host>`."""
        self._steps = cram_md5(stamp) if mechanism == CRAM_MD5 else MECHANISMS[mechanism]()
        self.challenge = _encode(next(self._steps))
        self.credentials: Credentials | None = None

    def respond(self, text: bytearray) -> None:
        """Take one response line, base64 as it came; raises Refused or Cancelled. text is overwritten."""
        if text == b"*":
            raise Cancelled
        try:
            response = decode(text)
        finally:
            text[:] = bytes(len(text))
        try:
            self.challenge = _encode(self._steps.send(response))
        except StopIteration as end:
            self.credentials = end.value


def initial(text: bytearray) -> bytearray:
    """The initial response behind the mechanism's name: `=` stands for an empty one (RFC 5034 §4)."""
    return bytearray() if text == b"=" else text


def decode(text: bytearray) -> bytearray:
    """Strict base64 into a bytearray, group by group: no immutable copy of a whole password is left behind."""
    decoded = bytearray(len(text) // 4 * 3)  # of its final size: what grows leaves itself in freed memory
    end = 0
    for start in range(0, len(text), 4):
        group = text[start : start + 4]
        try:
            piece = binascii.a2b_base64(group)
        except binascii.Error:
            raise Refused
        if binascii.b2a_base64(piece, newline=False) != group:
            raise Refused
        if len(piece) < 3 and start + 4 < len(text):
            raise Refused
        decoded[end : end + len(piece)] = piece
        end += len(piece)
    del decoded[end:]
    return decoded


def _encode(challenge: bytes) -> bytes:
    return binascii.b2a_base64(challenge, newline=False)
