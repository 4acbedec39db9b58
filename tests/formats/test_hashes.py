import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import hashes

SHA512 = b"$6$salt$" + b"h" * 86
YESCRYPT = b"$y$j9T$salt$" + b"h" * 43


@pytest.mark.parametrize(
    ("stored", "method"),
    [
        (SHA512, b"$6$"),
        (YESCRYPT, b"$y$"),
        (b"$argon2id$v=19$...", b"$argon2id$"),
        (b"{ssha}abc", b"{SSHA}"),
        (b"{PLAIN}a$b}", b"{PLAIN}"),
        (b"abNANd1rDfiNc", b""),
        (b"$", b""),
        (b"{", b""),
        (b"", b""),
    ],
)
def test_a_hash_tells_how_it_was_made(stored: bytes, method: bytes) -> None:
    assert hashes.method(stored) == method


@pytest.mark.parametrize("stored", [b"", b"x", b"!", b"!!", b"*", b"*LK*", b"NP", b"!" + SHA512, b"*" + SHA512])
def test_what_no_password_opens_is_locked(stored: bytes) -> None:
    assert hashes.locked(stored)


@pytest.mark.parametrize("stored", [SHA512, YESCRYPT, b"abNANd1rDfiNc", b"{PLAIN}x", b"$argon2id$"])
def test_a_hash_is_not_locked(stored: bytes) -> None:
    assert not hashes.locked(stored)


def test_the_typical_hash_is_the_first_of_the_most_common_method() -> None:
    assert hashes.typical([b"*", SHA512, YESCRYPT, b"*", b"!", YESCRYPT + b"2", b"*"]) == YESCRYPT
    assert hashes.typical([b"*", b"!" + SHA512]) == hashes.typical([]) == b""


@given(st.lists(st.binary(max_size=30)))
def test_the_typical_hash_is_one_of_those_given(stored: list[bytes]) -> None:
    typical = hashes.typical(stored)
    assert typical == b"" or (typical in stored and not hashes.locked(typical))
