"""The pipes of qmail-send: what is full is not waited for, what is gone is told."""

import os
import threading
from collections.abc import Iterator

import pytest

from qmailpy.formats import spawning
from qmailpy.formats.spawning import Request
from qmailpy.loops.spawners import ROOM, UNANSWERED, Cleaner, Log, Lost, Spawner
from qmailpy.unix import fds


class Pipes:
    """Two pipes: what the program writes to and reads from, and the other side of these."""

    def __init__(self) -> None:
        self.requests, self.fd_out = os.pipe()
        self.fd_in, self.answers = os.pipe()
        self.open = {self.requests, self.fd_out, self.fd_in, self.answers}

    def close(self, *fds: int) -> None:
        for fd in fds:
            os.close(fd)
            self.open.discard(fd)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    made = Pipes()
    yield made
    made.close(*made.open)


REQUEST = Request(1, b"1/1", b"a@b", b"c@d")


@pytest.mark.parametrize("wide", [False, True])
def test_requests_go_and_reports_come(pipes: Pipes, wide: bool) -> None:
    spawner = Spawner(pipes.fd_out, pipes.fd_in, wide)
    spawner.ask(REQUEST)
    spawner.ask(REQUEST)
    spawner.send()
    assert os.read(pipes.requests, 100) == 2 * REQUEST.encode(wide)
    os.write(pipes.answers, spawning.report(1, b"Kdone", wide) + b"\2")
    assert spawner.hear() == [(1, b"Kdone")]


def test_a_spawner_that_does_not_read_is_not_waited_for(pipes: Pipes) -> None:
    spawner = Spawner(pipes.fd_out, pipes.fd_in, False)
    sent = b""
    while spawner.has_room():
        for _ in range(100):
            spawner.ask(REQUEST)
            sent += REQUEST.encode(False)
        spawner.send()
    assert len(spawner.waiting) >= ROOM
    received = b""
    while len(received) < len(sent):
        received += os.read(pipes.requests, 65536)
        spawner.send()
    assert received == sent
    assert spawner.has_room()


def test_a_spawner_that_is_gone_is_lost(pipes: Pipes) -> None:
    spawner = Spawner(pipes.fd_out, pipes.fd_in, False)
    spawner.send()
    pipes.close(pipes.requests, pipes.answers)
    spawner.ask(REQUEST)
    with pytest.raises(Lost):
        spawner.send()
    with pytest.raises(Lost):
        spawner.hear()


def test_a_pipe_that_is_closed_is_an_error_at_once(pipes: Pipes) -> None:
    pipes.close(pipes.fd_out)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Spawner(pipes.fd_out, pipes.fd_in, False)


def test_answers_are_those_of_requests_in_their_order(pipes: Pipes) -> None:
    cleaner = Cleaner(pipes.fd_out, pipes.fd_in)
    cleaner.send()
    cleaner.ask(b"todo", 7, (0, 1))
    cleaner.ask(b"foop", 8)
    cleaner.send()
    assert os.read(pipes.requests, 100) == b"todo/7\0foop/8\0"
    os.write(pipes.answers, b"+")
    assert cleaner.hear() == [(b"+", b"todo", 7, (0, 1))]
    os.write(pipes.answers, b"!+")  # one more than was asked
    assert cleaner.hear() == [(b"!", b"foop", 8, ())]
    assert cleaner.asked == []


def test_as_much_is_asked_as_the_pipes_hold(pipes: Pipes) -> None:
    cleaner = Cleaner(pipes.fd_out, pipes.fd_in)
    while cleaner.has_room():
        cleaner.ask(b"todo", (1 << 64) - 1)
    cleaner.send()
    assert len(cleaner.asked) == UNANSWERED
    assert os.read(pipes.requests, 65536).count(b"\0") == UNANSWERED


@pytest.mark.parametrize("gone", ["requests", "answers"])
def test_a_qmail_clean_that_is_gone_is_lost(pipes: Pipes, gone: str) -> None:
    cleaner = Cleaner(pipes.fd_out, pipes.fd_in)
    cleaner.ask(b"todo", 7)
    pipes.close(getattr(pipes, gone))
    with pytest.raises(Lost):
        cleaner.send() if gone == "requests" else cleaner.hear()


def test_the_log_is_written_whole_and_in_its_order(pipes: Pipes) -> None:
    log = Log(pipes.fd_out)
    log.write()
    log.add(b"one\n")
    log.add(b"two\n")
    log.write()
    assert os.read(pipes.requests, 100) == b"one\ntwo\n"


@pytest.mark.parametrize("blocking", [True, False])
def test_the_log_waits_for_its_reader(pipes: Pipes, blocking: bool) -> None:
    """Also on a descriptor that somebody else has made non-blocking."""
    os.set_blocking(pipes.fd_out, blocking)
    log = Log(pipes.fd_out)
    lines = [b"line %d\n" % number for number in range(40000)]
    read = []
    reader = threading.Thread(target=lambda: read.append(fds.read_all(pipes.requests, sum(map(len, lines)))))
    reader.start()
    for line in lines:
        log.add(line)
    log.write()
    reader.join()
    assert read == [b"".join(lines)]


def test_a_log_that_nobody_reads_is_no_error(pipes: Pipes) -> None:
    pipes.close(pipes.requests)
    log = Log(pipes.fd_out)
    log.add(b"one\n")
    log.write()
