"""LF and CRLF into each other: against a definition byte by byte, and against Debian's programs."""

import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.formats.newlines import DelCr, FixCr, add_cr
from tests.helpers import needs

texts = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"\0", b"\xff"]), max_size=40).map(b"".join)
blocks = st.lists(texts, max_size=6)

NEW: dict[str, Callable[[], Callable[..., bytes]]] = {
    "addcr": lambda: add_cr,
    "delcr": lambda: DelCr().feed,
    "fixcrio": lambda: FixCr().feed,
}


def converted(name: str, pieces: list[bytes]) -> bytes:
    convert = NEW[name]()
    return b"".join([convert(piece) for piece in pieces]) + convert(b"", True)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("addcr", b"a\nb\r\nc", b"a\r\nb\r\r\nc"),
        ("delcr", b"a\r\nb\nc\r\r\nd\re\n\r", b"a\nb\nc\r\nd\re\n\r"),
        ("fixcrio", b"\na\nb\r\nc\r\r\nd\re", b"\r\na\r\nb\r\nc\r\r\nd\re"),
    ],
)
def test_each_conversion_does_what_its_manual_page_says(name: str, before: bytes, after: bytes) -> None:
    assert converted(name, [before]) == after


@pytest.mark.parametrize("name", NEW)
@given(pieces=blocks)
def test_where_the_stream_is_cut_makes_no_difference(name: str, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert converted(name, pieces) == converted(name, [whole])
    assert converted(name, [whole[at : at + 1] for at in range(len(whole))]) == converted(name, [whole])


@given(pieces=blocks)
def test_delcr_holds_back_nothing_but_a_cr_at_the_end_of_a_block(pieces: list[bytes]) -> None:
    convert = DelCr()
    seen = given_back = b""
    for piece in pieces:
        seen += piece
        given_back += convert.feed(piece)
        assert given_back + b"\r" * seen.endswith(b"\r") == converted("delcr", [seen])


@given(text=texts)
def test_delcr_undoes_addcr(text: bytes) -> None:
    assert converted("delcr", [add_cr(text)]) == text


@given(text=texts)
def test_fixcrio_leaves_what_is_fixed(text: bytes) -> None:
    fixed = converted("fixcrio", [text])
    assert converted("fixcrio", [fixed]) == fixed
    assert fixed.replace(b"\r\n", b"").count(b"\n") == 0


@pytest.mark.parametrize(("name", "program"), [("addcr", []), ("delcr", []), ("fixcrio", ["cat"])])
@settings(max_examples=60)
@given(pieces=blocks)
def test_debians_programs_give_the_same_bytes(name: str, program: list[str], pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    original = subprocess.run([needs(name), *program], input=whole, capture_output=True, check=True).stdout
    assert converted(name, pieces) == original
