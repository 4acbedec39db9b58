"""tlsa - TLSA records (RFC 6698), by which DNS says what certificate a host shows, and as much of certificates (DER) as
that needs. Pure."""

from qmailpy.formats import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Usage
TRUST_ANCHOR, END_ENTITY = 2, 3  # DANE-TA, DANE-EE; SMTP has no use for the others, RFC 7672 section 3.1.3
# Selector
CERTIFICATE, PUBLIC_KEY = 0, 1
# Matching type, and the bytes of its digests
FULL, SHA256, SHA512 = 0, 1, 2
DIGESTS = {SHA256: 32, SHA512: 64}

MOST = 64  # records that are looked at

SEQUENCE = 0x30
VERSION = 0xA0  # of a certificate; the first version has none
BEFORE_KEY = 5  # serial number, signature algorithm, issuer, validity, subject


class Malformed(Exception):
    """These bytes are no certificate."""


class Record:
    """data: a digest, or the thing itself, of what selector says."""

    __slots__ = ("data", "matching", "selector", "usage")

    def __init__(self, usage: int, selector: int, matching: int, data: bytes) -> None:
        self.usage = usage
        self.selector = selector
        self.matching = matching
        self.data = data

    @property
    def usable(self) -> bool:
        """Whether mail servers can be known by it, RFC 7672 section 3.1."""
        if self.usage not in (TRUST_ANCHOR, END_ENTITY) or self.selector not in (CERTIFICATE, PUBLIC_KEY):
            return False
        return bool(self.data) if self.matching == FULL else len(self.data) == DIGESTS.get(self.matching)


def usable(data: list[bytes]) -> list[Record]:
    """The usable ones of the records that DNS has."""
    records = [Record(each[0], each[1], each[2], each[3:]) for each in data[:MOST] if len(each) > 3]
    return [record for record in records if record.usable]


def named(port: int, host: bytes) -> bytes:
    """The name of the records of a host, both in wire form. Raises dns.Malformed if that is too long."""
    number = b"_%d" % port
    name = bytes((len(number),)) + number + b"\4_tcp" + host
    if len(name) > dns.LONGEST_NAME:
        raise dns.Malformed
    return name


def selected(record: Record, certificate: bytes) -> bytes:
    """The part of a certificate that the record, or its digest, is about. Raises Malformed."""
    return certificate if record.selector == CERTIFICATE else public_key(certificate)


def fits(record: Record, certificate: bytes, digest: "Callable[[int, bytes], bytes]") -> bool:
    """Whether it is the certificate of that record; digest(matching type, bytes) is by SHA256 or SHA512."""
    try:
        found = selected(record, certificate)
    except Malformed:
        return False
    return (found if record.matching == FULL else digest(record.matching, found)) == record.data


def public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, RFC 5280 section 4.1. Raises Malformed."""
    start, _ = _inside(certificate, 0, SEQUENCE)
    at, end = _inside(certificate, start, SEQUENCE)
    if certificate[at : at + 1] == bytes((VERSION,)):
        at = _inside(certificate, at, VERSION)[1]
    for _ in range(BEFORE_KEY):
        at = _element(certificate, at)[2]
    start, behind = at, _inside(certificate, at, SEQUENCE)[1]
    if behind > end:
        raise Malformed
    return certificate[start:behind]


def _inside(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where what is in the element at that position begins and ends."""
    found, start, end = _element(der, at)
    if found != tag:
        raise Malformed
    return start, end


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, and where the contents begin and end."""
    head = der[at : at + 2]
    if len(head) < 2 or head[0] & 31 == 31:  # a tag of many bytes, which certificates have not
        raise Malformed
    start, length = at + 2, head[1]
    if length >= 0x80:
        size = length - 0x80
        if not 0 < size <= 4 or start + size > len(der):
            raise Malformed
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    if start + length > len(der):
        raise Malformed
    return head[0], start, start + length
