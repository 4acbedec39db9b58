"""who@: the answer on port 11 as Debian's shows it."""

from pathlib import Path

import pytest

from tests.commands.oneshot import ALL, Server, Tool, address_of_fixed_ports
from tests.helpers import run

ANSWER = b"one\r\ntwo\n\r\r\n\r\n\x1b[2J \x07\t\xe9\xff~\x7f\0 end\r"
SHOWN = b"one\ntwo\n^M\n\n^[[2J ^G\tM-iM-^?~^?^@ end^M"


@pytest.fixture(params=ALL)
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Tool:
    return Tool("who@", request.param, tmp_path)


def test_who_at_shows_what_the_server_sends_safely(tool: Tool) -> None:
    address = address_of_fixed_ports()
    with Server(ANSWER, address=address, port=11) as server:
        result = run([tool.program, address], b"unread\n", env=tool.env)
    assert (result.stdout, result.stderr, result.returncode) == (SHOWN, b"", 0)
    assert server.received == b""


def test_who_at_shows_all_of_a_long_answer(tool: Tool) -> None:
    address = address_of_fixed_ports()
    with Server(ANSWER * 10000 + b"\n", address=address, port=11):
        result = run([tool.program, address], env=tool.env)
    assert result.stdout == (SHOWN * 10000).removesuffix(b"^M") + b"\n"


def test_who_at_lets_tcpclient_say_that_it_cannot_connect_and_exits_0(tool: Tool) -> None:
    address = address_of_fixed_ports()
    result = run([tool.program, address], env=tool.env)
    refused = f"tcpclient: unable to connect to {address} port 11: connection refused\n"
    assert (result.stdout, result.stderr.decode(), result.returncode) == (b"", refused, 0)
