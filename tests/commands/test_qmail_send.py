"""qmail-send: what it logs, asks for and leaves on disk, among spawners and a qmail-clean that the test plays; the
original does the same."""

import email
import email.policy
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from qmailpy.commands import qmail_send
from qmailpy.formats import envelope
from qmailpy.formats.spawning import Request
from qmailpy.loops.spawners import Log
from qmailpy.mta.dispatch import Dispatch
from qmailpy.stores import lasterrors, orders, queue
from qmailpy.stores.sending import Spool
from tests.helpers import BIN, eventually, needs
from tests.mta.test_rewriting import CASES
from tests.queuehomes import BOTH, ORIGINALS, QueueHome, needs_originals, queue_home
from tests.sendings import Sending, succeed

__all__ = ["queue_home"]

MESSAGE = b"Subject: test\n\nbody\n"
IDLE = "status: local 0/10 remote 0/20"
LIFETIME = 604800
NUMBER = re.compile(r"(?<=msg )\d+|(?<=qp )\d+|(?<=todo/)\d+|(?<=bounce/)\d+")


def submit(
    home: QueueHome, recipients: Sequence[bytes] = (b"joe@me.example",), sender: bytes = b"a@b", text: bytes = MESSAGE
) -> int:
    """What qmail-queue does, whosever the queue is; returns the number."""
    new = home.queue / "pid/new"
    new.write_bytes(b"Received: (qmail 4711 invoked by uid 1000); 5 Nov 2001 09:03:07 -0000\n" + text)
    number = new.stat().st_ino
    new.rename(place(home, "mess", number))
    layout = queue.find_layout_of(os.fsencode(home.path))
    intd, todo = (home.queue / layout.todo(name, number).decode() for name in (b"intd", b"todo"))
    intd.write_bytes(envelope.invoker(1000, 4711) + envelope.build(sender, recipients)[:-1])
    todo.hardlink_to(intd)
    pull(home)
    return number


def pull(home: QueueHome) -> None:
    fd = queue.open_queue(os.fsencode(home.path))
    queue.pull_trigger(fd)
    os.close(fd)


def place(home: QueueHome, folder: str, number: int) -> Path:
    layout = queue.find_layout_of(os.fsencode(home.path))
    return home.queue / layout.spread(folder.encode(), number).decode()


def put(home: QueueHome, number: int, age: int, **lists: bytes) -> int:
    """Make a message that is in todo one that has been preprocessed long ago."""
    birth = time.time() - age
    for folder, text in {"info": b"Fa@b\0", **lists}.items():
        path = place(home, folder, number)
        path.write_bytes(text)
        path.chmod(0o600)
        os.utime(path, (birth, birth))
    for folder in ("todo", "intd"):
        (home.queue / f"{folder}/{number}").unlink()
    return number


def answering(
    reports: dict[bytes, bytes | None], otherwise: bytes = b"Kok\n"
) -> Callable[[int, Request], bytes | None]:
    return lambda channel, request: reports.get(request.recipient, otherwise)


def plain(lines: Sequence[str]) -> list[str]:
    """Lines without the numbers that are others each time."""
    return [NUMBER.sub("N", line) for line in lines]


def folders(home: QueueHome) -> set[str]:
    return {name.split("/")[0] for name in home.files()} - {"last"}


# A message and its end


@BOTH
def test_a_message_goes_to_its_recipients_and_ends(which: str, queue_home: QueueHome) -> None:
    number = submit(queue_home, [b"joe@me.example", b"mary@b.example"])
    size = place(queue_home, "mess", number).stat().st_size
    with Sending(which, queue_home) as sending:
        sending.wait("end msg")
        assert eventually(lambda: queue_home.files() == set())
        lines = sending.stop()
    assert lines == [
        IDLE,
        f"new msg {number}",
        f"info msg {number}: bytes {size} from <a@b> qp 4711 uid 1000",
        f"starting delivery 1: msg {number} to local joe@me.example",
        "status: local 1/10 remote 0/20",
        f"starting delivery 2: msg {number} to remote mary@b.example",
        "status: local 1/10 remote 1/20",
        "delivery 1: success: did_it/",
        "status: local 0/10 remote 1/20",
        "delivery 2: success: did_it/",
        IDLE,
        f"end msg {number}",
        "status: exiting",
    ]
    path = b"%d/%d" % (number % 23, number)
    assert [(channel, one.number, one.message, one.sender, one.recipient) for channel, one in sending.requests] == [
        (0, 0, path, b"a@b", b"joe@me.example"),
        (1, 0, path, b"a@b", b"mary@b.example"),
    ]
    assert sending.asked == [b"todo/%d" % number, b"foop/%d" % number]


@BOTH
def test_a_delivery_is_logged_before_it_is_asked_for(which: str, queue_home: QueueHome) -> None:
    submit(queue_home, [b"joe@me.example", b"mary@me.example"])
    logged: dict[bytes, bool] = {}

    def deliver(channel: int, request: Request) -> bytes | None:
        logged[request.recipient] = f" to local {request.recipient.decode()}\n" in sending.catch_up()
        return b"Kok\n"

    with Sending(which, queue_home, deliver) as sending:
        sending.wait("end msg")
    assert logged == {b"joe@me.example": True, b"mary@me.example": True}


@BOTH
def test_a_message_for_nobody_ends_at_once(which: str, queue_home: QueueHome) -> None:
    submit(queue_home, [])
    with Sending(which, queue_home) as sending:
        sending.wait("end msg")
        assert eventually(lambda: queue_home.files() == set())
        assert sending.stop()[3:] == [sending.lines[3], "status: exiting"]


@BOTH
def test_the_trigger_tells_of_new_mail(which: str, queue_home: QueueHome) -> None:
    with Sending(which, queue_home) as sending:
        sending.wait(IDLE)
        for count in range(1, 4):
            submit(queue_home)
            sending.wait("end msg", count)


