"""reception: whose mail is taken, and for whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.mta import reception
from qmailpy.mta.reception import allowed, folded, listed

HOSTS = folded([b"A.test", b".sub.test", b"three"])


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        (b"x@a.test", True),
        (b"x@A.TEST", True),
        (b"x@y@a.test", True),
        (b"a.test@x", False),
        (b"x@b.a.test", False),
        (b"x@sub.test", False),
        (b"x@y.SUB.test", True),
        (b"x@.sub.test", True),
        (b"x@z.y.sub.test", True),
        (b"x@sub.test.", False),
        (b"x@", False),
        (b"@", False),
        (b"x@test", False),
        (b"nodomain", True),
        (b"", True),
    ],
)
def test_a_host_is_in_rcpthosts_itself_or_by_an_ending(address: bytes, taken: bool) -> None:
    assert allowed(address, HOSTS) == taken
    assert allowed(address, frozenset(), dict.fromkeys(HOSTS or (), b"").get) == taken


def test_without_rcpthosts_mail_for_anybody_is_taken_and_no_more_is_asked() -> None:
    def never(key: bytes) -> bytes | None:
        raise AssertionError(key)

    assert allowed(b"x@any", None, never)
    assert allowed(b"x@a.test", HOSTS, never)
    assert not allowed(b"x@any", frozenset())


@given(st.text("aB.", max_size=8).map(str.encode), st.sets(st.text("ab.", min_size=1, max_size=5).map(str.encode)))
def test_every_ending_from_a_dot_on_is_asked_for(host: bytes, names: set[bytes]) -> None:
    lower = host.lower()
    endings = {lower[at:] for at in range(len(host)) if at == 0 or host[at : at + 1] == b"."}
    assert allowed(b"x@" + host, frozenset(names)) == bool(endings & names)


def test_a_host_of_dots_costs_no_more_than_a_long_name() -> None:
    name = b".a" * 127 + b"."
    assert len(name) == 255
    for host in (b"." * 12288, b"a" * 12288 + name):
        endings = reception.suffixes(host)
        assert endings[0] == host
        assert max(map(len, endings[1:])) == 255
    assert allowed(b"x@" + b"." * 800 + name, frozenset([name]))
    assert allowed(b"x@" + b"." * 800, frozenset([b"." * 800]))


@pytest.mark.parametrize(
    ("address", "found"),
    [(b"bad@X", True), (b"BAD@x", True), (b"good@x", False), (b"any@evil", True), (b"", False), (b"@evil", True)],
)
def test_an_address_is_listed_itself_or_by_its_host(address: bytes, found: bool) -> None:
    assert listed(address, folded([b"bad@x", b"@EVIL"])) == found


def test_no_list_lists_nobody() -> None:
    assert not listed(b"x@y", None)
    assert not listed(b"", frozenset())


def refusal(**changes: object) -> bytes:
    lists = {
        "rcpthosts": HOSTS,
        "bad_senders": folded([b"@evil"]),
        "bad_recipients": folded([b"no@a.test"]),
        "bad_helo": folded([b".dyn"]),
    }
    asked = {"helo": b"host", "sender": b"s@x", "recipient": b"x@a.test", "relay": False, **changes}
    return reception.Reception(**lists).refusal(**asked)  # type: ignore[arg-type]


def test_checks_come_in_the_originals_order() -> None:
    assert refusal() == b""
    assert refusal(sender=b"s@evil", helo=b"x.dyn", recipient=b"x@other") == reception.BAD_SENDER
    assert refusal(helo=b"x.dyn", recipient=b"x@other") == reception.BAD_HELO
    assert refusal(recipient=b"no@a.test") == reception.BAD_RECIPIENT
    assert refusal(recipient=b"x@other") == reception.NO_GATEWAY


def test_a_client_that_may_relay_is_held_to_the_lists_of_addresses_only() -> None:
    assert refusal(relay=True, recipient=b"x@other", helo=b"x.dyn") == b""
    assert refusal(relay=True, sender=b"s@evil") == reception.BAD_SENDER
    assert refusal(relay=True, recipient=b"no@a.test") == reception.BAD_RECIPIENT


def test_who_has_not_said_helo_is_in_no_list() -> None:
    assert refusal(helo=None) == b""
    assert refusal(helo=b"") == b""
