"""forwarding: whom a message goes to, by a database that is a dictionary and lists that are bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.mta.forwarding import LATER, NEVER, Forwarding, verdict


class Aliases:
    """What a message has met."""

    def __init__(self, database: dict[bytes, bytes], lists: dict[bytes, bytes] | None = None) -> None:
        self.database = database
        self.lists = lists or {}
        self.asked: list[bytes] = []
        self.read: list[bytes] = []
        self.run: list[bytes] = []

    def look(self, key: bytes) -> bytes | None:
        self.asked.append(key)
        return self.database.get(key)

    def read_list(self, name: bytes) -> bytes:
        self.read.append(name)
        return self.lists[name]

    def forwarding(self, sender: bytes = b"s@t") -> Forwarding:
        return Forwarding(sender, self.look, self.read_list, self.run.append)

    def forwards(self, recipient: bytes = b"Joe@Host", sender: bytes = b"s@t") -> list[bytes] | None:
        plan = self.forwarding(sender)
        return plan.forwards if plan.deliver(recipient) else None


def test_three_targets_are_looked_for_in_lower_case() -> None:
    aliases = Aliases({})
    assert aliases.forwards(b"A@b@C") is None
    assert aliases.asked == [b"?a@b@c", b"?@c", b"?a@b@", b":a@b@c", b":@c", b":a@b@"]


@pytest.mark.parametrize("key", [b":joe@host", b":@host", b":joe@"])
def test_each_of_the_targets_counts(key: bytes) -> None:
    assert Aliases({key: b"&a@b\0"}).forwards() == [b"a@b"]


def test_a_recipient_without_a_host_is_looked_for_as_it_is() -> None:
    aliases = Aliases({b":joe": b"&a@b\0"})
    assert aliases.forwards(b"Joe") == [b"a@b"]
    assert aliases.asked[:2] == [b"?joe", b":joe"]


def test_forwards_are_told_in_the_order_of_the_data() -> None:
    assert Aliases({b":joe@": b"&a@b\0&c@d\0&e@f\0"}).forwards() == [b"a@b", b"c@d", b"e@f"]


def test_programs_run_at_once_and_in_order() -> None:
    aliases = Aliases({b":joe@": b"|1\0&x@y\0!2\0", b":x@y": b"|3\0"})
    assert aliases.forwards() == []
    assert aliases.run == [b"|1", b"!2", b"|3"]


def test_addresses_are_expanded_by_their_whole_name_alone() -> None:
    aliases = Aliases({b":joe@": b"&X@y\0&z@w\0", b":x@y": b"&a@b\0", b":z@": b"&wrong\0", b":@w": b"&wrong\0"})
    assert aliases.forwards() == [b"a@b", b"z@w"]


def test_an_address_with_an_owner_is_not_expanded() -> None:
    aliases = Aliases({b":joe@": b"&X@y\0", b":x@y": b"&a@b\0", b"?x@y": b"o@p"})
    assert aliases.forwards() == [b"X@y"]


def test_lists_are_followed_once_and_run_nothing() -> None:
    aliases = Aliases({b":joe@": b"./l\0/m\0"}, {b"./l": b"&a@b\0/m\0|no\0!no\0", b"/m": b"./l\0&c@d\0&a@b\0"})
    assert aliases.forwards() == [b"c@d", b"a@b"]
    assert (sorted(aliases.read), aliases.run) == ([b"./l", b"/m"], [])


def test_loops_end() -> None:
    aliases = Aliases({b":joe@host": b"&joe@host\0&a@b\0", b":a@b": b"&joe@host\0&A@b\0"})
    assert aliases.forwards(b"joe@host") == []


def test_the_owner_of_the_recipient_becomes_the_sender() -> None:
    for key in (b"?joe@host", b"?@host", b"?joe@"):
        plan = Aliases({key: b"o@p\0q", b":joe@": b"&a@b\0"}).forwarding()
        assert plan.deliver(b"joe@host")
        assert plan.sender == b"o@p"


@pytest.mark.parametrize("sender", [b"", b"#@[]"])
def test_a_bounce_stays_one(sender: bytes) -> None:
    plan = Aliases({b"?joe@": b"o@p", b":joe@": b"&a@b\0"}).forwarding(sender)
    assert plan.deliver(b"joe@host")
    assert plan.sender == sender


def test_addresses_of_899_bytes_are_dropped() -> None:
    aliases = Aliases({b":joe@": b"&" + b"x" * 898 + b"\0&" + b"x" * 899 + b"\0other\0\0&unended"})
    assert aliases.forwards() == [b"x" * 898]


def test_the_exit_codes_of_programs() -> None:
    assert verdict(0) == 0
    assert {code for code in range(256) if verdict(code) == NEVER} == {64, 65, 70, 76, 77, 78, 100, 112}
    assert verdict(99) == verdict(111) == verdict(1) == LATER


ITEMS = st.sampled_from([b"&a@b", b"&c@d", b"&joe@host", b"./l", b"/m", b"|p", b"!p", b"", b"x", b"&"])
DATA = st.lists(ITEMS).map(lambda items: b"".join([item + b"\0" for item in items]))


@given(
    database=st.dictionaries(st.sampled_from([b":joe@", b":a@b", b":c@d", b"?a@b", b":joe@host", b":"]), DATA),
    one=DATA,
    two=st.one_of(DATA, st.binary()),
)
def test_any_database_comes_to_an_end(database: dict[bytes, bytes], one: bytes, two: bytes) -> None:
    forwards = Aliases(database, {b"./l": one, b"/m": two.replace(b"./", b"").replace(b"/", b"")}).forwards()
    assert forwards is None or len(forwards) == len(set(forwards))
