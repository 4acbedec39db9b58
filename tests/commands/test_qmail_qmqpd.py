"""qmail-qmqpd: its one answer, and what gets into the queue; beside the C program where QMAIL_BIN names it."""

import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.commands.netstringd import Recorder, anonymous, converse, net, nets, programs
from tests.helpers import BIN, environment, run
from tests.pop3_original import originals
from tests.queuehomes import QueueHome, queue_home
from tests.servers import OURS, read_all, serve

__all__ = ["queue_home"]

BAD_ADDRESS = b"51:Dsorry, I can't accept addresses like that (#5.1.3),"
QUEUED = b"QUEUED,"


def request(message: bytes = b"hello\n", sender: bytes = b"me@here.example", *recipients: bytes) -> bytes:
    return net(nets(message, sender, *(recipients or (b"you@there.example",))))


@pytest.fixture(params=programs("qmail-qmqpd"), ids=lambda path: "ours" if Path(path).parent == BIN else "the original")
def qmqpd(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Place:
    """A home without a queue, whose QMAILQUEUE is a recorder."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        (folder / "control").mkdir()
        self.recorder = Recorder(folder)

    def talk(self, program: str, request: bytes, **variables: str) -> tuple[int, bytes]:
        return converse(program, self.home, request, {**self.recorder.env(), **variables})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_message_is_queued_and_answered_once(qmqpd: str, place: Place) -> None:
    sent = request(b"a\r\n\0b", b"", b"a@b", b"c", b"") + request()
    env = {"TCPREMOTEIP": "192.0.2.1", "TCPREMOTEHOST": "client.example", "TCPLOCALIP": "192.0.2.2"}
    assert place.talk(qmqpd, sent, **env) == (0, QUEUED)
    received = b"Received: from client.example (192.0.2.1)\n  by 192.0.2.2 with QMQP; DATE"
    assert place.recorder.take() == [(received, b"a\r\n\0b", b"F\0Ta@b\0Tc\0T\0\0")]


def test_no_recipients_are_recipients_enough(qmqpd: str, place: Place) -> None:
    assert place.talk(qmqpd, net(nets(b"x", b"me"))) == (0, QUEUED)
    ((_, message, envelope),) = place.recorder.take()
    assert (message, envelope) == (b"x", b"Fme\0\0")


def test_no_domain_is_refused_and_no_size(qmqpd: str, place: Place) -> None:
    (place.home / "control" / "rcpthosts").touch()
    (place.home / "control" / "databytes").write_text("1\n")
    assert place.talk(qmqpd, request(b"x" * 100_000), DATABYTES="1") == (0, QUEUED)


@pytest.mark.parametrize("address", [b"a\0b", b"x" * 1000, b"x" * 70_000])
def test_addresses_that_no_envelope_can_hold_are_refused(qmqpd: str, place: Place, address: bytes) -> None:
    assert place.talk(qmqpd, request(b"", address)) == (0, BAD_ADDRESS)
    assert place.talk(qmqpd, request(b"", b"me", b"you", address), CODE="31") == (0, BAD_ADDRESS)
    assert place.talk(qmqpd, request(b"", b"x" * 999, b"y" * 999)) == (0, QUEUED)
    assert len(place.recorder.take()) == 1


@pytest.mark.parametrize(
    ("code", "said", "answer"),
    [
        ("31", "", b"Dmail server permanently rejected message (#5.3.0)"),
        ("71", "", b"Zmail server temporarily rejected message (#4.3.0)"),
        ("82", "Dgo away", b"Dgo away"),
        ("12", "", b"Dqq permanent problem (#5.3.0)"),
    ],
)
def test_what_the_queue_says_is_the_answer(qmqpd: str, place: Place, code: str, said: str, answer: bytes) -> None:
    assert place.talk(qmqpd, request(), CODE=code, SAID=said) == (0, net(answer))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"x", 100),
        (b"0:,", 100),
        (b":", 100),
        (b"6:0:,0:,;", 100),
        (b"6:0:,0:,", 0),
        (b"7:0:,0:,,", 100),
        (b"5:3:abcdefg", 100),
        (b"5:9:ab", 0),
        (b"5:9:abc", 100),
        (b"4:1x:a,,", 100),
        (b"0" * 98 + b"6:0:,0:,", 0),
        (b"0" * 99 + b"6:0:,0:,", 100),
        (b"0" * 100, 100),
        (b"2000000010", 111),
        (b"30:2000000010", 111),
        (b"", 0),
    ],
)
def test_what_is_no_qmqp_ends_without_an_answer(qmqpd: str, place: Place, sent: bytes, code: int) -> None:
    assert place.talk(qmqpd, sent) == (code, b"")
    assert place.recorder.take() == []


def test_trouble_is_said_on_descriptor_2(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    ended = run([BIN / "qmail-qmqpd"], request(), environment(QMAILHOME=str(missing)))
    assert ended.stderr == b"qmail-qmqpd: fatal: unable to use %s: file does not exist\n" % bytes(missing)
    assert (ended.returncode, ended.stdout) == (111, b"")


PIECES = st.sampled_from([b"", b"x", b"a@b", b"\0", b"y" * 1000, b"\n", b":", b",", b"1:", b"3:ab", b"9" * 30])
REQUESTS = st.one_of(
    st.lists(PIECES, max_size=5).map(lambda pieces: net(nets(*pieces))),
    st.lists(PIECES, max_size=5).map(lambda pieces: net(b"".join(pieces))),
    st.lists(PIECES, max_size=5).map(b"".join),
)

if originals("qmail-qmqpd"):

    @pytest.mark.parametrize("path", originals("qmail-qmqpd"))
    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(sent=st.tuples(REQUESTS, PIECES).map(b"".join))
    def test_any_client_is_told_what_the_original_tells(place: Place, path: str, sent: bytes) -> None:
        ours = place.talk(str(BIN / "qmail-qmqpd"), sent), place.recorder.take()
        assert (place.talk(path, sent), place.recorder.take()) == ours


def test_a_client_of_tcpserver_gets_its_message_into_the_queue(queue_home: QueueHome) -> None:
    with serve(OURS, "qmail-qmqpd", env=queue_home.env()) as server, server.connect() as connection:
        for byte in request(b"hello\n", b"me", b"you", b"them"):
            connection.sendall(bytes((byte,)))
        assert anonymous(read_all(connection)) == QUEUED  # the server ends, not the client
    message = queue_home.message()
    assert (message.sender, message.recipients) == (b"me", [b"you", b"them"])
    assert message.body.startswith(b"Received: from unknown (127.0.0.1)\n  by 0 with QMQP; ")
    assert message.body.endswith(b"\nhello\n")


def test_a_client_that_leaves_in_the_middle_leaves_nothing_in_the_queue(queue_home: QueueHome) -> None:
    for sent in (b"100:50:hello", request()[:-5], request()[:-1] + b"x"):
        run([BIN / "qmail-qmqpd"], sent, queue_home.env())
        assert queue_home.files() == set()


def test_the_answer_reaches_a_client_that_has_said_too_much(queue_home: QueueHome) -> None:
    with serve(OURS, "qmail-qmqpd", env=queue_home.env()) as server, server.connect() as connection:
        connection.sendall(request() + b"x" * 100_000)
        connection.shutdown(socket.SHUT_WR)
        assert anonymous(read_all(connection)) == QUEUED
