"""domains - the virtual domains: each is a line of users/assign, and of its cdb, `+NAME-:REAL:UID:GID:DIR:-::`.

An alias domain is such a line with the REAL name of another and that one's folder. DIR is ROOT/domains/NAME, with one
to three hashed directories before NAME where there are many; ROOT is VHOME, or the home of an account that domains are
made for.
"""

import os

from qmailpy.formats import assign
from qmailpy.formats.assign import fields
from qmailpy.formats.numbers import scan
from qmailpy.formats.vpopmail import DOMAIN_CHARACTERS
from qmailpy.stores.cdb import take
from qmailpy.stores.users import CDB
from qmailpy.unix import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmailpy.stores.vpopmail.vhome import Vhome

ASSIGN = b"users/assign"  # below the home of the mail system
BREAK = b"-"  # between a domain and a user
LARGEST = 1 << 32  # bytes: a cdb of more there is not


class Domain:
    """name: the real one; alias: the name that was asked for, the same unless it is another's; dir, uid and gid: whose
    folder it is and where. Never root's."""

    __slots__ = ("alias", "dir", "gid", "name", "uid")

    def __init__(self, name: bytes, dir: bytes, uid: int, gid: int, alias: bytes = b"") -> None:
        self.name = name
        self.dir = dir
        self.uid = uid
        self.gid = gid
        self.alias = alias or name

    @property
    def is_alias(self) -> bool:
        return self.alias != self.name


def find(vhome: "Vhome", name: bytes) -> Domain | None:
    """The domain of a name, or the one it is an alias of; None if there is none. One look-up in users/cdb; where that
    is missing, users/assign is read. Raises OSError: EPROTO for a cdb that is none."""
    lower = name.lower()
    if not lower or lower.translate(None, DOMAIN_CHARACTERS):
        return None
    key = b"!" + lower + BREAK
    try:
        fd = os.open(vhome.qmail + b"/" + CDB, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return next((each for each in _listed(_text_if_any(vhome)) if each.alias == lower), None)
    data = take(fd, key)
    return None if data is None else domain(lower, data)


def every(vhome: "Vhome", real: bytes = b"") -> "Iterator[Domain]":
    """All domains and alias domains, or those of one real name, in the order of users/assign. Raises OSError: there is
    none."""
    for each in _listed(text(vhome)):
        if not real or each.name == real:
            yield each


def aliases(vhome: "Vhome", domain: Domain) -> list[bytes]:
    """The names that are aliases of a domain. Raises OSError."""
    return [each.alias for each in every(vhome, domain.name) if each.is_alias]


def text(vhome: "Vhome") -> bytes:
    """users/assign. Raises OSError."""
    fd = os.open(vhome.qmail + b"/" + ASSIGN, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return fds.read_all(fd, LARGEST)
    finally:
        os.close(fd)


def _text_if_any(vhome: "Vhome") -> bytes:
    try:
        return text(vhome)
    except FileNotFoundError:
        return b""


def _listed(text: bytes) -> "Iterator[Domain]":
    """The first line for each name, as a cdb has it."""
    seen = set()
    for line in text.split(b"\n"):
        if line.startswith(assign.END):
            return
        words = line.split(b":")
        if len(words) < assign.FIELDS + 2 or not words[0].startswith(assign.PREFIX) or not words[0].endswith(BREAK):
            continue
        name = words[0][1:-1].lower()
        found = domain(name, b"\0".join(words[1:7]))
        if found is not None and name not in seen:
            seen.add(name)
            yield found


def domain(name: bytes, data: bytes) -> Domain | None:
    """The domain of a name, by the six strings of its line; None for a line that is no domain's: an account of the
    system has such ones too, without a dot in its name."""
    try:
        real, uid, gid, folder, dash, _ = fields(data)
    except ValueError:
        return None
    if b"." not in real or dash != BREAK or not folder.startswith(b"/"):
        return None
    owner = scan(uid)[0]
    return Domain(real.lower(), folder, owner, scan(gid)[0], name) if owner else None
