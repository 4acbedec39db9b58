import hashlib
import hmac
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import cdb, digests
from qmailpy.formats.vpasswd import Account
from qmailpy.stores.accounts import Refusal, schemes
from qmailpy.stores.vpopmail import logins
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.unix import crypt
from tests.accounts import sha512

SHA512 = sha512(b"secret").encode()
DES = crypt.crypt(bytearray(b"secret"), b"ns") or b""
STAMP = b"<1.2@host.example>"


def proof(account: Account, password: bytes, stamp: bytes = b"") -> bytes:
    return logins.proof(account, bytearray(password), stamp)


def test_a_password_is_proven_by_itself_or_by_a_digest_of_what_is_kept() -> None:
    kept = Account(b"max", SHA512, clear=b"kept")
    apop = hashlib.md5(STAMP + b"kept").hexdigest().encode()
    cram = hmac.new(b"kept", STAMP, "md5").hexdigest().encode()
    assert proof(kept, b"secret", STAMP) == logins.PLAIN
    assert proof(kept, apop, STAMP) == logins.APOP
    assert proof(kept, cram, STAMP) == logins.CRAM_MD5
    assert proof(kept, b"kept", STAMP) == b""  # of the hash alone
    for stamp in b"", STAMP[1:], b"<9.9@host.example>":
        assert proof(kept, apop, stamp) == b""
    assert proof(Account(b"max", SHA512), apop, STAMP) == b""
    assert proof(Account(b"max", SHA512, clear=b""), hashlib.md5(STAMP).hexdigest().encode(), STAMP) == b""


def test_the_challenge_may_be_in_the_place_of_the_password_as_patches_for_smtp_have_it() -> None:
    kept = Account(b"max", SHA512, clear=b"kept")
    cram = hmac.new(b"kept", STAMP, "md5").hexdigest().encode()
    assert proof(kept, STAMP, cram) == logins.CRAM_MD5
    assert proof(kept, STAMP, hashlib.md5(STAMP + b"kept").hexdigest().encode()) == b""
    for challenge, digest in ((STAMP, b""), (STAMP[1:], cram), (b"<9.9@host.example>", cram)):
        assert proof(kept, challenge, digest) == b""
    assert proof(Account(b"max", SHA512), STAMP, cram) == b""


@pytest.mark.parametrize(
    ("stored", "weak", "locked"),
    [
        (SHA512, False, False),
        (b"{SHA512-CRYPT}" + SHA512, False, False),
        (b"$y$j9T$x$y", False, False),
        (b"$argon2id$v=19$x", False, False),
        (DES, True, False),
        (b"{any}" + DES, True, False),
        (b"$1$x$y", True, False),
        (b"{SSHA}abc", True, False),
        (b"{PLAIN}abc", True, False),
        (b"", True, True),
        (b"!" + SHA512, True, True),
        (b"*", True, True),
        (b"{any}", True, True),
    ],
)
def test_what_is_weak_and_what_is_locked(stored: bytes, weak: bool, locked: bool) -> None:
    assert logins.is_locked(Account(b"max", stored)) == locked
    assert locked or logins.is_weak(stored) == weak


@pytest.mark.parametrize("stored", [b"", b"*", b"!" + SHA512, b"$", b"$6", b"!" * 13, b"{any}"])
def test_nothing_opens_a_locked_account(stored: bytes) -> None:
    locked = Account(b"max", stored, clear=b"secret")
    for password in b"secret", b"", stored, digests.apop(STAMP, b"secret"), digests.cram_md5(STAMP, b"secret"):
        assert proof(locked, password, STAMP) == b""
    assert proof(locked, STAMP, digests.cram_md5(STAMP, b"secret")) == b""


@given(st.binary(max_size=30).filter(lambda stored: b"\0" not in stored), st.binary(max_size=30))
def test_no_line_of_vpasswd_is_opened_by_just_anything(stored: bytes, password: bytes) -> None:
    account = Account(b"max", stored)
    try:
        opened = not logins.is_locked(account) and proof(account, password)
    except Refusal:
        opened = False
    assert not opened or (stored.upper().startswith((b"{PLAIN}", b"{CLEAR")) and stored.endswith(password))


@pytest.mark.parametrize("length", [0, 3, 40, 4000])
def test_time_is_wasted_with_a_hash_as_the_domain_has_it(
    tmp_path: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where vpasswd.cdb is cut short, or is none."""
    seen: list[bytes] = []
    monkeypatch.setattr(schemes, "matches", lambda stored, password, stamp: seen.append(stored))
    records = [(b"u%d" % number, (SHA512 if number % 3 else DES) + b":1:0:x:/x:NOQUOTA") for number in range(100)]
    data = b"".join(cdb.make(records))
    (tmp_path / "vpasswd.cdb").write_bytes(data[: 2048 + length] if length < 4000 else data)
    logins.waste_time(Domain(b"a.example", bytes(tmp_path), os.geteuid(), os.getegid()), bytearray(b"x"))
    logins.waste_time(None, bytearray(b"x"))
    assert len(seen) == 2
    assert (seen[0] == SHA512) == (length == 4000)
    assert seen[1].startswith((b"$y$", b"$6$"))
