"""tcpcat: what a server sends, untouched."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.commands.oneshot import ALL, Server, Tool, refusing_port
from tests.helpers import run

EVERYTHING = bytes(range(256)) * 2000 + b"\r\nno newline\r"


@pytest.fixture(params=ALL)
def tcpcat(request: pytest.FixtureRequest, tmp_path: Path) -> Tool:
    return Tool("tcpcat", request.param, tmp_path)


def test_tcpcat_prints_the_bytes_as_they_come(tcpcat: Tool) -> None:
    with Server(EVERYTHING) as server:
        result = run([tcpcat.program, "127.0.0.1", server.port], env=tcpcat.env)
    assert (result.stdout, result.stderr, result.returncode) == (EVERYTHING, b"", 0)


def test_tcpcat_leaves_its_own_input_alone(tcpcat: Tool) -> None:
    with Server(b"sent\n") as server:
        script = '"$0" 127.0.0.1 "$1"; cat'
        result = run(["sh", "-c", script, tcpcat.program, server.port], b"unread\n", env=tcpcat.env)
    assert (result.stdout, server.received) == (b"sent\nunread\n", b"")


def test_tcpcat_lets_tcpclient_say_that_it_cannot_connect(tcpcat: Tool) -> None:
    port = refusing_port()
    result = run([tcpcat.program, "127.0.0.1", port], env=tcpcat.env)
    refused = f"tcpclient: unable to connect to 127.0.0.1 port {port}: connection refused\n"
    assert (result.stdout, result.stderr.decode(), result.returncode) == (b"", refused, 111)


def test_tcpcat_takes_a_host_that_looks_like_an_option_for_a_host(tcpcat: Tool) -> None:
    result = run([tcpcat.program, "-v", "x"], env=tcpcat.env)
    assert result.stdout == b""
    assert (result.stderr, result.returncode) == (
        b"tcpclient: fatal: unable to figure out port number for x\n",
        111,
    )


def test_tcpcat_ends_when_nobody_reads_what_it_prints(tcpcat: Tool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with Server(b"line\n") as server:
        argv = [tcpcat.program, "127.0.0.1", server.port]
        result = subprocess.run(argv, stdout=writer, env=tcpcat.env, timeout=20, check=False)
    os.close(writer)
    assert result.returncode == -signal.SIGPIPE