@BOTH
def test_all_recipients_go_where_the_control_files_say(which: str, queue_home: QueueHome) -> None:
    queue_home.control(
        locals="me.example\nBoth.example",
        percenthack="Hack.example\n# a comment\nmore.example ",
        virtualdomains="virt.example:vuser\n.tails.example:tails\ndeep.tails.example:deep\njoe@user.example:joes\n"
        "out.tails.example:\nboth.example:never\ntwice.example:first\nTWICE.example:last\nno colon\na.b:c:d",
        envnoathost="nowhere.example",
    )
    submit(queue_home, [recipient for recipient, _, _ in CASES])
    with Sending(which, queue_home) as sending:
        sending.wait("end msg")
        requests = [(channel, request.recipient) for channel, request in sending.requests]
    for side in (0, 1):
        assert [one for one in requests if one[0] == side] == [(c, address) for _, c, address in CASES if c == side]


@BOTH
@pytest.mark.parametrize(
    ("sender", "told"),
    [(b"list-@host-@[]", b"list-joe=me.example@host"), (b"list-@[]", b"list-@[]"), (b"", b""), (b"#@[]", b"#@[]")],
)
def test_a_sender_may_be_another_one_for_each_recipient(
    which: str, queue_home: QueueHome, sender: bytes, told: bytes
) -> None:
    submit(queue_home, sender=sender)
    with Sending(which, queue_home) as sending:
        sending.wait("end msg")
    assert [request.sender for _, request in sending.requests] == [told]


def test_a_queue_whose_todo_is_split_is_no_other(tmp_path: Path) -> None:
    home = QueueHome(tmp_path / "home", split=5, split_todo=True)
    submit(home)
    with Sending("ours", home) as sending:
        sending.wait("end msg")
        submit(home)
        sending.wait("end msg", 2)
        assert eventually(lambda: home.files() == set())


def test_with_our_qmail_clean(queue_home: QueueHome) -> None:
    """Hundreds of requests may be on their way to it."""
    for _ in range(300):
        submit(queue_home)
    reading, writing = os.pipe()
    with (
        subprocess.Popen([BIN / "qmail-clean"], stdin=subprocess.PIPE, stdout=writing, env=queue_home.env()) as process,
        Sending("ours", queue_home) as sending,
    ):
        os.close(writing)
        assert process.stdin is not None
        requests = process.stdin

        def clean(request: bytes) -> bytes:
            requests.write(request + b"\0")
            requests.flush()
            return os.read(reading, 1)

        sending.clean = clean
        sending.wait("end msg", 300)
        assert eventually(lambda: queue_home.files() == set())
        requests.close()
    os.close(reading)


# Reports


@BOTH
def test_what_reports_say_is_logged_and_done(which: str, queue_home: QueueHome) -> None:
    queue_home.control(concurrencylocal="3")
    reports: dict[bytes, bytes | None] = {
        b"ok@me.example": b"Kfine 100%\n",
        b"later@me.example": b"Z\xe4\ttry\nagain",
        b"mangled@me.example": b"Xyz",
        b"empty@me.example": b"",
    }
    number = submit(queue_home, list(reports))
    with Sending(which, queue_home, answering(reports)) as sending:
        sending.wait("delivery 4")
        sending.wait("status: local 0/3", 2)
        lines = sending.stop()
    assert [line for line in lines if line.startswith("delivery")] == [
        "delivery 1: success: fine_100_/",
        "delivery 2: deferral: __try/again",
        "delivery 3: report mangled, will defer",
        "delivery 4: report mangled, will defer",
    ]
    marks = [record[:2] for record in place(queue_home, "local", number).read_bytes().split(b"\0")]
    assert marks == [b"Do", b"Tl", b"Tm", b"Te", b""]
    birth = int(place(queue_home, "info", number).stat().st_mtime)
    assert int(place(queue_home, "local", number).stat().st_mtime) in (birth + 100, birth + 121)


@BOTH
def test_a_spawner_that_says_anything_is_not_believed(which: str, queue_home: QueueHome) -> None:
    submit(queue_home)
    with Sending(which, queue_home, answering({}, b"")) as sending:
        sending.deliver = lambda channel, request: None
        sending.wait("starting delivery 1")
        for text in (b"\7Kno such slot\0", b"\1Kfree\0", b"\xffDno\0", b"\0" + b"Z" * 20000 + b"\0"):
            sending.say(0, text)
        sending.wait(IDLE, 2)
        sending.say(0, b"\0Konce more\0")
        sending.say(1, b"\0Kthe other one\0")
        sending.wait("warning", 5)
        lines = sending.stop()
    assert lines.count("warning: internal error: delivery report out of range") == 5
    assert f"delivery 1: deferral: {'Z' * 9998}" in lines


@BOTH
def test_reports_may_come_in_any_order(which: str, queue_home: QueueHome) -> None:
    submit(queue_home, [b"%d@me.example" % one for one in range(5)])
    with Sending(which, queue_home) as sending:
        sending.deliver = lambda channel, request: None
        sending.wait("starting delivery 5")
        for slot in (3, 1, 4, 0, 2):
            sending.report(0, slot, b"Kok")
        sending.wait("end msg")
    assert [line.split()[1] for line in sending.lines if line.startswith("delivery")] == ["4:", "2:", "5:", "1:", "3:"]


@BOTH
def test_as_many_deliveries_at_a_time_as_the_spawner_makes(which: str, queue_home: QueueHome) -> None:
    queue_home.control(concurrencylocal="50", concurrencyremote="0")
    submit(queue_home, [b"%d@me.example" % one for one in range(8)] + [b"x@far.example"])
    with Sending(which, queue_home, hello=(b"\3", b"\x50")) as sending:
        sending.deliver = lambda channel, request: None
        sending.wait("starting delivery 3")
        for count in range(4, 9):
            sending.report(0, sending.requests[-1][1].number, b"Kok")
            sending.wait(f"starting delivery {count}")
        assert sending.lines[0] == "status: local 0/3 remote 0/0"
        assert {request.number for _, request in sending.requests} == {0, 1, 2}


def test_a_spawner_with_two_bytes_is_spoken_to_with_two(queue_home: QueueHome) -> None:
    queue_home.control(concurrencylocal="400", concurrencyremote="400")
    submit(queue_home, [b"%d@%s.example" % (one, where) for one in range(300) for where in (b"me", b"far")])
    with Sending("ours", queue_home, hello=(b"\x2c\1", b"\xff")) as sending:
        sending.deliver = lambda channel, request: None
        assert eventually(lambda: len(sending.requests) == 555)
        assert sending.lines[0] == "status: local 0/300 remote 0/255"
        assert {request.number for channel, request in sending.requests if channel == 0} == set(range(300))
        sending.deliver = succeed
        for channel, request in list(sending.requests):
            sending.report(channel, request.number, b"Kok")
        sending.wait("end msg")


