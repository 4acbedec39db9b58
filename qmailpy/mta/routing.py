"""routing - where a message goes, and which hosts are left out. Pure.

smtproutes comes first: a relay there stands for all that DNS would say. Else the mail exchangers are asked by
preference, those of one preference in random order; whoever is one itself asks only those before it. A host that did
not answer in time is left out for a while, and no longer than that."""

from qmailpy.formats import smtproutes, tcpto
from qmailpy.formats.smtproutes import Route

MOST_HOSTS = 32  # of one domain that are looked up
MOST_TROUBLE = 4  # of these about which name servers do not answer: each takes minutes
MOST_TARGETS = 32  # addresses of one domain that are tried
MOST_INSECURE = 4  # of these that may lack the TLS they need: each takes a connection

# tcpto of the original, in seconds and times
PATIENCE = 2  # a host is left out once it was too slow so often
OUT_S = 60 << 6  # for how long; up to half as long again, as the process number has it
REPEATED_S = 120  # before which another time does not count
WEIGHT_S = 1 << 10  # how much longer a host is remembered for each time

# This host whatever its interfaces are, RFC 1122 section 3.2.1.3, RFC 4291 sections 2.5.2 and 2.5.3
ANY4, ANY6, LOOPBACK6 = bytes(4), bytes(16), bytes(15) + b"\1"
LOOPBACK4 = b"\x7f"  # and three more bytes


class Target:
    """An address to try; the lower the preference the better. name: the server's, or its address as text; bases: wire
    names where DANE may have records for it, none if the way to it is not authentic."""

    __slots__ = ("bases", "ip", "name", "preference")

    def __init__(self, ip: bytes, preference: int, name: bytes = b"", bases: tuple[bytes, ...] = ()) -> None:
        self.ip = ip
        self.preference = preference
        self.name = name
        self.bases = bases


def artificial(routes: bytes, senders: bytes, host: bytes, sender: bytes) -> Route | None:
    """What control/authsenders says for a sender, else control/smtproutes for a host; None for a route by DNS."""
    for text, keys in ((senders, smtproutes.sender_keys(sender)), (routes, smtproutes.host_keys(host))):
        value = smtproutes.find(text, keys) if text else None
        route = None if value is None else smtproutes.parse(value)
        if route is not None:
            return route
    return None


def in_order(exchanges: list[tuple[int, bytes]], draw: list[bytes]) -> list[tuple[int, bytes]]:
    """Mail exchangers, (preference, name) each, as they are asked. draw: a random word for each, no two alike."""
    ordered = sorted(zip([preference for preference, _ in exchanges], draw, range(len(draw)), strict=True))
    return [exchanges[at] for _, _, at in ordered]


def null(exchanges: list[tuple[int, bytes]]) -> bool:
    """Whether a domain says that it takes no mail, RFC 7505."""
    return len(exchanges) == 1 and exchanges[0][1] == b"."


def before_us(targets: list[Target], ours: "frozenset[bytes]") -> list[Target]:
    """The targets that are better than the first of our own addresses: a worse one would only give mail back."""
    mine = [target.preference for target in targets if target.ip in ours or is_this_host(target.ip)]
    return [target for target in targets if target.preference < min(mine)] if mine else targets


def is_loopback(ip: bytes) -> bool:
    """Whether nothing that goes there leaves this host."""
    return ip.startswith(LOOPBACK4) if len(ip) == 4 else ip == LOOPBACK6


def is_this_host(ip: bytes) -> bool:
    """Whether an address means this host on any."""
    return is_loopback(ip) or ip in (ANY4, ANY6)


def left_out(entry: "tcpto.Entry | None", now: int, pid: int) -> bool:
    """Whether a host with that record is not to be tried now."""
    return entry is not None and entry.count >= PATIENCE and now - entry.when < OUT_S + ((pid & 31) << 6)


def forgiven(table: bytes, ip: bytes) -> tuple[int, bytes] | None:
    """(position, record) to write in the table for a host that has answered, or refused; None for nothing."""
    entry = tcpto.find(table, ip)
    return None if entry is None else (entry.position, tcpto.changed(table, entry.position, ip, 0, entry.when))


def noted(table: bytes, ip: bytes, now: int) -> tuple[int, bytes] | None:
    """(position, record) to write in the table for a host that did not answer in time; None for nothing."""
    entry = tcpto.find(table, ip)
    if entry is not None:
        if entry.count and now < entry.when + REPEATED_S:
            return None
        return entry.position, tcpto.changed(table, entry.position, ip, min(entry.count + 1, tcpto.MOST), now)
    entries = tcpto.entries(table)
    if not entries:
        return None
    free = [entry for entry in entries if not entry.count]
    place = free[0] if free else min(entries, key=lambda entry: entry.when + entry.count * WEIGHT_S)
    return place.position, tcpto.changed(table, place.position, ip, 1, now)
