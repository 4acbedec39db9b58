"""Children that make one delivery after another: who waits, for how long, and what each side takes from the other."""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.loops import workers
from qmailpy.loops.workers import ENDED, FOUND, Idle, Seat, Worker
from tests.helpers import eventually


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def worker(kind: object = None) -> Worker:
    found = Worker(1, None, None)
    found.kind = kind
    return found


def test_the_one_that_has_waited_shortest_is_taken_and_only_of_its_kind() -> None:
    idle = Idle(Clock())
    first, other, last = worker("a"), worker("b"), worker("a")
    for one in (first, other, last):
        idle.add(one)
    assert [idle.take("a"), idle.take("a"), idle.take("a")] == [last, first, None]
    assert (idle.take("c"), len(idle)) == (None, 1)
    idle.remove(other)
    idle.remove(other)
    assert len(idle) == 0


def test_nobody_waits_longer_than_patience_allows() -> None:
    clock = Clock()
    idle = Idle(clock)
    first, second = worker(), worker()
    idle.add(first)
    clock.now += workers.PATIENCE_S - 1
    idle.add(second)
    assert idle.overdue() == []
    clock.now += 1
    assert (idle.overdue(), len(idle)) == ([first], 1)
    assert idle.overdue() == []


def test_of_too_many_those_go_that_have_waited_longest() -> None:
    idle = Idle(Clock())
    made = [worker() for _ in range(workers.MOST + 2)]
    for one in made:
        idle.add(one)
    assert (idle.overdue(), len(idle)) == (made[:2], workers.MOST)


def child(sock: workers.Socket, does: Callable[[Seat], int]) -> int:
    """In a process of its own; its pid."""
    pid = os.fork()
    if not pid:
        code = 99
        try:
            code = does(Seat(sock))
        finally:
            os._exit(code)
    sock.close()
    return pid


def ended(seat: Seat, code: int) -> int:
    found = seat.next(code)
    assert isinstance(found, int)
    return found


def code_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def listen(one: Worker) -> bytes:
    assert one.sock is not None
    one.sock.settimeout(20)
    return one.sock.recv(100)


def test_a_child_is_given_one_delivery_after_the_other(tmp_path: Path) -> None:
    """Each with its message and a place for what is said, of which it keeps nothing."""

    def does(seat: Seat) -> int:
        seat.found(b"me")
        code = 7
        while not isinstance(found := seat.next(code), int):
            text, message, output = found
            os.write(output, text + os.read(message, 10))
            os.close(message)
            os.close(output)
            code += 1
        return found

    ours, theirs = workers.pair()
    assert ours is not None
    assert theirs is not None
    one = Worker(child(theirs, does), None, ours)
    assert (listen(one), listen(one)) == (FOUND + b"me", ENDED + b"\7")
    for number in range(3):
        path = tmp_path / str(number)
        path.write_bytes(b"message %d" % number)
        message = os.open(path, os.O_RDONLY)
        reading, writing = os.pipe()
        assert one.hand(b"%d:" % number, message, writing)
        for fd in (message, writing):
            os.close(fd)
        assert listen(one) == ENDED + bytes((8 + number,))
        assert (os.read(reading, 100), os.read(reading, 100)) == (b"%d:message %d" % (number, number), b"")
        os.close(reading)
    one.shut()
    assert code_of(one.pid) == 111


def test_a_child_that_has_found_nothing_ends_with_its_code() -> None:
    ours, theirs = workers.pair()
    assert ours is not None
    assert theirs is not None
    with closing(ours):
        assert code_of(child(theirs, lambda seat: ended(seat, 5))) == 5
        assert ours.recv(100) == b""
    assert ended(Seat(None), 5) == 5


def test_a_child_ends_with_what_it_cannot_have_told() -> None:
    """Its spawner was gone before."""

    ours, theirs = workers.pair()
    assert ours is not None
    assert theirs is not None
    hold = ours.fileno()

    def does(seat: Seat) -> int:
        seat.found(b"")
        os.close(hold)
        os.read(reading, 1)
        return ended(seat, 5)

    reading, writing = os.pipe()
    pid = child(theirs, does)
    ours.close()
    os.write(writing, b"x")
    for fd in (reading, writing):
        os.close(fd)
    assert code_of(pid) == 5


def test_a_request_without_descriptors_is_no_delivery_and_nothing_is_done() -> None:
    """The code is that of a delivery that may have been meant, not of the one before."""

    def does(seat: Seat) -> int:
        seat.found(b"")
        return ended(seat, 0)

    ours, theirs = workers.pair()
    assert ours is not None
    assert theirs is not None
    pid = child(theirs, does)
    with closing(ours):
        ours.send(b"text")
        assert code_of(pid) == 111