def test_thousands_of_recipients(queue_home: QueueHome) -> None:
    submit(queue_home, [b"%d@%s.example" % (one, where) for one in range(3000) for where in (b"me", b"far")])
    with Sending("ours", queue_home) as sending:
        sending.wait("end msg")
        assert len({(channel, request.recipient) for channel, request in sending.requests}) == 6000


def test_new_mail_does_not_keep_deliveries_waiting(queue_home: QueueHome) -> None:
    for _ in range(1500):
        submit(queue_home)
    with Sending("ours", queue_home) as sending:
        sending.wait("end msg", 1500)
        lines = sending.lines
    first = next(at for at, line in enumerate(lines) if line.startswith("delivery"))
    assert sum(line.startswith("new msg") for line in lines[:first]) < 300


# The schedule


@BOTH
@pytest.mark.parametrize("age", [17, 500, LIFETIME - 100])
def test_a_deferral_sets_the_time_of_the_next_attempt(which: str, queue_home: QueueHome, age: int) -> None:
    number = put(queue_home, submit(queue_home), age, local=b"Tx@me.example\0", remote=b"Tx@far.example\0")
    with Sending(which, queue_home, answering({}, b"Zlater\n")) as sending:
        sending.wait("delivery 2")
        sending.wait(IDLE, 2)
        sending.stop()
    birth = int(place(queue_home, "info", number).stat().st_mtime)
    for folder, skip in (("local", 10), ("remote", 20)):
        status = place(queue_home, folder, number).stat()
        root = int(age**0.5)
        assert int(status.st_mtime) - birth in ((root + skip) ** 2, (root + 1 + skip) ** 2)
        assert status.st_atime == status.st_mtime or which == "ours"
    assert not any("bounce" in name for name in queue_home.files())


def test_the_next_attempt_is_on_disk_before_the_end(queue_home: QueueHome) -> None:
    """A crash does not lose it, and qmail-queuectl can show it."""
    number = put(queue_home, submit(queue_home), 500, local=b"Tx@me.example\0")
    with Sending("ours", queue_home, answering({}, b"Zlater\n")) as sending:
        sending.wait(IDLE, 2)
        birth = int(place(queue_home, "info", number).stat().st_mtime)
        assert eventually(lambda: place(queue_home, "local", number).stat().st_mtime >= birth + 32**2)


@BOTH
def test_what_is_not_due_waits(which: str, queue_home: QueueHome) -> None:
    for folder in ("local", "remote"):
        number = put(queue_home, submit(queue_home), 0, **{folder: b"Tx@me.example\0"})
        later = time.time() + 1000
        os.utime(place(queue_home, folder, number), (later, later))
    submit(queue_home)
    with Sending(which, queue_home) as sending:
        sending.wait("end msg")
        assert len(sending.requests) == 1
        sending.wait_idle()
        sending.signal("ALRM")
        sending.wait("end msg", 3)
        assert len(sending.requests) == 3


@BOTH
@pytest.mark.parametrize("lifetime", ["1", None])
def test_what_is_too_old_fails_at_its_next_attempt(which: str, queue_home: QueueHome, lifetime: str | None) -> None:
    queue_home.control(queuelifetime=lifetime)
    age = LIFETIME + 10 if lifetime is None else 100
    put(queue_home, submit(queue_home), age, local=b"Tx@me.example\0Dy@me.example\0Tz@me.example\0")
    reports: dict[bytes, bytes | None] = {b"x@me.example": b"Zlater. "}
    with Sending(which, queue_home, answering(reports)) as sending:
        sending.wait("end msg", 2)
    failed = "later._I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./"
    assert f"delivery 1: failure: {failed}" in sending.lines
    assert [request.recipient for _, request in sending.requests] == [b"x@me.example", b"z@me.example", b"a@b"]


# Bounces


class Bounced(NamedTuple):
    """texts: of the messages that qmail-send makes; lines: the log, without numbers; last: the request behind all."""

    texts: list[bytes]
    lines: list[str]
    last: Request


def bounced(which: str, home: QueueHome, sender: bytes, reports: dict[bytes, bytes | None], ends: int = 2) -> Bounced:
    """What comes of a message of sender's to joe and mary; so many messages end."""
    texts = []

    def deliver(channel: int, request: Request) -> bytes | None:
        if request.recipient not in reports:
            texts.append((home.queue / "mess" / request.message.decode()).read_bytes())
        return answering(reports)(channel, request)

    submit(home, [b"joe@me.example", b"ma\nry@virt.example"], sender)
    with Sending(which, home, deliver) as sending:
        sending.wait("end msg", ends)
        assert eventually(lambda: folders(home) == set())
        lines = sending.stop()
    return Bounced(texts, plain(lines), sending.requests[-1][1])


FAILS: dict[bytes, bytes | None] = {
    b"joe@me.example": b"Dno\n\nsuch\n",
    b"v-ma\nry@virt.example": b"D192.0.2.7 failed.\nRemote host said: 550 5.7.1 no",
}
BOUNCE = b"""\
Date: DATE
From: MAILER-DAEMON@me.example
To: %s
Subject: failure notice

Hi. This is the qmail-send program at me.example.
%s
<joe@me.example>:
no
/such

<ma_ry@virt.example>:
192.0.2.7 failed.
Remote host said: 550 5.7.1 no

--- Below this line is %s.

Return-Path: <%s>
Received: LINE
Subject: test

body
"""
FAILED = b"""\
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.
"""
BOUNCED = b"I tried to deliver a bounce message to this address, but the bounce bounced!\n"


def without_times(text: bytes) -> bytes:
    """What is behind the first line."""
    text = text.partition(b"\n")[2]
    return re.sub(rb"(?m)^Received: .*$", b"Received: LINE", re.sub(rb"(?m)^Date: .*$", b"Date: DATE", text))


