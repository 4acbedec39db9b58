"""The ident client against a server on loopback: what it asks, and what it makes of the answer."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from qmailpy.loops.ident import remoteinfo

LOOPBACK4, LOOPBACK6 = b"\x7f\0\0\1", bytes(15) + b"\1"


class Identd:
    def __init__(self, ip: str, answer: bytes, closes: bool) -> None:
        self.listening = socket.create_server((ip, 0), family=socket.AF_INET6 if ":" in ip else socket.AF_INET)
        self.port: int = self.listening.getsockname()[1]
        self.asked = b""
        self.came_from = ""
        self._answer = answer
        self._closes = closes
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, address = self.listening.accept()
        self.came_from = address[0]
        with connection, contextlib.suppress(OSError):
            self.asked = connection.makefile("rb").readline()
            connection.sendall(self._answer)
            if not self._closes:
                connection.recv(1)


@contextlib.contextmanager
def identd(answer: bytes, ip: str = "127.0.0.1", closes: bool = False) -> Iterator[Identd]:
    server = Identd(ip, answer, closes)
    with server.listening:
        yield server
        server.thread.join()


@pytest.mark.parametrize(
    ("answer", "info"),
    [
        (b"40, 25 : USERID : UNIX : joe\r\n", b"joe"),
        (b"40, 25 : ERROR : NO-USER\r\n", b""),
        (b"40,25:USERID:UNIX:" + b"j" * 5000, b"j" * 257),
        (b" " * 5000, None),
    ],
)
def test_the_answer_of_an_ident_server_is_what_is_known(answer: bytes, info: bytes | None) -> None:
    with identd(answer) as server:
        assert remoteinfo(LOOPBACK4, 25, LOOPBACK4, 40, 5, server.port) == info
    assert server.asked == b"40 , 25\r\n"


def test_the_question_comes_from_the_address_of_the_connection() -> None:
    with identd(b":::x\n") as server:
        assert remoteinfo(b"\x7f\0\0\x05", 25, LOOPBACK4, 40, 5, server.port) == b"x"
    assert server.came_from == "127.0.0.5"


def test_an_ipv6_host_is_asked_over_ipv6() -> None:
    with identd(b":::x\n", ip="::1") as server:
        assert remoteinfo(LOOPBACK6, 25, LOOPBACK6, 40, 5, server.port) == b"x"


def test_an_answer_that_breaks_off_is_none() -> None:
    with identd(b"40, 25 : USERID : UNIX : jo", closes=True) as server:
        assert remoteinfo(LOOPBACK4, 25, LOOPBACK4, 40, 5, server.port) is None


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with identd(b"40, 25 : USERID :") as server:
        assert remoteinfo(LOOPBACK4, 25, LOOPBACK4, 40, 0.05, server.port) is None


def test_a_host_without_ident_is_none_and_leaves_no_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    before = os.listdir("/proc/self/fd")
    assert remoteinfo(LOOPBACK4, 25, LOOPBACK4, 40, 5, port) is None
    assert remoteinfo(b"\x0a\xff\xff\xff", 25, LOOPBACK4, 40, 5, port) is None  # not ours: cannot be bound
    assert os.listdir("/proc/self/fd") == before
