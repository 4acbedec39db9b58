"""smtproutes - the lines of control/smtproutes and control/authsenders: KEY:RELAY, and what may stand behind. Pure.

    dom:relay                    by that relay
    dom:relay:26                 by its port 26
    dom:[2001:db8::1]:26         an address; that of IPv4 may do without brackets
    dom:relay|user|password      with AUTH; also behind a port
    dom:smtps://relay            TLS from the first byte, by its port 465; also with a port, and with AUTH
    dom:relay:465                the same: nothing else listens there
    dom:smtp://relay:465         not so
    [2001:db8::7]:relay          for mail to that address
    dom:                         by DNS, whatever a later key would say

The file is searched, not read line by line: it may be long, and each delivery needs one line of it."""

from qmailpy.formats import numbers

PORT = 25
TLS_PORT = 465  # RFC 8314
SCHEMES = (b"smtp://", b"smtps://")
BLANKS = b"\n \t"


class Route:
    """A relay and its port; user and password are both empty where there is nothing to log in with; tls: from the first
    byte."""

    __slots__ = ("password", "port", "relay", "tls", "user")

    def __init__(
        self, relay: bytes, port: int = PORT, user: bytes = b"", password: bytes = b"", tls: bool = False
    ) -> None:
        self.relay = relay
        self.tls = tls
        self.port = port
        self.user = user
        self.password = password


def without_password(line: bytes) -> bytes:
    """A line as it may be shown."""
    place, user, password = (*line.split(b"|", 2), b"", b"")[:3]
    return b"%s|%s|..." % (place, user) if password else line


def host_keys(host: bytes) -> list[bytes]:
    """What a host may be listed as: itself, each of its tails that begin with a dot, and the key of all."""
    return _keys(host, b".")


def sender_keys(sender: bytes) -> list[bytes]:
    """What a sender may be listed as: itself, each tail from an @ or a dot on, and the key of all."""
    return _keys(sender, b"@.")


def _keys(name: bytes, marks: bytes) -> list[bytes]:
    return [name] + [name[at:] for at in range(1, len(name)) if name[at] in marks] + ([b""] if name else [])


def find(text: bytes, keys: list[bytes]) -> bytes | None:
    """What stands behind the first of these keys that has a line in text, in upper or lower case; None if none has.
    Of two lines with one key the last counts. Lines that begin with # are comments."""
    folded = b"\n" + text.lower()
    for key in keys:
        literal = key.startswith(b"[") and key.endswith(b"]")  # of IPv6
        if (b":" in key and not literal) or b"\n" in key or key.startswith(b"#"):
            continue
        at = folded.rfind(b"\n" + key.lower() + b":")
        if at >= 0:  # here is also where the line begins in text, which has no newline in front
            return text[at + len(key) + 1 :].partition(b"\n")[0].rstrip(BLANKS)
    return None


def parse(value: bytes) -> Route | None:
    """The route that stands behind a key; None for one by DNS. Of a port the digits at its front count, modulo 65536
    (scan_ulong)."""
    place, _, login = value.partition(b"|")
    user, _, password = login.partition(b"|")
    scheme = next((scheme for scheme in SCHEMES if place.lower().startswith(scheme)), b"")
    place = place[len(scheme) :]
    if place.startswith(b"[") and b"]" in place:
        relay, _, rest = place.partition(b"]")
        relay += b"]"
        port = rest[1:] if rest.startswith(b":") else b""
    else:
        relay, _, port = place.partition(b":")
    if not relay:
        return None
    number, digits = numbers.scan(port)
    tls = scheme == b"smtps://"
    route = Route(relay, number % 65536 if digits else TLS_PORT if tls else PORT)
    route.tls = tls or (not scheme and route.port == TLS_PORT)
    if user and password:
        route.user, route.password = user, password
    return route