@given(packet=st.binary(max_size=workers.LONGEST + 10))
def test_a_packet_of_a_child_is_heard_as_it_is_but_for_its_length(packet: bytes) -> None:
    ours, theirs = workers.pair()
    assert ours is not None
    assert theirs is not None
    one = Worker(1, None, ours)
    with closing(ours), closing(theirs):
        assert one.hear() is None
        theirs.send(packet)
        assert one.hear() == packet[: workers.LONGEST + 1]


def test_descriptors_that_a_child_sends_are_lost() -> None:
    ours, theirs = workers.pair()
    assert ours is not None
    assert theirs is not None
    one = Worker(1, None, ours)
    with closing(ours), closing(theirs):
        before = os.listdir("/proc/self/fd")
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, workers.DESCRIPTORS.pack(0, 1))
        theirs.sendmsg([ENDED + b"\0"], [rights])
        assert one.hear() == ENDED + b"\0"
        assert os.listdir("/proc/self/fd") == before


def test_one_that_is_gone_or_does_not_read_takes_nothing() -> None:
    ours, theirs = workers.pair()
    assert ours is not None
    assert theirs is not None
    one = Worker(1, None, ours)
    with closing(ours):
        while one.hand(b"x" * workers.LONGEST, 0, 1):
            pass
        theirs.close()
        assert not one.hand(b"x", 0, 1)
        assert one.hear() == b""
        one.shut()
        one.shut()
    assert not Worker(1, None, None).hand(b"x", 0, 1)
    assert Worker(1, None, None).hear() == b""


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come, however busy the machine is."""
    monkeypatch.setattr(workers, "SOON_S", 20)


def oracle(find: Callable[[bytes], bytes | None], pids: list[int]) -> workers.Oracle:
    def begin(sock: workers.Socket) -> int:
        pids.append(os.fork())
        if not pids[-1]:
            code = 99
            try:
                code = workers.answer(sock, find)
            finally:
                os._exit(code)
        return pids[-1]

    return workers.Oracle(begin)


def asked(one: workers.Oracle, question: bytes) -> bytes | None:
    """As often as it takes on a machine with other things to do: an answer that comes late is lost."""
    found: list[bytes | None] = [None]

    def ask() -> bool:
        found[0] = one.ask(question)
        return found[0] is not None

    assert eventually(ask)
    return found[0]


def test_questions_get_their_own_answers(patience: None) -> None:
    pids: list[int] = []
    one = oracle(lambda question: question * 2, pids)
    for number in range(200):
        assert asked(one, b"%d." % number) == b"%d.%d." % (number, number)
    assert len(pids) == 1
    one.end()
    assert code_of(pids[0]) == 0


def test_an_answer_that_is_late_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def find(question: bytes) -> bytes:
        os.close(os.open(gate, os.O_RDONLY))  # once somebody has it open for writing
        return question

    pids: list[int] = []
    one = oracle(find, pids)
    assert [one.ask(b"first"), one.ask(b"second")] == [None, None]
    monkeypatch.setattr(workers, "SOON_S", 20)
    opened = os.open(gate, os.O_RDWR)
    assert asked(one, b"third") == b"third"
    one.end()
    assert code_of(pids[0]) == 0
    assert len(pids) == 1
    os.close(opened)


def test_no_answer_is_none_and_an_oracle_that_has_died_is_replaced(patience: None) -> None:
    def find(question: bytes) -> bytes | None:
        if question == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        return b"alive" if question == b"live" else None

    pids: list[int] = []
    one = oracle(find, pids)
    assert (one.ask(b"nothing"), asked(one, b"live")) == (None, b"alive")
    one.ask(b"die")
    assert code_of(pids[0]) == -signal.SIGKILL
    assert asked(one, b"live") == b"alive"
    assert len(pids) == 2
    one.end()
    assert code_of(pids[1]) == 0


def test_no_question_and_no_answer_is_cut(patience: None) -> None:
    """Half of a local part is another's."""
    pids: list[int] = []
    one = oracle(lambda question: question * 2, pids)
    half = b"x" * (workers.LONGEST // 2)
    assert [one.ask(half * 2 + b"x"), one.ask(half), one.ask(half[1:])] == [None, None, half[1:] * 2]
    one.end()
    assert code_of(pids[0]) == 0


def test_without_a_process_there_is_no_answer() -> None:
    def begin(sock: workers.Socket) -> int:
        raise OSError

    one = workers.Oracle(begin)
    assert one.ask(b"x") is None
    one.end()
