"""The answers of ident servers, hostile ones included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.protocols import ident


@pytest.mark.parametrize(
    ("answer", "info"),
    [
        (b"6193, 23 : USERID : UNIX : stjohns\r\n", b"stjohns"),
        (b"6193,23:USERID:UNIX:a:b\tc d\n", b"a:bcd"),
        (b"6193, 23 : ERROR : NO-USER\r\n", b""),
        (b"\n", b""),
        (b"1,2:USERID:UNIX:\r\n", b""),
        (b"1,2:USERID:UNIX:cut\0here\r\n", b"cut"),
        (b"1,2:USERID:UNIX:" + b"x" * 300, b"x" * 257),
        (b"1,2:USERID:UNIX:" + b"x" * 257 + b"\n", b"x" * 257),
        (b"1,2:USERID:UNIX:not all of i", None),
        (b"", None),
    ],
)
def test_an_answer_says_what_is_behind_its_third_colon(answer: bytes, info: bytes | None) -> None:
    assert ident.info(answer) == info


@given(st.lists(st.sampled_from([b":", b" ", b"\n", b"\0", b"a", b"b" * 100, b"\r"]), max_size=30).map(b"".join))
def test_an_answer_in_pieces_is_read_as_the_original_reads_it_byte_by_byte(answer: bytes) -> None:
    found = bytearray()
    colons = 0
    expected = None
    for byte in answer.translate(None, b" \t\r"):
        if byte == ord("\n"):
            expected = bytes(found)
            break
        if colons < 3:
            colons += byte == ord(":")
            continue
        found.append(byte)
        if len(found) == 257:
            expected = bytes(found)
            break
    if expected is not None:
        expected = expected.partition(b"\0")[0]
    first = next((info for end in range(len(answer) + 1) if (info := ident.info(answer[:end])) is not None), None)
    assert first == ident.info(answer) == expected
