"""netstrings: a length, a colon, the bytes, a comma."""

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import netstrings


def test_examples_of_the_specification() -> None:
    assert netstrings.build(b"hello world!") == b"12:hello world!,"
    assert netstrings.build(b"") == b"0:,"


@given(text=st.binary())
def test_the_length_says_where_it_ends(text: bytes) -> None:
    length, _, rest = netstrings.build(text).partition(b":")
    assert (int(length), rest) == (len(text), text + b",")
