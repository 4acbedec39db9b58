"""The environment of a connection: what a program reads in tcp-environ(5)."""

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats.tcpenviron import TCP6, variables

LOOPBACK6 = bytes(15) + b"\1"


def test_an_ipv4_peer_gives_the_originals_variables_and_no_stale_tcp6_ones() -> None:
    found = variables(b"\x7f\0\0\1", 110, b"here", b"\x0a\0\0\2", 4001, None, b"")
    assert found == [
        (b"PROTO", b"TCP"),
        (b"TCPLOCALIP", b"127.0.0.1"),
        (b"TCPLOCALPORT", b"110"),
        (b"TCPLOCALHOST", b"here"),
        (b"TCPREMOTEIP", b"10.0.0.2"),
        (b"TCPREMOTEPORT", b"4001"),
        (b"TCPREMOTEHOST", None),
        (b"TCPREMOTEINFO", b""),
        *((name, None) for name in TCP6),
    ]


def test_an_ipv6_peer_gives_each_variable_twice() -> None:
    found = dict(variables(LOOPBACK6, 110, None, LOOPBACK6, 4001, b"there", None, b"eth0"))
    assert found[b"PROTO"] == b"TCP6"
    assert found[b"TCP6INTERFACE"] == b"eth0"
    assert found[b"TCPREMOTEIP"] == found[b"TCP6REMOTEIP"] == b"::1"
    for name in TCP6[:-1]:
        assert found[name] == found[name.replace(b"6", b"", 1)]


def test_an_ipv4_peer_on_an_ipv6_socket_is_an_ipv4_peer() -> None:
    mapped = bytes(10) + b"\xff\xff\x7f\0\0\1"
    assert variables(mapped, 1, None, mapped, 2, None, None) == variables(
        b"\x7f\0\0\1", 1, None, b"\x7f\0\0\1", 2, None, None
    )


@given(st.binary())
def test_a_value_can_always_be_put_into_an_environment(info: bytes) -> None:
    for _, value in variables(LOOPBACK6, 1, info, LOOPBACK6, 2, info, info):
        assert value is None or b"\0" not in value
