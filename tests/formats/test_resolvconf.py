"""Rules that complete a name, and lists of servers, as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import resolvconf

BOTH = [b"127.0.0.1", b"::1"]


@pytest.mark.parametrize(
    ("rules", "name", "names"),
    [
        ([b"=a:b"], b"A", [b"b"]),
        ([b"=a:b"], b"xa", [b"xa"]),
        ([b"*.af:.af.mil"], b"x.y.AF", [b"x.y.af.mil"]),
        ([b"?:.example"], b"x", [b"x.example"]),
        ([b"?:.example"], b"x.y", [b"x.y"]),
        ([b"?:.example"], b"[1]", [b"[1]"]),
        ([b"-.local:me.example"], b"printer.local", [b"me.example"]),
        ([b"?:+.a+.b"], b"x", [b"x.a", b"x.b"]),
        ([b"=x:x+.a+"], b"x", [b"x.a", b"x"]),
        ([b"*.:"], b"x.y.", [b"x.y"]),
        ([b"=a:b", b"=b:c", b"=a:d"], b"a", [b"c"]),
        ([b"#a:b", b"", b"=a", b"+a:b"], b"a", [b"a"]),
        ([b"=a:b:c"], b"a", [b"b:c"]),
        ([], b"x+.a+.b", [b"x.a", b"x.b"]),
    ],
)
def test_rules_rewrite_a_name(rules: list[bytes], name: bytes, names: list[bytes]) -> None:
    assert resolvconf.qualified(name, rules) == names


@given(st.lists(st.text("=*?-ab.:+[", max_size=8).map(str.encode)), st.text("ab.+[]", max_size=10).map(str.encode))
def test_any_rules_give_names_without_plus(rules: list[bytes], name: bytes) -> None:
    assert all(b"+" not in candidate for candidate in resolvconf.qualified(name, rules))


@pytest.mark.parametrize("name", [b"localhost", b"LocalHost", b"localhost.", b"a.localhost", b"b.a.localhost."])
def test_localhost_is_known_without_a_server_unless_a_rewriting_file_decides(name: bytes) -> None:
    for rules in (
        resolvconf.host_rules(b"h.example"),
        resolvconf.host_rules(b"h"),
        resolvconf.localdomain_rules(b"example"),
        resolvconf.search_rules(b"search example") or [],
    ):
        assert resolvconf.qualified(name, rules) == BOTH
    assert resolvconf.qualified(name, resolvconf.rewriting_rules(b"# none\n")) == [name]


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        (resolvconf.host_rules(b"h.a.b"), [b"x.a.b"]),
        (resolvconf.host_rules(b"h"), [b"x"]),
        (resolvconf.localdomain_rules(b"a b"), [b"x.a", b"x.b"]),
        (resolvconf.search_rules(b"nameserver 1.2.3.4\nsearch a\t b \nsearch c"), [b"x.a", b"x.b"]),
        (resolvconf.search_rules(b"domain\ta"), [b"x.a"]),
        (resolvconf.search_rules(b"search "), [b"x"]),
        (resolvconf.rewriting_rules(b"?:.a \t\r\n*.a:.b"), [b"x.b"]),
    ],
)
def test_configuration_stands_for_rules(rules: list[bytes], names: list[bytes]) -> None:
    assert resolvconf.qualified(b"x", rules) == names


def test_resolv_conf_without_search_line_says_nothing_about_names() -> None:
    assert resolvconf.search_rules(b"nameserver 1.2.3.4\n search a\nsearchy a\nsearch") is None


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        (b"1.2.3.4", [b"\1\2\3\4"]),
        (b"1.2.3.4.5.6.7.8", [b"\1\2\3\4", b"\5\6\7\x08"]),
        (b".1.2.3.4..5.6.7.8.", [b"\1\2\3\4", b"\5\6\7\x08"]),
        (b"1.2.3.4.5.6.7", [b"\1\2\3\4"]),
        (b"1.2.3.4x5.6.7.8", [b"\1\2\3\4"]),
        (b"1..2.3.4", []),
        (b"", []),
        (b"1.2.3.4." * 20, [b"\1\2\3\4"] * 16),
    ],
)
def test_dnscacheip_holds_addresses_joined_by_dots(text: bytes, servers: list[bytes]) -> None:
    assert [ip for ip, _ in resolvconf.joined_servers(text)] == servers


def test_nameserver_lines_name_ipv4_and_ipv6_servers() -> None:
    text = b"nameserver 1.2.3.4\nnameserver\t ::1 # here\n nameserver 9.9.9.9\nnameserver\nnameserver fe80::1%eth0\n#"
    local = b"\xfe\x80" + bytes(13) + b"\1"
    assert resolvconf.listed_servers(text) == [(b"\1\2\3\4", b""), (bytes(15) + b"\1", b""), (local, b"eth0")]


@given(st.binary(max_size=200))
def test_any_file_is_read_to_an_end(text: bytes) -> None:
    resolvconf.listed_servers(b"nameserver " + text)
    resolvconf.joined_servers(text)
    resolvconf.search_rules(b"search " + text)
    resolvconf.qualified(text, resolvconf.rewriting_rules(text))
