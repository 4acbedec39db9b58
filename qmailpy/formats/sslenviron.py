"""sslenviron - the variables that tell a program about TLS on its connection, as mod_ssl and ucspi-ssl name them. Pure.

Certificates are read here as far as the variables need it (RFC 5280, DER): what they say is shown, never judged.
"""

import binascii

from qmailpy.formats import tcpenviron

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOL = b"SSL_PROTOCOL"  # there whenever the connection is under TLS
CIPHER = b"SSL_CIPHER"
INTERFACE = b"ucspi-ssl"

# What describes a connection, and not the configuration of a library (SSL_CERT_FILE) or of a server (SSL_USER).
NAMES = frozenset({b"SSL_PROTOCOL", b"SSL_SESSION_ID", b"SSL_TLS_SNI", b"SSL_CLIENT_VERIFY"})
PREFIXES = (b"SSL_CIPHER", b"SSL_VERSION_", b"SSL_SERVER_", b"SSL_CLIENT_")

SEQUENCE, SET, INTEGER, BITS, OBJECT, BOOLEAN = 0x30, 0x31, 0x02, 0x03, 0x06, 0x01
UTC_TIME, TIME = 0x17, 0x18
BMP, UNIVERSAL = 0x1E, 0x1C  # strings of two and of four bytes a character
VERSION_TAG, EXTENSIONS_TAG = 0xA0, 0xA3
OCTETS = 0x04
ALTERNATIVES = b"\x55\x1d\x11"  # subjectAltName
KINDS = {0x81: b"Email", 0x82: b"DNS"}  # of its names, those that have variables
SHOWN = 100  # names of a kind that get one
SERIAL_LIMIT = 1000  # bytes; RFC 5280 allows 20

MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")

# Object identifiers as they stand in DER: (as in /C=XX, as in SSL_CLIENT_S_DN_C)
ATTRIBUTES = {
    b"\x55\x04\x06": (b"C", b"C"), b"\x55\x04\x08": (b"ST", b"ST"), b"\x55\x04\x07": (b"L", b"L"),
    b"\x55\x04\x0a": (b"O", b"O"), b"\x55\x04\x0b": (b"OU", b"OU"), b"\x55\x04\x03": (b"CN", b"CN"),
    b"\x55\x04\x0c": (b"title", b"T"), b"\x55\x04\x2b": (b"initials", b"I"), b"\x55\x04\x2a": (b"GN", b"G"),
    b"\x55\x04\x04": (b"SN", b"S"), b"\x55\x04\x0d": (b"description", b"D"),
    b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01": (b"UID", b"UID"),
    b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19": (b"DC", b"DC"),
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01": (b"emailAddress", b"Email"),
    b"\x55\x04\x2d": (b"x500UniqueIdentifier", b"UID"),
    b"\x55\x04\x05": (b"serialNumber", b""), b"\x55\x04\x11": (b"postalCode", b""), b"\x55\x04\x09": (b"street", b""),
}  # fmt: skip

ALGORITHMS = {
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01": b"rsaEncryption",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05": b"sha1WithRSAEncryption",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a": b"rsassaPss",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b": b"sha256WithRSAEncryption",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c": b"sha384WithRSAEncryption",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d": b"sha512WithRSAEncryption",
    b"\x2a\x86\x48\xce\x3d\x02\x01": b"id-ecPublicKey",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x02": b"ecdsa-with-SHA256",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x03": b"ecdsa-with-SHA384",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x04": b"ecdsa-with-SHA512",
    b"\x2b\x65\x70": b"ED25519",
    b"\x2b\x65\x71": b"ED448",
}


class Malformed(Exception):
    """This is no certificate."""


class Name:
    """A distinguished name. text: /C=XX/O=Org/CN=name; parts: C, O ... -> the first value of that kind."""

    __slots__ = ("parts", "text")

    def __init__(self, text: bytes, parts: dict[bytes, bytes]) -> None:
        self.text = text
        self.parts = parts


