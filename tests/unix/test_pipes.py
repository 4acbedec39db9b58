"""unix.pipes: what was looked at stays in the pipe until it is taken."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.unix.pipes import Window


@pytest.fixture(params=["pipe", "FIFO"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, int]]:
    if request.param == "pipe":
        reader, writer = os.pipe()
    else:
        os.mkfifo(tmp_path / "fifo")
        reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


def test_what_is_looked_at_stays_until_it_is_taken(ends: tuple[int, int]) -> None:
    reader, writer = ends
    window = Window(reader)
    os.write(writer, b"one\ntw")
    assert window.look(100) == window.look(100) == b"one\ntw"
    assert window.look(2) == b"on"
    window.take(4)
    os.write(writer, b"o\n")
    assert window.look(100) == b"two\n"
    assert os.read(reader, 100) == b"two\n"
    window.close()


def test_an_empty_pipe_is_told_from_one_that_has_ended(ends: tuple[int, int]) -> None:
    reader, writer = ends
    window = Window(reader)
    with pytest.raises(BlockingIOError):
        window.look(100)
    os.write(writer, b"last")
    os.close(writer)
    assert window.look(100) == b"last"
    window.take(4)
    assert window.look(100) == b""
    window.close()


def test_a_full_pipe_is_seen_whole(ends: tuple[int, int]) -> None:
    reader, writer = ends
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    window = Window(reader)
    written, seen = b"", b""
    for number in range(5000):
        try:
            written += b"%d\n" % number if os.write(writer, b"%d\n" % number) else b""
        except BlockingIOError:
            break
    while len(seen) < len(written):
        part = window.look(65536)
        window.take(len(part))
        seen += part
    assert seen == written
    window.close()


def test_what_is_no_pipe_is_refused() -> None:
    with tempfile.TemporaryFile() as file, pytest.raises(OSError):
        Window(file.fileno())


def test_errors_of_tee_are_told() -> None:
    reader, writer = os.pipe()
    window = Window(reader)
    os.close(reader)
    with pytest.raises(OSError) as caught:
        window.look(1)
    assert caught.value.errno == errno.EBADF
    window.close()
    os.close(writer)
