"""Where a recipient goes: locals, percenthack and virtualdomains. tests/commands/test_qmail_send.py asks the original
the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.mta.rewriting import LOCAL, REMOTE, Rewriting, virtual

RULES = Rewriting(
    [b"me.example", b"Both.example"],
    [b"Hack.example", b"more.example"],
    [
        b"virt.example:vuser",
        b".tails.example:tails",
        b"deep.tails.example:deep",
        b"joe@user.example:joes",
        b"out.tails.example:",
        b"both.example:never",
        b"twice.example:first",
        b"TWICE.example:last",
        b"no colon",
        b"a.b:c:d",
    ],
    b"nowhere.example",
)

CASES = [
    (b"a@me.example", LOCAL, b"a@me.example"),
    (b"a@ME.Example", LOCAL, b"a@ME.Example"),
    (b"a@sub.me.example", REMOTE, b"a@sub.me.example"),
    (b"a@both.example", LOCAL, b"a@both.example"),
    (b"a", REMOTE, b"a@nowhere.example"),
    (b"", REMOTE, b"@nowhere.example"),
    (b"a@b@me.example", LOCAL, b"a@b@me.example"),
    (b"A@Virt.example", LOCAL, b"vuser-A@Virt.example"),
    (b"a@x.virt.example", REMOTE, b"a@x.virt.example"),
    (b"a@x.y.tails.example", LOCAL, b"tails-a@x.y.tails.example"),
    (b"a@tails.example", REMOTE, b"a@tails.example"),
    (b"a@.tails.example", LOCAL, b"tails-a@.tails.example"),
    (b"a@deep.tails.example", LOCAL, b"deep-a@deep.tails.example"),
    (b"a@x.deep.tails.example", LOCAL, b"tails-a@x.deep.tails.example"),
    (b"a@out.tails.example", REMOTE, b"a@out.tails.example"),
    (b"Joe@USER.example", LOCAL, b"joes-Joe@USER.example"),
    (b"jim@user.example", REMOTE, b"jim@user.example"),
    (b"a@twice.example", LOCAL, b"last-a@twice.example"),
    (b"x@a.b", LOCAL, b"c:d-x@a.b"),
    (b"a%me.example@hack.example", LOCAL, b"a@me.example"),
    (b"a%virt.example@HACK.example", LOCAL, b"vuser-a@virt.example"),
    (b"a%b%more.example@hack.example", REMOTE, b"a@b"),
    (b"a%b@hack.example", REMOTE, b"a@b"),
    (b"a@hack.example", REMOTE, b"a@hack.example"),
    (b"a%b@other.example", REMOTE, b"a%b@other.example"),
    (b"a%b@c@hack.example", REMOTE, b"a@b@c"),
    (b"a@", REMOTE, b"a@"),
]


@pytest.mark.parametrize(("recipient", "channel", "address"), CASES)
def test_recipients(recipient: bytes, channel: int, address: bytes) -> None:
    assert RULES.rewrite(recipient) == (channel, address)


def test_the_empty_key_is_for_all_others() -> None:
    rules = Rewriting([b"me.example"], [], [b":all", b"not.example:"], b"n")
    assert rules.rewrite(b"a@b.c") == (LOCAL, b"all-a@b.c")
    assert rules.rewrite(b"a@") == (LOCAL, b"all-a@")
    assert rules.rewrite(b"a") == (LOCAL, b"all-a@n")
    assert rules.rewrite(b"a@not.example") == (REMOTE, b"a@not.example")
    assert rules.rewrite(b"a@me.example") == (LOCAL, b"a@me.example")


def test_renew_takes_new_locals_and_virtual_domains_and_nothing_else() -> None:
    rules = Rewriting([b"old"], [b"hack"], [b"v:old"], b"n")
    rules.renew([b"new"], [b"v:new"])
    assert rules.rewrite(b"a@old") == (REMOTE, b"a@old")
    assert rules.rewrite(b"a%new@hack") == (LOCAL, b"a@new")
    assert rules.rewrite(b"a@v") == (LOCAL, b"new-a@v")
    assert rules.strip(b"new-a@v") == b"a@v"


@pytest.mark.parametrize(
    ("address", "stripped"),
    [
        (b"vuser-a@virt.example", b"a@virt.example"),
        (b"VUSER-a@virt.example", b"VUSER-a@virt.example"),
        (b"vuser@virt.example", b"vuser@virt.example"),
        (b"tails-a@x.tails.example", b"a@x.tails.example"),
        (b"joes-joe@user.example", b"joes-joe@user.example"),
        (b"a@me.example", b"a@me.example"),
        (b"vuser-a", b"vuser-a"),
    ],
)
def test_a_bounce_shows_the_address_without_the_prefix_of_its_host(address: bytes, stripped: bytes) -> None:
    assert RULES.strip(address) == stripped


def test_lines_of_virtualdomains() -> None:
    assert virtual([b"a:b", b"none", b":x", b"A:c:d"]) == {b"a": b"c:d", b"": b"x"}


@given(recipient=st.one_of(st.binary(), st.text("a@%.", max_size=12).map(str.encode)))
def test_any_recipient_goes_somewhere(recipient: bytes) -> None:
    channel, address = RULES.rewrite(recipient)
    assert channel in (LOCAL, REMOTE)
    assert b"@" in address
    if channel == LOCAL:
        assert RULES.strip(address)