class Certificate:
    """What the variables say of a certificate: version 1 to 3, serial as a decimal number, names, dates, algorithms as
    OpenSSL calls them. alternatives: Email and DNS -> names of the subject."""

    __slots__ = ("algorithm", "alternatives", "end", "issuer", "key", "serial", "start", "subject", "version")

    def __init__(self, der: bytes) -> None:
        """Raises Malformed."""
        outer = _inside(der, 0, SEQUENCE)
        fields = _fields(_inside(outer, 0, SEQUENCE))
        number = 0
        if fields and fields[0][0] == VERSION_TAG:
            number = int.from_bytes(_inside(fields[0][1], 0, INTEGER)[:1], "big")
            fields = fields[1:]
        serial, algorithm, issuer, validity, subject, key = _as(
            fields, INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE
        )
        self.version = number + 1
        self.serial = b"%d" % int.from_bytes(serial[:SERIAL_LIMIT], "big", signed=True)
        self.algorithm = _algorithm(algorithm)
        self.issuer = _name(issuer)
        self.subject = _name(subject)
        self.start, self.end = _times(validity)
        self.key = _algorithm(_inside(key, 0, SEQUENCE))
        self.alternatives = _alternatives(fields)

    def variables(self, who: bytes) -> dict[bytes, bytes]:
        """SSL_CLIENT_S_DN and the like, for who = b"SSL_CLIENT_" or b"SSL_SERVER_"."""
        described = {
            b"M_VERSION": b"%d" % self.version,
            b"M_SERIAL": self.serial,
            b"S_DN": self.subject.text,
            b"I_DN": self.issuer.text,
            b"V_START": self.start,
            b"V_END": self.end,
            b"A_SIG": self.algorithm,
            b"A_KEY": self.key,
        }
        for kind, name in ((b"S_DN_", self.subject), (b"I_DN_", self.issuer)):
            described.update({kind + part: value for part, value in name.parts.items()})
        for kind, names in self.alternatives.items():
            described.update({b"SAN_%s_%d" % (kind, number): value for number, value in enumerate(names)})
        return {who + name: value for name, value in described.items()}


def certificate(who: bytes, chain: "Iterable[bytes]") -> dict[bytes, bytes]:
    """The variables of a certificate in DER with those that it came with, the first of chain being the one. Empty for
    none, and for what cannot be read."""
    described: dict[bytes, bytes] = {}
    for number, der in enumerate(chain):
        if number == 0:
            try:
                described = Certificate(der).variables(who)
            except Malformed:
                return {}
            described[who + b"CERT"] = pem(der)
        described[b"%sCERT_CHAIN_%d" % (who, number)] = pem(der)
    return described


def connection(
    protocol: bytes, cipher: bytes, bits: int, session: bytes, library: bytes, server_name: bytes
) -> dict[bytes, bytes]:
    """The variables of what was agreed on. session: the bytes of its name; server_name: the one that the client asked
    for, or b""."""
    described = {
        PROTOCOL: protocol,
        b"SSL_SESSION_ID": session.hex().encode(),
        CIPHER: cipher,
        b"SSL_CIPHER_USEKEYSIZE": b"%d" % bits,
        b"SSL_CIPHER_ALGKEYSIZE": b"%d" % bits,
        b"SSL_CIPHER_EXPORT": b"true" if bits < 56 else b"false",
        b"SSL_VERSION_INTERFACE": INTERFACE,
        b"SSL_VERSION_LIBRARY": library,
    }
    return {**described, b"SSL_TLS_SNI": server_name} if server_name else described