@BOTH
@pytest.mark.parametrize(
    ("sender", "to", "back", "recipient", "text", "copy"),
    [
        (b"a b@c", b'"a b"@c', b'"a b"@c', b"a b@c", FAILED, b"a copy of the message"),
        (b"l-@h-@[]", b"l-@h", b"l-@h", b"l-@h", FAILED, b"a copy of the message"),
        (b"", b"postmaster@me.example", b"", b"postmaster@me.example", BOUNCED, b"the original bounce"),
    ],
)
def test_failures_are_sent_back(
    which: str, queue_home: QueueHome, sender: bytes, to: bytes, back: bytes, recipient: bytes, text: bytes, copy: bytes
) -> None:
    queue_home.control(virtualdomains="virt.example:v")
    found = bounced(which, queue_home, sender, FAILS)
    (made,) = found.texts
    assert without_times(made) == BOUNCE % (to, text, copy, back)
    assert (found.last.sender, found.last.recipient) == (b"" if sender else b"#@[]", recipient)
    ends = [line for line in found.lines if line.startswith(("bounce", "end"))]
    assert ends == ["bounce msg N qp N", "end msg N", "end msg N"]


@BOTH
def test_nobody_is_told_of_a_double_bounce_that_fails(which: str, queue_home: QueueHome) -> None:
    found = bounced(which, queue_home, b"#@[]", {**FAILS, b"ma\nry@virt.example": b"D"}, 1)
    assert found.texts == []
    assert found.lines[-3:] == ["triple bounce: discarding bounce/N", "end msg N", "status: exiting"]


@BOTH
def test_the_control_files_of_bounces(which: str, queue_home: QueueHome) -> None:
    queue_home.control(
        virtualdomains="virt.example:v", bouncefrom="do not", bouncehost="b.example", doublebounceto="double",
        doublebouncehost="d.example",
    )  # fmt: skip
    (made,) = bounced(which, queue_home, b"", FAILS).texts
    assert b'\nFrom: "do not"@b.example\nTo: double@d.example\n' in made
    assert b"\nHi. This is the qmail-send program at b.example.\n" in made


def test_double_bounces_may_be_discarded(queue_home: QueueHome) -> None:
    queue_home.control(virtualdomains="virt.example:v", doublebounceto="")
    found = bounced("ours", queue_home, b"", FAILS, 1)
    assert found.texts == []
    assert found.lines[-3:] == ["double bounce: discarding bounce/N", "end msg N", "status: exiting"]


@pytest.mark.parametrize(("size", "end"), [("30", b"\n--- End of message stripped.\n"), ("3000", b"\n\nbody\n")])
def test_a_bounce_may_have_the_beginning_of_its_message(queue_home: QueueHome, size: str, end: bytes) -> None:
    queue_home.control(virtualdomains="virt.example:v", bouncemaxbytes=size)
    (made,) = bounced("ours", queue_home, b"a@b", FAILS).texts
    assert made.endswith(end)


@pytest.mark.parametrize(("size", "kind"), [("30", "text/rfc822-headers"), ("3000", "message/rfc822")])
def test_a_bounce_may_be_a_report(queue_home: QueueHome, size: str, kind: str) -> None:
    queue_home.control(virtualdomains="virt.example:v", bouncemaxbytes=size, bounceformat="report")
    (made,) = bounced("ours", queue_home, b"a@b", FAILS).texts
    parsed = email.message_from_bytes(made, policy=email.policy.default)
    assert parsed.get_param("report-type") == "delivery-status"
    human, status, original = parsed.iter_parts()
    assert "Hi. This is the qmail-send program at me.example." in human.get_content()
    _, _, *records = status.walk()
    assert [(record["Final-Recipient"], record["Status"]) for record in records] == [
        ("rfc822; joe@me.example", "5.0.0"),
        ("rfc822; ma_ry@virt.example", "5.7.1"),
    ]
    assert original.get_content_type() == kind


@BOTH
def test_a_bounce_that_cannot_be_queued_waits(which: str, queue_home: QueueHome) -> None:
    number = submit(queue_home)
    env = {"QMAILQUEUE": "/bin/false"}
    with Sending(which, queue_home, answering({b"joe@me.example": b"Dno\n"}), env=env) as sending:
        sending.wait("warning")
        assert sending.stop()[-2:] == ["warning: trouble injecting bounce message, will try later", "status: exiting"]
    assert (queue_home.queue / f"bounce/{number}").read_bytes() == b"<joe@me.example>:\nno\n\n"
    assert folders(queue_home) == {"mess", "info", "bounce"}
    with Sending(which, queue_home) as sending:
        sending.wait("end msg", 2)
        assert eventually(lambda: folders(queue_home) == set())


# Trouble on disk


@BOTH
def test_an_envelope_that_is_none_stays_where_it_is(which: str, queue_home: QueueHome) -> None:
    number = submit(queue_home)
    (queue_home.queue / f"todo/{number}").write_bytes(b"u1\0Fa@b\0Xyz\0")
    with Sending(which, queue_home) as sending:
        sending.wait("warning")
        assert sending.stop()[-2:] == [f"warning: unknown record type in todo/{number}", "status: exiting"]
    assert {"mess", "todo", "intd", "info"} == folders(queue_home)


@BOTH
@pytest.mark.parametrize(
    ("name", "text", "warning"),
    [
        ("info", b"", "trouble opening info/{}; will try again later"),
        ("remote", b"Xa@b\0", "unknown record type in remote/{}!"),
    ],
)
def test_a_message_that_cannot_be_read_waits(
    which: str, queue_home: QueueHome, name: str, text: bytes, warning: str
) -> None:
    number = put(queue_home, submit(queue_home), 0, remote=b"Tx@far.example\0")
    place(queue_home, name, number).write_bytes(text)
    with Sending(which, queue_home) as sending:
        sending.wait("warning")
        expected = f"warning: {warning.format(f'{number % 23}/{number}')}"
        assert sending.stop()[1:] == [expected, "status: exiting"]
    assert int(place(queue_home, "remote", number).stat().st_mtime) > time.time() + 100


