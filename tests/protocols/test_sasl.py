"""sasl: PLAIN, LOGIN and CRAM-MD5, from anybody's bytes."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmailpy.protocols import sasl

FIELD = st.binary(min_size=1, max_size=40).filter(lambda field: b"\0" not in field)


def encoded(text: bytes) -> bytearray:
    return bytearray(base64.b64encode(text))


def outcome(mechanism: bytes, *responses: bytes | bytearray) -> object:
    """Credentials as a pair, the next challenge, or the exception's class."""
    exchange = sasl.Exchange(mechanism, b"<1.2@host>")
    try:
        for response in responses:
            exchange.respond(bytearray(response))
    except (sasl.Refused, sasl.Cancelled) as e:
        return type(e)
    if exchange.credentials is None:
        return exchange.challenge
    return exchange.credentials.name, bytes(exchange.credentials.password)


@given(FIELD, st.one_of(st.just(b""), FIELD))
def test_plain_gives_name_and_password(name: bytes, password: bytes) -> None:
    assert outcome(b"PLAIN", encoded(b"\0" + name + b"\0" + password)) == (name, password)
    assert outcome(b"PLAIN", encoded(name + b"\0" + name + b"\0" + password)) == (name, password)


@given(FIELD, FIELD, FIELD)
def test_plain_refuses_an_authorization_for_somebody_else(other: bytes, name: bytes, password: bytes) -> None:
    if other != name:
        assert outcome(b"PLAIN", encoded(b"\0".join((other, name, password)))) is sasl.Refused


@given(st.binary(max_size=30))
@example(b"\0\0")
@example(b"a\0\0b")
def test_plain_refuses_what_are_not_three_fields_with_a_name(text: bytes) -> None:
    fields = text.split(b"\0")
    if len(fields) != 3 or not fields[1] or fields[0] not in (b"", fields[1]):
        assert outcome(b"PLAIN", encoded(text)) is sasl.Refused


@given(FIELD, st.one_of(st.just(b""), FIELD))
def test_login_asks_for_name_and_password(name: bytes, password: bytes) -> None:
    assert outcome(b"LOGIN") == base64.b64encode(b"Username:")
    assert outcome(b"LOGIN", encoded(name)) == base64.b64encode(b"Password:")
    assert outcome(b"LOGIN", encoded(name), encoded(password)) == (name, password)


@pytest.mark.parametrize(("name", "password"), [(b"", b"x"), (b"a\0b", b"x"), (b"a", b"x\0y"), (b"a", b"\0")])
def test_login_refuses_what_would_shift_the_fields_of_the_packet(name: bytes, password: bytes) -> None:
    assert outcome(b"LOGIN", encoded(name), encoded(password)) is sasl.Refused


DIGEST = b"0123456789abcdef" * 2


@given(FIELD)
@example(b"a b ")
def test_cram_md5_gives_the_digest_of_its_challenge(name: bytes) -> None:
    assert outcome(b"CRAM-MD5") == base64.b64encode(b"<1.2@host>")
    assert outcome(b"CRAM-MD5", encoded(name + b" " + DIGEST)) == (name, DIGEST)
    assert outcome(b"CRAM-MD5", encoded(name + b" " + DIGEST.upper())) == (name, DIGEST)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"max",
        DIGEST,
        b" " + DIGEST,
        b"max " + DIGEST[1:],
        b"max x" + DIGEST[1:],
        b"m\0x " + DIGEST,
        b"max " + DIGEST + b" ",
    ],
)
def test_cram_md5_refuses_what_is_no_name_and_digest(response: bytes) -> None:
    assert outcome(b"CRAM-MD5", encoded(response)) is sasl.Refused


@given(st.binary(max_size=80))
def test_any_response_is_credentials_or_refused(response: bytes) -> None:
    for mechanism in (b"PLAIN", b"CRAM-MD5"):
        assert isinstance(outcome(mechanism, encoded(response)), tuple | type)


@pytest.mark.parametrize("responses", [(b"*",), (b"bWF4", b"*")])
def test_an_asterisk_cancels(responses: tuple[bytes, ...]) -> None:
    assert outcome(b"LOGIN", *responses) is sasl.Cancelled


@given(st.binary(max_size=100))
def test_base64_is_read_as_it_is_written(text: bytes) -> None:
    assert sasl.decode(encoded(text)) == text


@given(st.one_of(st.binary(max_size=12), st.text("AQgw=*+/ \r-_", max_size=12).map(str.encode)))
@example(b"====")
@example(b"A===")
@example(b"QQ==QQ==")
@example(b"QR==")
@example(b"QQ")
def test_only_base64_that_somebody_would_write_is_read(text: bytes) -> None:
    try:
        decoded = sasl.decode(bytearray(text))
    except sasl.Refused:
        return
    assert base64.b64encode(decoded) == text


def test_a_response_is_overwritten() -> None:
    response = encoded(b"\0max\0secret")
    sasl.Exchange(b"PLAIN").respond(response)
    assert response == bytes(len(response))


def test_a_response_that_is_refused_is_overwritten_too() -> None:
    response = encoded(b"\0max\0secret") + b"*"
    with pytest.raises(sasl.Refused):
        sasl.Exchange(b"PLAIN").respond(response)
    assert response == bytes(len(response))


def test_an_equals_sign_is_an_empty_initial_response() -> None:
    assert sasl.initial(bytearray(b"=")) == b""
    assert sasl.initial(bytearray(b"QQ==")) == b"QQ=="
