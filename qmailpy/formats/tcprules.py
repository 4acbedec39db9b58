"""tcprules - the access rules of tcpserver: their text, their records in a cdb, and which one a peer gets. Pure.

A rule is ADDRESS:INSTRUCTIONS; tcprules(1) is the manual of both. A record's key is the address, its data `D\\0`
for deny, then `+NAME=value\\0` for each variable.

Beyond the originals there are IPv6 addresses and prefixes, with the keys of ucspi-tcp6: for 10.0.0.0/8 an `_` and
the first 8 bits, for 2001:db8::/32 a `^` and the first 32 bits, for a single IPv6 address its eight groups in four
upper case digits each. A clear bit is written `0`; a set one, in IPv4, as the letter of its position, and in IPv6
as the letter of its number among the set ones.

So that a file without prefixes costs no look-up for each possible length, a file with some has one more record
per family, `_:` or `^:`, whose data are the lengths in use, longest first, a byte each. No rule has such a key: a
colon ends the address. Where this record is missing, prefixes are not looked for.
"""

from qmailpy.formats import addresses, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IPV4_PREFIX = b"_"
IPV6_PREFIX = b"^"
LENGTHS = b":"  # behind one of these two: the key of the record with the lengths
WIDTHS = {IPV4_PREFIX: 32, IPV6_PREFIX: 128}  # bits

CLEAR = b"0"[0]
IPV4_SET = b"abcdefghijklmnopqrstuvwxyz123456"
IPV6_SET = bytes(range(96, 224))

PREFIX_CHARACTERS = b"0123456789./"  # with a slash, an address of these alone is meant as a prefix
IPV6_CHARACTERS = addresses.HEX + b":./[]"
BLANKS = b" \t\n"

INSTRUCTIONS_KEPT = 1000  # most rules of a file share a few instructions

Used = dict[bytes, set[int]]  # lengths of prefixes by family


class BadRule(Exception):
    """A line that is no rule: the line without trailing blanks, its number from 1, and what is wrong with it."""

    def __init__(self, line: bytes, number: int, reason: bytes) -> None:
        super().__init__(line, number, reason)
        self.line = line
        self.number = number
        self.reason = reason


class _Refused(Exception):
    """args[0]: what is wrong with a part of a rule."""


class Rule:
    """What a peer gets: the key that matched, the record's data, and what they say: deny, and variables as
    (name, value) in order. Foreign data hold anything: what is neither `D` nor `+NAME=value` means nothing."""

    __slots__ = ("data", "deny", "key", "variables")

    def __init__(self, key: bytes, data: bytes) -> None:
        self.key = key
        self.data = data
        self.deny = False
        self.variables: list[tuple[bytes, bytes]] = []
        for item in items(data):
            if item.startswith(b"D"):
                self.deny = True
            elif item.startswith(b"+"):
                name, equals, value = item[1:].partition(b"=")
                if equals:
                    self.variables.append((name, value))


def items(data: bytes) -> list[bytes]:
    """The items of a record's data, without the NUL that ends each; what has none at its end is no item."""
    return data.split(b"\0")[:-1]


# Text to records


def records(lines: "Iterable[bytes]") -> "Iterator[tuple[bytes, bytes]]":
    """The records (key, data) of the rules in lines, each without its newline. Raises BadRule.

    A line that the original accepts gives the original's records, unless it is an IPv4 prefix.
    """
    known: dict[bytes, bytes] = {}
    used: Used = {IPV4_PREFIX: set(), IPV6_PREFIX: set()}
    for number, line in enumerate(lines, 1):
        if line.startswith(b"#"):
            continue
        line = line.rstrip(BLANKS)
        address, colon, text = line.partition(b":")
        if not colon:
            continue
        try:
            data = known.get(text)
            if data is None:
                try:
                    data = _instructions(text)
                except _Refused as e:
                    address, text = _split_ipv6(line, e)
                    data = _instructions(text)
                if len(known) < INSTRUCTIONS_KEPT:
                    known[text] = data
            keys = _keys(address, used)
        except _Refused as e:
            raise BadRule(line, number, e.args[0])
        for key in keys:
            yield key, data
    for family, lengths in used.items():
        if lengths:
            yield family + LENGTHS, bytes(sorted(lengths, reverse=True))