@BOTH
def test_what_qmail_clean_cannot_remove_is_told(which: str, queue_home: QueueHome) -> None:
    number = submit(queue_home)
    with Sending(which, queue_home, clean=lambda request: b"!") as sending:
        sending.wait("warning")
        assert sending.lines[-1] == f"warning: qmail-clean unable to clean up todo/{number}"
        sending.clean = sending.remove
        pull(queue_home)
        sending.wait("end msg")
        assert eventually(lambda: sending.asked == [b"todo/%d" % number] * 2 + [b"foop/%d" % number])
        sending.clean = lambda request: b"!" if request.startswith(b"foop") else sending.remove(request)
        other = submit(queue_home)
        sending.wait(f"warning: qmail-clean unable to clean up foop/{other}")


@BOTH
def test_garbage_of_36_hours_is_removed(which: str, queue_home: QueueHome) -> None:
    numbers = [submit(queue_home) for _ in range(3)]
    for number in numbers:
        (queue_home.queue / f"todo/{number}").unlink()
        os.utime(place(queue_home, "mess", number), (time.time() - 129700,) * 2)
    os.utime(place(queue_home, "mess", numbers[0]), (time.time() - 129000,) * 2)
    with Sending(which, queue_home) as sending:
        assert eventually(lambda: len(sending.asked) == 2)
        assert set(sending.asked) == {b"foop/%d" % number for number in numbers[1:]}
        assert sending.stop() == [IDLE, "status: exiting"]


@pytest.mark.parametrize(
    ("inject", "warning"),
    [
        ("fsync:error=ENOSPC:when=1", "warning: trouble fsyncing info/"),
        ("fsync:error=ENOSPC:when=2", "warning: trouble fsyncing local/"),
        ("pwrite64:error=EIO:when=1", "warning: trouble marking local/"),
        ("utimensat:error=EIO:when=1", None),
    ],
)
def test_after_an_error_the_message_is_still_there(queue_home: QueueHome, inject: str, warning: str | None) -> None:
    submit(queue_home, [b"a@me.example", b"b@me.example"])
    reports: dict[bytes, bytes | None] = {b"b@me.example": b"Znot now"}
    with Sending("ours", queue_home, answering(reports), prefix=traced(inject)) as sending:
        sending.wait(warning or "delivery 2")
        pull(queue_home)
        sending.wait("delivery 2: deferral")
        sending.deliver = succeed
        hurry(sending)
        sending.wait("end msg")
        assert eventually(lambda: queue_home.files() == set())


@pytest.mark.parametrize("call", ["fsync:error=ENOSPC:when=3", "ftruncate:error=EIO:when=9"])
def test_on_a_full_disk_a_failure_waits_until_its_text_is_safe(queue_home: QueueHome, call: str) -> None:
    """The third call of fsync is that for bounce/N, after info and local."""
    number = submit(queue_home)
    reports = answering({b"joe@me.example": b"Dno\n"})
    with Sending("ours", queue_home, reports, prefix=traced(call)) as sending:
        sending.wait("delivery 1: failure: no/")
        if call.startswith("fsync"):
            sending.wait("alert: unable to append to bounce message; HELP! sleeping...")
            assert place(queue_home, "local", number).read_bytes() == b"Tjoe@me.example\0"
            assert sending.lines[-1].startswith("alert")  # its slot is taken
            submit(queue_home, [b"mary@me.example"])
            sending.wait("delivery 2: success")  # others go on
            hurry(sending)
        sending.wait("bounce msg")


# Kills


def all_ended(home: QueueHome) -> bool:
    """Whether no message is left, but for the beginnings of some: garbage, in 36 hours. Three looks: a message may come
    into a folder when one has been there, and leave another before."""
    return not any(folders(home) - {"pid", "mess", "intd"} for _ in range(3))


def let_end(which: str, home: QueueHome, deliver: Callable[[int, Request], bytes | None]) -> None:
    """Whatever has become of it, a new qmail-send brings all to its end."""
    with Sending(which, home, deliver) as sending:
        assert eventually(lambda: all_ended(home)), (home.files(), sending.lines)


class Fates:
    """Three recipients: two are reached, one fails. delivered: who was; told: bounces that name the one who was not."""

    recipients = (b"ok@me.example", b"fail@me.example", b"far@far.example")

    def __init__(self, home: QueueHome) -> None:
        self.home = home
        self.delivered: set[bytes] = set()
        self.told = 0

    def __call__(self, channel: int, request: Request) -> bytes | None:
        if request.recipient == b"fail@me.example":
            return b"Dno\n"
        if request.recipient == b"a@b":
            text = (self.home.queue / "mess" / request.message.decode()).read_bytes()
            self.told += b"<fail@me.example>:\nno\n\n" in text
        self.delivered.add(request.recipient)
        return b"Kok\n"

    def check(self) -> None:
        assert self.delivered == {b"ok@me.example", b"far@far.example", b"a@b"}
        assert self.told


def traced(inject: str) -> tuple[str, ...]:
    """In front of a program: its system calls fail, or kill it, in its own process."""
    call = inject.partition(":")[0]
    return (needs("strace"), "-D", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}")


@pytest.mark.parametrize(
    ("call", "least"), [("unlinkat", 12), ("fsync", 6), ("pwrite64", 3), ("write", 10), ("linkat", 1)]
)
def test_a_kill_at_any_call_loses_nothing(queue_home: QueueHome, call: str, least: int) -> None:
    """Before the call is made; tests/stores/test_sending.py does both at each call of the module."""
    kills = 0
    for when in range(1, 100):
        fates = Fates(queue_home)
        submit(queue_home, fates.recipients)
        with Sending("ours", queue_home, fates, prefix=traced(f"{call}:signal=KILL:when={when}")) as sending:
            ended = eventually(lambda: sending.process.poll() is not None or all_ended(queue_home))
            assert ended, sending.lines
            if sending.process.poll() is None:
                break
        kills += 1
        assert sending.process.returncode == -signal.SIGKILL
        let_end("ours", queue_home, fates)
        fates.check()
        queue_home.empty()
    assert kills >= least


