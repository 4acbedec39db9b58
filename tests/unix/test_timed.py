"""timed: every wait has an end, and a line is read without a byte behind it, on sockets and on pipes."""

import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.unix import timed

SHORT = 0.05  # seconds
LONG = 20
KINDS = ["socket", "pipe"]


class Ends:
    """The peer's two ends, and those that the Peer has: descriptors."""

    def __init__(self, kind: str) -> None:
        if kind == "socket":
            one, other = socket.socketpair()
            self.far_in = self.far_out = one.detach()
            self.fd_in = self.fd_out = other.detach()
        else:
            self.fd_in, self.far_out = os.pipe()
            self.far_in, self.fd_out = os.pipe()
        self.open = {self.fd_in, self.fd_out, self.far_in, self.far_out}

    def close(self, *fds: int) -> None:
        for fd in fds or sorted(self.open):
            if fd in self.open:
                os.close(fd)
                self.open.discard(fd)

    def peer(self, timeout_s: float = LONG) -> timed.Peer:
        return timed.Peer(timeout_s, self.fd_in, self.fd_out)  # type: ignore[arg-type]  # a fraction does too


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    ends = Ends(request.param)
    try:
        yield ends
    finally:
        ends.close()


def test_a_silent_peer_is_given_up(ends: Ends) -> None:
    with ends.peer(SHORT) as peer:
        with pytest.raises(TimeoutError):
            peer.read(100)
        with pytest.raises(TimeoutError):
            peer.read_line(bytearray(), 100)


def test_a_peer_silent_in_the_middle_of_a_line_is_given_up(ends: Ends) -> None:
    os.write(ends.far_out, b"USER ma")
    with ends.peer(SHORT) as peer, pytest.raises(TimeoutError):
        peer.read_line(bytearray(), 100)


def test_a_peer_who_never_reads_is_given_up(ends: Ends) -> None:
    with ends.peer(SHORT) as peer, pytest.raises(TimeoutError):
        peer.write(bytes(10_000_000))


def test_a_peer_who_is_gone_is_an_error(ends: Ends) -> None:
    ends.close(ends.far_in, ends.far_out)
    with ends.peer() as peer:
        assert peer.read(10) == b""
        assert not peer.read_line(bytearray(), 10)
        with pytest.raises(BrokenPipeError):
            peer.write(b"x")


def test_a_closed_descriptor_is_an_error(ends: Ends) -> None:
    ends.close(ends.fd_in, ends.fd_out)
    with ends.peer() as peer:
        for use in (lambda: peer.read(1), lambda: peer.read_line(bytearray(), 1), lambda: peer.write(b"x")):
            with pytest.raises(OSError):
                use()


def test_a_peer_owns_no_descriptor(ends: Ends) -> None:
    with ends.peer():
        pass
    os.fstat(ends.fd_in), os.fstat(ends.fd_out)


def test_all_is_written_however_slowly_it_is_read(ends: Ends) -> None:
    data = os.urandom(1 << 20)
    got = bytearray()

    def read() -> None:
        while len(got) < len(data) and (block := os.read(ends.far_in, 5000)):
            got.extend(block)

    reader = threading.Thread(target=read)
    reader.start()
    with ends.peer() as peer:
        peer.write(data)
    reader.join(LONG)
    assert got == data


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text("ab\n\r", max_size=300).map(str.encode), limit=st.integers(1, 300))
def test_a_line_is_read_to_its_limit_and_nothing_behind_it(kind: str, text: bytes, limit: int) -> None:
    ends = Ends(kind)
    try:
        os.write(ends.far_out, text)
        ends.close(ends.far_out) if kind == "pipe" else socket.socket(fileno=os.dup(ends.far_out)).shutdown(1)
        line = bytearray(b"what was before")
        with ends.peer() as peer:
            read = peer.read_line(line, limit)
        first, end, rest = text.partition(b"\n")
        assert read == bool(end)
        if end:
            assert line == first[: limit + 1]
            assert os.read(ends.fd_in, 1000) == rest
    finally:
        ends.close()


def test_a_line_may_come_byte_by_byte(ends: Ends) -> None:
    writer = threading.Thread(target=lambda: [os.write(ends.far_out, bytes((byte,))) for byte in b"USER max\r\nrest"])
    writer.start()
    line = bytearray()
    with ends.peer() as peer:
        assert peer.read_line(line, 100)
    writer.join(LONG)
    assert line == b"USER max\r"
    assert os.read(ends.fd_in, 100) == b"rest"


def test_no_time_is_too_long_for_poll(ends: Ends) -> None:
    with ends.peer(10**15) as peer:
        assert peer.timeout_ms < 2**31
        os.write(ends.far_out, b"x")
        assert peer.read(10) == b"x"
    timed.wait(ends.fd_out, select.POLLOUT, 10**15)


def test_waiting_has_an_end(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        timed.wait(ends.fd_in, select.POLLIN, SHORT)
    os.write(ends.far_out, b"x")
    timed.wait(ends.fd_in, select.POLLIN, LONG)


@pytest.mark.parametrize(("before", "after"), [("socket", "pipe"), ("pipe", "socket"), ("socket", "socket")])
def test_what_is_on_the_descriptors_may_become_something_else(before: str, after: str) -> None:
    def ends(kind: str) -> tuple[int, int, int, int]:
        """Reading and writing of the peer's, and of the other side."""
        if kind == "socket":
            ours, theirs = socket.socketpair()
            reading, far = ours.detach(), theirs.detach()
            return reading, os.dup(reading), far, os.dup(far)
        (reading, far_writing), (far_reading, writing) = os.pipe(), os.pipe()
        return reading, writing, far_reading, far_writing

    old, new = ends(before), ends(after)
    try:
        with timed.Peer(1, old[0], old[1]) as peer:
            peer.write(b"x" * 600)
            for source, target in zip(new, old, strict=False):
                os.dup2(source, target)
            peer.renew()
            os.write(new[3], b"line\nrest")
            line = bytearray()
            assert peer.read_line(line, 10)
            assert (bytes(line), peer.read(10)) == (b"line", b"rest")
            peer.write(b"answer")
            assert os.read(new[2], 10) == b"answer"
    finally:
        for fd in (*old, *new):
            os.close(fd)
