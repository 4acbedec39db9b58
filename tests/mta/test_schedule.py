"""The original's retry times, and what waits for them."""

import math
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.mta import schedule
from qmailpy.mta.schedule import Waiting

BIRTH = 1004950987


def bit_by_bit(x: int) -> int:
    """The original's way: the root of 32 bits, from the highest of its bits down."""
    root = square = 0
    for bit in range(15, -1, -1):
        step = (root << (bit + 1)) + (1 << (2 * bit))
        if step <= x - square:
            root += 1 << bit
            square += step
    return root


@given(x=st.one_of(st.integers(0, 1 << 33), st.integers(0, 1 << 16).map(lambda root: root * root)))
def test_square_roots_are_those_of_the_original(x: int) -> None:
    for near in (max(x - 1, 0), x, x + 1):
        assert schedule.square_root(near) == bit_by_bit(near)


def test_square_roots_are_exact_on_both_sides_of_each_square() -> None:
    for root in range(1 << 16):
        assert schedule.square_root(root * root) == root
        assert schedule.square_root(root * root + 2 * root) == root


@pytest.mark.parametrize(("channel", "skip"), [(0, 10), (1, 20)])
def test_attempts_fall_on_squares(channel: int, skip: int) -> None:
    now, ages = BIRTH, []
    while now <= BIRTH + schedule.LIFETIME:
        ages.append(now - BIRTH)
        now = schedule.next_retry(BIRTH, now, channel)
    assert ages == [(skip * n) ** 2 for n in range(len(ages))]
    assert len(ages) == math.isqrt(schedule.LIFETIME) // skip + 1


def test_an_attempt_that_is_late_counts_from_its_own_time() -> None:
    assert schedule.next_retry(BIRTH, BIRTH + 150, 0) == BIRTH + 22**2
    assert schedule.next_retry(BIRTH, BIRTH - 50, 1) == BIRTH + 400


def test_a_message_is_dying_after_its_lifetime_not_at_its_end() -> None:
    assert not schedule.is_dying(BIRTH, BIRTH + 604800, 604800)
    assert schedule.is_dying(BIRTH, BIRTH + 604801, 604800)
    assert not schedule.is_dying(BIRTH, BIRTH, 0)
    assert schedule.is_dying(BIRTH, BIRTH + 1, 0)


@given(entries=st.lists(st.tuples(st.integers(-100, 1 << 40), st.integers(0, (1 << 64) - 1))))
def test_the_earliest_comes_first(entries: list[tuple[int, int]]) -> None:
    waiting = Waiting()
    for when, number in entries:
        waiting.add(when, number)
    assert sorted(waiting) == sorted(entries)
    assert len(waiting) == len(entries)
    for when, number in sorted(entries):
        assert waiting.due(0) == when
        assert waiting.take(when - 1) is None
        assert waiting.take(when) == number
    assert waiting.take(1 << 50) is None
    assert waiting.due(17) == 17


def test_all_may_be_hurried_or_replaced() -> None:
    waiting = Waiting()
    for number in range(10):
        waiting.add(1000 - number, number)
    waiting.hurry(5)
    assert [waiting.take(5) for _ in range(10)] == list(range(10))
    waiting.fill([(3, 30), (1, 10), (2, 20)])
    assert [waiting.take(9) for _ in range(4)] == [10, 20, 30, None]


@pytest.mark.parametrize("count", [20_000, 200_000])
def test_a_message_that_waits_takes_less_than_a_hundred_bytes(count: int) -> None:
    numbers = random.Random(1).sample(range(1 << 32), count)
    tracemalloc.start()
    waiting = Waiting()
    for number in numbers:
        waiting.add(BIRTH + number % 1000, number)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / count < 100
