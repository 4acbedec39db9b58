"""mconnect and mconnect-io: a conversation with a server, beside Debian's."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.commands.oneshot import ALL, Server, Tool, refusing_port
from tests.helpers import BIN, environment, needs, run


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


@pytest.fixture(params=["ours", "Debian's"])
def mconnect_io(request: pytest.FixtureRequest) -> str | Path:
    return BIN / "mconnect-io" if request.param == "ours" else needs("mconnect-io")


class OnPipes:
    """An mconnect-io whose connection is two pipes, as sslclient's is, on 6 and 7."""

    def __init__(self, program: str | Path, stdout: int) -> None:
        self.input, self.type = os.pipe()
        six, self.send = os.pipe()
        self.received, seven = os.pipe()
        numbers = [(self.input, 0), (stdout, 1), (six, 6), (seven, 7)]
        safe = [(fd, 60 + number) for fd, number in numbers]
        dup2, close = os.POSIX_SPAWN_DUP2, os.POSIX_SPAWN_CLOSE
        actions: list[tuple[int, int] | tuple[int, int, int]] = []
        actions += [(dup2, fd, high) for fd, high in safe]
        actions += [(dup2, high, number) for (_, number), (_, high) in zip(numbers, safe, strict=True)]
        actions += [(close, high) for _, high in safe]
        self.pid = os.posix_spawn(program, [os.fspath(program)], environment(), file_actions=actions)
        for fd in (self.input, six, seven):
            os.close(fd)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_mconnect_io_keeps_7_open_after_the_end_of_its_input(mconnect_io: str | Path) -> None:
    listener, stdout = os.pipe()
    it = OnPipes(mconnect_io, stdout)
    os.close(stdout)
    os.write(it.type, b"question\n")
    os.close(it.type)
    assert os.read(it.received, 100) == b"question\r\n"
    os.set_blocking(it.received, False)
    os.write(it.send, b"answer")
    assert os.read(listener, 100) == b"answer"
    with pytest.raises(BlockingIOError):  # neither bytes nor the end
        os.read(it.received, 100)
    os.close(it.send)
    assert it.wait() == 0
    assert os.read(it.received, 100) == b""
    for fd in (it.received, listener):
        os.close(fd)


def test_mconnect_io_listens_on_when_the_server_does_not(mconnect_io: str | Path) -> None:
    listener, stdout = os.pipe()
    it = OnPipes(mconnect_io, stdout)
    os.close(stdout)
    os.close(it.received)
    os.write(it.type, b"unheard\n")
    os.close(it.type)
    os.write(it.send, b"goodbye")
    os.close(it.send)
    assert os.read(listener, 100) == b"goodbye"
    assert it.wait() == 0
    os.close(listener)


def test_mconnect_io_ends_when_nobody_reads_what_it_prints() -> None:
    """The original goes on until the server closes."""
    listener, stdout = os.pipe()
    os.close(listener)
    it = OnPipes(BIN / "mconnect-io", stdout)
    os.close(stdout)
    os.write(it.send, b"line\n")
    assert it.wait() == 0
    for fd in (it.type, it.send, it.received):
        os.close(fd)
