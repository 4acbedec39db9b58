"""schemes - whether a password is that of a stored hash, whoever made the hash:

$6$... $y$... $2b$... and the like       crypt(3), at the price of the hash alone
{CRYPT}..., {SHA512-CRYPT}...            the same behind the label that Dovecot and LDAP give it
{PLAIN}secret                            itself, and the digests of APOP and CRAM-MD5 made of it
$argon2id$... $pbkdf2-sha256$... {SSHA}  libpass (module passlib), loaded for that one login
"""

from qmailpy import strerr
from qmailpy.formats import digests, hashes
from qmailpy.stores.accounts import Refusal
from qmailpy.unix import crypt, libraries

PLAIN = frozenset({b"{PLAIN}", b"{CLEARTEXT}", b"{CLEAR}"})

# hashes.method -> the name in passlib.hash
LIBRARY = {
    b"$argon2i$": "argon2",
    b"$argon2d$": "argon2",
    b"$argon2id$": "argon2",
    b"$pbkdf2$": "pbkdf2_sha1",
    b"$pbkdf2-sha256$": "pbkdf2_sha256",
    b"$pbkdf2-sha512$": "pbkdf2_sha512",
    b"$scrypt$": "scrypt",
    b"$bcrypt-sha256$": "bcrypt_sha256",
    b"$apr1$": "apr_md5_crypt",
    b"$P$": "phpass",
    b"$H$": "phpass",
    b"{SHA}": "ldap_sha1",
    b"{SSHA}": "ldap_salted_sha1",
    b"{SSHA256}": "ldap_salted_sha256",
    b"{SSHA512}": "ldap_salted_sha512",
    b"{MD5}": "ldap_md5",
    b"{SMD5}": "ldap_salted_md5",
    b"{PBKDF2}": "ldap_pbkdf2_sha1",
    b"{PBKDF2-SHA256}": "ldap_pbkdf2_sha256",
    b"{PBKDF2-SHA512}": "ldap_pbkdf2_sha512",
}


def matches(stored: bytes, password: bytearray, stamp: bytes) -> bool:
    """Whether password, or the digest in its place, belongs to stored. Raises Refusal: nobody here can tell."""
    method = hashes.method(stored)
    if method in PLAIN:
        return _plain(stored[len(method) :], password, stamp)
    if method.endswith(b"CRYPT}") or method.startswith(b"{ARGON2"):
        stored = stored[len(method) :]
        method = hashes.method(stored)
    hashed = crypt.crypt(password, stored)
    if hashed is not None:
        return crypt.same(hashed, stored)
    if crypt.lacks_memory(stored):
        raise Refusal(strerr.LATER, b"not enough memory for hashes of the form " + method)
    if method in LIBRARY:
        return _library(method, method + stored[len(method) :], password)
    raise Refusal(strerr.LATER, b"unable to check hashes of the form " + (method or b"of no known method"))


def _plain(secret: bytes, password: bytearray, stamp: bytes) -> bool:
    """The secret itself; or the answer to the challenge that is the stamp; or, as old SMTP patches have it, the
    other way round: challenge in the place of the password, answer in that of the stamp.

    Without a challenge there are no digests, or one that was once overheard would be good for ever.
    """
    right = crypt.same(secret, password)
    if is_challenge(stamp):
        right |= crypt.same(digests.apop(stamp, secret), password)
        right |= crypt.same(digests.cram_md5(stamp, secret), password)
    if is_challenge(password):
        right |= crypt.same(digests.cram_md5(bytes(password), secret), stamp)
    return right and secret != b""


def is_challenge(text: bytes | bytearray) -> bool:
    """RFC 1939 §7 and RFC 2195 §2: a message id."""
    return text.startswith(b"<") and text.endswith(b">")


def _library(method: bytes, stored: bytes, password: bytearray) -> bool:
    name = LIBRARY[method]
    libraries.enable()
    try:
        import passlib.hash  # type: ignore[import-untyped]

        return bool(getattr(passlib.hash, name).verify(bytes(password), stored.decode("latin-1")))
    except (ImportError, AttributeError, RuntimeError):  # RuntimeError: passlib's word for a missing argon2-cffi
        what = b"argon2-cffi" if name == "argon2" else b"bcrypt" if name.startswith("bcrypt") else b""
        needed = b"libpass" + (b" and " + what if what else b"")
        raise Refusal(strerr.LATER, b"unable to check hashes of the form %s: %s must be installed" % (method, needed))
    except MemoryError:
        raise Refusal(strerr.LATER, b"not enough memory for hashes of the form " + method)
    except (ValueError, TypeError):  # also what OpenSSL makes of a lack of memory
        raise Refusal(strerr.LATER, b"unable to check a hash of the form %s: malformed, or too little memory" % method)
