"""qreceipt: who gets a notice and what it says; the original has to pass the same where QMAIL_BIN names it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import BIN, run
from tests.queuehomes import QueueHome, queue_home
from tests.submissions import Submissions, everybodys, mail

__all__ = ["mail", "queue_home"]

REQUEST = b"Notice-Requested-Upon-Delivery-To: "
MESSAGE = REQUEST + b"x@y, Joe <joe@h> (me)\nMessage-ID: <1@a>\nMESSAGE-ID : <2@a>\n (c)\n\nMessage-ID: <3@a>\n"

both = pytest.mark.parametrize("qreceipt", everybodys("qreceipt"))


def notice(sender: bytes, address: bytes, identity: bytes = b"") -> bytes:
    return (
        b"From: DELIVERY NOTICE SYSTEM <" + sender + b">\nTo: <" + sender + b">\nSubject: success notice\n\n"
        b"Hi! This is the qreceipt program. Your message was delivered to the\n"
        b"following address: " + address + b". Thanks for asking.\n" + identity
    )


@both
def test_a_notice_goes_to_the_sender_who_asks_for_it(mail: Submissions, qreceipt: str) -> None:
    done = mail.run([qreceipt, "joe@h"], MESSAGE, SENDER="a b@c")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)
    taken = mail.taken()
    assert taken is not None
    assert taken.message == notice(b'"a b"@c', b"joe@h", b"Your MESSAGE-ID : <2@a>\n (c)\n")
    assert (taken.sender, taken.recipients) == (b"", [b"a b@c"])


@both
def test_a_message_without_an_identity_gets_a_notice_too(mail: Submissions, qreceipt: str) -> None:
    assert mail.run([qreceipt, "joe"], REQUEST + b"joe", SENDER="s").returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert taken.message == notice(b"s", b"joe")


@both
@pytest.mark.parametrize(
    ("message", "sender"),
    [
        (b"", "s"),
        (b"To: joe@h\n\n", "s"),
        (REQUEST + b"Joe@h, x\n\n", "s"),
        (REQUEST + b"joe\n\n", "s"),
        (b"\n" + REQUEST + b"joe@h\n", "s"),
        (REQUEST + b"joe@h\n", ""),
        (REQUEST + b"joe@h\n", "#@[]"),
    ],
)
def test_nobody_else_gets_one(mail: Submissions, qreceipt: str, message: bytes, sender: str) -> None:
    done = mail.run([qreceipt, "joe@h"], message, SENDER=sender)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)
    assert mail.taken() is None


@both
def test_a_request_that_cannot_be_read_is_refused(mail: Submissions, qreceipt: str) -> None:
    field = REQUEST + b"joe@h, (\n more\n"
    done = mail.run([qreceipt, "joe@h"], field, SENDER="s")
    assert (done.stderr, done.returncode) == (b"qreceipt: fatal: unable to parse this: " + field, 100)


@both
@pytest.mark.parametrize(("code", "exit_code", "kind"), [(31, 100, b"permanent"), (53, 111, b"temporary")])
def test_trouble_with_the_queue_is_told(
    mail: Submissions, qreceipt: str, code: int, exit_code: int, kind: bytes
) -> None:
    mail.recorder(code)
    done = mail.run([qreceipt, "joe@h"], MESSAGE, SENDER="s")
    assert (done.stderr, done.returncode) == (b"qreceipt: fatal: " + kind + b" qmail-queue error\n", exit_code)


@both
def test_a_message_that_cannot_be_read_is_trouble_for_now(mail: Submissions, qreceipt: str) -> None:
    done = mail.run(["sh", "-c", 'exec "$0" joe 0> out', qreceipt], SENDER="s")
    assert (done.stderr, done.returncode) == (b"qreceipt: fatal: read error\n", 111)


@both
def test_qreceipt_says_its_usage(mail: Submissions, qreceipt: str) -> None:
    for words, sender in (([], "s"), (["joe"], None)):
        done = mail.run([qreceipt, *words], SENDER=sender)
        said = b"qreceipt: usage: qreceipt deliveryaddress\n"
        assert (done.stdout, done.stderr, done.returncode) == (b"", said, 100)


def test_the_notice_gets_into_the_queue_of_the_home(queue_home: QueueHome) -> None:
    done = run([BIN / "qreceipt", "joe@h"], MESSAGE, env=queue_home.env(SENDER="s@t"))
    assert (done.stderr, done.returncode) == (b"", 0)
    queued = queue_home.message()
    assert (queued.sender, queued.recipients) == (b"", [b"s@t"])
    assert queued.body == notice(b"s@t", b"joe@h", b"Your MESSAGE-ID : <2@a>\n (c)\n")


LISTS = st.lists(st.sampled_from([b"joe", b"@h", b", ", b"<", b">", b"(c)", b'"', b" ", b"joe@h", b":", b";", b"\\"]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=LISTS.map(b"".join))
def test_any_request_is_read_as_the_original_reads_it(mail: Submissions, text: bytes) -> None:
    found = []
    for qreceipt in everybodys("qreceipt"):
        done = mail.run([qreceipt, "joe@h"], REQUEST + text + b"\n", SENDER="s")
        found.append((done.returncode, done.stderr, mail.taken()))
    assert found[0][0] in (0, 100)
    assert found == found[:1] * len(found)