def forget(env: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """A copy of env that says nothing of a connection under TLS, be it of a client or of another link of the chain."""
    return {name: value for name, value in env.items() if name not in NAMES and not name.startswith(PREFIXES)}


def ucspi(env: dict[bytes, bytes], tcp: bool) -> dict[bytes, bytes]:
    """A copy of env, whose TCP variables describe a connection, with the names that sslserver has for them; tcp: with
    both."""
    described = {name: value for name, value in env.items() if tcp or not name.startswith(b"TCP")}
    described[b"PROTO"] = b"SSL"
    for name in tcpenviron.NAMES:
        if b"TCP" + name in env:
            described[b"SSL" + name] = env[b"TCP" + name]
        else:
            described.pop(b"SSL" + name, None)
    return described


def pem(der: bytes) -> bytes:
    """A certificate as text."""
    text = binascii.b2a_base64(der, newline=False)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % b"\n".join(lines)


def certificates(text: bytes) -> list[bytes]:
    """The certificates of a PEM file in DER, in their order. Raises Malformed."""
    found = []
    for piece in text.split(b"-----BEGIN CERTIFICATE-----")[1:]:
        body, end, _ = piece.partition(b"-----END CERTIFICATE-----")
        if not end:
            raise Malformed
        try:
            found.append(binascii.a2b_base64(body))
        except ValueError:
            raise Malformed
    return found


# DER


def _next(data: bytes, at: int) -> tuple[int, int, int]:
    """(tag, where its content begins, where it ends) of the value at a position. Raises Malformed."""
    if len(data) < at + 2:
        raise Malformed
    tag, length = data[at], data[at + 1]
    at += 2
    if length >= 0x80:
        digits = length & 0x7F
        if not 0 < digits <= 4 or len(data) < at + digits:
            raise Malformed
        length = int.from_bytes(data[at : at + digits], "big")
        at += digits
    if len(data) < at + length:
        raise Malformed
    return tag, at, at + length


def _inside(data: bytes, at: int, wanted: int) -> bytes:
    tag, start, end = _next(data, at)
    if tag != wanted:
        raise Malformed
    return data[start:end]


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each value."""
    fields = []
    at = 0
    while at < len(data):
        tag, start, at = _next(data, at)
        fields.append((tag, data[start:at]))
    return fields


def _as(fields: list[tuple[int, bytes]], *tags: int) -> list[bytes]:
    """The contents of the first fields, which have these tags."""
    if [tag for tag, _ in fields[: len(tags)]] != list(tags):
        raise Malformed
    return [content for _, content in fields[: len(tags)]]


def _algorithm(sequence: bytes) -> bytes:
    identifier = _inside(sequence, 0, OBJECT)
    return ALGORITHMS.get(identifier) or _dotted(identifier)


def _dotted(identifier: bytes) -> bytes:
    """1.2.840 and so on."""
    arcs = []
    number = 0
    for byte in identifier:
        number = number << 7 | byte & 0x7F
        if number >> 64:
            raise Malformed
        if byte < 0x80:
            arcs.append(number)
            number = 0
    if number or not arcs:
        raise Malformed
    first = min(arcs[0] // 40, 2)
    return b".".join([b"%d" % arc for arc in (first, arcs[0] - 40 * first, *arcs[1:])])


def _name(sequence: bytes) -> Name:
    text = []
    parts: dict[bytes, bytes] = {}
    for tag, relative in _fields(sequence):
        if tag != SET:
            raise Malformed
        for kind, pair in _fields(relative):
            if kind != SEQUENCE:
                raise Malformed
            fields = _fields(pair)
            if len(fields) != 2 or fields[0][0] != OBJECT:
                raise Malformed
            long, short = ATTRIBUTES.get(fields[0][1]) or (_dotted(fields[0][1]), b"")
            value = _shown(*fields[1])
            text.append(b"/%s=%s" % (long, value.replace(b"/", b"\\x2F")))  # else a value could look like two
            if short:
                parts.setdefault(short, value)
    return Name(b"".join(text), parts)


def _alternatives(fields: list[tuple[int, bytes]]) -> dict[bytes, list[bytes]]:
    """The subject's other names, from the extensions among the fields."""
    found: dict[bytes, list[bytes]] = {}
    for tag, content in fields:
        if tag != EXTENSIONS_TAG:
            continue
        for kind, extension in _fields(_inside(content, 0, SEQUENCE)):
            parts = _fields(extension) if kind == SEQUENCE else []
            if len(parts) < 2 or parts[0] != (OBJECT, ALTERNATIVES) or parts[-1][0] != OCTETS:
                continue
            for name_tag, value in _fields(_inside(parts[-1][1], 0, SEQUENCE)):
                names = found.setdefault(KINDS[name_tag], []) if name_tag in KINDS else []
                if len(names) < SHOWN:
                    names.append(_shown(name_tag, value))
    return found


def _shown(tag: int, content: bytes) -> bytes:
    """A string as OpenSSL's X509_NAME_oneline shows it: what is not printable ASCII as \\xHH. Nothing in it can end a
    variable or a line."""
    if tag in (BMP, UNIVERSAL):
        width = 2 if tag == BMP else 4
        if len(content) % width:
            raise Malformed
        if not any(any(content[at : at + width - 1]) for at in range(0, len(content), width)):
            content = content[width - 1 :: width]
    return b"".join([bytes((byte,)) if 32 <= byte <= 126 else b"\\x%02X" % byte for byte in content])


def _times(validity: bytes) -> tuple[bytes, bytes]:
    fields = _fields(validity)
    if len(fields) != 2:
        raise Malformed
    return _time(*fields[0]), _time(*fields[1])


def _time(tag: int, text: bytes) -> bytes:
    """`Jun 20 01:15:47 2012 GMT`."""
    digits = text[:-1]
    if tag == UTC_TIME:
        digits = (b"19" if digits[:2] >= b"50" else b"20") + digits
    elif tag != TIME:
        raise Malformed
    if text[-1:] != b"Z" or len(digits) != 14 or not digits.isdigit() or not 1 <= int(digits[4:6]) <= 12:
        raise Malformed
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    clock = b":".join((digits[8:10], digits[10:12], digits[12:14]))
    return b"%s %2d %s %d GMT" % (MONTHS[month - 1], day, clock, year)
