"""qmail-qmqpc: what it sends, and what becomes of the answer; beside the C program where QMAIL_BIN names it."""

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.commands import qmail_qmqpc
from tests.commands.netstringd import in_home, net, nets, programs
from tests.helpers import BIN, environment, run
from tests.queuehomes import QueueHome, queue_home
from tests.servers import OURS, TIMEOUT, serve

__all__ = ["queue_home"]

ENVELOPE = b"Fme@here.example\0Tyou@there.example\0T\0\0"
MESSAGE = b"Subject: hello\n\nhello\n"
REQUEST = net(nets(MESSAGE, b"me@here.example", b"you@there.example", b""))

QMQP = 628  # the original knows no other


@pytest.fixture(params=programs("qmail-qmqpc"), ids=lambda path: "ours" if Path(path).parent == BIN else "the original")
def qmqpc(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Listener:
    """A server for one client after the other: sends `answer` when it has heard as much as it waits for."""

    def __init__(self, ip: str, port: int, answer: bytes, expected: int) -> None:
        self.socket = socket.create_server((ip, port), family=socket.AF_INET6 if ":" in ip else socket.AF_INET)
        self.heard: list[bytes] = []
        self.answer = answer
        self.expected = expected
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                with connection:
                    connection.settimeout(TIMEOUT)
                    heard = b""
                    while len(heard) < self.expected and (block := connection.recv(65536)):
                        heard += block
                    self.heard.append(heard)
                    connection.sendall(self.answer)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(TIMEOUT)


def address(program: str, last: int = 0) -> tuple[str, int]:
    """Where a server for program listens: the original asks port 628, so it needs an address of its own."""
    if Path(program).parent == BIN:
        return "127.0.0.1", 0
    if os.geteuid():
        pytest.skip("the original asks port 628: run this test as root to compare")
    return f"127.{85 + last}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}", QMQP


@contextlib.contextmanager
def listening(program: str, answer: bytes, expected: int = len(REQUEST), last: int = 0) -> Iterator[Listener]:
    listener = Listener(*address(program, last), answer, expected)
    try:
        yield listener
    finally:
        listener.close()


def place(listener: Listener) -> str:
    """The line of qmqpservers."""
    ip, port = listener.socket.getsockname()[:2]
    return ip if port == QMQP else f"{ip}:{port}"


def unused(program: str) -> str:
    """A line of qmqpservers where nobody listens."""
    ip, port = address(program, last=9)
    with socket.create_server((ip, port)) as server:
        return ip if port else f"{ip}:{server.getsockname()[1]}"


class Place:
    """A home with a qmqpservers."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "control").mkdir()

    def servers(self, *lines: str) -> None:
        (self.home / "control" / "qmqpservers").write_text("".join(f"{line}\n" for line in lines))

    def send(self, program: str, message: bytes = MESSAGE, envelope: bytes = ENVELOPE) -> int:
        """The exit code for a message and an envelope, whose writer does not close it."""
        reading, writing = os.pipe()
        os.write(writing, envelope)
        if not envelope.endswith(b"\0\0"):
            os.close(writing)
        env = environment(QMAILHOME=str(self.home))
        try:
            return subprocess.run(
                in_home(program, self.home), input=message, stdout=reading, env=env, timeout=TIMEOUT, check=False
            ).returncode
        finally:
            os.close(reading)
            if envelope.endswith(b"\0\0"):
                os.close(writing)


@pytest.fixture
def at(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"23:Kok 1795386766 qp 20752,", 0),
        (b"8:Zlater K,", 71),
        (b"8:Dnever K,", 31),
        (b"12:34:nonsenseD", 31),
        (b"K", 0),
        (b"", 74),
        (b"5:kzdno,", 74),
    ],
)
def test_the_servers_verdict_is_the_exit_code(qmqpc: str, at: Place, answer: bytes, code: int) -> None:
    with listening(qmqpc, answer) as server:
        at.servers(place(server))
        assert at.send(qmqpc) == code
        assert server.heard == [REQUEST]


@pytest.mark.parametrize("message", [b"", b"x" * 65536, b"y" * 3_000_000])
def test_a_message_of_any_size_is_sent_whole(qmqpc: str, at: Place, message: bytes) -> None:
    request = net(nets(message, b"me@here.example", b"you@there.example", b""))
    with listening(qmqpc, b"K", len(request)) as server:
        at.servers(place(server))
        assert at.send(qmqpc, message) == 0
        assert server.heard == [request]


@pytest.mark.parametrize("envelope", [b"F\0\0", b"F" + b"x" * 1200 + b"\0T" + b"y" * 2000 + b"\0\0"])
def test_addresses_are_the_servers_business(qmqpc: str, at: Place, envelope: bytes) -> None:
    request = net(nets(MESSAGE, *[record[1:] for record in envelope[:-2].split(b"\0")]))
    with listening(qmqpc, b"K", len(request)) as server:
        at.servers(place(server))
        assert at.send(qmqpc, MESSAGE, envelope) == 0
        assert server.heard == [request]


@pytest.mark.parametrize(
    "envelope", [b"", b"\0\0", b"F", b"Fme", b"Tyou\0\0", b"Fme\0", b"Fme\0Tyou\0", b"Fme\0Fyou\0\0"]
)
def test_what_is_no_envelope_is_sent_nowhere(qmqpc: str, at: Place, envelope: bytes) -> None:
    with listening(qmqpc, b"K") as server:
        at.servers(place(server))
        assert at.send(qmqpc, MESSAGE, envelope) == 91
        assert server.heard == []


def test_the_next_server_is_asked_when_one_is_not_there(qmqpc: str, at: Place) -> None:
    with listening(qmqpc, b"K") as server, listening(qmqpc, b"K", last=1) as later:
        at.servers("# servers", "host.example", "", unused(qmqpc), place(server) + " ", place(later))
        assert at.send(qmqpc) == 0
        assert (server.heard, later.heard) == ([REQUEST], [])


@pytest.mark.parametrize(("answer", "code"), [(b"", 74), (b"Z", 71), (b"D", 31)])
def test_no_other_server_is_asked_when_one_has_been_told(qmqpc: str, at: Place, answer: bytes, code: int) -> None:
    with listening(qmqpc, answer) as server, listening(qmqpc, b"K", last=1) as later:
        at.servers(place(server), place(later))
        assert at.send(qmqpc) == code
        assert later.heard == []


def test_without_servers_there_is_trouble(qmqpc: str, at: Place) -> None:
    assert at.send(qmqpc) == 55
    at.servers("host.example", "1.2.3", ":628")
    assert at.send(qmqpc) == 55
    at.servers(unused(qmqpc))
    assert at.send(qmqpc) == 73
    (at.home / "control" / "qmqpservers").unlink()
    (at.home / "control" / "qmqpservers").mkdir()
    assert at.send(qmqpc) == 55


def test_an_unreadable_me_is_trouble(qmqpc: str, at: Place) -> None:
    at.servers("127.0.0.1")
    (at.home / "control" / "me").mkdir()
    assert at.send(qmqpc) == 55


def test_without_a_home_there_is_trouble(at: Place) -> None:
    assert run([BIN / "qmail-qmqpc"], env=environment(QMAILHOME=str(at.home / "missing"))).returncode == 61


def test_a_message_that_cannot_be_read_is_trouble(qmqpc: str, at: Place) -> None:
    at.servers("127.0.0.1")
    env = environment(QMAILHOME=str(at.home))
    with open("/dev/null", "wb") as unreadable:
        ended = subprocess.run(in_home(qmqpc, at.home), stdin=unreadable, env=env, timeout=TIMEOUT, check=False)
    assert ended.returncode == 54


def test_parts_go_together_in_blocks_of_some_size_however_many_there_are() -> None:
    parts = [b"head", b"", *[b"x"] * 300_000, b"y" * 500_000, b"z"]
    began = time.process_time()
    blocks = qmail_qmqpc.packed(parts)
    assert time.process_time() - began < 2  # what adds up all parts for each takes minutes
    assert b"".join(blocks) == b"".join(parts)
    assert [len(block) for block in blocks] == [131072, 131072, 37860, 500_000, 1]


def test_a_server_may_have_an_ipv6_address(at: Place) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no ::1")
    listener = Listener("::1", 0, b"K", len(REQUEST))
    at.servers(f"[::1]:{listener.port}")
    assert at.send(str(BIN / "qmail-qmqpc")) == 0
    assert listener.heard == [REQUEST]
    listener.close()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def qmqpd(program: str, home: QueueHome) -> Iterator[str]:
    """A running qmail-qmqpd; gives its line for qmqpservers, where qmqpc can be program."""
    ip, port = address(program)
    with serve(OURS, "qmail-qmqpd", host=ip, port=port, env=home.env()) as server:
        yield ip if port else f"{ip}:{server.port}"


def test_a_message_goes_from_one_host_to_the_queue_of_another(qmqpc: str, at: Place, queue_home: QueueHome) -> None:
    with qmqpd(qmqpc, queue_home) as server:
        at.servers(server)
        assert at.send(qmqpc) == 0
        assert at.send(qmqpc, b"", b"F" + b"x" * 1000 + b"\0Ty\0\0") == 31
    message = queue_home.message()
    assert (message.sender, message.recipients) == (b"me@here.example", [b"you@there.example", b""])
    assert message.body.endswith(b"\n" + MESSAGE)


def test_a_host_without_a_queue_takes_mail_by_qmtp(at: Place, queue_home: QueueHome) -> None:
    """QMAILQUEUE=qmail-qmqpc: a chain of two servers."""
    with qmqpd(str(BIN / "qmail-qmqpc"), queue_home) as server:
        at.servers(server)
        (at.home / "control" / "rcpthosts").write_text("there.example\n")
        env = environment(QMAILHOME=str(at.home), QMAILQUEUE=str(BIN / "qmail-qmqpc"))
        with serve(OURS, "qmail-qmtpd", env=env) as near:
            answers = near.talk(nets(b"\nhello\n", b"me", nets(b"you@there.example", b"you@else.example")))
            assert b":Kok " in answers
            assert b":Dsorry, that domain" in answers
    message = queue_home.message()
    assert (message.sender, message.recipients) == (b"me", [b"you@there.example"])
    with serve(OURS, "qmail-qmtpd", env=env) as near:
        answer = near.talk(nets(b"\nhello\n", b"me", nets(b"you@there.example")))
    assert answer == b"44:Zconnection to mail server rejected (#4.4.1),"
