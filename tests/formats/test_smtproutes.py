"""control/smtproutes: which line counts, and what it says; beside a model of constmap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import smtproutes

TEXT = b"""\
# comment.example:nowhere
inside.example:firewall.example:26
INSIDE.example:  \t
.example:wild
dom:first
Dom:second
 blank:x
no colon
[2001:db8::7]:literal
:rest
"""


@pytest.mark.parametrize(
    ("host", "value"),
    [
        (b"inside.example", b""),  # the last of two, without the blanks behind it
        (b"Sub.Inside.Example", b"wild"),
        (b"x.y.example", b"wild"),
        (b"example", b"rest"),
        (b"dom", b"second"),
        (b"blank", b"rest"),
        (b" blank", b"x"),
        (b"#comment.example", b"wild"),
        (b"no colon", b"rest"),
        (b"dom:second", b"rest"),
        (b"a\ndom", b"rest"),
        (b"[2001:db8::1]", b"rest"),
        (b"[2001:DB8::7]", b"literal"),
        (b"[2001:db8::7]:x", b"rest"),
        (b"", b"rest"),
    ],
)
def test_the_longest_key_counts_and_of_two_alike_the_last(host: bytes, value: bytes) -> None:
    assert smtproutes.find(TEXT, smtproutes.host_keys(host)) == value


def test_without_a_key_there_is_none() -> None:
    assert smtproutes.find(b"dom:x", smtproutes.host_keys(b"other")) is None
    assert smtproutes.find(b"", smtproutes.host_keys(b"")) is None
    assert smtproutes.find(b"dom:x", smtproutes.host_keys(b"dom")) == b"x"  # without a newline


def constmap(text: bytes, keys: list[bytes]) -> bytes | None:
    """As control_readfile and constmap of the original have it."""
    table = {}
    for line in text.split(b"\n"):
        line = line.rstrip(b"\n \t")
        if line and not line.startswith(b"#") and b":" in line:
            key, _, value = line.partition(b":")
            table[key.lower()] = value
    for key in keys:
        if key.lower() in table:
            return table[key.lower()]
    return None


WORDS = st.lists(st.sampled_from([b"a", b"A", b"b", b".", b":", b"\n", b"#", b" ", b"\xc3"]), max_size=24).map(b"".join)


@given(WORDS, WORDS)
def test_lines_are_found_as_the_original_finds_them(text: bytes, host: bytes) -> None:
    keys = smtproutes.host_keys(host)
    assert smtproutes.find(text, keys) == constmap(text, keys)


def test_senders_are_listed_whole_by_parts_and_all() -> None:
    assert smtproutes.sender_keys(b"me@a.b") == [b"me@a.b", b"@a.b", b".b", b""]
    assert smtproutes.sender_keys(b"") == [b""]


@pytest.mark.parametrize(
    ("value", "route"),
    [
        (b"relay", (b"relay", 25, b"", b"")),
        (b"relay:26", (b"relay", 26, b"", b"")),
        (b"relay:26x", (b"relay", 26, b"", b"")),
        (b"relay:65561", (b"relay", 25, b"", b"")),
        (b"relay:", (b"relay", 25, b"", b"")),
        (b"[192.0.2.7]:26", (b"[192.0.2.7]", 26, b"", b"")),
        (b"[2001:db8::1]:26", (b"[2001:db8::1]", 26, b"", b"")),
        (b"[2001:db8::1]", (b"[2001:db8::1]", 25, b"", b"")),
        (b"relay|user|pass:|word", (b"relay", 25, b"user", b"pass:|word")),
        (b"relay:587|user@dom|password", (b"relay", 587, b"user@dom", b"password")),
        (b"[::1]:587|user|password", (b"[::1]", 587, b"user", b"password")),
        (b"relay|user|", (b"relay", 25, b"", b"")),
        (b"relay||password", (b"relay", 25, b"", b"")),
    ],
)
def test_a_route_is_a_relay_and_perhaps_port_and_login(value: bytes, route: tuple[bytes, int, bytes, bytes]) -> None:
    found = smtproutes.parse(value)
    assert found is not None
    assert (found.relay, found.port, found.user, found.password, found.tls) == (*route, False)


@pytest.mark.parametrize(
    ("value", "relay", "port", "tls"),
    [
        (b"smtps://relay", b"relay", 465, True),
        (b"SMTPS://relay:10465|user|password", b"relay", 10465, True),
        (b"smtps://[2001:db8::1]", b"[2001:db8::1]", 465, True),
        (b"smtps://[2001:db8::1]:26", b"[2001:db8::1]", 26, True),
        (b"relay:465", b"relay", 465, True),
        (b"smtp://relay:465", b"relay", 465, False),
        (b"smtp://relay", b"relay", 25, False),
        (b"smtps:26", b"smtps", 26, False),
        (b"relay|smtps://|smtps://", b"relay", 25, False),
    ],
)
def test_tls_from_the_first_byte_is_a_scheme_or_a_port(value: bytes, relay: bytes, port: int, tls: bool) -> None:
    found = smtproutes.parse(value)
    assert found is not None
    assert (found.relay, found.port, found.tls) == (relay, port, tls)


@pytest.mark.parametrize("value", [b"", b":26", b"|user|password", b"smtps://", b"smtps://:465|user|password"])
def test_without_a_relay_dns_decides(value: bytes) -> None:
    assert smtproutes.parse(value) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_route_or_none(value: bytes) -> None:
    route = smtproutes.parse(value)
    assert route is None or (route.relay and 0 <= route.port < 65536 and bool(route.user) == bool(route.password))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b":relay:26|user|secret", b":relay:26|user|..."),
        (b":relay|user|se|cret", b":relay|user|..."),
        (b":relay|user|", b":relay|user|"),
        (b":relay|user", b":relay|user"),
        (b"dom:relay", b"dom:relay"),
        (b"", b""),
    ],
)
def test_a_line_is_shown_without_its_password(line: bytes, shown: bytes) -> None:
    assert smtproutes.without_password(line) == shown
