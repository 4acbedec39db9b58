"""formats.syslog: packets as RFC 3164, RFC 5424 and systemd's journal describe them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import syslog

TIME = (2026, 3, 7, 4, 5, 6, 5, 66, 0)


def test_the_traditional_form() -> None:
    assert syslog.bsd(22, TIME, b"qmail", b"1.000000 text") == b"<22>Mar  7 04:05:06 qmail: 1.000000 text"


def test_the_form_of_rfc_5424() -> None:
    packet = syslog.rfc5424(20, TIME, 42, b"host.example", b"qmail", b"text")
    assert packet == b"<20>1 2026-03-07T04:05:06.000042Z host.example qmail - - - text"
    packet = syslog.rfc5424(20, TIME, 42, b"", b"a b\xff" + b"c" * 50, b"")
    assert packet == b"<20>1 2026-03-07T04:05:06.000042Z - a?b?" + b"c" * 44 + b" - - - "


def test_the_fields_of_the_journal() -> None:
    assert syslog.journal(17, TIME, 42, b"qmail", b"text") == (
        b"MESSAGE=text\nPRIORITY=1\nSYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=qmail\n"
        b"SYSLOG_TIMESTAMP=2026-03-07T04:05:06.000042Z\n"
    )


def test_a_field_with_a_newline_gives_its_length() -> None:
    packet = syslog.journal(17, TIME, 42, b"a\nPRIORITY=0", b"text")
    assert b"\nSYSLOG_IDENTIFIER\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\nSYSLOG_TIMESTAMP=" in packet


@pytest.mark.parametrize(
    ("text", "priority"), [(b"warning: x", 4), (b"alert: x", 1), (b" alert:", 6), (b"Alert:", 6), (b"x warning:", 6)]
)
def test_the_first_word_says_the_priority(text: bytes, priority: int) -> None:
    assert syslog.priority(text) == priority


@pytest.mark.parametrize(
    ("number", "facility"), [(2, 16), (1, 8), (0, 0), (23, 184), (127, 1016), (128, 8), (1 << 29, 0)]
)
def test_facilities_out_of_range_are_nothing_said(number: int, facility: int) -> None:
    assert syslog.facility(number) == facility


@given(st.binary())
def test_everything_becomes_printable(text: bytes) -> None:
    expected = bytes(byte if 32 <= byte <= 126 else ord("?") for byte in text)
    assert syslog.printable(text) == expected
