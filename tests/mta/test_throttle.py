"""Who may try a password when. Times are seconds on a clock of the test's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.loops import questions
from qmailpy.mta import throttle
from qmailpy.mta.throttle import Throttle

HALF_LIFE = 600.0


class Attempts:
    """Attempts one after the other at a Throttle, which each end after no time."""

    def __init__(self, address: int = 10, account: int = 10, trusted: tuple[bytes, ...] = ()) -> None:
        self.throttle = Throttle(address, account, HALF_LIFE, trusted)
        self.now = 1000.0

    def wait(self, address: bytes, account: bytes) -> float | None:
        return self.throttle.wait(address, account, self.now)

    def attempt(self, address: bytes, account: bytes, right: bool | None) -> None:
        begun = self.throttle.begin(address, account, self.now)
        self.throttle.end(begun, address, account, right, self.now)

    def persist(self, address: bytes, account: bytes, times: int) -> list[float]:
        """Fail so often, each time as soon as possible; the pauses before."""
        waits = []
        for _ in range(times):
            wait = self.wait(address, account)
            assert wait is not None
            self.now += wait
            waits.append(wait)
            self.attempt(address, account, right=False)
        return waits


HERE, THERE = b"192.0.2.1", b"198.51.100.7"


def test_an_address_has_ten_failures_free_then_pauses_double() -> None:
    attempts = Attempts(account=0)
    assert attempts.persist(HERE, b"max", 14) == pytest.approx([0] * 10 + [1, 2, 4, 8], rel=0.1)


def test_an_address_that_goes_on_gets_about_one_attempt_a_minute() -> None:
    attempts = Attempts()
    attempts.persist(HERE, b"max", 30)
    assert all(30 < wait < 120 for wait in attempts.persist(HERE, b"eve", 30))


def test_an_account_waits_eight_seconds_at_most() -> None:
    attempts = Attempts()
    for number in range(200):
        attempts.persist(b"10.0.%d.1" % number, b"max", 1)
    assert 0 < (attempts.wait(THERE, b"max") or 0) <= 8
    assert attempts.wait(THERE, b"eve") == 0


def test_a_failure_weighs_half_after_the_half_life() -> None:
    attempts = Attempts(account=0)
    attempts.persist(HERE, b"max", 10)
    attempts.now += HALF_LIFE
    assert attempts.persist(HERE, b"max", 6) == pytest.approx([0] * 5 + [1], abs=0.02)


def test_failures_of_an_address_count_for_all_accounts_there_and_nowhere_else() -> None:
    attempts = Attempts()
    for number in range(12):
        attempts.persist(HERE, b"user%d" % number, 1)
    assert (attempts.wait(HERE, b"max") or 0) > 0
    assert attempts.wait(THERE, b"max") == 0


def test_names_count_without_case_and_blanks() -> None:
    attempts = Attempts(address=0)
    for name in (b"max", b"MAX", b" Max", b"mAx\t") * 3:
        attempts.persist(HERE, name, 1)
    assert (attempts.wait(THERE, b"max") or 0) > 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"192.0.2.1", b"::ffff:192.0.2.1", True),
        (b"192.0.2.1", b"192.0.2.2", False),
        (b"2001:db8::1", b"2001:db8:0:0:ffff::2", True),
        (b"2001:db8::1", b"2001:db8:0:1::1", False),
        (b"fe80::1%eth0", b"fe80::2%eth0", True),
        (b"", b"unknown", False),
    ],
)
def test_an_address_is_one_of_ipv4_or_64_bits_of_ipv6(one: bytes, other: bytes, same: bool) -> None:
    assert (throttle.network(one) == throttle.network(other)) is same


def test_a_stranger_from_elsewhere_cannot_shut_out_the_owner() -> None:
    attempts = Attempts()
    attempts.attempt(HERE, b"max", right=True)
    for number in range(500):
        attempts.persist(b"10.%d.0.1" % (number % 250), b"max", 1)
    attempts.attempt(HERE, b"max", right=True)
    assert attempts.wait(HERE, b"max") == 0


def test_a_neighbour_with_other_names_cannot_shut_out_the_owner() -> None:
    attempts = Attempts()
    attempts.attempt(HERE, b"max", right=True)
    attempts.persist(HERE, b"eve", 30)
    assert attempts.wait(HERE, b"max") == 0
    assert (attempts.wait(HERE, b"eve") or 0) > 0


def test_an_old_password_at_a_known_place_stops_nobody_else() -> None:
    attempts = Attempts()
    attempts.attempt(HERE, b"max", right=True)
    pauses = attempts.persist(HERE, b"max", 30)
    assert pauses[:6] == pytest.approx([0, 0, 0, 0, 0, 1], rel=0.02)
    assert max(pauses) <= 8
    assert attempts.wait(HERE, b"eve") == 0
    assert attempts.wait(THERE, b"max") == 0


def test_a_right_password_clears_its_pair() -> None:
    attempts = Attempts()
    attempts.attempt(HERE, b"max", right=True)
    attempts.persist(HERE, b"max", 8)
    attempts.now += 60
    attempts.attempt(HERE, b"max", right=True)
    assert attempts.persist(HERE, b"max", 5) == [0] * 5


def test_right_passwords_do_not_clear_the_address() -> None:
    attempts = Attempts()
    for number in range(12):
        attempts.persist(HERE, b"user%d" % number, 1)
        attempts.attempt(HERE, b"own", right=True)
    assert (attempts.wait(HERE, b"user") or 0) > 0


def test_an_account_with_many_addresses_makes_no_other_forgotten() -> None:
    attempts = Attempts()
    attempts.attempt(HERE, b"max", right=True)
    places = [b"2001:db8:%x:%x::1" % divmod(number, 256) for number in range(throttle.SIZE + 1)]
    for place in places:
        attempts.attempt(place, b"eve", right=True)
    assert attempts.throttle.known(HERE, b"max", attempts.now)
    assert [attempts.throttle.known(place, b"eve", attempts.now) for place in places[-101:]] == [False] + [True] * 100


def test_what_was_right_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "SIZE", 4)
    attempts = Attempts()
    for place, account in ((HERE, b"max"), (HERE, b"eve"), (THERE, b"eve"), (HERE, b"joe"), (HERE, b"max")):
        attempts.attempt(place, account, right=True)

    def known() -> list[bytes]:
        pairs = [(place, account) for account in (b"max", b"eve", b"joe", b"kim", b"lee") for place in (HERE, THERE)]
        return [account for place, account in pairs if attempts.throttle.known(place, account, attempts.now)]

    assert known() == [b"max", b"eve", b"eve", b"joe"]
    attempts.attempt(HERE, b"kim", right=True)
    assert known() == [b"max", b"eve", b"joe", b"kim"]
    assert not attempts.throttle.known(HERE, b"eve", attempts.now)
    attempts.attempt(HERE, b"lee", right=True)
    attempts.attempt(THERE, b"lee", right=True)
    assert known() == [b"max", b"kim", b"lee", b"lee"]


def test_a_pair_is_forgotten_after_a_month() -> None:
    attempts = Attempts()
    attempts.attempt(HERE, b"max", right=True)
    assert attempts.throttle.known(HERE, b"Max", attempts.now + throttle.REMEMBERED - 1)
    assert not attempts.throttle.known(HERE, b"max", attempts.now + throttle.REMEMBERED)
    assert not attempts.throttle.known(THERE, b"max", attempts.now)


def test_an_address_of_many_is_not_counted() -> None:
    attempts = Attempts(trusted=(HERE,))
    for number in range(50):
        attempts.persist(HERE, b"user%d" % number, 1)
    assert attempts.wait(HERE, b"max") == 0
    attempts.persist(HERE, b"eve", 10)
    assert (attempts.wait(HERE, b"eve") or 0) > 0


def test_pairs_with_an_address_of_many_neither_spare_nor_cost_anybody() -> None:
    attempts = Attempts(trusted=(HERE,))
    attempts.attempt(HERE, b"max", right=True)
    assert not attempts.throttle.known(HERE, b"max", attempts.now)
    attempts.persist(HERE, b"max", 10)
    assert (attempts.wait(HERE, b"max") or 0) > 0
    assert (attempts.wait(THERE, b"max") or 0) > 0


def test_a_pair_is_never_made_to_wait_for_longer_than_a_question_is_held() -> None:
    assert throttle.LONGEST_PAIR <= questions.PATIENCE
    assert throttle.LONGEST_ACCOUNT <= questions.PATIENCE


def test_an_address_is_fresh_without_failures_and_attempts_that_run() -> None:
    attempts = Attempts()
    limits = attempts.throttle
    assert limits.fresh(b"2001:db8::1", attempts.now)
    limits.begin(b"2001:db8::1", b"eve", attempts.now)
    assert not limits.fresh(b"2001:db8::2", attempts.now)
    attempts.attempt(HERE, b"eve", right=True)
    assert limits.fresh(HERE, attempts.now)
    attempts.attempt(HERE, b"max", right=False)
    assert not limits.fresh(HERE, attempts.now)
    assert limits.fresh(HERE, attempts.now + HALF_LIFE + 1)


def test_ten_attempts_run_at_the_same_time_then_the_next_waits_for_one_to_end() -> None:
    attempts = Attempts()
    begun = []
    for _ in range(10):
        assert attempts.wait(HERE, b"max") == 0
        begun.append(attempts.throttle.begin(HERE, b"max", attempts.now))
    assert attempts.wait(HERE, b"eve") is None
    attempts.throttle.end(begun.pop(), HERE, b"max", True, attempts.now)
    assert attempts.wait(HERE, b"eve") == 0


def test_above_the_free_ones_attempts_are_one_at_a_time() -> None:
    attempts = Attempts()
    attempts.persist(HERE, b"max", 11)
    attempts.now += 60
    assert attempts.wait(HERE, b"max") == 0
    begun = attempts.throttle.begin(HERE, b"max", attempts.now)
    assert attempts.wait(HERE, b"max") != 0
    attempts.throttle.end(begun, HERE, b"max", None, attempts.now)
    assert attempts.wait(HERE, b"max") == 0


def test_what_nobody_could_tell_is_not_counted() -> None:
    attempts = Attempts()
    for _ in range(50):
        attempts.attempt(HERE, b"max", right=None)
    assert attempts.wait(HERE, b"max") == 0


def test_0_is_no_limit() -> None:
    attempts = Attempts(address=0, account=0)
    assert attempts.persist(HERE, b"max", 100) == [0] * 100


def test_memory_is_bounded_and_what_weighs_most_stays() -> None:
    attempts = Attempts()
    attempts.persist(HERE, b"max", 15)
    for number in range(throttle.SIZE + 500):
        attempts.attempt(b"10.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255), b"u%d" % number, False)
        attempts.attempt(b"11.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255), b"k%d" % number, True)
    own = attempts.throttle
    assert max(len(own._addresses.records), len(own._accounts.records), len(own._known)) <= throttle.SIZE
    assert (attempts.wait(HERE, b"eve") or 0) > 0


events = st.lists(
    st.tuples(
        st.sampled_from([HERE, THERE, b"2001:db8::1", b""]),
        st.sampled_from([b"max", b"Max", b"eve", b""]),
        st.sampled_from([True, False, None]),
        st.floats(0, 2000),
        st.booleans(),
    ),
    max_size=60,
)


@given(events, st.integers(0, 3), st.integers(0, 3))
def test_waiting_always_ends(events: list[tuple[bytes, bytes, bool | None, float, bool]], one: int, two: int) -> None:
    """Whatever has happened: once nothing runs, everybody may try within the longest pause, and nothing leaks."""
    throttled = Throttle(one, two, HALF_LIFE)
    now = 0.0
    running = []
    for address, account, right, passed, at_once in events:
        now += passed
        if throttled.wait(address, account, now) == 0:
            running.append((throttled.begin(address, account, now), address, account, right))
        if at_once:
            for begun in running:
                throttled.end(*begun, now)
            running = []
    for begun in running:
        throttled.end(*begun, now)
    for address, account, *_ in events:
        wait = throttled.wait(address, account, now)
        assert wait is not None
        assert 0 <= wait <= throttle.LONGEST_ADDRESS
        assert throttled.wait(address, account, now + wait) == pytest.approx(0, abs=1e-6)
    tables = (throttled._addresses, throttled._accounts, throttled._pairs)
    assert all(record.running == 0 for table in tables for record in table.records.values())
