"""Connections from here to there, and how their ends are written."""

import errno
import socket

import pytest

from qmailpy.loops import connect

LOOPBACK4, LOOPBACK6 = b"\x7f\0\0\1", bytes(15) + b"\1"
LINK_LOCAL = b"\xfe\x80" + bytes(13) + b"\1"


@pytest.mark.parametrize(
    ("word", "port"),
    [(b"25", 25), (b"016", 16), (b"65537", 1), (b"", 0), (b"25x", None), (b"no such", None), (b"\xff\xfe", None)],
)
def test_a_port_is_a_number_or_a_known_name(word: bytes, port: int | None) -> None:
    assert connect.service(word) == port


def test_a_link_local_address_needs_its_interface() -> None:
    assert connect.name(LINK_LOCAL, 25, b"3") == ("fe80::1", 25, 0, 3)
    assert connect.name(LINK_LOCAL, 25, b"lo") == ("fe80::1", 25, 0, socket.if_nametoindex("lo"))
    with pytest.raises(OSError):
        connect.name(LINK_LOCAL, 25, b"no such interface")


@pytest.mark.parametrize("ip", [LOOPBACK4, LOOPBACK6], ids=["IPv4", "IPv6"])
def test_both_ends_of_a_connection_are_known(ip: bytes) -> None:
    text = connect.name(ip, 0)[0]
    family = socket.AF_INET if ip is LOOPBACK4 else socket.AF_INET6
    with socket.create_server((text, 0), family=family) as server:
        sock = connect.stream(ip)
        connect.bind(sock, ip, 0)
        connect.connect(sock, ip, server.getsockname()[1], connect.Deadline(5))
        assert connect.remote(sock) == (ip, server.getsockname()[1])
        assert connect.local(sock) == (ip, sock.getsockname()[1])
        sock.close()


def test_a_deadline_passes() -> None:
    assert 0 < connect.Deadline(0).left() < 1
    assert connect.Deadline(1e30).left_ms() < 2**31
    for late in (connect.Deadline(-1).left, connect.Deadline(-1).left_ms):
        with pytest.raises(TimeoutError) as failure:
            late()
        assert failure.value.errno == errno.ETIMEDOUT
