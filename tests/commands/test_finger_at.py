"""finger@: the question and the shown answer are those of Debian's."""

from pathlib import Path

import pytest

from tests.commands.oneshot import ALL, Server, Tool, address_of_fixed_ports
from tests.helpers import BIN, run


@pytest.fixture(params=ALL)
def finger(request: pytest.FixtureRequest, tmp_path: Path) -> Tool:
    return Tool("finger@", request.param, tmp_path)


@pytest.mark.parametrize(
    ("words", "question"), [([], b"\r\n"), (["djb"], b"djb\r\n"), (["a b\nc\r", "x"], b"a b\r\nc\r\r\n")]
)
def test_finger_at_sends_a_line_and_shows_the_answer_safely(finger: Tool, words: list[str], question: bytes) -> None:
    address = address_of_fixed_ports()
    with Server((question,), b"Login: \x1b\xff\r\n\r\nno\rplan", address=address, port=79) as server:
        result = run([finger.program, address, *words], b"unread\n", env=finger.env)
    assert server.received == question
    assert (result.stdout, result.stderr, result.returncode) == (b"Login: ^[M-^?\n\nno^Mplan", b"", 0)


def test_finger_at_sends_the_user_as_given() -> None:
    """What the original sends depends on the shell: some have an echo that expands backslashes, or takes options."""
    address = address_of_fixed_ports()
    for user in ("-n", r"a\nb\c"):
        with Server((b"\r\n",), b"x\n", address=address, port=79) as server:
            run([BIN / "finger@", address, user])
        assert server.received == user.encode() + b"\r\n"


def test_finger_at_sends_a_question_longer_than_any_pipe_holds(finger: Tool) -> None:
    address = address_of_fixed_ports()
    user = "u" * 120000
    with Server((b"\r\n",), b"unknown\n", address=address, port=79) as server:
        result = run([finger.program, address, user], env=finger.env)
    assert server.received == user.encode() + b"\r\n"
    assert result.stdout == b"unknown\n"


def test_finger_at_lets_tcpclient_say_that_it_cannot_connect_and_exits_0(finger: Tool) -> None:
    address = address_of_fixed_ports()
    result = run([finger.program, address, "user"], env=finger.env)
    refused = f"tcpclient: unable to connect to {address} port 79: connection refused\n"
    assert (result.stdout, result.stderr.decode(), result.returncode) == (b"", refused, 0)