@pytest.mark.parametrize(
    ("first", "second"), [("ours", "ours")] + [("ours", "the original"), ("the original", "ours")] * ORIGINALS
)
@pytest.mark.parametrize(
    "moment",
    ["new msg", "starting delivery 1", "starting delivery 3", "delivery 1", "delivery 3", "bounce msg", "end msg"],
)
def test_a_queue_is_taken_over_wherever_it_was_stopped(
    queue_home: QueueHome, first: str, second: str, moment: str
) -> None:
    fates = Fates(queue_home)
    submit(queue_home, fates.recipients)
    with Sending(first, queue_home, fates) as sending:
        sending.wait(moment)
        sending.process.kill()
    let_end(second, queue_home, fates)
    fates.check()


@pytest.mark.parametrize(
    ("first", "second"), [("ours", "ours")] + [("ours", "the original"), ("the original", "ours")] * ORIGINALS
)
def test_a_queue_is_handed_over_with_its_times(queue_home: QueueHome, first: str, second: str) -> None:
    submit(queue_home, [b"x@me.example", b"y@far.example"])
    with Sending(first, queue_home, answering({}, b"Zlater\n")) as sending:
        sending.wait("delivery 2")
        sending.wait(IDLE, 2)
        sending.stop()
    with Sending(second, queue_home) as sending:
        submit(queue_home)
        sending.wait("end msg")
        assert len(sending.requests) == 1
        sending.wait_idle()
        sending.signal("ALRM")
        sending.wait("end msg", 2)
    assert len(sending.requests) == 3


# Signals, and partners that are lost


def hurry(sending: Sending) -> None:
    sending.signal("ALRM")


@BOTH
def test_term_waits_for_deliveries_and_begins_none(which: str, queue_home: QueueHome) -> None:
    queue_home.control(concurrencylocal="2")
    number = submit(queue_home, [b"%d@me.example" % one for one in range(4)])
    with Sending(which, queue_home, lambda channel, request: None) as sending:
        sending.wait("status: local 2/2")
        sending.signal("TERM")
        submit(queue_home)
        sending.report(0, 1, b"Kok")
        sending.wait("status: local 1/2 remote 0/20 exitasap")
        sending.report(0, 0, b"Kok")
        assert sending.process.wait(20) == 0
        lines = sending.stop()
    assert lines[-4:] == [
        "status: local 1/2 remote 0/20 exitasap",
        "delivery 1: success: ok",
        "status: local 0/2 remote 0/20 exitasap",
        "status: exiting",
    ]
    assert len(sending.requests) == 2
    assert place(queue_home, "local", number).read_bytes().count(b"D") == 2


@BOTH
def test_hup_reads_locals_and_virtualdomains_anew(which: str, queue_home: QueueHome) -> None:
    queue_home.control(percenthack="hack.example")
    recipients = [b"a@new.example", b"b@virt.example", b"c%new.example@hack2.example", b"d@me.example"]
    with Sending(which, queue_home) as sending:
        sending.wait(IDLE)
        queue_home.control(locals="new.example", virtualdomains="virt.example:v", percenthack="hack2.example")
        submit(queue_home, recipients)
        sending.wait("end msg")
        assert eventually(lambda: queue_home.files() == set())
        sending.wait_idle()
        sending.signal("HUP")
        submit(queue_home, recipients)
        sending.wait("end msg", 2)
    by_channel = [[request.recipient for c, request in sending.requests if c == channel] for channel in (0, 1)]
    assert by_channel == [
        [b"d@me.example", b"a@new.example", b"v-b@virt.example"],
        [*recipients[:3], b"c%new.example@hack2.example", b"d@me.example"],
    ]


@BOTH
@pytest.mark.parametrize("name", ["locals", "virtualdomains"])
def test_what_cannot_be_read_anew_stays_as_it_is(which: str, queue_home: QueueHome, name: str) -> None:
    queue_home.control(locals="me.example", virtualdomains="virt.example:v")
    with Sending(which, queue_home) as sending:
        sending.wait(IDLE)
        (queue_home.path / "control" / name).unlink()
        (queue_home.path / "control" / name).mkdir()
        sending.signal("HUP")
        sending.wait(f"alert: unable to reread control/{name}")
        submit(queue_home, [b"a@me.example", b"b@virt.example"])
        sending.wait("end msg")
    assert [request.recipient for _, request in sending.requests] == [b"a@me.example", b"v-b@virt.example"]


@BOTH
@pytest.mark.parametrize("channel", [0, 1])
def test_without_a_spawner_it_ends(which: str, queue_home: QueueHome, channel: int) -> None:
    submit(queue_home, [b"x@me.example", b"y@far.example"])
    with Sending(which, queue_home, lambda channel, request: None) as sending:
        sending.wait("starting delivery 2")
        sending.wait("status: local 1/10 remote 1/20")
        sending.hang_up(2 + 2 * channel)
        sending.wait("alert")
        sending.report(1 - channel, 0, b"Kok")
        assert sending.process.wait(20) == 0
        lines = sending.stop()
    left = "local 1/10 remote 0/20" if channel == 0 else "local 0/10 remote 1/20"
    assert lines[5:] == [
        lines[5],
        "status: local 1/10 remote 1/20",
        "alert: oh no! lost spawn connection! dying...",
        f"delivery {2 - channel}: success: ok",
        f"status: {left} exitasap",
        "status: exiting",
    ]


@BOTH
def test_without_qmail_clean_it_ends(which: str, queue_home: QueueHome) -> None:
    with Sending(which, queue_home) as sending:
        sending.wait(IDLE)
        sending.hang_up(6)
        submit(queue_home)
        assert sending.process.wait(20) == 0
        assert sending.stop()[-2:] == ["alert: oh no! lost qmail-clean connection! dying...", "status: exiting"]
    let_end("ours", queue_home, succeed)


# The start


def start_failing(which: str, home: QueueHome, hello: tuple[bytes, bytes] = (b"x", b"x")) -> list[str]:
    with Sending(which, home, hello=hello) as sending:
        if not all(hello):
            sending.hang_up(2)
        assert sending.process.wait(20) == 111
        sending._thread.join()
        return sending.lines


@BOTH
@pytest.mark.parametrize("name", ["me", "concurrencylocal", "queuelifetime", "bouncefrom", "virtualdomains"])
def test_with_a_control_file_that_cannot_be_read_it_does_not_start(
    which: str, queue_home: QueueHome, name: str
) -> None:
    file = queue_home.path / "control" / name
    file.unlink(missing_ok=True)
    file.mkdir()
    assert start_failing(which, queue_home) == ["alert: cannot start: unable to read controls"]


