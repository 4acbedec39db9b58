"""The texts of bounces, byte for byte, and the reports that hold them."""

import email
import email.policy
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.mta import bounces
from qmailpy.mta.bounces import Notice, entry

NOW = 1004951411  # 5 Nov 2001 09:10:11 GMT
BIRTH = NOW - 86400
MESSAGE = b"Received: (qmail 1 invoked by uid 2)\nSubject: x\n\nbody\n"
ENTRIES = entry(b"mary@b.example", b"192.0.2.7 does not like recipient.\nRemote host said: 550 5.1.1 no such user\n"
                b"Giving up on 192.0.2.7.\n")  # fmt: skip

TEXT = b"""\
Date: 5 Nov 2001 09:10:11 -0000
From: MAILER-DAEMON@bounce.host
To: sender@a.example
Subject: failure notice

Hi. This is the qmail-send program at bounce.host.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<mary@b.example>:
192.0.2.7 does not like recipient.
Remote host said: 550 5.1.1 no such user
Giving up on 192.0.2.7.

--- Below this line is a copy of the message.

Return-Path: <sender@a.example>
"""

DOUBLE = b"""\
Date: 5 Nov 2001 09:10:11 -0000
From: MAILER-DAEMON@bounce.host
To: postmaster@me.example
Subject: failure notice

Hi. This is the qmail-send program at bounce.host.
I tried to deliver a bounce message to this address, but the bounce bounced!

<mary@b.example>:
no

--- Below this line is the original bounce.

Return-Path: <>
"""


def notice(sender: bytes, postmaster: bytes | None = b"postmaster@me.example") -> Notice:
    return Notice(sender, postmaster, b"MAILER-DAEMON", b"bounce.host")


def text(sender: bytes, entries: Iterable[bytes] = (), message: Iterable[bytes] = (), limit: int = 0) -> bytes:
    return b"".join(notice(sender).text(NOW, entries, message, limit))


@pytest.mark.parametrize(
    ("address", "report", "stored"),
    [
        (b"a@b", b"no\n", b"<a@b>:\nno\n\n"),
        (b"a@b", b"no", b"<a@b>:\nno\n\n"),
        (b"a@b", b"", b"<a@b>:\n\n"),
        (b"a@b", b"a\n\nb\n", b"<a@b>:\na\n/b\n\n"),
        (b"a@b", b"a\n\n\n\nb", b"<a@b>:\na\n///b\n\n"),
        (b"a@b", b"\nb\n", b"<a@b>:\n/b\n\n"),
        (b"a@b", b"b\n\n", b"<a@b>:\nb\n\n\n"),
        (b"a@b", b"\n", b"<a@b>:\n\n\n"),
        (b"a\nb@c\n", b"x\n", b"<a_b@c_>:\nx\n\n"),
    ],
)
def test_entries(address: bytes, report: bytes, stored: bytes) -> None:
    assert entry(address, report) == stored


@given(address=st.binary(max_size=9), report=st.text("a\n", max_size=9).map(str.encode))
def test_an_entry_holds_no_empty_line_before_its_end(address: bytes, report: bytes) -> None:
    assert b"\n\n" not in entry(address, report).rstrip(b"\n")


def test_a_bounce() -> None:
    assert text(b"sender@a.example", [ENTRIES], [MESSAGE]) == TEXT + MESSAGE


def test_a_double_bounce() -> None:
    assert text(b"", [entry(b"mary@b.example", b"no\n")], [MESSAGE]) == DOUBLE + MESSAGE


@pytest.mark.parametrize(
    ("sender", "back", "recipient"),
    [
        (b"a@b", b"", b"a@b"),
        (b"pre-@host-@[]", b"", b"pre-@host"),
        (b"", b"#@[]", b"postmaster@me.example"),
        (b"-@[]", b"#@[]", b"postmaster@me.example"),
        (b"#@[]", b"", None),
        (b"#@[]-@[]", b"", None),
    ],
)
def test_who_is_told(sender: bytes, back: bytes, recipient: bytes | None) -> None:
    told = notice(sender)
    assert (told.sender, told.recipient) == (back, recipient)


def test_double_bounces_may_be_discarded() -> None:
    assert notice(b"", None).recipient is None
    assert notice(b"a@b", None).recipient == b"a@b"


