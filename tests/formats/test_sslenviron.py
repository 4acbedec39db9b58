"""The SSL_* variables: certificates as openssl(1) shows them, and any bytes in place of one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import sslenviron
from tests.tls import Authority, openssl

SUBJECT = "/C=DE/ST=Here/L=There/O=Org \\/ Unit/OU=Mail/CN=mail.example/UID=u1/emailAddress=a@b.example"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    authority.certificate("ec", subject=SUBJECT)
    authority.certificate("rsa", kind="rsa")
    return authority.folder


def der(path: Path) -> bytes:
    return openssl("x509", "-in", path, "-outform", "DER")


def test_a_certificate_says_what_openssl_says(made: Path) -> None:
    path = made / "ec.crt"
    found = sslenviron.Certificate(der(path)).variables(b"SSL_CLIENT_")
    shown = dict(
        line.split("=", 1) for line in openssl("x509", "-in", path, "-noout", "-serial", "-dates").decode().splitlines()
    )
    assert int(found[b"SSL_CLIENT_M_SERIAL"]) == int(shown["serial"], 16)  # decimal, as by ucspi-ssl
    assert found[b"SSL_CLIENT_V_START"].decode() == shown["notBefore"]
    assert found[b"SSL_CLIENT_V_END"].decode() == shown["notAfter"]
    assert found[b"SSL_CLIENT_M_VERSION"] == b"3"
    assert (found[b"SSL_CLIENT_A_SIG"], found[b"SSL_CLIENT_A_KEY"]) == (b"ecdsa-with-SHA256", b"id-ecPublicKey")
    assert found[b"SSL_CLIENT_I_DN"] == b"/O=Tests/CN=Test CA"
    assert found[b"SSL_CLIENT_S_DN"] == SUBJECT.replace("\\/", "\\x2F").encode()
    parts = {b"C": b"DE", b"ST": b"Here", b"L": b"There", b"O": b"Org / Unit", b"OU": b"Mail", b"CN": b"mail.example"}
    parts.update({b"UID": b"u1", b"Email": b"a@b.example"})
    assert {name[16:]: value for name, value in found.items() if name.startswith(b"SSL_CLIENT_S_DN_")} == parts


def test_a_key_of_another_kind_is_called_by_its_name(made: Path) -> None:
    found = sslenviron.Certificate(der(made / "rsa.crt")).variables(b"SSL_SERVER_")
    assert (found[b"SSL_SERVER_A_KEY"], found[b"SSL_SERVER_A_SIG"]) == (b"rsaEncryption", b"ecdsa-with-SHA256")


def test_the_other_names_of_a_certificate_are_numbered(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    names = [f"DNS:{number}.example" for number in range(120)]
    authority._make("many", "/CN=x", authority.signing(), [*names, "email:a@b.example", "IP:127.0.0.1", "URI:x:y"])
    found = sslenviron.certificate(b"SSL_CLIENT_", [der(tmp_path / "many.crt")])
    shown = {name: value for name, value in found.items() if b"_SAN_" in name}
    assert shown.pop(b"SSL_CLIENT_SAN_Email_0") == b"a@b.example"
    assert shown == {b"SSL_CLIENT_SAN_DNS_%d" % number: b"%d.example" % number for number in range(100)}


def test_certificates_of_a_file_come_as_they_are(made: Path) -> None:
    text = (made / "ec.pem").read_bytes() + (made / "ca.crt").read_bytes()
    chain = sslenviron.certificates(text)
    assert chain == [der(made / "ec.crt"), der(made / "ca.crt")]
    described = sslenviron.certificate(b"SSL_SERVER_", chain)
    assert described[b"SSL_SERVER_CERT"] == described[b"SSL_SERVER_CERT_CHAIN_0"] == (made / "ec.crt").read_bytes()
    assert described[b"SSL_SERVER_CERT_CHAIN_1"] == (made / "ca.crt").read_bytes()
    assert sslenviron.certificate(b"SSL_CLIENT_", []) == {}


def tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes((size,)) if size < 128 else bytes((0x84,)) + size.to_bytes(4, "big")
    return bytes((tag,)) + length + content


def one(common_name: bytes, tag: int = 0x0C, serial: bytes = b"\1", until: bytes = b"491231235959Z") -> bytes:
    """A certificate that nobody would verify."""
    algorithm = tagged(0x30, tagged(0x06, b"\x2a\x03\x04"))
    name = tagged(0x30, tagged(0x31, tagged(0x30, tagged(0x06, b"\x55\x04\x03") + tagged(tag, common_name))))
    dates = tagged(0x30, tagged(0x17, b"500101000000Z") + tagged(0x17, until))
    alternatives = tagged(0x04, tagged(0x30, tagged(0x82, b"a.example") + tagged(0x81, b"b@c.example")))
    extensions = tagged(0xA3, tagged(0x30, tagged(0x30, tagged(0x06, b"\x55\x1d\x11") + alternatives)))
    body = tagged(0x02, serial) + algorithm + name + dates + name + tagged(0x30, algorithm) + extensions
    return tagged(0x30, tagged(0x30, body))


@pytest.mark.parametrize(
    ("value", "tag", "shown"),
    [
        (b"a b", 0x0C, b"a b"),
        (b"a\0b\n\xff", 0x0C, b"a\\x00b\\x0A\\xFF"),
        ("name".encode("utf-16-be"), 0x1E, b"name"),
        ("näme".encode("utf-16-be"), 0x1E, b"n\\xE4me"),
        ("\u20ac".encode("utf-16-be"), 0x1E, b" \\xAC"),
        ("name".encode("utf-32-be"), 0x1C, b"name"),
    ],
)
def test_nothing_in_a_name_can_end_a_variable_or_a_line(value: bytes, tag: int, shown: bytes) -> None:
    found = sslenviron.Certificate(one(value, tag))
    assert found.subject.parts[b"CN"] == shown
    assert found.subject.text == b"/CN=" + shown


def test_old_certificates_and_strange_ones() -> None:
    found = sslenviron.Certificate(one(b"x", serial=b"\xff\x01"))
    assert (found.version, found.serial, found.algorithm, found.key) == (
        1,
        b"-255",
        b"1.2.3.4",
        b"1.2.3.4",
    )
    assert (found.start, found.end) == (b"Jan  1 00:00:00 1950 GMT", b"Dec 31 23:59:59 2049 GMT")


@pytest.mark.parametrize("until", [b"", b"Z", b"491331235959Z", b"49123123595Z", b"491231235959+", b"4912312359 9Z"])
def test_a_date_that_is_none_makes_no_certificate(until: bytes) -> None:
    with pytest.raises(sslenviron.Malformed):
        sslenviron.Certificate(one(b"x", until=until))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_certificate_or_malformed(data: bytes) -> None:
    try:
        sslenviron.Certificate(data)
    except sslenviron.Malformed:
        pass


@given(st.data())
def test_a_damaged_certificate_is_one_or_malformed(data: st.DataObject) -> None:
    good = bytearray(one(b"common name"))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = sslenviron.Certificate(bytes(good)).variables(b"SSL_CLIENT_")
    except sslenviron.Malformed:
        return
    assert not any(byte < 32 for value in found.values() for byte in value)


def test_a_number_without_end_costs_nothing() -> None:
    algorithm = tagged(0x30, tagged(0x06, b"\x81" * 1_000_000 + b"\1"))
    with pytest.raises(sslenviron.Malformed):
        sslenviron.Certificate(tagged(0x30, tagged(0x30, tagged(0x02, b"\1") + algorithm * 5)))


@pytest.mark.parametrize(
    "text", [b"-----BEGIN CERTIFICATE-----\nAAAA", b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----"]
)
def test_a_file_that_breaks_off_is_malformed(text: bytes) -> None:
    with pytest.raises(sslenviron.Malformed):
        sslenviron.certificates(text)


def test_what_was_agreed_on() -> None:
    found = sslenviron.connection(b"TLSv1.3", b"TLS_AES_256_GCM_SHA384", 256, b"\x0a\xff", b"OpenSSL", b"mail.example")
    assert found == {
        b"SSL_PROTOCOL": b"TLSv1.3",
        b"SSL_SESSION_ID": b"0aff",
        b"SSL_CIPHER": b"TLS_AES_256_GCM_SHA384",
        b"SSL_CIPHER_USEKEYSIZE": b"256",
        b"SSL_CIPHER_ALGKEYSIZE": b"256",
        b"SSL_CIPHER_EXPORT": b"false",
        b"SSL_VERSION_INTERFACE": b"ucspi-ssl",
        b"SSL_VERSION_LIBRARY": b"OpenSSL",
        b"SSL_TLS_SNI": b"mail.example",
    }
    assert b"SSL_TLS_SNI" not in sslenviron.connection(b"TLSv1.2", b"x", 40, b"", b"", b"")


def test_what_a_connection_is_like_is_forgotten_and_nothing_else() -> None:
    kept = {b"SSL_CERT_FILE": b"/x", b"SSL_USER": b"y", b"PATH": b"/bin"}
    stale = dict.fromkeys(
        (b"SSL_PROTOCOL", b"SSL_CLIENT_S_DN_CN", b"SSL_SERVER_CERT", b"SSL_CIPHER", b"SSL_TLS_SNI"), b"z"
    )
    assert sslenviron.forget({**kept, **stale}) == kept


def test_names_of_sslserver() -> None:
    env = {b"PROTO": b"TCP", b"TCPREMOTEIP": b"192.0.2.1", b"SSLREMOTEHOST": b"stale", b"A": b"b"}
    assert sslenviron.ucspi(env, tcp=False) == {b"PROTO": b"SSL", b"SSLREMOTEIP": b"192.0.2.1", b"A": b"b"}
    assert sslenviron.ucspi(env, tcp=True)[b"TCPREMOTEIP"] == b"192.0.2.1"
