"""The loop of the spawners, with children that are functions; test_qmail_rspawn has the same dialogues with programs,
beside the original."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import spawning
from qmailpy.formats.spawning import Request
from qmailpy.loops import spawner, workers


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (None, (120, False)),
        (0, (120, False)),
        (120, (120, False)),
        (121, (121, False)),
        (255, (255, False)),
        (256, (256, True)),
        (65535, (65535, True)),
        (1 << 40, (65535, True)),
    ],
)
def test_capacity(number: int | None, found: tuple[int, bool]) -> None:
    assert spawner.capacity(number) == found


@given(name=st.one_of(st.binary(max_size=110), st.text("0123456789/.", max_size=110).map(str.encode)))
def test_a_name_that_is_taken_leads_nowhere_else(name: bytes) -> None:
    try:
        spawner.check_name(name)
    except spawner.Refused as e:
        assert e.args[0][:1] == b"D"
    else:
        assert name
        assert len(name) < 100
        assert not name.startswith(b"/")
        assert set(name) <= set(b"0123456789/")


class Children(spawner.Crew):
    """They call child(request), and wait for more of the kind that is the request's sender; if there is one. What they
    do then is child(request) too, with the text as recipient."""

    def __init__(self, child: Callable[[Request], int]) -> None:
        self.child = child

    def fork(self, request: Request, message: int, output: int, sock: workers.Socket | None, text: bytes | None) -> int:
        assert text in (None, request.recipient)
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                seat = workers.Seat(sock)
                if request.sender:
                    seat.found(request.sender)
                while True:
                    spawner.attach(message, output)
                    found = seat.next(self.child(request))
                    if isinstance(found, int):
                        code = found
                        break
                    text, message, output = found
                    request = Request(0, b"", request.sender, text)
            finally:
                os._exit(code)
        return pid

    def kind(self, request: Request, text: bytes) -> object | None:
        return text or None

    def known(self, request: Request) -> tuple[object, bytes] | None:
        return request.sender, request.recipient


class Loop:
    """A spawner in a process of its own, whose deliveries call child(request); and the other ends of its 0 and 1."""

    def __init__(
        self, folder: Path, child: Callable[[Request], int], wide: bool = False, keep: int = 10,
        crew: type[Children] = Children,
    ) -> None:  # fmt: skip
        self.ours, theirs = socket.socketpair()
        self.wide = wide

        def report(status: int, output: bytes) -> bytes:
            return b"K%d:%d:%s" % (status & 127, status >> 8, output)

        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.chdir(folder)
                os.dup2(theirs.fileno(), 0)
                os.dup2(theirs.fileno(), 1)
                os.closerange(3, 256)
                spawner.Spawner(300 if wide else 120, wide, os.getuid(), crew(child), report, keep).run()
                os._exit(0)
            finally:
                os._exit(98)
        theirs.close()
        self.ours.settimeout(20)
        self.reports = spawning.Reports(wide)

    def ask(self, *requests: Request) -> None:
        self.ours.sendall(b"".join(request.encode(self.wide) for request in requests))

    def end(self) -> list[tuple[int, bytes]]:
        """All reports, once there are no more requests."""
        self.ours.shutdown(socket.SHUT_WR)
        found = []
        while block := self.ours.recv(65536):
            found += self.reports.feed(block)
        self.ours.close()
        assert os.waitpid(self.pid, 0)[1] == 0
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "1").write_bytes(b"message")
    yield tmp_path


def test_the_child_has_the_message_and_its_output_is_reported(folder: Path) -> None:
    def child(request: Request) -> int:
        os.write(1, os.read(0, 3))
        os.write(2, request.recipient)
        return 7

    loop = Loop(folder, child)
    assert loop.ours.recv(10) == b"x"
    loop.ask(Request(0, b"1", b"", b"a@b"))
    assert loop.end() == [(0, b"K0:7:mesa@b")]


def test_many_run_at_a_time(folder: Path) -> None:
    """Each waits until the FIFO is opened for writing, which is after the last one has been asked for."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)

    def child(request: Request) -> int:
        os.close(os.open(fifo, os.O_RDONLY))
        return request.number

    loop = Loop(folder, child)
    loop.ours.recv(1)
    loop.ask(*(Request(number, b"1", b"", b"a@b") for number in range(19)))
    loop.ask(Request(20, b"1", b"", b"a"))
    assert loop.reports.feed(loop.ours.recv(100)) == [(20, b"DSorry, address must include host name. (#5.1.3)\n")]
    writer = os.open(fifo, os.O_WRONLY)
    found = loop.end()
    os.close(writer)
    assert sorted(found) == [(number, b"K0:%d:" % number) for number in range(19)]


