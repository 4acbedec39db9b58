"""logins - whether a password is that of an account of a virtual domain, and what a login leaves behind."""

import os

from qmailpy.formats import digests, hashes
from qmailpy.formats.cdb import HEADER, PAIR
from qmailpy.formats.hashes import method as method_of
from qmailpy.stores.accounts import Refusal, schemes
from qmailpy.stores.accounts.schemes import matches
from qmailpy.stores.vpopmail import accounts
from qmailpy.unix import crypt, ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.formats.vpasswd import Account
    from qmailpy.stores.vpopmail.domains import Domain

# How a password is proven, as the originals log it.
PLAIN, APOP, CRAM_MD5 = b"PLAIN", b"APOP", b"CRAM-MD5"

SAMPLED = 16384  # bytes of vpasswd.cdb that are looked through for a typical hash

# Beside these, whatever somebody with the file can try at millions a second.
STRONG = frozenset({
    b"$y$", b"$gy$", b"$7$", b"$6$", b"$5$", b"$2a$", b"$2b$", b"$2y$", b"$argon2id$", b"$argon2i$", b"$argon2d$",
    b"$scrypt$", b"$pbkdf2-sha256$", b"$pbkdf2-sha512$", b"$bcrypt-sha256$",
})  # fmt: skip


def proof(account: "Account", password: bytearray, stamp: bytes) -> bytes:
    """How password, or the digest in its place, is that of account; b"" if it is not. Raises Refusal: nobody can tell.

    Patches for SMTP have the challenge in the place of the password, and the digest in that of the stamp. Nothing
    opens an account that is locked."""
    stored = bare(account.password)
    if (len(stored) < hashes.SHORTEST or not stored.startswith(b"$")) and hashes.locked(stored):
        return b""
    if account.clear:
        if schemes.is_challenge(stamp) and crypt.same(digests.apop(stamp, account.clear), password):
            return APOP
        for challenge, digest in ((stamp, password), (bytes(password), stamp)):
            if schemes.is_challenge(challenge) and crypt.same(digests.cram_md5(challenge, account.clear), digest):
                return CRAM_MD5
    return PLAIN if matches(stored, password, stamp) else b""


def bare(stored: bytes) -> bytes:
    """A hash without a label before it that means nothing, as the originals drop each `{...}`."""
    method = method_of(stored)
    if method.startswith(b"{") and method not in schemes.LIBRARY and method not in schemes.PLAIN:
        return stored[len(method) :]
    return stored


def is_locked(account: "Account") -> bool:
    """Whether no password opens it, nor a digest of one: it has no hash, or one that begins with ! or *."""
    return hashes.locked(bare(account.password))


def is_weak(stored: bytes) -> bool:
    return method_of(bare(stored)) not in STRONG


def waste_time(domain: "Domain | None", password: bytearray) -> None:
    """Do what a wrong password costs, where there is none to compare: the time is not to tell which accounts there
    are."""
    try:
        schemes.matches(bare(_typical(domain) or crypt.setting()), password, b"")
    except Refusal:
        pass


def _typical(domain: "Domain | None") -> bytes:
    """A hash as most accounts of the domain have it; b"" if none can be seen."""
    if domain is None:
        return b""
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        fd = ids.open_as(domain.uid, domain.gid, domain.dir + accounts.COMPILED, flags)
        try:
            data = os.pread(fd, SAMPLED, HEADER)
        finally:
            os.close(fd)
    except OSError:
        return b""
    found = []
    at = 0
    while at + PAIR.size <= len(data):
        key, length = PAIR.unpack_from(data, at)
        at += PAIR.size + key
        found.append(data[at : at + length].partition(b":")[0])
        at += length
    return hashes.typical(found)


def strengthen(domain: "Domain", account: "Account", password: bytearray) -> None:
    """Give account a new hash of its password, unless somebody else has changed it. Raises OSError, Invalid."""
    made = crypt.make(password)
    with accounts.Change(domain) as change:
        current = change.get(account.name)
        if current is not None and current.password == account.password:
            current.password = made
            change.put([current])
