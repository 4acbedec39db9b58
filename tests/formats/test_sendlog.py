"""The lines of qmail-send's log, as the reference has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import sendlog


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (sendlog.new(2220372), b"new msg 2220372\n"),
        (
            sendlog.info(2220372, 1234, b"joe@a.example", 4711, 1000),
            b"info msg 2220372: bytes 1234 from <joe@a.example> qp 4711 uid 1000\n",
        ),
        (
            sendlog.start(7, 2220372, 0, b"alias-x@a.example"),
            b"starting delivery 7: msg 2220372 to local alias-x@a.example\n",
        ),
        (
            sendlog.start(7, 2220372, 1, b"a%b c@a.example"),
            b"starting delivery 7: msg 2220372 to remote a_b_c@a.example\n",
        ),
        (sendlog.result(7, sendlog.SUCCESS, b"did 1+0+0\n"), b"delivery 7: success: did_1+0+0/\n"),
        (sendlog.result(7, sendlog.DEFERRAL, b""), b"delivery 7: deferral: \n"),
        (sendlog.result(7, sendlog.FAILURE, b"no"), b"delivery 7: failure: no\n"),
        (sendlog.mangled(7), b"delivery 7: report mangled, will defer\n"),
        (sendlog.status((0, 10), (3, 20), False), b"status: local 0/10 remote 3/20\n"),
        (sendlog.status((1, 10), (0, 20), True), b"status: local 1/10 remote 0/20 exitasap\n"),
        (sendlog.bounce(2220372, 4720), b"bounce msg 2220372 qp 4720\n"),
        (sendlog.discarded(b"triple", 2220372), b"triple bounce: discarding bounce/2220372\n"),
        (sendlog.end(2220372), b"end msg 2220372\n"),
        (sendlog.ordered(b"delete", 5, 1, b"a b@c"), b"order: delete msg 5 to remote a_b@c\n"),
        (sendlog.warning(b"trouble in x"), b"warning: trouble in x\n"),
        (sendlog.alert(b"oh no"), b"alert: oh no\n"),
        (sendlog.EXITING, b"status: exiting\n"),
    ],
)
def test_lines(line: bytes, text: bytes) -> None:
    assert line == text


@given(text=st.binary())
def test_what_is_safe_is_one_printable_word(text: bytes) -> None:
    shown = sendlog.safe(text)
    assert len(shown) == len(text)
    assert all(33 <= byte <= 126 and byte != ord("%") for byte in shown)
    assert shown.count(b"/") == text.count(b"/") + text.count(b"\n")