@BOTH
def test_without_a_name_or_locals_it_does_not_start(which: str, queue_home: QueueHome) -> None:
    queue_home.control(me=None)
    assert start_failing(which, queue_home) == ["alert: cannot start: unable to read controls"]
    queue_home.control(locals="me.example")
    with Sending(which, queue_home, answering({b"joe@me.example": b"Dno"})) as sending:
        submit(queue_home, [b"joe@me.example", b"mary"])
        sending.wait("end msg", 2)
    assert b"mary@envnoathost" in [request.recipient for _, request in sending.requests]


@BOTH
def test_there_is_only_one(which: str, queue_home: QueueHome) -> None:
    with Sending(which, queue_home) as first:
        first.wait(IDLE)
        assert start_failing("ours", queue_home) == ["alert: cannot start: qmail-send is already running"]
    with Sending("ours", queue_home) as first:
        first.wait(IDLE)
        assert start_failing(which, queue_home) == ["alert: cannot start: qmail-send is already running"]
    (queue_home.queue / "lock/sendmutex").unlink()
    assert start_failing(which, queue_home) == ["alert: cannot start: unable to open mutex"]


@BOTH
def test_without_a_word_of_a_spawner_it_does_not_start(which: str, queue_home: QueueHome) -> None:
    lines = start_failing(which, queue_home, (b"", b"x"))
    assert lines == ["alert: cannot start: hath the daemon spawn no fire?"]


