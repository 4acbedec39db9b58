"""vpopfields: dates, where a message has been, and from whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import vpopfields


def test_a_date_is_in_utc() -> None:
    assert vpopfields.date(1004950987) == b"Date: Mon, 05 Nov 2001 09:03:07 +0000\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [(b"Date: x\n\n", True), (b"A: b\ndATE: x", True), (b"A: b\n\nDate: x\n", False), (b"\nDate: x\n", False),
     (b"Dates: x\n\n", False), (b"Date:x\n\n", False), (b"", False)],
)  # fmt: skip
def test_only_a_header_has_a_date(text: bytes, found: bool) -> None:
    assert vpopfields.has_date(text) == found


@pytest.mark.parametrize(
    ("dtline", "line"),
    [
        (b"Delivered-To: x.example-fred@x.example\n", b"Delivered-To: fred@x.example\n"),
        (b"Delivered-To: X.example-a@b@x.Example\n", b"Delivered-To: a@b@x.Example\n"),
        (b"Delivered-To: joe@x.example\n", b"Delivered-To: joe@x.example\n"),
        (b"Delivered-To: \n", b"Delivered-To: to@y\n"),
        (b"junk\n", b"Delivered-To: to@y\n"),
        (None, b"Delivered-To: to@y\n"),
    ],
)
def test_a_message_goes_on_with_the_users_own_address(dtline: bytes | None, line: bytes) -> None:
    assert vpopfields.onward(dtline, b"to@y") == line


@pytest.mark.parametrize(
    ("line", "sender"), [(b"Return-Path: <a@b>\n", b"a@b"), (b"Return-Path: <>\n", b""), (b"", b""), (b"<a>b>", b"a>b")]
)
def test_the_sender_stands_in_the_return_path(line: bytes, sender: bytes) -> None:
    assert vpopfields.sender(line) == sender


@given(st.binary(), st.binary())
def test_no_line_is_too_much(text: bytes, address: bytes) -> None:
    vpopfields.has_date(text)
    vpopfields.sender(text)
    assert vpopfields.onward(text, address).startswith(b"Delivered-To: ")
