"""A file from a web server: whole, in time, in size, from whom it should be."""

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from qmailpy.loops import https, tlsclient
from qmailpy.loops.tlsclient import Failed, Settings
from tests.authority import Authority

HOST = "mta-sts.dom.example"
LOOPBACK = b"\x7f\0\0\1"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def serving(context: ssl.SSLContext, *parts: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Port and requests of a server for one client, which says parts, and then the last one again and again."""
    asked: list[bytes] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                asked.append(secure.recv(65536))
                for part in parts:
                    secure.sendall(part)
                while len(parts) > 1 and not stop.wait(0.05):
                    secure.sendall(parts[-1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            stop.set()
            thread.join(20)


def fetch(authority: Authority, port: int, host: str = HOST, largest: int = 1000) -> bytes:
    context = tlsclient.verifying(Settings(cafile=os.fsencode(authority.cafile)))
    return https.fetch([b"\x7f\1\1\1", LOOPBACK], port, host.encode(), b"/x", context, largest, "text/plain")


def test_a_file_comes_whole(authority: Authority) -> None:
    answers = (
        HEAD + b"\r\nhello",
        HEAD + b"Content-Length: 5\r\n\r\nhello",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\nhello",
    )
    for answer in answers:
        with serving(authority.issue(HOST).context(), answer) as (port, asked):
            assert fetch(authority, port) == b"hello"
        assert asked == [
            b"GET /x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAccept: text/plain\r\n\r\n" % HOST.encode()
        ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "no HTTP"),
        (b"rubbish\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 302 Found\r\nLocation: /y\r\n\r\n", "status 302"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "not text/plain|status"),
        (HEAD.replace(b"plain", b"html") + b"\r\nhello", "not text/plain"),
        (HEAD + b"Content-Length: 6\r\n\r\nhello", "not whole|no HTTP"),
        (HEAD + b"\r\n" + b"x" * 1001, "too long"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello", "no HTTP"),
    ],
)
def test_what_is_no_file_is_refused(authority: Authority, answer: bytes, why: str) -> None:
    with serving(authority.issue(HOST).context(), answer) as (port, _):
        if b"Content-Type" in answer or b"200 OK" not in answer:
            with pytest.raises(Failed, match=why):
                fetch(authority, port)
        else:  # without a type it is text/plain (RFC 2045)
            assert fetch(authority, port) == b"hello"


def test_it_comes_only_from_whom_it_should(authority: Authority, tmp_path: Path) -> None:
    for certificate in (authority.issue("dom.example"), authority.self_signed(HOST), Authority(tmp_path).issue(HOST)):
        with serving(certificate.context(), HEAD + b"\r\nhello") as (port, asked), pytest.raises(Failed):
            fetch(authority, port)
        assert asked == []


@pytest.mark.parametrize("part", [b"x", b"X-Y: z\r\n" * 10_000])
def test_who_never_ends_is_left(authority: Authority, monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    monkeypatch.setattr(https, "WHOLE_S", 1)
    with serving(authority.issue(HOST).context(), HEAD, part) as (port, _), pytest.raises(Failed):
        fetch(authority, port)


def test_where_nobody_is_there_is_no_connection(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Failed, match="no connection"):
        fetch(authority, port)
