"""qmail-qmtpd: answers, and what gets into the queue; beside the C program where QMAIL_BIN names it."""

import os
import socket
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.commands.netstringd import Recorder, anonymous, converse, net, nets, programs
from tests.helpers import BIN, environment, needs, run
from tests.pop3_original import originals
from tests.queuehomes import QueueHome, queue_home
from tests.servers import OURS, serve

__all__ = ["queue_home"]

NO_RELAY = b"66:Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1),"
UNUSABLE = b"46:Dsorry, I can't handle that recipient (#5.1.3),"
BAD_SENDER = b"29:Dunacceptable sender (#5.1.7),"
TOO_BIG = b"61:Dsorry, that message size exceeds my databytes limit (#5.3.4),"
QUEUED = b"QUEUED,"

RECEIVED = b"Received: from unknown (unknown)\n  by unknown with QMTP; DATE"


def request(message: bytes = b"\nhello\n", sender: bytes = b"me@here.example", *recipients: bytes) -> bytes:
    return nets(message, sender, nets(*(recipients or (b"you@there.example",))))


@pytest.fixture(params=programs("qmail-qmtpd"), ids=lambda path: "ours" if Path(path).parent == BIN else "the original")
def qmtpd(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Place:
    """A home without a queue, whose QMAILQUEUE is a recorder."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        (folder / "control").mkdir()
        self.recorder = Recorder(folder)

    def talk(self, program: str, request: bytes, **variables: str) -> tuple[int, bytes]:
        return converse(program, self.home, request, {**self.recorder.env(), **variables})

    def control(self, name: str, text: bytes) -> None:
        (self.home / "control" / name).write_bytes(text)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_each_message_is_queued_and_each_recipient_answered(qmtpd: str, place: Place) -> None:
    both = request(b"\none\n", b"a@b", b"c@d", b"e") + request(b"\n", b"", b"f@g")
    assert place.talk(qmtpd, both) == (0, QUEUED * 3)
    assert place.recorder.take() == [
        (RECEIVED, b"one\n", b"Fa@b\0Tc@d\0Te\0\0"),
        (RECEIVED, b"", b"F\0Tf@g\0\0"),
    ]


def test_the_received_line_describes_the_client(qmtpd: str, place: Place) -> None:
    place.talk(
        qmtpd,
        request(),
        TCPREMOTEHOST="host.example;x",
        TCPREMOTEIP="192.0.2.1",
        TCPREMOTEINFO="",
        TCPLOCALIP="::1",
        TCPLOCALHOST="mx[1]",
    )
    place.talk(qmtpd, request(), TCPREMOTEINFO="(a b)", TCPLOCALIP="192.0.2.2")
    assert [received for received, _, _ in place.recorder.take()] == [
        b"Received: from host.example?x (@192.0.2.1)\n  by mx[1] with QMTP; DATE",
        b"Received: from unknown (?a?b?@unknown)\n  by 192.0.2.2 with QMTP; DATE",
    ]


def test_lines_that_end_in_cr_lf_end_in_lf_afterwards(qmtpd: str, place: Place) -> None:
    assert place.talk(qmtpd, request(b"\ra\r\nb\rc\r\r\n\n\r\r")) == (0, QUEUED)
    assert place.talk(qmtpd, request(b"\na\r\nb\r")) == (0, QUEUED)
    assert [message for _, message, _ in place.recorder.take()] == [b"a\nb\rc\r\n\n\r\r", b"a\r\nb\r"]


def test_recipients_elsewhere_are_refused_and_the_others_are_not(qmtpd: str, place: Place) -> None:
    place.control("rcpthosts", b"# ours\nHere.example \n.sub.example\n\n")
    mail = request(b"\n", b"x", b"a@here.EXAMPLE", b"b@there.example", b"c@d.sub.example", b"e@sub.example", b"f", b"")
    assert place.talk(qmtpd, mail) == (0, QUEUED + NO_RELAY + QUEUED + NO_RELAY + QUEUED * 2)
    ((_, _, envelope),) = place.recorder.take()
    assert envelope == b"Fx\0Ta@here.EXAMPLE\0Tc@d.sub.example\0Tf\0T\0\0"


def test_a_message_for_nobody_here_is_not_queued(qmtpd: str, place: Place) -> None:
    place.control("rcpthosts", b"")
    assert place.talk(qmtpd, request()) == (0, NO_RELAY)
    assert place.talk(qmtpd, nets(b"\n", b"", b"")) == (0, b"")
    assert place.recorder.take() == []


def test_more_hosts_are_in_morercpthosts(qmtpd: str, place: Place) -> None:
    place.control("rcpthosts", b"here.example\n")
    cdb = place.home / "control" / "morercpthosts.cdb"
    made = run([needs("cdb"), "-c", cdb], b"+10,0:.m.example->\n+9,0:n.example->\n\n")
    assert made.returncode == 0, made.stderr
    mail = request(b"\n", b"", b"a@X.M.example", b"b@m.example", b"c@N.example", b"d@.", b"e@here.example")
    assert place.talk(qmtpd, mail) == (0, QUEUED + NO_RELAY + QUEUED + NO_RELAY + QUEUED)


@pytest.mark.parametrize(("suffix", "there"), [("", b"a@b"), ("@gate", b"a@b@gate")])
def test_a_relay_client_reaches_all_and_its_value_is_appended(
    qmtpd: str, place: Place, suffix: str, there: bytes
) -> None:
    place.control("rcpthosts", b"")
    assert place.talk(qmtpd, request(b"\n", b"", b"a@b"), RELAYCLIENT=suffix) == (0, QUEUED)
    ((_, _, envelope),) = place.recorder.take()
    assert envelope == b"F\0T" + there + b"\0\0"


@pytest.mark.parametrize(
    ("suffix", "recipient", "answer"),
    [
        (None, b"x" * 999, QUEUED),
        (None, b"x" * 1000, UNUSABLE),
        (None, b"x" * 70_000, UNUSABLE),
        (None, b"a\0b", UNUSABLE),
        (None, b"a\0b@there.example", NO_RELAY),
        (None, b"x" * 999 + b"@there.example", UNUSABLE),
        ("yz", b"x" * 997, QUEUED),
        ("yz", b"x" * 998, UNUSABLE),
        ("yz", b"a\0b@there.example", UNUSABLE),
    ],
)
def test_recipients_that_no_envelope_can_hold_are_refused(
    qmtpd: str, place: Place, suffix: str | None, recipient: bytes, answer: bytes
) -> None:
    place.control("rcpthosts", b"")
    variables = {} if suffix is None else {"RELAYCLIENT": suffix}
    assert place.talk(qmtpd, request(b"\n", b"", recipient, b"z"), **variables) == (0, answer + QUEUED)


@pytest.mark.parametrize("sender", [b"a\0b", b"x" * 1000, b"x" * 70_000])
def test_an_unacceptable_sender_is_every_recipients_trouble(qmtpd: str, place: Place, sender: bytes) -> None:
    place.control("rcpthosts", b"")
    mail = request(b"\n", sender, b"a", b"b@there.example", b"c") + request(b"\n", b"x" * 999, b"d")
    assert place.talk(qmtpd, mail) == (0, BAD_SENDER + NO_RELAY + BAD_SENDER + QUEUED)
    assert len(place.recorder.take()) == 1


@pytest.mark.parametrize(
    ("control", "variable", "limit"),
    [
        (None, "5", 5),
        (b"5\n", None, 5),
        (b"3\n", "5x", 5),
        (b"3\n", "0", None),
        (b"3\n", "no", None),
        (b"x", None, None),
    ],
)
def test_a_message_above_databytes_is_refused(
    qmtpd: str, place: Place, control: bytes | None, variable: str | None, limit: int | None
) -> None:
    place.control("rcpthosts", b"")
    if control is not None:
        place.control("databytes", control)
    variables = {} if variable is None else {"DATABYTES": variable}
    fits, too_big = b"\r1\r\n34\r\n", b"\r1\r\n345\r\n"
    mail = request(fits, b"", b"a") + request(too_big, b"", b"b@c", b"d") + request(b"\n12345", b"", b"e")
    mail += request(b"\n123456", b"x" * 1000, b"f")
    over = QUEUED if limit is None else TOO_BIG
    bad = BAD_SENDER if limit is None else TOO_BIG
    assert place.talk(qmtpd, mail, **variables) == (0, QUEUED + NO_RELAY + over + QUEUED + bad)


@pytest.mark.parametrize(
    ("code", "said", "answer"),
    [
        ("31", "", b"51:Dmail server permanently rejected message (#5.3.0),"),
        ("53", "", b"45:Zqq write error or disk full (#4.3.0),"),
        ("82", "Zmy own words", b"13:Zmy own words,"),
        ("99", "", b"34:Zqq temporary problem (#4.3.0),"),
    ],
)
def test_what_the_queue_says_is_told_to_accepted_recipients(
    qmtpd: str, place: Place, code: str, said: str, answer: bytes
) -> None:
    place.control("rcpthosts", b"")
    mail = request(b"\n", b"", b"a", b"b@there.example", b"c")
    answer = net(answer.partition(b":")[2][:-1])
    assert place.talk(qmtpd, mail, CODE=code, SAID=said) == (0, answer + NO_RELAY + answer)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"0:", 100),
        (b":", 100),
        (b"x", 100),
        (b"1x:", 100),
        (b"1:x", 100),
        (b"1:\n;", 100),
        (b"2:\nab,", 100),
        (b"00002:\na,0:,0:,", 0),
        (b"2:\na,:,5:1:a,,", 100),
        (b"2:\na,:,3:1:a,,", 100),
        (b"2:\na,:,1:1", 100),
        (b"200000000", 0),
        (b"2000000001:\n", 0),
        (b"200000001:\n", 0),
        (b"2000000001", 0),
        (b"2000000010", 111),
        (b"9" * 50, 111),
        (b"", 0),
        (b"5", 0),
        (b"5:\nab", 0),
        (b"2:\na,0:,10:3:", 0),
    ],
)
def test_what_is_no_qmtp_ends_with_100_or_111_and_no_answer(qmtpd: str, place: Place, sent: bytes, code: int) -> None:
    assert place.talk(qmtpd, sent) == (code, b"")
    assert place.recorder.take() == []


def test_what_is_queued_is_answered_even_if_nonsense_follows(place: Place) -> None:
    """The original has the answer in its buffer when it ends."""
    assert place.talk(str(BIN / "qmail-qmtpd"), request() + b"nonsense") == (100, QUEUED)


@pytest.mark.parametrize("name", ["rcpthosts", "databytes"])
def test_unreadable_control_files_end_it(qmtpd: str, place: Place, name: str) -> None:
    (place.home / "control" / name).mkdir()
    assert place.talk(qmtpd, request()) == (111, b"")


def test_without_a_control_directory_nothing_is_taken(tmp_path: Path) -> None:
    for home in (tmp_path, tmp_path / "missing"):
        missing = run([BIN / "qmail-qmtpd"], request(), environment(QMAILHOME=str(home)))
        assert missing.stderr == b"qmail-qmtpd: fatal: unable to read controls: file does not exist\n"
        assert (missing.returncode, missing.stdout) == (111, b"")


def test_the_home_may_be_relative(queue_home: QueueHome) -> None:
    queue_home.control(rcpthosts="here.example")
    env = environment(QMAILHOME=queue_home.path.name)
    sent = request(b"\n", b"", b"a@here.example", b"b@there.example")
    answers = run([BIN / "qmail-qmtpd"], sent, env, cwd=queue_home.path.parent).stdout
    assert anonymous(answers) == QUEUED + NO_RELAY


def test_a_broken_morercpthosts_answers_nobody(place: Place) -> None:
    place.control("rcpthosts", b"")
    place.control("morercpthosts.cdb", b"x" * 2100)
    assert place.talk(str(BIN / "qmail-qmtpd"), request()) == (111, b"")
    assert place.recorder.take() == []


PIECES = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"\na\n", b"\rb\r\nc\r", b"x", b"a@b", b"a@c.d", b"\0", b"", b":", b",", b"1:", b"9" * 30]
)
MAILS = st.tuples(
    st.lists(PIECES, max_size=4).map(b"".join), PIECES, st.lists(st.one_of(PIECES, st.just(b"y" * 1000)), max_size=4)
).map(lambda parts: nets(parts[0], parts[1], nets(*parts[2])))
RAW = st.one_of(MAILS, PIECES)

if originals("qmail-qmtpd"):

    @pytest.mark.parametrize("path", originals("qmail-qmtpd"))
    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(sent=st.lists(RAW, max_size=3).map(b"".join), bytes_=st.sampled_from(["0", "3"]))
    def test_any_client_is_told_what_the_original_tells(place: Place, path: str, sent: bytes, bytes_: str) -> None:
        """But for answers that the original loses."""
        place.control("rcpthosts", b"b\n")
        code, answers = place.talk(str(BIN / "qmail-qmtpd"), sent, DATABYTES=bytes_)
        ours = place.recorder.take()
        original_code, original_answers = place.talk(path, sent, DATABYTES=bytes_)
        assert place.recorder.take() == ours
        assert code == original_code
        assert answers.startswith(original_answers) if code else answers == original_answers


def answer(file: BinaryIO) -> bytes:
    """The first word of the next answer."""
    digits = b"".join(iter(lambda: file.read(1), b":"))
    return file.read(int(digits) + 1).split()[0]


def test_a_client_of_tcpserver_gets_its_message_into_the_queue(queue_home: QueueHome) -> None:
    env = queue_home.env()
    with serve(OURS, "qmail-qmtpd", env=env) as server, server.connect() as connection:
        file = connection.makefile("rb")
        for number in range(2):
            connection.sendall(request(b"\n%d\n" % number))
            assert answer(file) == b"Kok"
        connection.shutdown(socket.SHUT_WR)
        assert file.read() == b""
        server.line(r".*status 0")
    first, second = queue_home.messages()
    assert (first.sender, first.recipients, second.recipients) == (
        b"me@here.example",
        [b"you@there.example"],
        [b"you@there.example"],
    )
    assert first.body.startswith(b"Received: from unknown (127.0.0.1)\n  by 0 with QMTP; ")
    assert first.body.endswith(b"\n0\n")
    assert second.body.endswith(b"\n1\n")


def test_a_client_that_leaves_in_the_middle_leaves_nothing_in_the_queue(queue_home: QueueHome) -> None:
    for sent in (b"100:\nhello", b"6:\nhello,1:a,5:1", b"6:\nhello,1:a,x"):
        run([BIN / "qmail-qmtpd"], sent, queue_home.env())
        assert queue_home.files() == set()


def test_a_large_message_takes_little_memory(queue_home: QueueHome) -> None:
    large = b"\r" + b"x" * 70 + b"\r\n"
    large += b"0123456789" * 700_000
    limit = run(["sh", "-c", 'ulimit -v 60000; exec "$0"', BIN / "qmail-qmtpd"], request(large), queue_home.env())
    assert (limit.returncode, anonymous(limit.stdout)) == (0, QUEUED), limit.stderr
    assert os.path.getsize(next(iter((queue_home.queue / "mess").glob("*/*")))) > 7_000_000
