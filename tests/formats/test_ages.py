"""ages: what people say is understood, and what is shown can be said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import ages


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"0", 0), (b"90", 90), (b"90s", 90), (b"2m", 120), (b"2h", 7200), (b"1d12h", 129600), (b"12h1d", 129600),
        (b"2w", 1209600), (b"1h1h", 7200), (b"999999999999", 999999999999),
    ],
)  # fmt: skip
def test_lengths_of_time(text: bytes, seconds: int) -> None:
    assert ages.parse(text) == seconds


@pytest.mark.parametrize(
    "text", [b"", b"h", b"-1", b"1x", b"1h30", b"1.5h", b" 1h", b"1 h", b"1hh", b"1H", b"9" * 13, b"9" * 13 + b"s"]
)
def test_others_are_none(text: bytes) -> None:
    assert ages.parse(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, b"0s"), (0, b"0s"), (59, b"59s"), (60, b"1m"), (61, b"1m1s"), (3600, b"1h"), (3659, b"1h"),
        (11520, b"3h12m"), (86400 * 13, b"1w6d"), (604800 * 60, b"60w"),
    ],
)  # fmt: skip
def test_the_two_largest_units_are_shown(seconds: int, text: bytes) -> None:
    assert ages.show(seconds) == text


@given(st.integers(0, 10**11))
def test_what_is_shown_is_at_most_a_part_less(seconds: int) -> None:
    shown = ages.parse(ages.show(seconds))
    assert shown is not None
    assert shown <= seconds < shown + max(60, seconds // 5)


@given(st.binary(max_size=30))
def test_any_bytes_are_a_length_of_time_or_none(text: bytes) -> None:
    seconds = ages.parse(text)
    assert seconds is None or seconds >= 0
