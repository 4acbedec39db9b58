import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import fd3

strings = st.binary(max_size=200).map(lambda b: b.replace(b"\0", b"0"))


def refusal(packet: bytes) -> int:
    with pytest.raises(fd3.PacketError) as caught:
        fd3.parse(bytearray(packet))
    return int(caught.value.args[0])


@given(strings, strings, st.binary(max_size=100).map(lambda b: b.replace(b"\0", b"0")))
def test_what_is_built_is_parsed_to_the_same_strings(name: bytes, password: bytes, stamp: bytes) -> None:
    packet = fd3.build(name, password, stamp)
    assert packet == name + b"\0" + password + b"\0" + stamp + b"\0"
    assert fd3.parse(packet) == (name, bytearray(password), stamp)


@given(st.binary(max_size=600))
def test_any_bytes_are_a_packet_or_have_an_exit_code(data: bytes) -> None:
    if len(data) > 512:
        assert refusal(data) == 1
    elif data.count(0) < 2:
        assert refusal(data) == 2
    else:
        name, password, stamp = fd3.parse(bytearray(data))
        assert (data + b"\0").startswith(name + b"\0" + password + b"\0" + stamp + b"\0")


@pytest.mark.parametrize("packet", [b"u\0p\0", b"u\0p\0\0", b"u\0p\0stamp", b"u\0p\0stamp\0more\0"])
def test_the_second_nul_completes_a_packet(packet: bytes) -> None:
    assert fd3.parse(bytearray(packet))[:2] == (b"u", bytearray(b"p"))


@pytest.mark.parametrize("packet", [b"", b"u", b"u\0", b"u\0p"])
def test_a_missing_nul_is_misuse(packet: bytes) -> None:
    assert refusal(packet) == fd3.MISUSE


def test_512_bytes_are_a_packet_and_513_are_refused() -> None:
    assert fd3.parse(bytearray(b"u\0p\0" + b"x" * 508))[2] == b"x" * 508
    assert refusal(b"u\0p\0" + b"x" * 509) == fd3.REFUSED
    assert refusal(b"x" * 513) == fd3.REFUSED


def test_an_oversized_packet_is_not_built() -> None:
    assert len(fd3.build(b"u", b"p" * 508, b"")) == 512
    with pytest.raises(fd3.PacketError):
        fd3.build(b"u", b"p" * 509, b"")


@pytest.mark.parametrize("strings", [(b"u\0v", b"p", b""), (b"u", b"p\0q", b""), (b"u", b"p", b"s\0t")])
def test_a_nul_in_a_string_is_not_built(strings: tuple[bytes, bytes, bytes]) -> None:
    with pytest.raises(fd3.PacketError):
        fd3.build(*strings)


def test_a_password_is_wiped_in_place() -> None:
    packet = fd3.build(b"u", bytearray(b"secret"), b"")
    password = fd3.parse(packet)[1]
    fd3.wipe(packet)
    assert password == b"secret"
    fd3.wipe(password)
    assert (bytes(packet), bytes(password)) == (bytes(10), bytes(6))
