"""smtpaddress - the arguments of MAIL and RCPT: an address as the originals read it, the parameters behind it, and
an address that is an IP address of this machine. Pure. Source: addrparse() of qmail-smtpd.

    <user@host> SIZE=1   the address stands between < and >
    : user@host          without <, it stands behind the colon and blanks, up to a blank

A route `@a,@b:` in front is dropped. A backslash takes the next byte as it is and vanishes, as quotes do; neither <
nor > nor a blank ends an address between quotes. A missing end is no error. So a space or an @ may be part of a user's
name, and any byte but NUL.
"""

from qmailpy.formats import addresses
from qmailpy.formats.numbers import scan

LONGEST = 899  # bytes of an address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _collections_abc import Callable


def parse(argument: bytes) -> tuple[bytes, bytes]:
    """(address, what follows it). The argument has no NUL; the address may be longer than LONGEST."""
    start = argument.find(b"<")
    end = b">"
    if start >= 0:
        rest = argument[start + 1 :]
    else:
        end = b" "
        rest = argument.partition(b":")[2].lstrip(b" ")
    if rest.startswith(b"@"):
        rest = rest.partition(b":")[2]
    address, _, behind = rest.partition(end)
    if b"\\" in address or b'"' in address:
        return _unquoted(rest, end)
    return address, behind


def _unquoted(text: bytes, end: bytes) -> tuple[bytes, bytes]:
    address = bytearray()
    quoted = False
    escaped = False
    for at in range(len(text)):
        byte = text[at : at + 1]
        if escaped:
            address += byte
            escaped = False
        elif byte == end and not quoted:
            return bytes(address), text[at + 1 :]
        elif byte == b"\\":
            escaped = True
        elif byte == b'"':
            quoted = not quoted
        else:
            address += byte
    return bytes(address), b""


def literal(address: bytes) -> bytes | None:
    """The packed IP address of user@[1.2.3.4] or user@[IPv6:2001:db8::1] (RFC 5321 section 4.1.3); None for any other.

    IPv4 is read as by the originals: numbers are taken modulo 256.
    """
    _, at, host = address.rpartition(b"@")
    if not at or not host.startswith(b"[") or not host.endswith(b"]"):
        return None
    text = host[1:-1]
    if text[:5].lower() == b"ipv6:":
        return addresses.parse_ipv6(text[5:])
    octets = text.split(b".")
    scanned = [scan(octet) for octet in octets]
    if len(octets) != 4 or any(
        not length or length < len(octet) for octet, (_, length) in zip(octets, scanned, strict=True)
    ):
        return None
    return bytes([value & 255 for value, _ in scanned])


def localized(address: bytes, host: bytes | None, mine: "Callable[[bytes], bool]") -> bytes:
    """address, with host in place of an IP address of this machine: mine tells which are. host None: none is."""
    if host is None or not address.endswith(b"]"):
        return address
    ip = literal(address)
    if ip is None or not mine(ip):
        return address
    return address[: address.rindex(b"@") + 1] + host


def parameters(behind: bytes) -> dict[bytes, bytes]:
    """The ESMTP parameters behind an address: keyword in upper case -> value, b"" where there is none. Of two with
    one name the first counts. RFC 5321 section 4.1.2."""
    found: dict[bytes, bytes] = {}
    for word in behind.split():
        keyword, _, value = word.partition(b"=")
        found.setdefault(keyword.upper(), value)
    return found


def xtext(value: bytes) -> bytes | None:
    """The bytes that an xtext (RFC 3461 section 4) stands for; None if it is none, or if a NUL is among them."""
    parts = value.split(b"+")
    decoded = [parts[0]]
    for part in parts[1:]:
        if len(part) < 2 or part[:2].strip(b"0123456789ABCDEF"):
            return None
        decoded.append(bytes((int(part[:2], 16),)) + part[2:])
    text = b"".join(decoded)
    return None if b"\0" in text else text
