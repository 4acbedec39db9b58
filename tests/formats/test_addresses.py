import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import addresses

IPV4 = st.binary(min_size=4, max_size=4)
IPV6 = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.lists(st.sampled_from([b"\0\0", b"\0\1", b"\xff\xff", b"\x20\1"]), min_size=8, max_size=8).map(b"".join),
)
TEXT = st.lists(st.sampled_from([b":", b"::", b".", b"0", b"00", b"1", b"255", b"256", b"f", b"A", b"12345", b" "]))


def system(family: int, text: bytes) -> bytes | None:
    try:
        return socket.inet_pton(family, text.decode("latin-1"))
    except (OSError, ValueError):
        return None


@given(st.one_of(st.binary(max_size=20), TEXT.map(b"".join), IPV4.map(addresses.format_ipv4)))
def test_an_ipv4_text_is_read_as_the_system_reads_it(text: bytes) -> None:
    assert addresses.parse_ipv4(text) == system(socket.AF_INET, text)


@given(st.one_of(st.binary(max_size=40), TEXT.map(b"".join), IPV6.map(addresses.format_ipv6)))
def test_an_ipv6_text_is_read_as_the_system_reads_it(text: bytes) -> None:
    assert addresses.parse_ipv6(text) == system(socket.AF_INET6, text)


@pytest.mark.parametrize(
    "text",
    [
        b"::",
        b"::1",
        b"1::",
        b"1:2:3:4:5:6:7::",
        b"::2:3:4:5:6:7:8",
        b"1:2:3:4:5:6:1.2.3.4",
        b"::1.2.3.4",
        b"1::2.3.4.5",
    ],
)
def test_every_form_of_an_ipv6_address_is_read(text: bytes) -> None:
    packed = addresses.parse_ipv6(text)
    assert packed is not None
    assert packed == system(socket.AF_INET6, text)


@pytest.mark.parametrize(
    "text",
    [b"", b":", b":::", b"1", b"1:2:3:4::5:6:7:8", b"1:2:3:4:5:6:7", b"::1::", b"fe80::1%eth0", b"[::1]", b"::1.2.3",
     b"1.2.3.4", b"::g", b"::1_0", b"::+1", b"12345::", b":1::", b"::1.2.3.4:5", b"1:2:3:4:5:6:7:1.2.3.4"],
)  # fmt: skip
def test_what_is_no_ipv6_address_is_none(text: bytes) -> None:
    assert addresses.parse_ipv6(text) is None


@given(IPV4)
def test_an_ipv4_address_survives_being_written(packed: bytes) -> None:
    text = addresses.format_ipv4(packed)
    assert text.decode() == str(ipaddress.IPv4Address(packed))
    assert addresses.parse_ipv4(text) == packed


@given(IPV6)
def test_an_ipv6_address_survives_being_written(packed: bytes) -> None:
    assert addresses.parse_ipv6(addresses.format_ipv6(packed)) == packed
    assert addresses.parse_ipv6(addresses.expand_ipv6(packed)) == packed


@given(IPV6)
def test_an_ipv6_address_is_written_as_the_standard_library_writes_it(packed: bytes) -> None:
    address = ipaddress.IPv6Address(packed)
    if address.ipv4_mapped is None:
        assert addresses.format_ipv6(packed).decode() == address.compressed
    else:
        assert addresses.format_ipv6(packed).decode() == socket.inet_ntop(socket.AF_INET6, packed)
    assert addresses.expand_ipv6(packed).decode() == address.exploded


@given(IPV4)
def test_a_mapped_ipv4_address_is_recognised(packed: bytes) -> None:
    mapped = addresses.parse_ipv6(b"::ffff:" + addresses.format_ipv4(packed))
    assert mapped is not None
    assert addresses.mapped_ipv4(mapped) == packed
    assert addresses.mapped_ipv4(b"\x20" + mapped[1:]) is None