def test_two_byte_numbers(folder: Path) -> None:
    loop = Loop(folder, lambda request: 0, wide=True)
    assert loop.ours.recv(10) == b"\x2c\x01"
    loop.ask(Request(299, b"1", b"", b"a@b"), Request(300, b"1", b"", b"a@b"))
    assert sorted(loop.end()) == [(299, b"K0:0:"), (300, b"ZInternal error: delnum too big. (#4.3.5)\n")]


def test_of_much_output_the_beginning_is_kept(folder: Path) -> None:
    def child(request: Request) -> int:
        for _ in range(100):
            os.write(1, b"0123456789abcdef" * 1000)
        return 0

    loop = Loop(folder, child)
    loop.ours.recv(1)
    loop.ask(Request(5, b"1", b"", b"a@b"))
    assert loop.end() == [(5, b"K0:0:0123456789")]


def test_a_child_that_is_killed(folder: Path) -> None:
    def child(request: Request) -> int:
        os.kill(os.getpid(), 9)
        return 0

    loop = Loop(folder, child)
    loop.ours.recv(1)
    loop.ask(Request(5, b"1", b"", b"a@b"))
    assert loop.end() == [(5, b"K9:0:")]


def test_a_link_in_the_place_of_a_message_is_not_followed(folder: Path) -> None:
    (folder / "2").symlink_to("1")
    loop = Loop(folder, lambda request: 0)
    loop.ours.recv(1)
    loop.ask(Request(0, b"2", b"", b"a@b"))
    assert loop.end() == [(0, b"Zqmail-spawn unable to open message. (#4.3.0)\n")]


def test_the_loop_ends_without_requests(folder: Path) -> None:
    loop = Loop(folder, lambda request: 0)
    loop.ours.recv(1)
    assert loop.end() == []


def pids(loop: Loop, *senders: bytes) -> list[int]:
    """Of the children that make these deliveries, one after the other."""
    found = []
    for sender in senders:
        loop.ask(Request(3, b"1", sender, b"a@b"))
        reports: list[tuple[int, bytes]] = []
        while not reports:
            reports = loop.reports.feed(loop.ours.recv(65536))
        ((number, text),) = reports
        assert (number, text[:5]) == (3, b"K0:7:")
        found.append(int(text[5:]))
    return found


def tell_pid(request: Request) -> int:
    os.write(1, b"%d" % os.getpid())
    return 7


def test_a_child_makes_the_next_deliveries_of_its_kind_and_no_others(folder: Path) -> None:
    loop = Loop(folder, tell_pid)
    loop.ours.recv(1)
    first, second, again, other, none, none_again = pids(loop, b"x", b"x", b"x", b"y", b"", b"")
    assert (first, first) == (second, again)
    assert len({first, other, none, none_again}) == 4
    assert pids(loop, b"y", b"x") == [other, first]
    assert loop.end() == []


def test_deliveries_at_the_same_time_have_a_child_each(folder: Path) -> None:
    loop = Loop(folder, tell_pid, keep=20)
    loop.ours.recv(1)
    pids(loop, b"x")
    loop.ask(*(Request(number, b"1", b"x", b"a@b") for number in range(9)))
    assert len({text for _, text in loop.end()}) == 9


