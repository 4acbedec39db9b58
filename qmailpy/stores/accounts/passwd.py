"""passwd - the system's accounts: passwd(5) and shadow(5), wherever nsswitch.conf(5) has them.

Every refusal costs the same: one password hashed, one name found, one name not found, one look into the shadow
file. An unknown name or a locked account has no hash to check against, so it gets a typical one of that file.
"""

import os

from qmailpy import strerr
from qmailpy.formats import hashes
from qmailpy.formats.fd3 import REFUSED
from qmailpy.stores.accounts import Account, Refusal
from qmailpy.unix import crypt, nss

SAMPLED = 65536  # bytes of the shadow file that are looked through for a typical hash

NOBODY = b"no-such-account"
FAST = b"xx"  # a salt of DES, where libcrypt has that still


def prepare() -> None:
    """What the first look-up and the first hash of a process do besides."""
    nss.prepare()
    crypt.crypt(bytearray(), b"$1$$")


def check(name: bytes, password: bytearray, today: int) -> Account:
    """The account of name if password is right today, in days since 1970. Raises Refusal."""
    try:
        entry = nss.passwd(name)
        shadow = nss.shadow(name)
    except OSError as e:
        raise Refusal(strerr.LATER, b"unable to look up accounts and shadow passwords", e) from None
    return _judge(entry, shadow, password, today)


def rehearse(password: bytearray) -> None:
    """Find an account, and let another one in by its password. Raises OSError."""
    entry = nss.passwd(nss.SOMEBODY)
    try:
        shadow = nss.shadow(nss.SOMEBODY)
    except OSError:  # not for us to read
        shadow = None
    stored = crypt.crypt(password, FAST)
    if entry is not None and stored is not None:
        shadowed = shadow and (NOBODY, stored, 1, *[-1] * 6)
        _judge((NOBODY, stored, *entry[2:]), shadowed, password, 1)


def _judge(entry, shadow, password: bytearray, today: int) -> Account:  # type: ignore[no-untyped-def]
    """Raises Refusal."""
    stored = shadow[1] if shadow else entry[1] if entry else b""
    usable = entry is not None and not hashes.locked(stored)
    hashed = crypt.crypt(password, stored if usable else _typical())
    if not usable or hashed is None or not crypt.same(hashed, stored) or (shadow and expired(shadow, today)):
        _level(password, entry is not None, usable, hashed is not None)
        if usable and hashed is None:
            why = b"not enough memory for" if crypt.lacks_memory(stored) else b"crypt(3) does not know"
            raise Refusal(strerr.LATER, why + b" hashes of the form " + hashes.method(stored))
        raise Refusal(REFUSED)
    _, _, uid, gid, _, home, shell = entry
    return Account(entry[0], uid, gid, home, shell)


def expired(shadow, today: int) -> bool:  # type: ignore[no-untyped-def]
    """Whether shadow(5) rules this account out: it has expired; or its password must be changed first, which
    nobody can do here; or it was not changed within its maximum age and the days of grace behind that.

    A password beyond its maximum age is still accepted where no days of grace are set, says shadow(5).
    """
    _, _, changed, _, maximum, _, inactive, expires, _ = shadow
    if changed == 0 or (expires != -1 and today >= expires):
        return True
    return min(changed, maximum, inactive) >= 0 and bool(today > changed + maximum + inactive)


def _typical() -> bytes:
    """A hash as most accounts of this system have it; where none can be seen, what a new one would be like."""
    try:
        fd = os.open(nss.SHADOW, os.O_RDONLY | os.O_CLOEXEC)
        try:
            lines = os.read(fd, SAMPLED).split(b"\n")
        finally:
            os.close(fd)
    except OSError:
        lines = []
    return hashes.typical([line.split(b":", 2)[1] for line in lines if b":" in line]) or crypt.setting()


def _level(password: bytearray, known: bool, usable: bool, hashed: bool) -> None:
    """Do what a refusal of the other kind has done before: its result is of no interest, only the time it takes."""
    try:
        other = NOBODY if known else nss.SOMEBODY
        nss.passwd(other)
        nss.shadow(other)
    except OSError:
        pass
    if usable:
        typical = _typical()
        if not hashed:
            crypt.crypt(password, typical)
