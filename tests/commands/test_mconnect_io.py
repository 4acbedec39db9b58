"""mconnect-io, beside Debian's."""

import os
from pathlib import Path

import pytest

from tests.helpers import BIN, environment, needs


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
