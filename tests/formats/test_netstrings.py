"""netstrings: a length, a colon, the bytes, a comma."""

import pytest
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


@given(texts=st.lists(st.binary(max_size=30)))
def test_a_file_of_netstrings_is_read_again(texts: list[bytes]) -> None:
    assert netstrings.parse(b"".join(map(netstrings.build, texts))) == texts


@pytest.mark.parametrize(
    "data", [b"1", b"1:", b"1:a", b"2:a,", b"1:a;", b"a:b,", b":,", b"0:,x", b"+1:a,", b"1" * 12 + b":"]
)
def test_what_is_not_all_netstrings_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        netstrings.parse(data)
