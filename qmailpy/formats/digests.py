"""digests - what APOP and CRAM-MD5 send instead of a password. Pure.

Not hashlib: that one loads OpenSSL, and a login has no use for the rest of it.
"""

from _md5 import md5  # type: ignore[import-not-found]

BLOCK = 64  # bytes, RFC 2104 §2


def apop(stamp: bytes, secret: bytes) -> bytes:
    """The 32 hex digits for a stamp with its angle brackets, RFC 1939 §7."""
    return md5(stamp + secret).hexdigest().encode()  # type: ignore[no-any-return]


def cram_md5(challenge: bytes, secret: bytes) -> bytes:
    """The 32 hex digits for a challenge with its angle brackets, RFC 2195 §2: HMAC-MD5 of RFC 2104."""
    key = (secret if len(secret) <= BLOCK else md5(secret).digest()).ljust(BLOCK, b"\0")
    inner = md5(bytes(byte ^ 0x36 for byte in key) + challenge).digest()
    return md5(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest().encode()  # type: ignore[no-any-return]
