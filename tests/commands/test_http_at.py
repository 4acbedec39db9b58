"""http@: request and printed page are those of Debian's."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.formats.newlines import Body
from tests.commands.oneshot import ALL, Server, Tool, address_of_fixed_ports, refusing_port
from tests.helpers import needs, run

END = b"\r\n\r\n"  # of a request


@pytest.fixture(params=ALL)
def http(request: pytest.FixtureRequest, tmp_path: Path) -> Tool:
    return Tool("http@", request.param, tmp_path)


def test_http_at_asks_for_a_page_and_prints_it_without_header_and_cr(http: Tool) -> None:
    with Server((END,), b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n<p>\xff\r\nlone\rcr\r\n</p>\r\n") as server:
        result = run([http.program, "127.0.0.1", "dir/page?q", server.port], b"unread\n", env=http.env)
    assert server.received == b"GET /dir/page?q HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n" % server.port.encode()
    assert (result.stdout, result.stderr, result.returncode) == (b"<p>\xff\nlone\rcr\n</p>\n", b"", 0)


def test_http_at_drops_empty_lines_and_ends_the_last_one(http: Tool) -> None:
    with Server((END,), b"HTTP/1.0 200 OK\r\n\r\n\r\none\r\n\r\n\n\r\r\ntwo") as server:
        result = run([http.program, "127.0.0.1", "", server.port], env=http.env)
    assert server.received.startswith(b"GET / HTTP/1.0\r\n")
    assert result.stdout == b"one\n\r\ntwo\n"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 204 nothing\r\n", b"HTTP/1.0 204 nothing\r\nX:\r\n\r\n"])
def test_http_at_prints_nothing_of_an_answer_without_a_page(http: Tool, answer: bytes) -> None:
    with Server((END,), answer) as server:
        result = run([http.program, "127.0.0.1", "", server.port], env=http.env)
    assert (result.stdout, result.stderr, result.returncode) == (b"", b"", 0)


def test_http_at_uses_port_80(http: Tool) -> None:
    address = address_of_fixed_ports()
    with Server((END,), b"\r\npage\r\n", address=address, port=80) as server:
        result = run([http.program, address], env=http.env)
    assert server.received == b"GET / HTTP/1.0\r\nHost: %s:80\r\n\r\n" % address.encode()
    assert result.stdout == b"page\n"


def test_http_at_lets_tcpclient_say_that_it_cannot_connect_and_exits_0(http: Tool) -> None:
    port = refusing_port()
    result = run([http.program, "127.0.0.1", "", port], env=http.env)
    refused = f"tcpclient: unable to connect to 127.0.0.1 port {port}: connection refused\n"
    assert (result.stdout, result.stderr.decode(), result.returncode) == (b"", refused, 0)


@settings(max_examples=100)
@given(pieces=st.lists(st.lists(st.sampled_from([b"\n", b"\n", b"x", b"\r"]), max_size=8).map(b"".join), max_size=5))
def test_the_body_is_what_awk_leaves(pieces: list[bytes]) -> None:
    body = Body()
    left = b"".join([body.feed(piece) for piece in pieces]) + body.feed(b"", True)
    program = "/^$/ { body=1; next } { if (body) print }"  # the original's
    awk = subprocess.run([needs("awk"), program], input=b"".join(pieces), capture_output=True, check=True)
    assert left == awk.stdout