@pytest.mark.parametrize(("missing", "what"), [(".", "home"), ("queue", "queue"), ("queue/mess/22", "queue")])
def test_without_home_or_queue_it_does_not_start(queue_home: QueueHome, missing: str, what: str) -> None:
    if missing == "queue/mess/22":
        for number in range(23):
            (queue_home.queue / f"mess/{number}").rmdir()
    elif missing == "queue":
        queue_home.queue.rename(queue_home.path / "elsewhere")
    env = {**queue_home.env(), **({"QMAILHOME": "/nowhere"} if what == "home" else {})}
    done = subprocess.run(
        ["sh", "-c", 'exec 0>"$1" 2>&1; exec "$2"', "sh", queue_home.path / "log", BIN / "qmail-send"],
        env=env, stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    text = (queue_home.path / "log").read_text()
    assert (done.returncode, text) == (111, f"alert: cannot start: unable to switch to {what} directory\n")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", "0<&- 3<&- 4<&- 5<&- 6<&-"])
def test_a_descriptor_that_is_missing_is_not_taken_for_another(queue_home: QueueHome, closed: str) -> None:
    before = (queue_home.queue / "lock/sendmutex").read_bytes()
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" {closed}', BIN / "qmail-send"], env=queue_home.env(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 111
    assert (queue_home.queue / "lock/sendmutex").read_bytes() == before


# Orders and last errors


def tell(home: QueueHome, number: int, order: int) -> bool:
    """Whether the order is seen."""
    place(home, "info", number).chmod(order)
    fd = queue.open_queue(os.fsencode(home.path))
    try:
        told = orders.tell(fd)
        return eventually(lambda: orders.answered(fd, told), 3)
    finally:
        os.close(fd)


@pytest.mark.parametrize("running", [True, False])
def test_what_is_held_waits_for_its_release(queue_home: QueueHome, running: bool) -> None:
    number = put(queue_home, submit(queue_home), 0, local=b"Tx@me.example\0")
    place(queue_home, "info", number).chmod(0o700)
    with Sending("ours", queue_home) as sending:
        submit(queue_home)
        sending.wait("end msg")
        hurry(sending)
        submit(queue_home)
        sending.wait("end msg", 2)
        assert len(sending.requests) == 2
        if running:
            assert tell(queue_home, number, orders.PLAIN)
            sending.wait("end msg", 3)
    if not running:
        place(queue_home, "info", number).chmod(0o600)
        with Sending("ours", queue_home) as sending:
            sending.wait("end msg")
    assert eventually(lambda: folders(queue_home) == set())


def test_an_order_is_seen_while_it_runs(queue_home: QueueHome) -> None:
    number = submit(queue_home)
    with Sending("ours", queue_home, answering({}, b"Zlater")) as sending:
        sending.wait(IDLE, 2)
        assert tell(queue_home, number, orders.HELD)
        sending.deliver = succeed
        os.utime(place(queue_home, "local", number), (1, 1))
        hurry(sending)
        submit(queue_home)
        sending.wait("end msg")
        assert len(sending.requests) == 2
        assert tell(queue_home, number, orders.PLAIN)
        sending.wait("end msg", 2)
        assert len(sending.requests) == 3


def test_a_message_may_be_ordered_to_bounce(queue_home: QueueHome) -> None:
    queue_home.control(virtualdomains="virt.example:v")
    number = submit(queue_home, [b"x@virt.example", b"y@far.example", b"z@far.example"])
    texts = []

    def deliver(channel: int, request: Request) -> bytes | None:
        if request.recipient == b"a@b":
            texts.append((queue_home.queue / "mess" / request.message.decode()).read_bytes())
        return b"Kok" if request.recipient in (b"a@b", b"z@far.example") else b"Zlater"

    with Sending("ours", queue_home, deliver) as sending:
        sending.wait(IDLE, 2)
        for folder in ("local", "remote"):
            os.utime(place(queue_home, folder, number), (1, 1))
        assert tell(queue_home, number, orders.BOUNCE)
        sending.wait("end msg", 2)
        assert eventually(lambda: queue_home.files() == set())
    text = b"The postmaster has taken this message out of the queue. (#5.7.0)\n\n"
    assert b"<x@virt.example>:\n" + text in texts[0]
    assert b"<y@far.example>:\n" + text in texts[0]
    assert b"<z@far.example>" not in texts[0]
    assert [line for line in plain(sending.lines) if line.startswith("order")] == [
        "order: bounce msg N to local v-x@virt.example",
        "order: bounce msg N to remote y@far.example",
    ]


def test_a_message_may_be_ordered_to_go_without_a_word(queue_home: QueueHome) -> None:
    number = submit(queue_home, [b"x@me.example", b"y@far.example"])
    with Sending("ours", queue_home, answering({b"x@me.example": b"Dno"}, b"Zlater")) as sending:
        sending.wait(IDLE, 2)
        assert (queue_home.queue / f"bounce/{number}").exists()
        os.utime(place(queue_home, "remote", number), (1, 1))
        assert tell(queue_home, number, orders.DELETE)
        sending.wait("end msg")
        assert eventually(lambda: queue_home.files() == set())
        assert plain(sending.stop())[-3:] == [
            "order: delete msg N to remote y@far.example",
            "end msg N",
            "status: exiting",
        ]


def test_a_list_that_cannot_be_removed_yet_is_bounced_once(queue_home: QueueHome) -> None:
    number = put(queue_home, submit(queue_home), 0, local=b"Tx@me.example\0")
    place(queue_home, "info", number).chmod(0o1610)
    texts = []

    def deliver(channel: int, request: Request) -> bytes | None:
        texts.append((queue_home.queue / "mess" / request.message.decode()).read_bytes())
        return b"Kok"

    with Sending("ours", queue_home, deliver, prefix=traced("unlinkat:error=EPERM:when=1")) as sending:
        sending.wait("warning: unable to unlink local/")
        hurry(sending)
        sending.wait("end msg", 2)
    assert [text.count(b"<x@me.example>:\n") for text in texts] == [1]


@pytest.mark.parametrize("settling", [False, True])
def test_a_survey_that_cannot_read_a_time_begins_no_second_pass(tmp_path: Path, settling: bool) -> None:
    """While a delivery runs, or qmail-clean has not answered."""

    class Unreadable(Spool):
        def survey(self, flushed: int, wait: object, finish: object, unknown: Callable[[int, int], None]) -> None:
            unknown(0, 5)
            unknown(0, 6)

    fd = os.open(tmp_path, os.O_PATH)
    spool = Unreadable(fd, queue.Layout(23, False))
    anything: Any = None
    sender = qmail_send.Sender(
        {}, Log(-1), anything, anything, anything, spool, [None, None], Dispatch((10, 20), 1000), lambda: 0.0
    )
    if settling:
        sender._settling.add(5)
    else:
        sender._dispatch.open(0, 5, b"a@b", 0, 0)
    assert sender._survey(1)
    assert [number for _, number in sender._unknown[0]] == [6]
    os.close(fd)


def test_a_mode_that_nobody_ordered_deletes_nothing(queue_home: QueueHome) -> None:
    number = put(queue_home, submit(queue_home), 0, local=b"Tx@me.example\0")
    place(queue_home, "info", number).chmod(0o755)  # as chmod -R does
    with Sending("ours", queue_home) as sending:
        sending.wait("end msg")
        assert len(sending.requests) == 1


@needs_originals
def test_the_original_delivers_whatever_is_ordered(queue_home: QueueHome) -> None:
    number = put(queue_home, submit(queue_home), 0, local=b"Tx@me.example\0")
    place(queue_home, "info", number).chmod(0o700)
    with Sending("the original", queue_home) as sending:
        sending.wait("end msg")


def test_why_a_recipient_is_put_off_is_noted(queue_home: QueueHome) -> None:
    number = submit(queue_home, [b"x@me.example", b"y@far.example"])
    fd = queue.open_queue(os.fsencode(queue_home.path))
    lasterrors.note(fd, number, b"local", b"old@me.example", 1, b"of another message")
    reports: dict[bytes, bytes | None] = {b"x@me.example": b"Zfull\n", b"y@far.example": b"Znobody there"}
    with Sending("ours", queue_home, answering(reports)) as sending:
        sending.wait(IDLE, 2)
        noted = {key: text for key, (when, text) in lasterrors.read(fd, number).items()}
        assert noted == {
            (b"local", b"x@me.example"): b"full\n",
            (b"remote", b"y@far.example"): b"nobody there",
        }
        sending.deliver = succeed
        hurry(sending)
        sending.wait("end msg")
        assert eventually(lambda: queue_home.files() == set())
    os.close(fd)


# Both at once


OUTCOMES = [
    [b"Kok\n"],
    [b"Zlater\n", b"Kok\n"],
    [b"Dno\n", b"Zlater\n", b"x", b"D\n\na", b"K\xff%"],
    [b"Z", b"", b"D"],
]


@needs_originals
@pytest.mark.parametrize("outcomes", OUTCOMES, ids=range(len(OUTCOMES)))
@pytest.mark.parametrize("age", [17, 700, LIFETIME + 100])  # the next attempt is the same for seven seconds
def test_log_and_files_are_those_of_the_original(tmp_path: Path, outcomes: list[bytes], age: int) -> None:
    results = []
    for which in ("the original", "ours"):
        home = QueueHome(tmp_path / which)
        lists = [
            b"".join(b"T%d@%s.example\0" % (n, where) for n, _ in enumerate(outcomes)) for where in (b"me", b"far")
        ]
        number = put(home, submit(home), age, local=lists[0], remote=lists[1])
        with Sending(which, home, lambda channel, request: None, env={"QMAILQUEUE": "/bin/false"}) as sending:
            sending.wait("starting delivery", 2 * len(outcomes))
            sending.wait("status", 1 + 2 * len(outcomes))
            for slot, report in enumerate(outcomes):
                for channel in (0, 1):
                    sending.report(channel, slot, report)
                    sending.wait("status", 2 + 2 * len(outcomes) + 2 * slot + channel)
            lines = sending.stop()
        birth = int(place(home, "info", number).stat().st_mtime) if place(home, "info", number).exists() else 0
        texts = {
            file.parts[len(home.queue.parts)]: (file.read_bytes(), int(file.stat().st_mtime) - birth)
            for file in (home.queue / name for name in home.files())
            if "last" not in file.parts and file.name == str(number)
        }
        for name in ("mess", "info", "bounce"):
            texts[name] = (texts.get(name, (b"", 0))[0].partition(b"\n")[2], 0)
        results.append(([line.replace(str(number), "N") for line in lines], texts))
    assert results[0] == results[1]
