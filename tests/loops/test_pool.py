"""pool: who waits, who gets a connection, who is let go; with real sockets and the clock passed in."""

import os

import pytest

from qmailpy.loops import pool


def member(of: pool.Pool, pid: int) -> pool.Place:
    """A process of a pool, played by this one. add is called as after a fork."""
    line, place = of.line()
    of.add(pid, line)
    return place


@pytest.fixture
def connection() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def test_a_connection_goes_to_the_process_that_became_idle_last(
    connection: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = pool.Pool()
    places = {pid: member(of, pid) for pid in (101, 102)}
    assert of.hand_over(connection, b"nobody waits") == 0
    for pid in places:
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        places[pid].done()
    assert of.finished(0) == [101, 102]
    assert of.finished(0) == []
    assert of.hand_over(connection, b"192.0.2.1 25") == 102
    given = places[102].next()
    assert given is not None
    assert os.path.sameopenfile(given[0], connection)
    assert not os.get_inheritable(given[0])
    assert given[1] == b"192.0.2.1 25"
    os.close(given[0])


def test_who_waits_for_too_long_is_let_go_and_not_told_of_twice(
    connection: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = pool.Pool()
    places = {pid: member(of, pid) for pid in (101, 102)}
    for pid, now in ((101, 5.0), (102, 7.0)):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        places[pid].done()
        of.finished(now)
    assert of.let_go(5.0) == pool.IDLE_S
    assert of.let_go(15.0) == 2
    assert places[101].next() is None
    assert of.gone(101)
    assert of.hand_over(connection, b"") == 102
    assert of.let_go(99.0) is None
    assert not of.gone(102)
    assert not of.gone(103)


def test_one_that_has_been_killed_while_it_waited_is_passed_over(
    connection: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = pool.Pool()
    place = member(of, os.getpid())
    place.done()
    of.finished(0)
    place.leave()
    assert of.hand_over(connection, b"") == 0
    assert of.gone(os.getpid())


def test_a_text_that_is_too_long_is_for_a_new_process(connection: int) -> None:
    of = pool.Pool()
    place = member(of, os.getpid())  # which is open as long as it has a name
    place.done()
    of.finished(0)
    assert of.hand_over(connection, b"x" * (pool.LONGEST + 1)) == 0
    assert of.hand_over(connection, b"x" * pool.LONGEST) == os.getpid()


def test_there_is_room_as_long_as_there_are_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: pool.SPARE + 2)
    of = pool.Pool()
    rooms = []
    for pid in (101, 102):
        rooms.append(of.has_room())
        member(of, pid)
    assert rooms == [True, True]
    assert not of.has_room()
    of.gone(101)
    assert of.has_room()


def test_a_place_ends_with_its_pool() -> None:
    line, place = pool.Pool().line()
    line.close()
    assert place.next() is None
