"""mconnect and mconnect-io: a conversation with a server, beside Debian's."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.commands.oneshot import ALL, Server, Tool, refusing_port
from tests.helpers import BIN, environment, run


@pytest.fixture(params=ALL)
def mconnect(request: pytest.FixtureRequest, tmp_path: Path) -> Tool:
    return Tool("mconnect", request.param, tmp_path)


def test_mconnect_adds_a_cr_to_each_line_it_sends_and_prints_all_it_receives(mconnect: Tool) -> None:
    with Server(b"220 \xff\r\n", (b"QUIT\r\n",), b"221\n bye\r\n") as server:
        result = run([mconnect.program, "127.0.0.1", server.port], b"HELO \0\n\r\nQUIT\n", env=mconnect.env)
    assert server.received == b"HELO \0\r\n\r\r\nQUIT\r\n"
    assert (result.stdout, result.stderr, result.returncode) == (b"220 \xff\r\n221\n bye\r\n", b"", 0)


def test_mconnect_stays_connected_after_the_end_of_its_input(mconnect: Tool) -> None:
    with Server((b"x\r\n",), b"late answer\n") as server:
        result = run([mconnect.program, "127.0.0.1", server.port], b"x\n", env=mconnect.env)
    assert (result.stdout, result.returncode) == (b"late answer\n", 0)


def test_mconnect_ends_when_the_server_closes_even_if_more_could_be_typed(mconnect: Tool) -> None:
    reader, writer = os.pipe()
    with Server(b"421 bye\r\n") as server:
        argv = [mconnect.program, "127.0.0.1", server.port]
        result = subprocess.run(argv, stdin=reader, stdout=subprocess.PIPE, env=mconnect.env, timeout=20, check=False)
    os.close(reader)
    os.close(writer)
    assert (result.stdout, result.returncode) == (b"421 bye\r\n", 0)


def test_mconnect_lets_tcpclient_say_that_it_cannot_connect(mconnect: Tool) -> None:
    port = refusing_port()
    result = run([mconnect.program, "127.0.0.1", port], env=mconnect.env)
    refused = f"tcpclient: unable to connect to 127.0.0.1 port {port}: connection refused\n"
    assert (result.stdout, result.stderr.decode(), result.returncode) == (b"", refused, 111)


def test_mconnect_passes_more_than_any_buffer_holds_both_ways(mconnect: Tool) -> None:
    with Server(b"down" * 100000, (b"end\r\n",), b"end") as server:
        result = run([mconnect.program, "127.0.0.1", server.port], b"up\n" * 100000 + b"end\n", env=mconnect.env)
    assert result.stdout == b"down" * 100000 + b"end"
    assert server.received == b"up\r\n" * 100000 + b"end\r\n"


def test_mconnect_says_that_there_is_no_tcpclient(tmp_path: Path) -> None:
    path = f"{tmp_path}:{Path(os.__file__).parent}"
    (tmp_path / "python3").symlink_to(os.path.realpath("/proc/self/exe"))
    result = run([BIN / "mconnect"], env=environment(PATH=path))
    assert (result.stderr, result.returncode) == (
        b"mconnect: fatal: unable to run tcpclient: file does not exist\n",
        111,
    )