def test_addresses_are_quoted_and_begin_no_field() -> None:
    lines = text(b"a b\nBcc: evil@x@c.example", [ENTRIES]).split(b"\n")
    assert lines[2] == b'To: "a b\\ Bcc: evil@x"@c.example'
    assert lines[-2] == b'Return-Path: <"a b\\ Bcc: evil@x"@c.example>'


@pytest.mark.parametrize("blocks", [[MESSAGE], [MESSAGE[n : n + 1] for n in range(len(MESSAGE))]])
def test_a_long_message_is_cut(blocks: list[bytes]) -> None:
    whole = text(b"sender@a.example", [ENTRIES], blocks, len(MESSAGE))
    assert whole == TEXT + MESSAGE
    cut = text(b"sender@a.example", [ENTRIES], blocks, 20)
    assert cut == TEXT + MESSAGE[:20] + b"\n--- End of message stripped.\n"


def report(blocks: Iterable[bytes], message: Iterable[bytes], whole: bool = True) -> bytes:
    return b"".join(notice(b"sender@a.example").report(NOW, blocks, message, BIRTH, whole, b"=_0123"))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_report_has_three_parts_and_keeps_the_text(size: int) -> None:
    entries = ENTRIES + entry(b"j\xf6@c.example", b"Sorry, no mailbox here by that name. (#5.1.1)\n") + entry(
        b"late@d.example", b"I wasn't able to establish an SMTP connection. (#4.4.1)\n" + bounces.DYING
    )  # fmt: skip
    blocks = [entries[start : start + size] for start in range(0, len(entries), size)]
    parsed = email.message_from_bytes(report(blocks, [MESSAGE]), policy=email.policy.default)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert (parsed["to"], parsed["subject"]) == ("sender@a.example", "failure notice")
    human, status, original = parsed.iter_parts()
    shown = human.get_payload(decode=True)
    assert isinstance(shown, bytes)
    assert shown.startswith(TEXT.partition(b"\n\n")[2].partition(b"<mary")[0])
    assert ENTRIES in shown
    _, whole, first, second, third = status.walk()
    assert whole["Reporting-MTA"] == "dns; bounce.host"
    assert whole["Arrival-Date"] == "4 Nov 2001 09:10:11 -0000"
    assert [part["Status"] for part in (first, second, third)] == ["5.1.1", "5.1.1", "4.4.1"]
    assert [part["Action"] for part in (first, second, third)] == ["failed"] * 3
    assert first["Final-Recipient"] == "rfc822; mary@b.example"
    assert first["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert second["Final-Recipient"] == "rfc822; j?@c.example"
    assert second["Diagnostic-Code"] == "X-qmail; Sorry, no mailbox here by that name. (#5.1.1)"
    copy = original.get_content()
    assert (original.get_content_type(), copy["Return-Path"], copy["Subject"]) == (
        "message/rfc822", "<sender@a.example>", "x",
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 1000])
def test_a_report_about_a_long_message_has_its_header(size: int) -> None:
    blocks = [MESSAGE[start : start + size] for start in range(0, len(MESSAGE), size)]
    parsed = email.message_from_bytes(report([ENTRIES], blocks, whole=False), policy=email.policy.default)
    *_, original = parsed.iter_parts()
    assert original.get_content_type() == "text/rfc822-headers"
    assert original.get_payload() == "Return-Path: <sender@a.example>\n" + MESSAGE.decode().partition("\n\n")[0] + "\n"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"no (#5.7.1)\n", b"5.7.1"),
        (b"no (#x.7.1) (#5.7)\n", b"5.0.0"),
        (b"1.2.3.4 failed.\nRemote host said: 550-5.2.2 full\n", b"5.2.2"),
        (b"later\n" + bounces.DYING, b"4.4.7"),
        (b"", b"5.0.0"),
    ],
)
def test_statuses(said: bytes, status: bytes) -> None:
    assert b"\nStatus: %s\n" % status in bounces.status_record(entry(b"a@b", said)[:-2])


@given(paragraph=st.binary())
def test_any_paragraph_makes_four_fields_or_none(paragraph: bytes) -> None:
    record = bounces.status_record(paragraph)
    assert record == b"" or record.count(b"\n") == 4
    assert all(32 <= byte < 127 or byte == 10 for byte in record)
