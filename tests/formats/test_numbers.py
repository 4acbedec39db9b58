"""Decimal numbers as scan_ulong reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats.numbers import scan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", (0, 0)),
        (b"abc", (0, 0)),
        (b"-1", (0, 0)),
        (b"+1", (0, 0)),
        (b" 1", (0, 0)),
        (b"0", (0, 1)),
        (b"007x", (7, 3)),
        (b"12.5", (12, 2)),
        (b"1_0", (1, 1)),
        (b"18446744073709551615", (18446744073709551615, 20)),
        (b"18446744073709551616", (0, 20)),
        (b"18446744073709551626", (10, 20)),
        ("\u0663".encode(), (0, 0)),  # a digit elsewhere
        (b"\xb2", (0, 0)),
    ],
)
def test_digits_at_the_front_count_and_overflow_wraps(text: bytes, expected: tuple[int, int]) -> None:
    assert scan(text) == expected


@given(value=st.integers(min_value=0), zeros=st.integers(0, 3), rest=st.binary().filter(lambda b: not b[:1].isdigit()))
def test_any_number_is_read_modulo_an_unsigned_long(value: int, zeros: int, rest: bytes) -> None:
    digits = b"0" * zeros + str(value).encode()
    assert scan(digits + rest) == (value % 2**64, len(digits))


def test_digits_without_end_are_no_trouble() -> None:
    assert scan(b"9" * 1_000_000 + b"." + b"1") == ((10**64 - 1) % 2**64, 1_000_000)


@given(text=st.binary())
def test_any_bytes_can_be_scanned(text: bytes) -> None:
    value, length = scan(text)
    assert 0 <= value < 2**64
    assert text[:length].isdigit() or length == 0
    assert not text[length : length + 1].isdigit()
