"""vhome - where the virtual domains are, and whose they are.

    VHOME/domains    a folder for each domain, and what is common to them
    VHOME/etc        defaultdomain, ip_alias_map, tcp.smtp ...

A name without a domain belongs to the default domain, which is decided here."""

import os

from qmailpy.formats import addresses, vpopmail
from qmailpy.stores import control
from qmailpy.stores.home import home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = b"VPOPMAILHOME"
ACCOUNT = b"vpopmail"
GROUP = b"vchkpw"
DOMAIN = b"VPOPMAIL_DOMAIN"
LOCAL_IP = b"TCPLOCALIP"

DEFAULT_DOMAIN = b"defaultdomain"
IP_MAP = b"ip_alias_map"
LOCALS = b"locals"
LOCALHOST = b"localhost"
BLANKS = b" \t\r"


class Etc(control.Control):
    """The files of VHOME/etc that are read as control files are."""

    __slots__ = ()

    def __init__(self, folder: bytes) -> None:
        self._folder = folder + b"/"


class Vhome:
    """path; domains and etc below it; qmail: the home of the mail system that the domains are known to."""

    __slots__ = ("domains", "etc", "path", "qmail")

    def __init__(self, path: bytes, qmail: bytes) -> None:
        self.path = path
        self.domains = path + b"/domains"
        self.etc = path + b"/etc"
        self.qmail = qmail

    def owner(self) -> tuple[int, int]:
        """uid and gid of a new domain: account vpopmail and group vchkpw, if we are root and they exist, else those
        that VHOME belongs to. Raises OSError; Invalid: they would be root's."""
        uid, gid = 0, 0
        if os.geteuid() == 0:
            uid, gid = _account()
        if not uid:
            status = os.stat(self.path)
            uid, gid = status.st_uid, status.st_gid
        if not uid:
            raise vpopmail.Invalid(vpopmail.BAD_UID)
        return uid, gid

    def split(self, name: bytes, env: "Mapping[bytes, bytes]") -> tuple[bytes, bytes]:
        """User and domain of a name, with the default domain where it has none, which may be empty. Raises Invalid,
        OSError."""
        user, domain = vpopmail.split(name)
        return user, domain or self.default_domain(env)

    def default_domain(self, env: "Mapping[bytes, bytes]") -> bytes:
        """$VPOPMAIL_DOMAIN; or the domain that etc/ip_alias_map has for $TCPLOCALIP, unless it is in control/locals; or
        etc/defaultdomain; or nothing. Raises OSError."""
        word = env.get(DOMAIN)
        if word is not None:
            return vpopmail.from_environment(word)
        etc = Etc(self.etc)
        mapped = ip_domain(etc.text(IP_MAP) or b"", env.get(LOCAL_IP, b""))
        if mapped and not self._in_locals(mapped):
            return mapped
        return (etc.line(DEFAULT_DOMAIN) or b"").rstrip(BLANKS)[: vpopmail.DOMAIN_LENGTH].lower()

    def _in_locals(self, host: bytes) -> bool:
        names = control.Control(self.qmail).lines(LOCALS)
        if not names:
            return False
        return host == LOCALHOST or host in [name.lower() for name in names]


def vhome(env: "Mapping[bytes, bytes]") -> Vhome:
    """The home of the virtual domains: $VPOPMAILHOME, else that of the account vpopmail, else that of the mail
    system."""
    qmail = home(env)
    path = env.get(VARIABLE)
    if not path:
        from qmailpy.unix import nss

        entry = nss.passwd(ACCOUNT)
        path = entry[5] if entry is not None else qmail
    if path.startswith(b"/"):
        for part in path[1:].split(b"/"):
            if not part or part.startswith(b"."):
                break
        else:  # nothing to be done, so the pages of posixpath are not touched
            return Vhome(path, qmail)
    return Vhome(os.path.abspath(path), qmail)


def _account() -> tuple[int, int]:
    """Of account vpopmail and group vchkpw, or its own group; 0 and 0 if there is none. Raises OSError."""
    from qmailpy.unix import ids, nss

    entry = nss.passwd(ACCOUNT)
    if entry is None:
        return 0, 0
    try:
        return entry[2], ids.group(GROUP)
    except LookupError:
        return entry[2], entry[3]


def ip(text: bytes) -> bytes:
    """One form for each IPv4 or IPv6 address, whatever the text of it; IPv4 also for IPv4 in IPv6. What is no address
    stays as it is."""
    packed = addresses.parse_ipv4(text) or addresses.parse_ipv6(text.partition(b"%")[0])
    return text if packed is None else addresses.format_ip(addresses.unmap(packed))


def ip_lines(text: bytes) -> list[tuple[bytes, bytes]]:
    """(address, domain) of each line of an ip_alias_map; what is no such line is passed over."""
    words = [line.split() for line in text.split(b"\n")]
    return [(line[0], line[1]) for line in words if len(line) >= 2]


def ip_domain(text: bytes, address: bytes) -> bytes:
    """The domain that an ip_alias_map has for an address, lowered; nothing if it has none."""
    wanted = ip(address)
    if wanted:
        for each, domain in ip_lines(text):
            if ip(each) == wanted:
                return domain.lower()
    return b""
