"""dns - questions and answers of the Domain Name System (RFC 1035), as a client of a cache needs them. Pure.

A name is kept in wire form, labels with their lengths, because a label may hold any byte. In dotted form it
has no final dot, is in lower case, and has each byte but letters, digits, `-` and `_` as `\\ooo`.
Whatever a packet holds, reading it ends, with a value or with Malformed.
"""

from qmailpy.formats import numbers

A = 1
CNAME = 5
PTR = 12
MX = 15
TXT = 16
AAAA = 28
TLSA = 52
IN = 1

HEADER = 12  # bytes
LONGEST_LABEL = 63
LONGEST_NAME = 255  # wire form, RFC 1035 section 2.3.4
MOST_POINTERS = 128  # more than a name can have labels

RESPONSE = 0x8000  # flags, RFC 1035 section 4.1.1
AUTHORITATIVE = 0x0400
TRUNCATED = 0x0200
RECURSION_DESIRED = 0x0100
RECURSION_AVAILABLE = 0x0080
AUTHENTIC = 0x0020  # RFC 4035 section 3.2.3; in a query it asks for that, RFC 6840 section 5.7
RCODE = 0x000F
NO_ERROR = 0
NO_SUCH_NAME = 3

PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
OCTAL = b"01234567"


class Malformed(Exception):
    """These bytes are no name, or no packet."""


def from_dots(text: bytes) -> bytes:
    """Wire form of a dotted name. Empty labels count for nothing; `\\ooo` is a byte, `\\` and another byte that
    byte. Malformed if a label or the name is too long."""
    labels = [bytearray()]
    at = 0
    while at < len(text):
        byte = text[at]
        at += 1
        if byte == ord("."):
            labels.append(bytearray())
            continue
        if byte == ord("\\"):
            if at == len(text):
                break
            following = text[at : at + 3]
            digits = len(following) - len(following.lstrip(OCTAL))
            byte = int(following[:digits], 8) & 255 if digits else following[0]
            at += digits or 1
        labels[-1].append(byte)
    if any(len(label) > LONGEST_LABEL for label in labels):
        raise Malformed
    name = b"".join(bytes((len(label),)) + label for label in labels if label) + b"\0"
    if len(name) > LONGEST_NAME:
        raise Malformed
    return name


def to_dots(name: bytes) -> bytes:
    """Dotted form of a name in wire form; the root is `.`."""
    return b".".join(b"".join(_shown(byte) for byte in label.lower()) for label in _labels(name)) or b"."


def _labels(name: bytes) -> list[bytes]:
    labels = []
    at = 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    return labels


def _shown(byte: int) -> bytes:
    return bytes((byte,)) if byte in PLAIN else b"\\%03o" % byte


def a_labels(name: bytes) -> bytes:
    """A dotted name of which labels are in UTF-8 as DNS has it, `xn--` and Punycode in place of each of these; a name
    that is no UTF-8 as it is. RFC 5891, without its tests of what may be a label."""
    if name.isascii():
        return name
    try:
        labels = [label.lower() for label in name.decode().split(".")]
        return b".".join([
            label.encode() if label.isascii() else b"xn--" + label.encode("punycode") for label in labels
        ])  # fmt: skip
    except UnicodeError:
        return name


def canonical(name: bytes) -> bytes:
    """The one dotted form of a name, however it is written; one that DNS cannot have is as it is."""
    try:
        return to_dots(from_dots(a_labels(name)))
    except Malformed:
        return name


def scan4(text: bytes) -> tuple[bytes, int]:
    """(address, length): the IPv4 address at the front of text, as ip4_scan reads it: octets modulo 256, anything
    may follow. None there gives (b"", 0)."""
    ip = bytearray()
    at = 0
    while True:
        octet, length = numbers.scan(text[at:])
        if not length:
            return b"", 0
        ip.append(octet & 255)
        at += length
        if len(ip) == 4:
            return bytes(ip), at
        if text[at : at + 1] != b".":
            return b"", 0
        at += 1


