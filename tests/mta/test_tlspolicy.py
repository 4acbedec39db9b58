"""Which TLS a destination needs: the administrator's word, DANE, MTA-STS, and which of them counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import mtasts
from qmailpy.formats.mtasts import ENFORCE, Kept, Policy
from qmailpy.mta import tlspolicy
from qmailpy.mta.tlspolicy import ANCHORS, DANE, ENCRYPT, MAY, NEVER, VERIFY, Need, Rule

TEXT = b"""\
# comment.example:none
dom.example:encrypt
.example:verify
x.example:
bank:Verify: mx.bank
relay:none
xn--bcher-kva.example:encrypt
[2001:db8::7]:encrypt
"""
POLICY = Policy(ENFORCE, 1000, [b"*.dom"])
GOOD, USELESS = b"\3\1\1" + bytes(32), b"\1\1\1" + bytes(32)
NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("host", "relay", "found"),
    [
        (b"dom.example", None, (ENCRYPT, b"")),
        (b"DOM.example", None, (ENCRYPT, b"")),
        (b"a.b.example", None, (VERIFY, b"")),
        (b"x.example", None, None),
        (b"else", None, None),
        (b"bank", None, (VERIFY, b"mx.bank")),
        (b"bank", b"relay", (VERIFY, b"mx.bank")),
        (b"dom.example", b"relay", (ENCRYPT, b"")),
        (b"else", b"relay", (NEVER, b"")),
        (b"relay", b"dom.example", (ENCRYPT, b"")),
        (b"else", b"else", None),
        (b"dom.example.", None, (ENCRYPT, b"")),
        (b"d\\157m.example", None, (ENCRYPT, b"")),
        (b"a.dom.example..", None, (VERIFY, b"")),
        (b"b\xc3\xbccher.example", None, (ENCRYPT, b"")),
        (b"x.example.", None, None),
        (b"else", b"relay.", (NEVER, b"")),
        (b"[2001:db8::7]", None, (ENCRYPT, b"")),
        (b"x" * 300, None, None),
    ],
)
def test_the_administrators_word_is_that_of_the_longest_name(
    host: bytes, relay: bytes | None, found: tuple[int, bytes] | None
) -> None:
    rule = tlspolicy.rule(TEXT, host, relay)
    assert (rule and (rule.level, rule.name)) == found


def test_the_word_for_all_is_for_the_relay_not_for_those_behind_it() -> None:
    rule = tlspolicy.rule(b":encrypt\nrelay:none\n", b"host", b"relay")
    assert rule is not None and rule.level == NEVER
    rule = tlspolicy.rule(b":encrypt\n", b"host", b"relay")
    assert rule is not None and rule.level == ENCRYPT
    assert tlspolicy.rule(b"", b"host", None) is None


def test_a_word_that_is_none_is_not_passed_over() -> None:
    with pytest.raises(tlspolicy.Misspelt, match="verifi"):
        tlspolicy.rule(b"a:verifi\n", b"a", None)


@pytest.mark.parametrize(
    ("rule", "policy", "records", "level", "shown"),
    [
        (None, None, [], MAY, b"unverified"),
        (None, POLICY, [], VERIFY, b"verified by MTA-STS"),
        (None, None, [GOOD], DANE, b"verified by DANE"),
        (None, POLICY, [GOOD, USELESS], DANE, b"verified by DANE"),
        (None, None, [USELESS], ENCRYPT, b"unverified"),
        (None, POLICY, [USELESS], VERIFY, b"verified by MTA-STS"),
        (ENCRYPT, None, [], ENCRYPT, b"unverified"),
        (ENCRYPT, POLICY, [], VERIFY, b"verified by MTA-STS"),
        (ENCRYPT, POLICY, [GOOD], DANE, b"verified by DANE"),
        (VERIFY, POLICY, [GOOD], VERIFY, b"verified"),
        (NEVER, POLICY, [GOOD], NEVER, b"unverified"),
    ],
)
def test_what_a_server_needs(
    rule: int | None, policy: Policy | None, records: list[bytes], level: int, shown: bytes
) -> None:
    found = None if rule is None else Rule(rule, b"")
    need = tlspolicy.need(found, b"mx.dom", policy, records, [b"mx.dom", b"dom"])
    assert (need.level, need.shown, need.strict) == (level, shown, level > MAY)
    if level == VERIFY:
        assert need.names == [b"mx.dom"]
    if level == DANE:
        assert (need.names, len(need.records)) == ([b"mx.dom", b"dom"], 1)
        anchored = need.anchored([b"x"])
        assert (anchored.level, anchored.names, anchored.shown) == (ANCHORS, need.names, shown)


@given(
    st.none() | st.sampled_from([ENCRYPT, VERIFY]),
    st.none() | st.just(POLICY),
    st.lists(st.sampled_from([GOOD, USELESS]) | st.binary(max_size=40), max_size=3),
)
def test_whoever_demands_something_gets_it(rule: int | None, policy: Policy | None, records: list[bytes]) -> None:
    need = tlspolicy.need(None if rule is None else Rule(rule, b""), b"mx", policy, records, [b"mx"])
    assert need.strict == (rule is not None or policy is not None or bool(records))
    assert need.level >= (rule or MAY)
    assert need.level >= VERIFY or policy is None
    assert bool(need.source) == need.strict


def test_only_a_line_of_the_relays_own_is_about_its_password() -> None:
    for line, own in ((b"", False), (b":encrypt", False), (b"host:encrypt", False), (b"relay:", False)):
        assert tlspolicy.names_relay(line + b"\n", b"relay") is own
    for line in (b"relay:encrypt", b":verify\nrelay:encrypt"):
        assert tlspolicy.names_relay(line + b"\n", b"relay")
    assert tlspolicy.names_relay(b".example:encrypt\n", b"relay.example.")
    assert tlspolicy.for_login(Need(NEVER), b"relay", told=False).level == NEVER


def test_a_password_needs_somebody_known() -> None:
    assert tlspolicy.for_login(Need(MAY), b"relay", told=False).names == [b"relay"]
    assert tlspolicy.for_login(Need(MAY), b"relay", told=False).level == VERIFY
    assert tlspolicy.for_login(Need(ENCRYPT, b"x"), b"relay", told=True).level == ENCRYPT
    assert tlspolicy.for_login(Need(DANE, b"x"), b"relay", told=False).level == DANE


@pytest.mark.parametrize(
    ("shown", "good"),
    [("mx.dom.example", True), ("*.dom.example", True), ("dom.example", False), ("*.example", False), ("*.com", False)],
)
def test_names_in_a_certificate(shown: str, good: bool) -> None:
    names = (("IP Address", "mx.dom.example"), ("DNS", "x"), ("DNS", shown))
    assert tlspolicy.evident(names, [b"else", b"MX.dom.example"]) is good
    assert not tlspolicy.evident((("DNS", "*.com"),), [b"a.com"])
    assert not tlspolicy.evident((), [b"a"])


@pytest.mark.parametrize(
    ("kept", "found", "due", "holds"),
    [
        (None, b"1", True, False),
        (Kept(b"1", NOW - 10, 0, POLICY), b"1", False, True),
        (Kept(b"1", NOW - 10, 0, POLICY), b"2", True, True),
        (Kept(b"1", NOW - 500, 0, POLICY), b"1", True, True),
        (Kept(b"1", NOW - 1000, 0, POLICY), b"1", True, False),
        (Kept(b"1", NOW - 10, NOW - 299, POLICY), b"2", False, True),
        (Kept(b"1", NOW - 10, NOW - 300, POLICY), b"2", True, True),
        (Kept(b"1", 0, NOW - 1, None), b"1", False, False),
        (Kept(b"1", 0, NOW - 300, None), b"1", True, False),
        (Kept(b"1", NOW - 80000, 0, Policy(ENFORCE, 1 << 20, [b"x"])), b"1", False, True),
        (Kept(b"1", NOW - 86400, 0, Policy(ENFORCE, 1 << 20, [b"x"])), b"1", True, True),
        (Kept(b"1", NOW, NOW + 5000, POLICY), b"2", True, True),  # the clock has been set
    ],
)
def test_a_policy_is_fetched_when_it_is_due(kept: mtasts.Kept | None, found: bytes, due: bool, holds: bool) -> None:
    assert tlspolicy.is_due(kept, found, NOW) is due
    assert (tlspolicy.in_force(kept, NOW) is not None) is holds


@pytest.mark.parametrize(
    ("host", "good"),
    [
        (b"mail.example", True),
        (b"192.0.2.1", False),
        (b"2001:db8::1", False),
        (b"b\xc3\xbc", False),
        (b"", False),
        (b".mail", False),
        (b"a..b", False),
        (b"a\\056b", False),
        (b"x." * 127, False),
        (b"mx_1.example", True),
    ],
)
def test_addresses_are_no_names(host: bytes, good: bool) -> None:
    assert tlspolicy.can_be_named(host) is good
