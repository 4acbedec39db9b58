"""Which servers are tried, in which order, and which are left out."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import tcpto
from qmailpy.mta import routing
from qmailpy.mta.routing import Target

IP, OTHER = b"\xc0\0\2\7", b"\xc0\0\2\x08"
NOW = 1_800_000_000


def relay(routes: bytes, senders: bytes = b"", host: bytes = b"dom", sender: bytes = b"me@here") -> bytes | None:
    route = routing.artificial(routes, senders, host, sender)
    return None if route is None else route.relay


def test_a_sender_comes_before_a_host_and_a_host_before_dns() -> None:
    assert relay(b":all\n") == b"all"
    assert relay(b":all\n", b"@here:mine\n") == b"mine"
    assert relay(b":all\n", b"@there:mine\n") == b"all"
    assert relay(b":all\n", b"@here:\n") == b"all"
    assert relay(b"dom:\n:all\n") is None
    assert relay(b"other:x\n") is None
    assert relay(b"") is None


def test_exchanges_are_ordered_by_preference_then_by_chance() -> None:
    exchanges = [(20, b"c"), (10, b"a"), (10, b"b"), (0, b"z")]
    assert routing.in_order(exchanges, [b"1", b"2", b"3", b"4"]) == [(0, b"z"), (10, b"a"), (10, b"b"), (20, b"c")]
    assert routing.in_order(exchanges, [b"1", b"3", b"2", b"4"]) == [(0, b"z"), (10, b"b"), (10, b"a"), (20, b"c")]
    seen = {routing.in_order(exchanges, [os.urandom(8) for _ in exchanges])[1][1] for _ in range(100)}
    assert seen == {b"a", b"b"}


def test_a_domain_without_mail_says_so_with_a_single_dot() -> None:
    assert routing.null([(0, b".")])
    assert not routing.null([(0, b"."), (10, b"mail")])
    assert not routing.null([(0, b"mail")])
    assert not routing.null([])


@pytest.mark.parametrize(
    ("preferences", "mine", "tried"),
    [
        ([10, 20, 30], [], [10, 20, 30]),
        ([10, 20, 30], [1], [10]),
        ([10, 20, 20, 30], [2], [10]),  # an equal one might give it back
        ([10, 20], [0], []),
        ([30, 20, 10], [0, 1], [10]),
    ],
)
def test_only_what_is_better_than_we_are_is_tried(preferences: list[int], mine: list[int], tried: list[int]) -> None:
    targets = [Target(bytes((1, 1, 1, at)), preference) for at, preference in enumerate(preferences)]
    ours = frozenset(targets[at].ip for at in mine)
    assert [target.preference for target in routing.before_us(targets, ours)] == tried


@pytest.mark.parametrize("ip", [bytes(4), bytes(16), b"\x7f\0\0\1", b"\x7f\1\2\3", bytes(15) + b"\1"])
def test_addresses_that_always_mean_this_host_are_ours(ip: bytes) -> None:
    assert routing.before_us([Target(ip, 0)], frozenset()) == []


def entry(count: int, when: int) -> tcpto.Entry:
    return tcpto.entries(tcpto.changed(bytes(16), 0, IP, count, when))[0]


def test_a_host_is_left_out_after_two_times_for_an_hour_and_by_chance_half_an_hour_more() -> None:
    assert not routing.left_out(None, NOW, 0)
    assert not routing.left_out(entry(0, NOW), NOW, 0)
    assert not routing.left_out(entry(1, NOW), NOW, 0)
    for count in (2, 10):
        assert routing.left_out(entry(count, NOW - 3839), NOW, 32)
        assert not routing.left_out(entry(count, NOW - 3840), NOW, 32)
        assert routing.left_out(entry(count, NOW - 3840 - 31 * 64 + 1), NOW, 31)
        assert not routing.left_out(entry(count, NOW - 3840 - 31 * 64), NOW, 31)


def put(table: bytes, change: tuple[int, bytes] | None) -> bytes:
    if change is None:
        return table
    position, record = change
    return table[:position] + record + table[position + 16 :]


def counts(table: bytes) -> list[tuple[bytes, int, int]]:
    return [(entry.ip, entry.count, entry.when) for entry in tcpto.entries(table) if entry.count]


def test_times_are_counted_but_not_those_that_follow_within_two_minutes() -> None:
    table = bytes(64)
    for seconds, count in ((0, 1), (119, 1), (120, 2), (239, 2), (240, 3)):
        table = put(table, routing.noted(table, IP, NOW + seconds))
        assert counts(table)[0][1] == count
    assert counts(table) == [(IP, 3, NOW + 240)]
    for hours in range(1, 20):
        table = put(table, routing.noted(table, IP, NOW + hours * 3600))
    assert counts(table)[0][1] == 10


def test_an_answer_is_forgiveness() -> None:
    table = put(bytes(64), routing.noted(bytes(64), IP, NOW))
    table = put(table, routing.forgiven(table, IP))
    assert counts(table) == []
    assert tcpto.entries(table)[0].when == NOW
    assert routing.forgiven(table, OTHER) is None
    table = put(table, routing.noted(table, IP, NOW + 1))  # and a new beginning
    assert counts(table) == [(IP, 1, NOW + 1)]


def test_when_the_table_is_full_the_host_that_matters_least_makes_room() -> None:
    table = b"".join(tcpto.changed(bytes(16), 0, bytes((1, 1, 1, at)), 3, NOW - at) for at in range(64))
    table = put(table, (16 * 7, tcpto.changed(table, 16 * 7, bytes((1, 1, 1, 7)), 1, NOW - 7)))
    assert routing.noted(table, IP, NOW) == (16 * 7, IP + b"\1" + bytes(3) + NOW.to_bytes(4, "little") + bytes(4))


def test_a_table_without_records_stays_so() -> None:
    assert routing.noted(b"", IP, NOW) is None
    assert routing.noted(bytes(15), IP, NOW) is None


@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4), st.integers(0, 1 << 33))
def test_any_table_is_changed_by_one_record(table: bytes, ip: bytes, now: int) -> None:
    for change in (routing.noted(table, ip, now), routing.forgiven(table, ip)):
        assert change is None or (change[0] % 16 == 0 and len(change[1]) == 16 and change[0] + 16 <= len(table))