def literal4(name: bytes) -> list[bytes] | None:
    """The IPv4 addresses that a name of digits, dots and brackets spells out; None for another name.

    As dns_ip4 does it: a number counts modulo 256, one that is missing is 0, an incomplete address is none, and
    two addresses in a row are two.
    """
    if name.translate(None, b"0123456789.[]"):
        return None
    ip = bytes(numbers.scan(octet)[0] & 255 for octet in name.translate(None, b"[]").split(b"."))
    return [ip[at : at + 4] for at in range(0, len(ip) - 3, 4)]


def reversed_labels(ip: bytes) -> bytes:
    """An address as lists and reverse zones name it, dotted: 4.3.2.1, or the 32 nibbles of an IPv6 address."""
    if len(ip) == 4:
        return b".".join(b"%d" % byte for byte in reversed(ip))
    return b".".join(b"%x.%x" % (byte & 15, byte >> 4) for byte in reversed(ip))


def reverse_name(ip: bytes) -> bytes:
    """Wire name whose PTR record names the host at ip, 4 or 16 bytes (RFC 1035 section 3.5, RFC 3596)."""
    return from_dots(reversed_labels(ip) + (b".in-addr.arpa" if len(ip) == 4 else b".ip6.arpa"))


def query(number: int, name: bytes, kind: int, flags: int = 0) -> bytes:
    """A packet that asks a cache for the records of that kind at name (wire form)."""
    return _pack(number, RECURSION_DESIRED | flags, 1, 0, 0, 0) + name + _pack(kind, IN)


