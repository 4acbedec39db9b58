"""resolvconf - how a host resolves names: its servers, and the rules that complete a name. Pure.

The rules are the originals' (dns_ip4_qualify), one per line of a rewriting file. Each rule is tried once, in
order, on what the rules before it have left:

    =name:new    a name that equals `name` becomes `new`
    *tail:new    a name that ends in `tail` gets `new` in place of it
    ?tail:new    the same, if what is before the tail has none of `.` `[` `]`
    -tail:new    a name that ends in `tail` becomes `new`

Any other line does nothing. If the outcome holds `+`, as in `name+.heaven.af.mil+.af.mil`, the endings behind
it are tried one after the other.
"""

from qmailpy.formats import addresses, dns

MOST_SERVERS = 16  # dns_resolvconfip of the originals
PORT = 53

# RFC 6761 section 6.3: a resolver answers these names itself.
LOOPBACKS = b"+127.0.0.1+::1"
LOCALHOST = tuple(rule + LOOPBACKS for rule in (b"=localhost:", b"=localhost.:", b"-.localhost:", b"-.localhost.:"))
NO_FINAL_DOT = b"*.:"

# Seconds that each server is given in the first, second, third round (dns_transmit with recursion).
WAITS_S = (3.0, 11.0, 45.0)

Server = tuple[bytes, bytes]  # address, 4 or 16 bytes long; the interface of a link-local one, else b""


class Resolver:
    """How to resolve names. What could not be read is the error, for those who come to need it. believed: addresses of
    servers; only if one of these says that an answer is authentic, it is."""

    __slots__ = ("believed", "port", "rules", "servers", "waits_s")

    def __init__(
        self,
        servers: "list[Server] | OSError",
        rules: "list[bytes] | OSError",
        port: int = PORT,
        waits_s: tuple[float, ...] = WAITS_S,
    ) -> None:
        self.servers = servers
        self.rules = rules
        self.port = port
        self.waits_s = waits_s
        self.believed: frozenset[bytes] = frozenset()


def joined_servers(text: bytes) -> list[Server]:
    """The servers in DNSCACHEIP: IPv4 addresses, joined by dots; what follows the last whole one is ignored."""
    servers: list[Server] = []
    while len(servers) < MOST_SERVERS:
        text = text.lstrip(b".")
        ip, length = dns.scan4(text)
        if not ip:
            break
        servers.append((ip, b""))
        text = text[length:]
    return servers


def server(word: bytes) -> "Server | None":
    """One server as resolv.conf(5) writes it: IPv4, IPv6, or link-local IPv6 with `%interface`."""
    address, _, interface = word.partition(b"%")
    ip = addresses.parse_ipv6(address) or dns.scan4(word)[0]
    return (ip, interface if len(ip) == 16 else b"") if ip else None


def listed_servers(text: bytes) -> list[Server]:
    """The servers in the nameserver lines of resolv.conf."""
    found = (server(words[0]) for words in _values(text, (b"nameserver",)) if words)
    return [one for one in found if one is not None][:MOST_SERVERS]


def _values(text: bytes, keywords: tuple[bytes, ...]) -> list[list[bytes]]:
    """The words behind each of these keywords; a keyword stands at the start of its line."""
    lines = [line.replace(b"\t", b" ").partition(b" ") for line in text.split(b"\n")]
    return [
        [word for word in rest.split(b" ") if word] for keyword, blank, rest in lines if keyword in keywords and blank
    ]


def rewriting_rules(text: bytes) -> list[bytes]:
    """The rules in a rewriting file, which stands for itself: nothing is added."""
    return [line.rstrip(b" \t\r") for line in text.split(b"\n")]


def localdomain_rules(text: bytes) -> list[bytes]:
    """The rules that LOCALDOMAIN stands for: domains, each separated by one space."""
    return _searching(text.split(b" "))


def search_rules(text: bytes) -> "list[bytes] | None":
    """The rules that the first search or domain line of resolv.conf stands for; None without such a line."""
    for words in _values(text, (b"search", b"domain")):
        return _searching(words)
    return None


def host_rules(host: bytes) -> list[bytes]:
    """The rules that this host's own name stands for: its domain completes a name without a dot."""
    domain = host.partition(b".")
    return [*LOCALHOST, *([b"?:." + domain[2]] if domain[1] else []), NO_FINAL_DOT]


def _searching(domains: list[bytes]) -> list[bytes]:
    return [*LOCALHOST, b"?:" + b"".join(b"+." + domain for domain in domains), NO_FINAL_DOT]


def qualified(name: bytes, rules: list[bytes]) -> list[bytes]:
    """The names to try, in order, in place of name."""
    for rule in rules:
        name = _apply(rule, name)
    stem, plus, endings = name.partition(b"+")
    return [stem + ending for ending in endings.split(b"+")] if plus else [name]


def _apply(rule: bytes, name: bytes) -> bytes:
    kind = rule[:1]
    tail, colon, new = rule[1:].partition(b":")
    if not colon or not name.lower().endswith(tail.lower()):
        return name
    stem = name[: len(name) - len(tail)]
    if kind == b"=":
        return name if stem else new
    if kind == b"-":
        return new
    if kind == b"*" or (kind == b"?" and not any(byte in stem for byte in b".[]")):
        return stem + new
    return name
