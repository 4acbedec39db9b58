"""Netstrings of a stream: the parts, whatever the blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.protocols.netstrings import ABSURD, NUL, Input, Malformed, TooLong


def take(part, sent: bytes, left: int = 1 << 62, step: int = 1):  # type: ignore[no-untyped-def]
    """What part(input) returns when sent comes in blocks of step bytes, and what is left of them; None if it waits."""
    incoming = Input(left)
    wanting = part(incoming)
    next_at = 0
    try:
        while True:
            next(wanting)
            if next_at >= len(sent):
                return None
            incoming.add(sent[next_at : next_at + step])
            next_at += step
    except StopIteration as e:
        return e.value, incoming.left


@pytest.mark.parametrize(
    ("sent", "value"), [(b"0:", 0), (b":", 0), (b"007:", 7), (b"200000000:", ABSURD), (b"2000000009:", 2_000_000_009)]
)
def test_a_length_is_digits_and_a_colon(sent: bytes, value: int) -> None:
    assert take(Input.length, sent, 20)[0] == value
    assert take(Input.length, sent, len(sent), 20) == (value, 0)
    assert take(Input.length, sent[:-1]) is None


@pytest.mark.parametrize("sent", [b"x", b"1 :", b"-1:", b",", b"1\0"])
def test_anything_else_is_malformed(sent: bytes) -> None:
    with pytest.raises(Malformed):
        take(Input.length, sent)


@pytest.mark.parametrize("sent", [b"2000000010", b"9" * 1000, b"200000001x"])
def test_an_absurd_length_is_too_long_at_its_next_digit(sent: bytes) -> None:
    with pytest.raises(TooLong):
        take(Input.length, sent)


def test_nothing_is_taken_beyond_what_is_left() -> None:
    for part in (Input.length, lambda incoming: incoming.address(2, 9)):
        with pytest.raises(Malformed):
            take(part, b"11:", 1)
        assert take(part, b"", 1) is None  # that is known only when a byte more is wanted
    with pytest.raises(Malformed):
        take(Input.byte, b"1", 0)


@pytest.mark.parametrize(("longest", "address"), [(3, b"abc"), (2, NUL), (-1, NUL)])
def test_an_address_is_given_whole_or_as_a_nul(longest: int, address: bytes) -> None:
    for step in (1, 2, 9):
        assert take(lambda incoming: incoming.address(3, longest), b"abc,", 10, step) == (address, 6)
    with pytest.raises(Malformed):
        take(lambda incoming: incoming.address(3, longest), b"abcd")


@given(st.binary(max_size=50), st.integers(1, 20))
def test_pieces_are_what_has_come(text: bytes, step: int) -> None:
    incoming = Input()
    pieces = incoming.pieces(len(text))
    found = b""
    for at in range(0, len(text), step):
        incoming.add(text[at : at + step])
        for piece in pieces:
            if piece is None:
                break
            found += piece
    assert found == text


def test_a_whole_block_is_not_copied() -> None:
    incoming = Input()
    block = b"x" * 100
    incoming.add(block)
    assert next(incoming.pieces(200)) is block
