"""relay: two flows in one loop, neither of which may hold the other up."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.formats.newlines import DelCr, FixCr, add_cr
from qmailpy.loops.relay import Flow, Pipes, copy, relay

TIMEOUT = 20  # seconds after which a test that hangs has failed


def read_to_end(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as f:
        return f.read()


class Between:
    """A relay in a thread. peer is the outer end, program the inner one; both are sockets."""

    def __init__(self, **how: object) -> None:
        self.peer, outer = socket.socketpair()
        self.program, inner = socket.socketpair()
        self.seen: list[tuple[str, bytes]] = []
        for end in (self.peer, self.program):
            end.settimeout(TIMEOUT)
        numbers = [outer.detach(), inner.detach()]
        self.descriptors = [numbers[0], os.dup(numbers[0]), os.dup(numbers[1]), numbers[1]]
        source, target, program_in, program_out = self.descriptors

        def run() -> None:
            relay(
                Flow(source, program_in, observe=lambda block: self.seen.append(("<", block)), **how),  # type: ignore[arg-type]
                Flow(program_out, target, observe=lambda block: self.seen.append((">", block))),
            )

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def join(self) -> None:
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive()

    def close(self) -> None:
        self.program.close()
        self.peer.close()
        self.join()
        for fd in self.descriptors:
            try:
                os.close(fd)
            except OSError:
                pass


@pytest.fixture
def between() -> Iterator[Between]:
    it = Between()
    yield it
    it.close()


def test_bytes_go_both_ways_as_they_come(between: Between) -> None:
    between.peer.sendall(b"ping")
    assert between.program.recv(100) == b"ping"
    between.program.sendall(b"pong")
    assert between.peer.recv(100) == b"pong"
    between.peer.sendall(b"again")
    assert between.program.recv(100) == b"again"


def test_the_end_of_the_outward_flow_ends_the_relay(between: Between) -> None:
    between.program.sendall(b"last words")
    between.program.close()
    between.join()
    assert between.peer.recv(100) == b"last words"
    assert between.seen[-1] == (">", b"")


def test_the_end_of_the_inward_flow_does_not(between: Between) -> None:
    between.peer.shutdown(socket.SHUT_WR)
    between.program.sendall(b"still there")
    assert between.peer.recv(100) == b"still there"
    assert ("<", b"") in between.seen


def test_a_program_that_reads_no_more_is_heard_to_its_end(between: Between) -> None:
    between.program.shutdown(socket.SHUT_RD)
    between.peer.sendall(b"unread")
    while ("<", b"unread") not in between.seen:
        between.program.sendall(b"x")
        assert between.peer.recv(1) == b"x"
    between.program.sendall(b"last words")
    between.program.close()
    between.join()
    assert between.peer.recv(100) == b"last words"


def test_the_relay_ends_when_nobody_reads_what_comes_out(between: Between) -> None:
    between.peer.close()
    between.program.sendall(b"x")
    between.join()


def test_a_writer_that_does_not_read_blocks_neither_direction(between: Between) -> None:
    """Both sides send far more than all buffers hold before they read the first byte."""
    size = 3_000_000
    writers = [
        threading.Thread(target=end.sendall, args=(letter * size,), daemon=True)
        for end, letter in ((between.peer, b"p"), (between.program, b"q"))
    ]
    for writer in writers:
        writer.start()
    received = 0
    while received < size:  # the program's input stays unread meanwhile
        block = between.peer.recv(65536)
        assert block == b"q" * len(block)
        received += len(block)
    received = 0
    while received < size:
        received += len(between.program.recv(65536))
    for writer in writers:
        writer.join(TIMEOUT)
        assert not writer.is_alive()


@settings(max_examples=25)
@given(pieces=st.lists(st.lists(st.sampled_from([b"\r", b"\n", b"a"]), min_size=1).map(b"".join), max_size=5))
def test_a_flow_converts_what_it_copies_and_observes_what_it_read(pieces: list[bytes]) -> None:
    between = Between(convert=FixCr().feed)
    whole = b"".join(pieces)
    for piece in pieces:
        between.peer.sendall(piece)
    expected = FixCr().feed(whole)
    received = b""
    while len(received) < len(expected):
        received += between.program.recv(1000)
    assert received == expected
    assert b"".join(block for way, block in between.seen if way == "<") == whole
    between.close()


def test_hang_up_passes_the_end_of_the_input_on() -> None:
    source, feeder = os.pipe()
    program_in, inner = os.pipe()
    answers, program_out = os.pipe()
    listener, outer = os.pipe()
    thread = threading.Thread(target=relay, args=(Flow(source, inner, hang_up=True), Flow(answers, outer)), daemon=True)
    thread.start()
    os.write(feeder, b"all")
    os.close(feeder)
    assert read_to_end(program_in) == b"all"  # ends, because inner was closed
    os.close(program_out)
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    for fd in (source, program_in, answers, listener, outer):
        os.close(fd)


def test_a_source_that_cannot_be_read_is_at_its_end() -> None:
    closed, other = os.pipe()
    os.close(closed)
    os.close(other)
    answers, program_out = os.pipe()
    listener, outer = os.pipe()
    os.write(program_out, b"answer")
    os.close(program_out)
    seen: list[bytes] = []
    thread = threading.Thread(
        target=relay, args=(Flow(1 << 20, outer, observe=seen.append), Flow(answers, outer)), daemon=True
    )
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    os.close(outer)
    assert read_to_end(listener) == b"answer"
    assert seen == [b""]
    for fd in (answers, listener):
        os.close(fd)


@settings(max_examples=25)
@given(text=st.lists(st.sampled_from([b"\r", b"\n", b"a"])).map(b"".join))
def test_copy_writes_the_converted_whole(text: bytes) -> None:
    for convert, again in ((add_cr, add_cr), (DelCr().feed, DelCr().feed)):
        source, feeder = os.pipe()
        listener, target = os.pipe()
        os.write(feeder, text)
        os.close(feeder)
        copy(source, target, convert)
        os.close(target)
        assert read_to_end(listener) == again(text, True)
        os.close(source)
        os.close(listener)


def test_copy_says_when_it_cannot_read_or_write() -> None:
    source, feeder = os.pipe()
    os.write(feeder, b"x")
    with pytest.raises(OSError):
        copy(source, 1 << 20, add_cr)
    with pytest.raises(OSError):
        copy(1 << 20, feeder, add_cr)
    os.close(source)
    os.close(feeder)


def test_the_ends_of_pipes_are_close_on_exec() -> None:
    pipes = Pipes()
    ends = [pipes.program_reads, pipes.program_writes, pipes.to_program, pipes.from_program]
    assert not any(os.get_inheritable(fd) for fd in ends)
    for fd in ends:
        os.close(fd)
