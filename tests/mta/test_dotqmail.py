"""dotqmail: values and senders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.mta import dotqmail


@given(st.binary(), st.binary(), st.binary())
def test_each_line_of_the_environment_is_one_line(local: bytes, host: bytes, sender: bytes) -> None:
    found = dotqmail.Arrival(b"u", b"/h", local, b"", host, sender, 0).environment()
    for name in (b"DTLINE", b"RPLINE", b"UFLINE"):
        assert found[name].count(b"\n") == 1 and found[name].endswith(b"\n")


@pytest.mark.parametrize(
    ("sender", "line"),
    [
        (b"", b"<>"),
        (b"#@[]", b'<#@[]>'),
        (b"a b@c", b'<"a b"@c>'),
        (b"a\n@c", b'<"a\\_"@c>'),
        (b"joe", b"<joe>"),
        (b"a@b@c", b'<"a@b"@c>'),
    ],
)  # fmt: skip
def test_the_return_path_is_quoted(sender: bytes, line: bytes) -> None:
    assert dotqmail.Arrival(b"", b"", b"", b"", b"", sender, 0).return_path() == b"Return-Path: " + line + b"\n"
