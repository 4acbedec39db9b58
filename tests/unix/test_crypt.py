import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.unix import crypt
from tests.helpers import needs, run

SETTINGS = [b"$6$saltsalt$", b"$5$saltsalt$", b"$1$saltsalt$"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_hashes_are_those_of_openssl(setting: bytes) -> None:
    method = "-" + setting[1:2].decode()
    expected = run([needs("openssl"), "passwd", method, "-salt", "saltsalt", "-stdin"], input=b"pass word\xc3\xa9\n")
    assert crypt.crypt(bytearray(b"pass word\xc3\xa9"), setting) == expected.stdout.rstrip()


@given(st.binary(max_size=512).map(lambda b: b.replace(b"\0", b"0")), st.sampled_from(SETTINGS[2:]))
def test_a_hash_is_a_setting_and_gives_itself(password: bytes, setting: bytes) -> None:
    hashed = crypt.crypt(bytearray(password), setting)
    assert hashed is not None and hashed.startswith(setting)
    assert crypt.crypt(bytearray(password), hashed) == hashed
    assert crypt.crypt(bytearray(password + b"\1"), hashed) != hashed


@pytest.mark.parametrize(
    "setting", [b"", b"!", b"*", b"x", b"*0", b"*1", b"!!", b"$argon2id$v=19$", b"{SSHA}abc", b"$"]
)
def test_what_is_no_setting_gives_no_hash(setting: bytes) -> None:
    assert crypt.crypt(bytearray(b"secret"), setting) is None


@given(st.binary(max_size=40).filter(lambda b: not b.startswith((b"$", b"_"))))
def test_any_setting_is_safe(setting: bytes) -> None:
    hashed = crypt.crypt(bytearray(b"secret"), setting)
    assert hashed is None or hashed != b""


def test_a_new_hash_has_a_salt_of_its_own_and_the_best_method_that_is_there() -> None:
    one, other = crypt.make(bytearray(b"secret")), crypt.make(bytearray(b"secret"))
    assert one != other
    assert one.startswith(crypt.METHODS)
    assert crypt.crypt(bytearray(b"secret"), one) == one


def test_a_library_without_salts_of_its_own_gets_sha512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypt, "_libcrypt", object())
    setting = crypt.setting()
    assert setting.startswith(b"$6$") and len(setting) == 19
    assert crypt.crypt(bytearray(b"secret"), setting) is not None