def _instructions(text: bytes) -> bytes:
    """A record's data, from `allow` or `deny` and the variables behind it."""
    if text.startswith(b"deny"):
        data, text = b"D\0", text[4:]
    elif text.startswith(b"allow"):
        data, text = b"", text[5:]
    else:
        raise _Refused(b"no allow or deny after the colon")
    while text:
        if not text.startswith(b","):
            raise _Refused(b"no comma where the next variable would begin")
        name, equals, text = text[1:].partition(b"=")
        if not equals:
            raise _Refused(b"variable has no =")
        if not text:
            raise _Refused(b"variable has no value")
        quote = text[:1]
        value, closing, text = text[1:].partition(quote)
        if not closing:
            raise _Refused(b"value has no closing " + quote)
        data += b"+" + name + b"=" + value + b"\0"
    return data


def _split_ipv6(line: bytes, refused: _Refused) -> tuple[bytes, bytes]:
    """Address and instructions of a line that makes no sense when split at its first colon, as `refused` says.

    The split is at the first `:allow` or `:deny`: no IPv6 address holds an l or an n.
    """
    ends = [at for at in (line.find(b":allow"), line.find(b":deny")) if at >= 0]
    address = line[: min(ends, default=0)]
    ip = address.rpartition(b"@")[2]
    if b":" not in ip or ip.strip(IPV6_CHARACTERS):
        raise refused
    return address, line[len(address) + 1 :]


def _keys(address: bytes, used: Used) -> list[bytes]:
    """The keys that an address stands for; adds the length of a prefix to used."""
    if b":" in address:
        return [_ipv6_key(address, used)]
    if b"/" in address and address[:1].isdigit() and not address.strip(PREFIX_CHARACTERS):
        return [_ipv4_prefix(address, used)]
    if b"-" not in address or b"=" in address or b"@" in address:
        return [address]
    before, _, after = address.partition(b"-")
    stem = before[: before.rfind(b".") + 1]
    top, dot, rest = after.partition(b".")
    lowest, highest = _number(before[len(stem) :]), min(_number(top), 255)
    return [b"%s%d%s" % (stem, number, dot + rest) for number in range(lowest, highest + 1)]


def _number(text: bytes) -> int:
    """One end of a range; nothing is 0. The originals' numbers end at a NUL."""
    text = text.partition(b"\0")[0]
    value, length = numbers.scan(text)
    if length < len(text):
        raise _Refused(b"range with something other than digits")
    return value


def _ipv4_prefix(address: bytes, used: Used) -> bytes:
    """Key of 10.0.0.0/8, also short, as 10/8 or 10./8."""
    ip, _, length = address.partition(b"/")
    octets = ip.removesuffix(b".").split(b".")
    packed = addresses.parse_ipv4(b".".join(octets + [b"0"] * (4 - len(octets))))
    if packed is None:
        raise _Refused(b"not an IPv4 prefix")
    return _prefix_key(packed, _prefix_length(length, 32), used)


def _ipv6_key(address: bytes, used: Used) -> bytes:
    """Key of an IPv6 address, with or without INFO@ before it, or of a prefix; brackets may be around the address."""
    info, at, ip = address.rpartition(b"@")
    if ip.startswith(b"["):
        inside, closing, behind = ip[1:].partition(b"]")
        if closing and behind[:1] in (b"", b"/"):
            ip = inside + behind
    ip, slash, length = ip.partition(b"/")
    packed = addresses.parse_ipv6(ip)
    if packed is None or (at and slash):
        raise _Refused(b"not an IPv6 address or prefix")
    ipv4 = addresses.mapped_ipv4(packed)  # tcpserver shows such a peer as an IPv4 one
    if slash:
        bits = _prefix_length(length, 128)
        if ipv4 is not None and bits >= 96:
            return _prefix_key(ipv4, bits - 96, used)
        return _prefix_key(packed, bits, used)
    return info + at + (_ipv6_text(packed) if ipv4 is None else addresses.format_ipv4(ipv4))


