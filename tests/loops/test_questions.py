"""The turns that held questions have. What the loop does is seen in tests/commands/test_qmail_authd.py."""

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.loops.questions import Held, Question


def question(address: bytes) -> Question:
    made = Question(-1, 0, 0.0)
    made.place = address
    return made


def drain(held: Held) -> list[bytes]:
    """Take one question after the other, as the loop does: of the first address, which then is the last."""
    order = []
    while held.addresses:
        address, questions = next(iter(held.addresses.items()))
        held.next_turn(address)
        assert held.remove(next(iter(questions)))
        order.append(address)
    return order


def test_addresses_take_turns() -> None:
    held = Held()
    for address in (b"a", b"a", b"a", b"a", b"b", b"c", b"b"):
        held.add(question(address))
    assert held.count(b"a") == 4
    assert drain(held) == [b"a", b"b", b"c", b"a", b"b", b"a", b"a"]


def test_questions_of_an_address_keep_their_order() -> None:
    held = Held()
    asked = [question(b"a") for _ in range(5)]
    for one in asked:
        held.add(one)
    assert list(held.addresses[b"a"]) == asked


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.booleans()), max_size=30))
def test_nothing_is_left_of_what_was_removed(events: list[tuple[bytes, bool]]) -> None:
    held = Held()
    asked = []
    for address, leaves in events:
        one = question(address)
        held.add(one)
        if leaves:
            assert held.remove(one)
            assert not held.remove(one)
        else:
            asked.append(address)
    assert sorted(drain(held)) == sorted(asked)
    assert held.addresses == {}