def _pack(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def _number(packet: bytes, at: int) -> int:
    return int.from_bytes(packet[at : at + 2], "big")


def read_name(packet: bytes, at: int) -> tuple[bytes, int]:
    """(wire name, position behind it) of the name at that position; follows compression pointers."""
    name = b""
    behind = 0  # first pointer's end, once there is one
    pointers = 0
    while True:
        length = _byte(packet, at)
        if length >= 192:
            target = (length - 192) * 256 + _byte(packet, at + 1)
            behind = behind or at + 2
            pointers += 1
            if pointers > MOST_POINTERS:
                raise Malformed
            at = target
            continue
        if length > LONGEST_LABEL or at + 1 + length > len(packet):
            raise Malformed
        name += packet[at : at + 1 + length]
        at += 1 + length
        if len(name) > LONGEST_NAME:
            raise Malformed
        if length == 0:
            return name, behind or at


def _byte(packet: bytes, at: int) -> int:
    if at >= len(packet):
        raise Malformed
    return packet[at]


def same_name(one: bytes, other: bytes) -> bool:
    """Whether two wire names are the same name: without regard to case. A length is below `A`, so it stays."""
    return one.lower() == other.lower()


def answers_to(packet: bytes, number: int, name: bytes, kind: int) -> bool:
    """Whether the packet is a response to that query: its number, and its one question echoed."""
    if len(packet) < HEADER or _number(packet, 0) != number or not _number(packet, 2) & RESPONSE:
        return False
    if _number(packet, 4) != 1:
        return False
    try:
        echoed, behind = read_name(packet, HEADER)
    except Malformed:
        return False
    return same_name(echoed, name) and packet[behind : behind + 4] == _pack(kind, IN)


def truncated(packet: bytes) -> bool:
    """Whether the server says that the answer did not fit."""
    return bool(_number(packet, 2) & TRUNCATED)


def authentic(packet: bytes) -> bool:
    """Whether the server says that it has validated all of the answer, by DNSSEC."""
    return bool(_number(packet, 2) & AUTHENTIC)


def without_proof(packet: bytes) -> bytes:
    """The same answer, not authentic."""
    return packet[:2] + _pack(_number(packet, 2) & ~AUTHENTIC) + packet[4:]


def rcode(packet: bytes) -> int:
    return _number(packet, 2) & RCODE


def lame(packet: bytes) -> bool:
    """Whether it is a mere referral: nothing is in it, from a server that neither asks others nor owns the zone. That
    says nothing about the name."""
    return not _number(packet, 6) and not _number(packet, 2) & (RECURSION_AVAILABLE | AUTHORITATIVE)


Found = tuple[bytes, int, bytes]  # owner, position of the data in the packet, data


def _answers(packet: bytes, kind: int) -> tuple[bytes, list[Found], dict[bytes, bytes]]:
    """The question's name, the records of that kind, and where CNAME records lead; names in lower case."""
    if len(packet) < HEADER or _number(packet, 4) != 1:
        raise Malformed
    name, at = read_name(packet, HEADER)
    at += 4
    found: list[Found] = []
    aliases: dict[bytes, bytes] = {}
    for _ in range(_number(packet, 6)):
        owner, at = read_name(packet, at)
        data_at = at + 10
        at = data_at + _number(packet, at + 8)
        if at > len(packet) or data_at > len(packet):
            raise Malformed
        if _number(packet, data_at - 8) != IN:
            continue
        if _number(packet, data_at - 10) == kind:
            found.append((owner.lower(), data_at, packet[data_at:at]))
        if _number(packet, data_at - 10) == CNAME:
            aliases.setdefault(owner.lower(), read_name(packet, data_at)[0].lower())
    return name.lower(), found, aliases


def _chain(name: bytes, aliases: dict[bytes, bytes]) -> dict[bytes, None]:
    """The name and, in order, all that it leads to, up to where a circle closes."""
    names = {name: None}
    while name in aliases and aliases[name] not in names:
        name = aliases[name]
        names[name] = None
    return names


def records(packet: bytes, kind: int) -> list[tuple[int, bytes]]:
    """(position of its data in the packet, data) of each record of that kind that belongs to the question's name
    or to what its CNAME records lead to, in the packet's order. Raises Malformed."""
    name, found, aliases = _answers(packet, kind)
    names = _chain(name, aliases)
    return [(position, data) for owner, position, data in found if owner in names]


def target(packet: bytes) -> bytes:
    """The wire name that the CNAME records of the question's name lead to; that name itself if it has none. Raises
    Malformed, also if they lead in a circle."""
    name, _, aliases = _answers(packet, CNAME)
    *_, last = _chain(name, aliases)
    if last in aliases:
        raise Malformed
    return last


def exchanges(packet: bytes) -> list[tuple[int, bytes]]:
    """(preference, dotted name) of each MX record in the answer. Raises Malformed."""
    found = []
    for position, data in records(packet, MX):
        name, behind = read_name(packet, position + 2)
        if behind != position + len(data):
            raise Malformed
        found.append((_number(packet, position), to_dots(name)))
    return found


def addresses(packet: bytes, kind: int) -> list[bytes]:
    """The addresses in the answer, 4 bytes each for A, 16 for AAAA. Raises Malformed."""
    size = 4 if kind == A else 16
    return [data for _, data in records(packet, kind) if len(data) == size]


def first_name(packet: bytes) -> bytes | None:
    """The name in the first PTR record, dotted; None if there is none. Raises Malformed."""
    for position, _ in records(packet, PTR):
        return to_dots(read_name(packet, position)[0])
    return None


def texts(packet: bytes) -> list[bytes]:
    """The strings of each TXT record joined. Raises Malformed."""
    found = []
    for _, data in records(packet, TXT):
        joined = b""
        while data:
            joined += data[1 : 1 + data[0]]
            data = data[1 + data[0] :]
        found.append(joined)
    return found


def text(packet: bytes) -> bytes:
    """The strings of all TXT records joined; a byte that is not printable ASCII is `?`. Raises Malformed."""
    return bytes(byte if 32 <= byte <= 126 else ord("?") for byte in b"".join(texts(packet)))
