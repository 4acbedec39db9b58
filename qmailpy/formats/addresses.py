"""addresses - Internet addresses: text to packed bytes in network order, and back. Pure.

Strict like inet_pton(3). The originals' ip4_scan takes octets above 255 modulo 256 and leading zeros; whoever
needs that has to do it itself. (The module ipaddress would import re, several milliseconds in every process.)
"""

HEX = b"0123456789abcdefABCDEF"
MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2: an IPv4 peer on an IPv6 socket


def parse_ipv4(text: bytes) -> bytes | None:
    """Four bytes, or None if text is not four decimal octets without leading zeros."""
    octets = text.split(b".")
    if len(octets) != 4:
        return None
    for octet in octets:
        if not octet.isdigit() or len(octet) > 3 or (octet[:1] == b"0" and octet != b"0") or int(octet) > 255:
            return None
    return bytes(map(int, octets))


def format_ipv4(packed: bytes) -> bytes:
    return b"%d.%d.%d.%d" % tuple(packed)


def parse_ipv6(text: bytes) -> bytes | None:
    """Sixteen bytes, or None. Takes all forms of RFC 4291 section 2.2; no zone (`%eth0`), no brackets."""
    if b"." in text:
        head, colon, tail = text.rpartition(b":")
        ipv4 = parse_ipv4(tail)
        if ipv4 is None or not colon:
            return None
        text = head + colon + ipv4.hex(":", 2).encode()
    front, gap, back = text.partition(b"::")
    groups = front.split(b":") if front else []
    rest = back.split(b":") if back else []
    if gap:
        missing = 8 - len(groups) - len(rest)
        if missing < 1:
            return None
        groups += [b"0"] * missing
    groups += rest
    if len(groups) != 8 or any(not 1 <= len(group) <= 4 or group.strip(HEX) for group in groups):
        return None
    return bytes.fromhex("".join([group.decode().rjust(4, "0") for group in groups]))


def format_ipv6(packed: bytes) -> bytes:
    """The one text of RFC 5952: lower case, the first longest run of zero groups as `::`, mapped IPv4 dotted."""
    ipv4 = mapped_ipv4(packed)
    if ipv4 is not None:
        return b"::ffff:" + format_ipv4(ipv4)
    groups = [b"%x" % (packed[at] << 8 | packed[at + 1]) for at in range(0, 16, 2)]
    for length in range(8, 1, -1):  # section 4.2.2: never for a single group
        for start in range(9 - length):
            if groups[start : start + length] == [b"0"] * length:
                return b":".join(groups[:start]) + b"::" + b":".join(groups[start + length :])
    return b":".join(groups)


def expand_ipv6(packed: bytes) -> bytes:
    """Eight groups of four digits, lower case."""
    return packed.hex(":", 2).encode()


def mapped_ipv4(packed: bytes) -> bytes | None:
    """The four bytes inside an IPv4-mapped IPv6 address; None for any other."""
    return packed[12:] if packed.startswith(MAPPED) else None


def unmap(packed: bytes) -> bytes:
    """The address of a peer as people know it: IPv4 mapped into IPv6 is IPv4."""
    return mapped_ipv4(packed) or packed


def format_ip(packed: bytes) -> bytes:
    """Text of four or sixteen bytes."""
    return format_ipv4(packed) if len(packed) == 4 else format_ipv6(packed)
