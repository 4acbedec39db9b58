import hashlib
import hmac

import pytest

from qmailpy.stores.accounts import Refusal, schemes
from qmailpy.unix import crypt, libraries

STAMP = b"<1896.697170952@host.example>"
PASSWORD = b"pass word \xc3\xa9"


def matches(stored: bytes, password: bytes, stamp: bytes = b"") -> bool:
    return schemes.matches(stored, bytearray(password), stamp)


@pytest.mark.parametrize("name", sorted(set(schemes.LIBRARY.values()) - {"bcrypt_sha256", "scrypt"}))
def test_every_scheme_of_the_library_takes_the_right_password_only(name: str) -> None:
    libraries.enable()
    passlib_hash = pytest.importorskip("passlib.hash", reason="passlib is missing: pip install libpass")
    handler = getattr(passlib_hash, name)
    if name == "argon2":
        pytest.importorskip("argon2", reason="argon2 is missing: pip install argon2-cffi")
    cheap = handler.using(rounds=handler.min_rounds) if getattr(handler, "min_rounds", None) else handler
    stored = cheap.hash(PASSWORD).encode()
    assert matches(stored, PASSWORD)
    assert not matches(stored, PASSWORD + b"x")
    if stored.startswith(b"{"):
        label, _, rest = stored.partition(b"}")
        assert matches(label.lower() + b"}" + rest, PASSWORD)


@pytest.mark.parametrize("label", [b"", b"{CRYPT}", b"{crypt}", b"{SHA512-CRYPT}"])
def test_hashes_of_crypt_may_have_a_label(label: bytes) -> None:
    stored = crypt.crypt(bytearray(b"secret"), b"$6$rounds=1000$saltsalt$")
    assert stored is not None
    assert matches(label + stored, b"secret")
    assert not matches(label + stored, b"secre")


def test_a_secret_in_clear_serves_password_and_digests() -> None:
    stored = b"{PLAIN}secret"
    apop = hashlib.md5(STAMP + b"secret").hexdigest().encode()
    cram = hmac.new(b"secret", STAMP, "md5").hexdigest().encode()
    assert matches(stored, b"secret")
    assert matches(stored, b"secret", STAMP)
    assert matches(stored, apop, STAMP)
    assert matches(stored, cram, STAMP)
    assert matches(stored, STAMP, cram)


def test_a_digest_for_another_secret_or_challenge_is_wrong() -> None:
    stored = b"{PLAIN}secret"
    for secret, stamp in ((b"secreT", STAMP), (b"secret", b"<other@host.example>")):
        apop = hashlib.md5(stamp + secret).hexdigest().encode()
        cram = hmac.new(secret, stamp, "md5").hexdigest().encode()
        assert not matches(stored, apop, STAMP)
        assert not matches(stored, cram, STAMP)
    assert not matches(stored, b"", STAMP)
    assert not matches(stored, b"secret\n")


@pytest.mark.parametrize("stamp", [b"", b"x", b"<", b"no brackets"])
def test_without_a_challenge_a_digest_is_a_password(stamp: bytes) -> None:
    assert not matches(b"{PLAIN}secret", hashlib.md5(stamp + b"secret").hexdigest().encode(), stamp)
    assert not matches(b"{PLAIN}secret", hmac.new(b"secret", stamp, "md5").hexdigest().encode(), stamp)


def test_an_empty_secret_opens_nothing() -> None:
    assert not matches(b"{PLAIN}", b"")
    assert not matches(b"{PLAIN}", hashlib.md5(STAMP).hexdigest().encode(), STAMP)


@pytest.mark.parametrize("stored", [b"$foo$bar", b"{FOO}bar", b"thirteenbytes:", b"{SHA}", b"$argon2id$nonsense"])
def test_a_hash_that_nobody_knows_is_temporary_or_wrong_but_never_right(stored: bytes) -> None:
    try:
        assert not matches(stored, b"secret")
    except Refusal as refusal:
        assert refusal.code == 111
        assert b"unable to check" in refusal.text and b"secret" not in refusal.text
