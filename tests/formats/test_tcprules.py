import ipaddress
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.formats import addresses, cdb, tcprules
from tests.helpers import needs

Outcome = tuple[int, bytes, bytes]  # exit code, what was said, the cdb

# Words that rules are made of, and what breaks them.
WORDS = st.sampled_from([
    b"1", b"10", b"255", b"300", b"0", b"007", b".", b"1.2.3.4", b"10.1.", b"-", b"1-3", b"-9", b"=", b"=.a.example",
    b"@", b"joe@", b":", b":allow", b":deny", b"allow", b"deny", b",", b',A="x"', b",B=", b",C=//", b'D="a:b"', b" ",
    b"\t", b"\0", b"#", b'"', b"\r", b"\xff", b"18446744073709551617", b"_", b"^",
])  # fmt: skip
GOOD = st.builds(
    lambda address, instructions: address + b":" + instructions,
    st.lists(WORDS, max_size=4).map(b"".join).map(lambda address: address.replace(b":", b"")),
    st.sampled_from([b"allow", b"deny", b'allow,A=""', b'deny,B="x:y",C=/ /', b'allow,=""  \t', b'allow,D="\0D\0"']),
)
LINES = st.one_of(st.lists(WORDS, max_size=6).map(b"".join), GOOD)
FILES = st.lists(st.one_of(GOOD, GOOD, GOOD, LINES), max_size=12)


def original(text: bytes) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [needs("tcprules"), "cdb", "tmp"], input=text, capture_output=True, cwd=folder, check=False
        )
        path = Path(folder, "cdb")
        return done.returncode, done.stderr, path.read_bytes() if path.exists() else b""


def ours(text: bytes) -> Outcome:
    try:
        return 0, b"", b"".join(cdb.make(tcprules.records(text.split(b"\n"))))
    except tcprules.BadRule as e:
        return 100, b"tcprules: fatal: unable to parse this line: " + e.line.partition(b"\0")[0] + b"\n", b""


def compiled(*lines: bytes) -> dict[bytes, bytes]:
    """Key to data, the first record of each."""
    return dict(reversed(list(tcprules.records(lines))))


def chosen(rules: dict[bytes, bytes], ip: bytes, host: bytes | None = None, info: bytes | None = None) -> bytes | None:
    """The readable key of the rule for a peer."""
    rule = tcprules.search(rules.get, ip, host, info)
    return None if rule is None else tcprules.readable(rule.key)


@settings(max_examples=200)
@given(FILES, st.booleans())
def test_rules_give_the_bytes_or_the_message_of_the_original(lines: list[bytes], ended: bool) -> None:
    text = b"\n".join(lines) + (b"\n" if ended else b"")
    if b"::" not in text:  # no IPv6 address
        assert ours(text) == original(text)


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_any_bytes_give_the_bytes_or_the_message_of_the_original(text: bytes) -> None:
    assert ours(text) == original(text)


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"#", b"# :\n", b":\n", b" :allow\n", b"\t1:allow \t \n", b"1\0x-3.:deny\n", b"1\0-3.:deny\n",
     b"-:deny", b"1-2.3-4:deny", b"1-2-3:deny", b"5-3:deny", b"1.250-999.:deny", b"=a-b:deny", b"a-1@:deny",
     b"1:allow,A= x \n", b"1:allow,A=\n", b"1:allow,A\n", b"1:allow,\n", b"1:allow A=x\n", b'1:deny,A="\n"\n',
     b"1 :allow", b"1: allow", b"10.0.0.0/x:allow", b"a/8:allow", b"1-2.0/8:allow", b"[1.2.3.4]:allow", b"/8:deny",
     b"1:allow,A=::1:allow:", b"/:allow,A=/:/", b"a:deny:allow", b"a:allow,A=x:deny", b"1:allow\r\n",
     b"10.0.0.0/8@x:deny", b"=/8:deny"],
)  # fmt: skip
def test_a_quirk_of_the_original_is_kept(text: bytes) -> None:
    assert ours(text) == original(text)


