"""received: the lines of the originals, byte by byte."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import received

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
LAST = 253402300799  # the last second of the year 9999


@pytest.mark.parametrize(
    ("seconds", "date"),
    [
        (0, b"1 Jan 1970 00:00:00 -0000"),
        (1004950987, b"5 Nov 2001 09:03:07 -0000"),
        (951782400, b"29 Feb 2000 00:00:00 -0000"),
        (4107542400, b"1 Mar 2100 00:00:00 -0000"),
        (1 << 31, b"19 Jan 2038 03:14:08 -0000"),
        (-1, b"31 Dec 1969 23:59:59 -0000"),
    ],
)
def test_dates_are_in_gmt_and_their_day_has_no_leading_zero(seconds: int, date: bytes) -> None:
    assert received.date822(seconds) == date


@given(seconds=st.integers(0, LAST))
def test_a_date_is_what_the_system_makes_of_it(seconds: int) -> None:
    now = time.gmtime(seconds)
    expected = f"{now.tm_mday} {MONTHS[now.tm_mon - 1]} {now.tm_year} {time.strftime('%H:%M:%S', now)} -0000"
    assert received.date822(seconds).decode() == expected


def test_the_line_of_qmail_queue() -> None:
    line = b"Received: (qmail 4711 invoked by uid 1000); 5 Nov 2001 09:03:07 -0000\n"
    assert received.queue_line(4711, b"by uid 1000", 1004950987) == line


@pytest.mark.parametrize(
    ("helo", "info", "line"),
    [
        (
            b"uunet.uu.net",
            b"7",
            b"Received: from relay1.uu.net (HELO uunet.uu.net) (7@192.48.96.5)\n"
            b"  by silverton.berkeley.edu with SMTP; 5 Nov 2001 09:03:07 -0000\n",
        ),
        (
            None,
            None,
            b"Received: from relay1.uu.net (192.48.96.5)\n"
            b"  by silverton.berkeley.edu with SMTP; 5 Nov 2001 09:03:07 -0000\n",
        ),
        (
            b"",
            b"",
            b"Received: from relay1.uu.net (HELO ) (@192.48.96.5)\n"
            b"  by silverton.berkeley.edu with SMTP; 5 Nov 2001 09:03:07 -0000\n",
        ),
    ],
)
def test_the_lines_of_qmail_smtpd(helo: bytes | None, info: bytes | None, line: bytes) -> None:
    local = b"silverton.berkeley.edu"
    assert received.network_line(b"SMTP", b"relay1.uu.net", helo, info, b"192.48.96.5", local, 1004950987) == line


@pytest.mark.parametrize(
    ("version", "cipher", "shown"),
    [
        (b"TLSv1.3", b"TLS_AES_256_GCM_SHA384", b"ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384 encrypted)"),
        (b"TLSv1.2", b"ECDHE-RSA-AES128-GCM-SHA256", b"ESMTPS (TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256 encrypted)"),
        (b"TLSv1.2", b"", b"ESMTPS"),
        (b"", b"x", b"ESMTPS"),
        (b"a)\n", b"(b;_", b"ESMTPS (a?? ?b?_ encrypted)"),
    ],
)
def test_encryption_is_a_comment_behind_the_protocol(version: bytes, cipher: bytes, shown: bytes) -> None:
    assert received.encrypted(b"ESMTPS", version, cipher) == shown


@given(parts=st.lists(st.binary(), min_size=5, max_size=5))
def test_a_client_cannot_put_anything_but_safe_bytes_into_its_lines(parts: list[bytes]) -> None:
    host, helo, info, ip, local = parts
    text = received.network_line(b"SMTP", host, helo, info, ip, local, 0)
    first, second, rest = text.split(b"\n")
    assert rest == b""
    assert first == b"Received: from %s (HELO %s) (%s@%s)" % tuple(map(received.safe, (host, helo, info, ip)))
    assert second == b"  by %s with SMTP; 1 Jan 1970 00:00:00 -0000" % received.safe(local)


@given(text=st.binary())
def test_safe_keeps_the_length_and_is_safe_to_repeat(text: bytes) -> None:
    shown = received.safe(text)
    assert len(shown) == len(text)
    assert received.safe(shown) == shown
    assert set(shown) <= set(received.SAFE) | {ord("?")}
