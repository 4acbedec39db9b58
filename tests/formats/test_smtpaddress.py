"""smtpaddress: the arguments of MAIL and RCPT."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import smtpaddress

CASES = [
    (b"FROM:<a@b>", b"a@b", b""),
    (b"FROM:<a@b> SIZE=1", b"a@b", b" SIZE=1"),
    (b"FROM:<>", b"", b""),
    (b"FROM: a@b SIZE=1", b"a@b", b"SIZE=1"),
    (b"a@b", b"", b""),
    (b"", b"", b""),
    (b"TO:<a@b", b"a@b", b""),
    (b"TO:<@x,@y:a@b>", b"a@b", b""),
    (b"TO:<@x>", b"", b""),
    (b'TO:<"a b"@c>', b"a b@c", b""),
    (b'TO:<"a>b"@c>d', b"a>b@c", b"d"),
    (b"TO:<a\\>b\\\\@c>", b"a>b\\@c", b""),
    (b'TO:<"a', b"a", b""),
    (b'TO:"a b"@c d', b"a b@c", b"d"),
    (b"TO:<a\\", b"a", b""),
]


@pytest.mark.parametrize(("argument", "address", "behind"), CASES)
def test_an_address_is_read_as_the_original_reads_it(argument: bytes, address: bytes, behind: bytes) -> None:
    assert smtpaddress.parse(argument) == (address, behind)


@given(st.text(' <>@:\\"ab', max_size=20).map(str.encode))
def test_an_address_is_read_whatever_is_in_it(argument: bytes) -> None:
    """Beside a reading byte by byte, as the original does it."""
    end = b">" if b"<" in argument else b" "
    rest = argument.partition(b"<")[2] if b"<" in argument else argument.partition(b":")[2].lstrip(b" ")
    if rest.startswith(b"@"):
        rest = rest.partition(b":")[2]
    address, escaped, quoted = b"", False, False
    for at in range(len(rest)):
        byte = rest[at : at + 1]
        if escaped:
            address, escaped = address + byte, False
        elif byte == end and not quoted:
            break
        elif byte == b"\\":
            escaped = True
        elif byte == b'"':
            quoted = not quoted
        else:
            address += byte
    assert smtpaddress.parse(argument)[0] == address


@pytest.mark.parametrize(
    ("address", "ip"),
    [
        (b"a@[127.0.0.1]", b"\x7f\0\0\1"),
        (b"a@b@[127.0.0.257]", b"\x7f\0\0\1"),
        (b"a@[IPv6:::1]", bytes(15) + b"\1"),
        (b"a@[ipv6:2001:DB8::1]", b"\x20\x01\x0d\xb8" + bytes(11) + b"\1"),
        (b"a@[127.0.0.1", None),
        (b"a@[127.0.0.1]x", None),
        (b"a@[127.0.1]", None),
        (b"a@[127.0.0.]", None),
        (b"a@[127.0.0.1x]", None),
        (b"a@[::1]", None),
        (b"[127.0.0.1]", None),
        (b"a@b", None),
        (b"", None),
    ],
)
def test_an_address_of_numbers(address: bytes, ip: bytes | None) -> None:
    assert smtpaddress.literal(address) == ip


def test_only_an_address_of_ours_gets_the_name() -> None:
    mine = b"\x7f\0\0\1".__eq__
    assert smtpaddress.localized(b"a@[127.0.0.1]", b"host", mine) == b"a@host"
    assert smtpaddress.localized(b"a@[127.0.0.1]", None, mine) == b"a@[127.0.0.1]"
    assert smtpaddress.localized(b"a@[127.0.0.2]", b"host", mine) == b"a@[127.0.0.2]"
    assert smtpaddress.localized(b"a@b", b"host", mine) == b"a@b"


def test_parameters_by_their_keywords() -> None:
    wanted = {b"SIZE": b"1", b"BODY": b"8bit=MIME", b"SMTPUTF8": b""}
    assert smtpaddress.parameters(b"  size=1 Body=8bit=MIME SMTPUTF8 SIZE=2 ") == wanted


@given(st.binary(max_size=20))
def test_xtext_is_read_as_it_is_written(text: bytes) -> None:
    written = b"".join(bytes((byte,)) if 33 <= byte <= 126 and byte not in b"+=" else b"+%02X" % byte for byte in text)
    assert smtpaddress.xtext(written) == (None if b"\0" in text else text)


@pytest.mark.parametrize("text", [b"+", b"+4", b"+4g", b"a+3d", b"a+00b"])
def test_what_is_no_xtext_or_has_a_nul_is_none(text: bytes) -> None:
    assert smtpaddress.xtext(text) is None