def test_many_rules_give_the_bytes_of_the_original() -> None:
    text = b"".join([b'10.%d.%d.0-255:allow,N="%d"\n' % (n >> 8, n & 255, n) for n in range(80)]) + b"10.:deny\n:deny\n"
    assert ours(text) == original(text)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1.2.3.4:accept", b"no allow or deny after the colon"),
        (b"1.2.3.4: allow", b"no allow or deny after the colon"),
        (b"1.2.3.4:allow;A=x", b"no comma where the next variable would begin"),
        (b'1.2.3.4:allow,A="x"B="y"', b"no comma where the next variable would begin"),
        (b"1.2.3.4:allow,A", b"variable has no ="),
        (b"1.2.3.4:allow,A=", b"variable has no value"),
        (b'1.2.3.4:allow,A="x', b'value has no closing "'),
        (b"1.2.3.4-x:allow", b"range with something other than digits"),
        (b"10.0.0.0/33:allow", b"prefix length is not 0 to 32"),
        (b"10.0.0.0/:allow", b"prefix length is not 0 to 32"),
        (b"10.0.0.256/8:allow", b"not an IPv4 prefix"),
        (b"2001:db8::/129:allow", b"prefix length is not 0 to 128"),
        (b"2001:db8::allow", b"not an IPv6 address or prefix"),
        (b"joe@2001:db8::/32:allow", b"not an IPv6 address or prefix"),
        (b"[::1:allow", b"not an IPv6 address or prefix"),
        (b"[::1]2:allow", b"not an IPv6 address or prefix"),
        (b'::1:allow,A="x', b'value has no closing "'),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_reason(line: bytes, reason: bytes) -> None:
    with pytest.raises(tcprules.BadRule) as caught:
        list(tcprules.records([b"# first", b"", line + b" \t", b":bad"]))
    assert (caught.value.line, caught.value.number, caught.value.reason) == (line, 3, reason)


@pytest.mark.parametrize(
    "line",
    [b"2001:db8::25:deny", b"2001:DB8:0:0::0025:deny", b"[2001:db8::25]:deny", b'2001:db8::25:deny,A="a:allow"',
     b"2001:db8::0.0.0.37:deny"],
)  # fmt: skip
def test_an_ipv6_address_is_one_key_however_it_is_written(line: bytes) -> None:
    assert list(compiled(line)) == [b"2001:0DB8:0000:0000:0000:0000:0000:0025"]
    assert chosen(compiled(line), b"2001:db8::25") == b"2001:db8::25"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b"::1:allow", b"::1"),
        (b":::allow", b"::"),
        (b"joe@::1:allow", b"joe@::1"),
        (b"::ffff:1.2.3.4:allow", b"1.2.3.4"),
        (b"joe@[::ffff:102:304]:allow", b"joe@1.2.3.4"),
        (b"::/0:allow", b"::/0"),
        (b"[2001:db8::]/32:allow", b"2001:db8::/32"),
        (b"[2001:db8::/32]:allow", b"2001:db8::/32"),
        (b"2001:db8:ffff::1/33:allow", b"2001:db8:8000::/33"),
        (b"::ffff:10.0.0.0/104:allow", b"10.0.0.0/8"),
        (b"::/95:allow", b"::/95"),
        (b"10.1.2.3/8:allow", b"10.0.0.0/8"),
        (b"10/8:allow", b"10.0.0.0/8"),
        (b"172.16./12:allow", b"172.16.0.0/12"),
        (b"0.0.0.0/0:allow", b"0.0.0.0/0"),
        (b"1.2.3.4/32:allow", b"1.2.3.4/32"),
    ],
)
def test_a_key_reads_as_the_rule_was_meant(line: bytes, key: bytes) -> None:
    assert tcprules.readable(next(tcprules.records([line]))[0]) == key


def test_prefixes_have_the_keys_of_ucspi_tcp6() -> None:
    assert next(tcprules.records([b"127.0.0.0/8:allow"]))[0] == b"_0bcdefgh"
    assert next(tcprules.records([b"255.255.255.255/32:allow"]))[0] == b"_abcdefghijklmnopqrstuvwxyz123456"
    assert next(tcprules.records([b"2001:db8::/32:allow"]))[0] == b"^00`000000000000a0000bc0de0fgh000"[:33]


def test_only_a_file_with_prefixes_lists_their_lengths() -> None:
    assert list(compiled(b"1.2.3.4:allow", b"::1:allow", b":deny")) == [b"", b"0000:" * 7 + b"0001", b"1.2.3.4"]
    rules = compiled(b"10/8:deny", b"::/0:deny", b"10.1/16:allow", b"11/8:deny")
    assert rules[b"_:"] == bytes([16, 8])
    assert rules[b"^:"] == bytes([0])


