"""orders: modes and times that qmail-send looks at; question and answer."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.stores import orders, queue
from qmailpy.stores.queue import Layout
from tests.queuehomes import QueueHome, queue_home, shared_home

__all__ = ["queue_home", "shared_home"]

NUMBER = 2220372
PLACE = f"{NUMBER % 23}/{NUMBER}"
LAYOUT = Layout(23, False)


@pytest.fixture
def fd(queue_home: QueueHome) -> Iterator[int]:
    """Of a queue with one message."""
    for folder, text in (("mess", b"x"), ("info", b"Fa@b\0"), ("remote", b"Tc@d\0")):
        (queue_home.queue / folder / PLACE).write_bytes(text)
        (queue_home.queue / folder / PLACE).chmod(0o600)
    fd = os.open(queue_home.queue, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_an_order_is_a_mode_and_takes_the_place_of_others(fd: int, queue_home: QueueHome) -> None:
    info = orders.open_info(fd, LAYOUT, queue.look(fd, LAYOUT, NUMBER))
    try:
        assert orders.read(fd, LAYOUT, NUMBER) == orders.current(info) == orders.PLAIN
        for order, mode in (
            (orders.HELD, 0o700),
            (orders.BOUNCE, 0o1610),
            (orders.DELETE, 0o1601),
            (orders.PLAIN, 0o600),
        ):
            orders.give(info, order)
            assert orders.read(fd, LAYOUT, NUMBER) == orders.current(info) == order
            assert (queue_home.queue / "info" / PLACE).stat().st_mode & 0o7777 == mode
            assert queue.look(fd, LAYOUT, NUMBER).mode == mode
        assert not orders.has_ended(info)
    finally:
        os.close(info)


@pytest.mark.parametrize("mode", [0o644, 0o755, 0o711, 0o777, 0o750, 0o4700, 0o611, 0o610, 0o601, 0o1600, 0o1611])
def test_a_mode_that_nobody_orders_is_no_order(fd: int, queue_home: QueueHome, mode: int) -> None:
    (queue_home.queue / "info" / PLACE).chmod(mode)
    assert orders.read(fd, LAYOUT, NUMBER) == orders.of(mode) == orders.PLAIN


def test_the_next_message_of_the_number_has_no_orders(fd: int, queue_home: QueueHome) -> None:
    path = queue_home.queue / "info" / PLACE
    message = queue.look(fd, LAYOUT, NUMBER)
    info = orders.open_info(fd, LAYOUT, message)
    path.unlink()
    path.write_bytes(b"Fa@b\0")
    path.chmod(0o600)
    os.utime(path, (1, 1))
    orders.give(info, orders.DELETE)
    assert orders.has_ended(info)
    os.close(info)
    with pytest.raises(FileNotFoundError):
        orders.open_info(fd, LAYOUT, message)
    assert orders.read(fd, LAYOUT, NUMBER) == orders.PLAIN
    path.unlink()
    with pytest.raises(FileNotFoundError):
        orders.read(fd, LAYOUT, NUMBER)


def test_the_next_attempt_is_a_time_of_change(fd: int) -> None:
    orders.hurry(fd, LAYOUT, NUMBER, 1700000000)
    assert queue.look(fd, LAYOUT, NUMBER).next == {b"remote": 1700000000}
    orders.hurry(fd, LAYOUT, NUMBER, 1700000000)  # told from the first by its time
    assert queue.look(fd, LAYOUT, NUMBER).next == {b"remote": 1699999999}


def test_a_question_is_answered_once_and_for_itself(fd: int) -> None:
    told = orders.tell(fd)
    assert orders.asked(fd) == told
    assert not orders.answered(fd, told)
    orders.answer(fd, told)
    assert orders.answered(fd, told)
    again = orders.tell(fd)
    assert again > told
    assert not orders.answered(fd, again)
    orders.answer(fd, told)  # too late
    assert not orders.answered(fd, again)
    assert orders.asked(fd) == again


def test_a_question_of_the_future_is_no_answer(fd: int, queue_home: QueueHome) -> None:
    """The clock has been set back since."""
    mutex = queue_home.queue / "lock/sendmutex"
    future = time.time_ns() + 10**12
    os.utime(mutex, ns=(future + 1, future))
    told = orders.tell(fd)
    assert told not in (future, future + 1)
    assert not orders.answered(fd, told)


def test_a_file_system_that_counts_seconds_is_enough(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.utime

    def coarse(path: bytes, *, ns: tuple[int, int], dir_fd: int, follow_symlinks: bool) -> None:
        seconds = (ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9)
        real(path, ns=seconds, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "utime", coarse)
    questions = []
    for _ in range(3):
        questions.append(orders.tell(fd))
        assert not orders.answered(fd, questions[-1])
        orders.answer(fd, questions[-1])
        assert orders.answered(fd, questions[-1])
    assert sorted(set(questions)) == questions


def test_who_runs_keeps_others_from_taking_over(fd: int) -> None:
    first = orders.take_over(fd)
    assert first >= 0
    assert orders.take_over(fd) == -1
    os.close(first)
    second = orders.take_over(fd)
    assert second >= 0
    os.close(second)


def test_a_question_pulls_the_trigger(fd: int, queue_home: QueueHome) -> None:
    trigger = os.open(queue_home.queue / "lock/trigger", os.O_RDONLY | os.O_NONBLOCK)
    try:
        orders.tell(fd)
        assert os.read(trigger, 10) == b"\0"
    finally:
        os.close(trigger)


def test_what_is_discarded_is_the_beginning_of_a_message(fd: int, queue_home: QueueHome) -> None:
    (queue_home.queue / f"bounce/{NUMBER}").touch()
    (queue_home.queue / f"last/{NUMBER}").touch()
    orders.discard(fd, LAYOUT, NUMBER)
    orders.discard(fd, LAYOUT, NUMBER)
    assert queue_home.files() == {f"mess/{PLACE}"}


def test_root_becomes_the_owner_of_info_in_the_group_of_mess(shared_home: QueueHome) -> None:
    fd = os.open(shared_home.queue, os.O_PATH | os.O_DIRECTORY)
    try:
        os.chown(shared_home.queue / "info", 7, 7)
        group = (shared_home.queue / "mess").stat().st_gid
        assert orders.keeper(fd) == (7, group)
        os.chown(shared_home.queue / "info", 0, 0)
        assert orders.keeper(fd) == queue.owner(fd)
        for path in (shared_home.queue, *shared_home.queue.iterdir()):
            os.chown(path, 0, 0)
        assert orders.keeper(fd) is None
    finally:
        os.close(fd)


def test_others_stay_what_they_are(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert orders.keeper(fd) is None


def test_links_are_not_followed(fd: int, queue_home: QueueHome, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"Fa@b\0")
    message = queue.look(fd, LAYOUT, NUMBER)
    for name in ("info", "remote"):
        (queue_home.queue / name / PLACE).unlink()
        (queue_home.queue / name / PLACE).symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match=r"Too many levels"):
        orders.open_info(fd, LAYOUT, message)
    with pytest.raises(OSError, match=r"Too many levels"):
        orders.hurry(fd, LAYOUT, NUMBER, 1)
    os.rename(queue_home.queue / "info", tmp_path / "info")
    (queue_home.queue / "info").symlink_to(tmp_path / "info")
    with pytest.raises(NotADirectoryError):
        orders.lock(fd)