def _prefix_length(text: bytes, width: int) -> int:
    if not text.isdigit() or len(text) > 3 or int(text) > width:
        raise _Refused(b"prefix length is not 0 to %d" % width)
    return int(text)


def _prefix_key(packed: bytes, length: int, used: Used) -> bytes:
    family = IPV4_PREFIX if len(packed) == 4 else IPV6_PREFIX
    used[family].add(length)
    return family + _bits(packed)[:length]


def _bits(packed: bytes) -> bytes:
    """All the bits of an address, as the keys of prefixes have them."""
    bits = f"{int.from_bytes(packed, 'big'):0{8 * len(packed)}b}"
    if len(packed) == 4:
        return bytes([letter if bit == "1" else CLEAR for bit, letter in zip(bits, IPV4_SET, strict=True)])
    letters = iter(IPV6_SET)
    return bytes([next(letters) if bit == "1" else CLEAR for bit in bits])


def _ipv6_text(packed: bytes) -> bytes:
    return addresses.expand_ipv6(packed).upper()


# A peer to its rule


def search(get, ip: bytes, host: bytes | None, info: bytes | None) -> Rule | None:  # type: ignore[no-untyped-def]
    """The rule for a peer, or None. get(key) returns the data of a record, or None. host and info: None if not known,
    which is not the same as empty."""
    for key in keys(get, ip, host, info):
        data = get(key)
        if data is not None:
            return Rule(key, data)
    return None


def keys(get, ip: bytes, host: bytes | None, info: bytes | None) -> "Iterator[bytes]":  # type: ignore[no-untyped-def]
    """The keys to look for, in order; the first that is there decides, alone. Source: tcprules(1).

    For an IPv6 peer also the keys of Debian's ucspi-tcp-ipv6: the short text of the address, and its beginnings
    that end in a colon.
    """
    names, separator = [ip], b"."
    packed = addresses.parse_ipv6(ip.partition(b"%")[0]) if b":" in ip else None
    ipv4 = addresses.mapped_ipv4(packed) if packed is not None else None
    if ipv4 is not None:
        names = [addresses.format_ipv4(ipv4)]
    elif packed is not None:
        names, separator = [_ipv6_text(packed), addresses.format_ipv6(packed)], b":"
    ip = names[-1]

    if info is not None:
        for name in names:
            yield info + b"@" + name
        if host is not None:
            yield info + b"@=" + host
    yield from names
    if host is not None:
        yield b"=" + host
    end = ip.rfind(separator)
    while end >= 0:
        yield ip[: end + 1]
        end = ip.rfind(separator, 0, end)
    family = IPV6_PREFIX if separator == b":" else IPV4_PREFIX
    lengths = get(family + LENGTHS)
    if lengths:
        packed = packed if family == IPV6_PREFIX else addresses.parse_ipv4(ip)
        if packed is not None:
            bits = _bits(packed)
            for length in lengths:
                yield family + bits[:length]
    if host is not None:
        dot = host.find(b".")
        while dot >= 0:
            yield b"=" + host[dot:]
            dot = host.find(b".", dot + 1)
        yield b"="
    yield b""


def readable(key: bytes) -> bytes:
    """A key as a rule's text has it: a prefix as 10.0.0.0/8, an IPv6 address in its short form."""
    family, bits = key[:1], key[1:]
    width = WIDTHS.get(family, -1)
    if len(bits) <= width:
        number = int("".join(["0" if bit == CLEAR else "1" for bit in bits]).ljust(width, "0"), 2)
        packed = number.to_bytes(width // 8, "big")
        if _bits(packed)[: len(bits)] == bits:
            form = addresses.format_ipv4 if family == IPV4_PREFIX else addresses.format_ipv6
            return form(packed) + b"/%d" % len(bits)
    info, at, ip = key.rpartition(b"@")
    address = addresses.parse_ipv6(ip)
    return key if address is None else info + at + addresses.format_ipv6(address)