def test_the_most_specific_address_decides_alone() -> None:
    addresses_in_order = [
        b"joe@1.2.3.4", b"joe@=a.b.c", b"1.2.3.4", b"=a.b.c", b"1.2.3.", b"1.2.", b"1.", b"1.2.3.0/25", b"0.0.0.0/0",
        b"=.b.c", b"=.c", b"=", b"",
    ]  # fmt: skip
    lines = [address + b":allow" for address in addresses_in_order]
    while lines:
        assert chosen(compiled(*reversed(lines)), b"1.2.3.4", b"a.b.c", b"joe") == lines[0].removesuffix(b":allow")
        del lines[0]
    assert chosen({}, b"1.2.3.4", b"a.b.c", b"joe") is None


def test_the_most_specific_address_of_an_ipv6_peer_decides_alone() -> None:
    addresses_in_order = [
        b"joe@2001:db8::1", b"joe@=a.b.c", b"2001:db8::1", b"=a.b.c", b"2001:db8::/127", b"::/0", b"=.b.c",
        b"=.c", b"=", b"",
    ]  # fmt: skip
    lines = [address + b":allow" for address in addresses_in_order]
    while lines:
        assert chosen(compiled(*reversed(lines)), b"2001:DB8::0:1", b"a.b.c", b"joe") == lines[0].removesuffix(
            b":allow"
        )
        del lines[0]


def test_unknown_is_not_empty() -> None:
    rules = compiled(b"@1.2.3.4:deny", b"=:deny", b":allow")
    assert chosen(rules, b"1.2.3.4") == b""
    assert chosen(rules, b"1.2.3.4", host=b"") == b"="
    assert chosen(rules, b"1.2.3.4", info=b"") == b"@1.2.3.4"


def test_a_mapped_peer_is_an_ipv4_peer() -> None:
    rules = compiled(b"1.2.3.4:deny", b"10.:deny", b"11/8:deny", b"::/0:allow", b":allow")
    assert chosen(rules, b"::ffff:1.2.3.4") == b"1.2.3.4"
    assert chosen(rules, b"::ffff:a00:1") == b"10."
    assert chosen(rules, b"::ffff:11.0.0.1") == b"11.0.0.0/8"
    assert chosen(rules, b"::ffff:12.0.0.1") == b""


def test_a_zone_does_not_hide_an_ipv6_peer_from_its_rule() -> None:
    assert chosen(compiled(b"fe80::/10:deny"), b"fe80::1%eth0") == b"fe80::/10"


def test_the_keys_of_ucspi_tcp_ipv6_are_followed() -> None:
    assert chosen({b"2001:db8::1": b"", b"": b""}, b"2001:db8::1") == b"2001:db8::1"
    assert chosen({b"2001:db8:": b"", b"2001:": b"", b"": b""}, b"2001:db8:1::1") == b"2001:db8:"


@given(st.integers(0, 1), st.data())
def test_a_prefix_holds_the_peers_of_its_network_and_no_other(version: int, data: st.DataObject) -> None:
    size, form = (4, addresses.format_ipv4) if version == 0 else (16, addresses.format_ipv6)
    packed = data.draw(st.binary(min_size=size, max_size=size))
    length = data.draw(st.integers(0, 8 * size))
    flipped = int.from_bytes(packed, "big") ^ 1 << data.draw(st.integers(0, 8 * size - 1))
    peer = flipped.to_bytes(size, "big")
    rules = compiled(form(packed) + b"/%d:deny" % length)
    if size == 16 and addresses.MAPPED in (packed[:12], peer[:12]):
        return
    network = ipaddress.ip_network((packed, length), strict=False)
    assert (chosen(rules, form(peer)) is not None) == (ipaddress.ip_address(peer) in network)
    found = chosen(rules, form(packed))
    assert found is not None
    assert ipaddress.ip_network(found.decode()) == network


@given(st.binary(max_size=140))
def test_any_key_can_be_shown(key: bytes) -> None:
    assert tcprules.readable(key) == key or key[:1] in b"_^" or b":" in key


@given(
    st.binary(max_size=40), st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=9), st.binary(max_size=9)
)
def test_any_peer_and_any_record_get_an_answer(
    ip: bytes, host: bytes | None, info: bytes | None, lengths: bytes
) -> None:
    seen = []

    def get(key: bytes) -> bytes | None:
        seen.append(key)
        return lengths if key in (b"_:", b"^:") else None

    assert tcprules.search(get, ip, host, info) is None
    assert seen[-1] == b""
    tcprules.Rule(ip, lengths)


def test_a_record_says_deny_and_variables() -> None:
    rule = tcprules.Rule(b"", b"D\0+A=\0+B=x=y\0+noequals\0?\0\0+C=not ended")
    assert (rule.deny, rule.variables) == (True, [(b"A", b""), (b"B", b"x=y")])
    assert not tcprules.Rule(b"", b"").deny
