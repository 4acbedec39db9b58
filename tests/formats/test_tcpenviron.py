"""The environment of a connection: what a program reads in tcp-environ(5)."""

from qmailpy.formats.tcpenviron import INTERFACE, TCP, TCP6, environment

STALE = {b"PATH": b"/bin", b"PROTO": b"SSL", **dict.fromkeys((*TCP, *TCP6, INTERFACE), b"stale")}


def test_an_ipv4_peer_gives_the_originals_variables_and_no_stale_ones() -> None:
    found = environment(STALE, b"127.0.0.1", 110, b"here", b"10.0.0.2", 4001, None, b"")
    assert found == {
        b"PATH": b"/bin",
        b"PROTO": b"TCP",
        b"TCPLOCALIP": b"127.0.0.1",
        b"TCPLOCALPORT": b"110",
        b"TCPLOCALHOST": b"here",
        b"TCPREMOTEIP": b"10.0.0.2",
        b"TCPREMOTEPORT": b"4001",
        b"TCPREMOTEINFO": b"",
    }


def test_an_ipv6_peer_gives_each_variable_twice() -> None:
    found = environment(STALE, b"::1", 110, None, b"fe80::1", 4001, b"there", None, b"eth0")
    assert found[b"PROTO"] == b"TCP6"
    assert found[b"TCP6INTERFACE"] == b"eth0"
    assert found[b"TCPREMOTEIP"] == found[b"TCP6REMOTEIP"] == b"fe80::1"
    for name, twin in zip(TCP, TCP6, strict=True):
        assert found.get(name) == found.get(twin)
    assert b"TCPLOCALHOST" not in found and b"TCP6REMOTEINFO" not in found


def test_the_environment_that_is_described_stays_as_it_was() -> None:
    before = dict(STALE)
    environment(before, b"::1", 110, None, b"::1", 4001, None, None)
    assert before == STALE