def test_a_child_that_dies_while_it_waits_is_missed_by_nobody(folder: Path) -> None:
    loop = Loop(folder, tell_pid)
    loop.ours.recv(1)
    for _ in range(20):
        (pid,) = pids(loop, b"x")
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():  # until the loop has waited for it
            os.sched_yield()
    assert loop.end() == []


def test_a_child_that_dies_in_its_second_delivery(folder: Path) -> None:
    def child(request: Request) -> int:
        if request.recipient == b"die@b":
            os.kill(os.getpid(), signal.SIGKILL)
        return tell_pid(request)

    loop = Loop(folder, child)
    loop.ours.recv(1)
    (first,) = pids(loop, b"x")
    loop.ask(Request(0, b"1", b"x", b"die@b"))
    assert loop.reports.feed(loop.ours.recv(100)) == [(0, b"K9:0:")]
    assert pids(loop, b"x") != [first]
    assert loop.end() == []


class Poor(Children):
    """There is no memory for another child."""

    def fork(self, request: Request, message: int, output: int, sock: workers.Socket | None, text: bytes | None) -> int:
        raise MemoryError


def test_without_memory_nothing_of_a_delivery_stays_open(folder: Path) -> None:
    loop = Loop(folder, tell_pid, crew=Poor)
    loop.ours.recv(1)
    counts = []
    for _ in range(3):
        loop.ask(Request(0, b"1", b"x", b"a@b"))
        assert loop.reports.feed(loop.ours.recv(100)) == [(0, b"Zqmail-spawn out of memory. (#4.3.0)\n")]
        counts.append(len(os.listdir(f"/proc/{loop.pid}/fd")))
    assert counts == counts[:1] * 3
    assert loop.end() == []


class Killed(Children):
    """They are killed when they have ended a delivery, before the loop can hear of that."""

    def fork(self, request: Request, message: int, output: int, sock: workers.Socket | None, text: bytes | None) -> int:
        pid = super().fork(request, message, output, sock, text)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return pid


def test_a_child_that_dies_when_it_has_told_the_end_of_a_delivery_has_made_it(folder: Path) -> None:
    def child(request: Request) -> int:
        parent = os.getpid()
        if os.fork() == 0:
            for fd in (0, 1, 2):
                os.close(fd)
            time.sleep(0.2)
            os.kill(parent, signal.SIGKILL)
            os._exit(0)
        return 7

    loop = Loop(folder, child, crew=Killed)
    loop.ours.recv(1)
    loop.ask(Request(0, b"1", b"x", b"a@b"))
    assert loop.end() == [(0, b"K0:7:")]


def test_a_child_ends_after_some_deliveries_and_its_last_one_counts(folder: Path) -> None:
    loop = Loop(folder, tell_pid)
    loop.ours.recv(1)
    found = pids(loop, *[b"x"] * (workers.TURNS + 1))
    assert found[:-1] == [found[0]] * workers.TURNS
    assert found[-1] != found[0]
    assert loop.end() == []


class Liars(Children):
    """They say something else in place of the end of the first delivery, and exit when that is not believed."""

    said: bytes

    def fork(self, request: Request, message: int, output: int, sock: workers.Socket | None, text: bytes | None) -> int:
        pid = os.fork()
        if pid == 0:
            assert sock is not None
            spawner.attach(message, output)
            tell_pid(request)
            sock.send(workers.FOUND + request.sender)
            sock.send(self.said)
            sock.recv(1)
            os._exit(7)
        return pid


@pytest.mark.parametrize(
    "said", [b"x", b"=", b"=\0\0", b"+x", b"=" * 9000], ids=["unknown", "no code", "two codes", "twice", "long"]
)
def test_a_child_that_says_anything_else_is_asked_no_more(folder: Path, said: bytes) -> None:
    Liars.said = said
    loop = Loop(folder, tell_pid, crew=Liars)
    loop.ours.recv(1)
    assert len(set(pids(loop, b"x", b"x"))) == 2
    assert loop.end() == []
