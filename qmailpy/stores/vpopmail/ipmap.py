"""ipmap - VHOME/etc/ip_alias_map: a line `IP DOMAIN` for each local address that has a default domain of its own.
formats and look-ups are vhome's."""

import os

from qmailpy.formats import addresses
from qmailpy.stores import safeio
from qmailpy.stores.vpopmail import trees
from qmailpy.stores.vpopmail.vhome import IP_MAP, Etc, ip, ip_lines
from qmailpy.unix import recordlocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qmailpy.stores.vpopmail.vhome import Vhome

Pairs = list[tuple[bytes, bytes]]

ETC = b"etc"
ETC_MODE = 0o755
LOCK = b".lock"
TEMPORARY = b".tmp"
MODE = 0o644


def pairs(vhome: "Vhome") -> Pairs:
    """(address, domain), in the order of the file. Raises OSError."""
    return ip_lines(Etc(vhome.etc).text(IP_MAP) or b"")


def address(text: bytes) -> bytes | None:
    """The one form of an address; None for what is none."""
    form = ip(text)
    return form if addresses.parse_ipv4(form) or addresses.parse_ipv6(form) else None


def add(vhome: "Vhome", address: bytes, domain: bytes) -> None:
    """Have domain, and no other, for an address. Raises OSError."""
    _change(vhome, lambda found: [*(pair for pair in found if ip(pair[0]) != address), (address, domain)])


def remove(vhome: "Vhome", address: bytes, domain: bytes) -> None:
    """Have no line of both. Raises OSError."""
    _change(vhome, lambda found: [pair for pair in found if (ip(pair[0]), pair[1].lower()) != (address, domain)])


def _change(vhome: "Vhome", changed: "Callable[[Pairs], Pairs]") -> None:
    """With the rights of etc's owner."""
    trees.make(vhome.path, ETC, ETC_MODE)
    path = vhome.etc + b"/" + IP_MAP
    with trees.Inside(vhome.etc):
        fd = recordlocks.acquire(path + LOCK)
        try:
            found = pairs(vhome)
            after = changed(found)
            if after != found:
                text = b"".join(b"%s %s\n" % pair for pair in after)
                safeio.replace(path, path + TEMPORARY, (text,), MODE)
        finally:
            os.close(fd)
