"""TLSA records that can be used, and the part of a certificate that they are about: beside the cryptography library."""

import hashlib
import ssl
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import dns, tlsa
from qmailpy.loops.tlsclient import digest
from tests.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def record(text: str) -> tlsa.Record:
    usage, selector, matching, data = text.split()
    (found,) = tlsa.usable([bytes((int(usage), int(selector), int(matching))) + bytes.fromhex(data)])
    return found


@pytest.mark.parametrize(
    ("data", "good"),
    [
        (b"\3\1\1" + bytes(32), True),
        (b"\2\0\2" + bytes(64), True),
        (b"\3\0\0x", True),
        (b"\3\1\1" + bytes(31), False),
        (b"\3\1\2" + bytes(32), False),
        (b"\0\1\1" + bytes(32), False),  # PKIX-TA
        (b"\1\1\1" + bytes(32), False),  # PKIX-EE
        (b"\4\1\1" + bytes(32), False),
        (b"\3\2\1" + bytes(32), False),
        (b"\3\1\3" + bytes(32), False),
        (b"\3\1\0", False),
        (b"", False),
    ],
)
def test_records_for_mail_servers_are_usable(data: bytes, good: bool) -> None:
    assert len(tlsa.usable([data])) == good


def test_the_name_of_records_has_port_and_protocol() -> None:
    assert tlsa.named(25, b"\4mail\0") == b"\3_25\4_tcp\4mail\0"
    with pytest.raises(dns.Malformed):
        tlsa.named(25, (b"\x3e" + b"x" * 62) * 4 + b"\0")


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_a_certificate_fits_its_record_and_no_other(authority: Authority, selector: int, matching: int) -> None:
    one, other = authority.issue("one.example"), authority.self_signed("one.example")
    found = record(one.tlsa(3, selector, matching))
    assert tlsa.selected(found, one.der()) == one.der(selector)
    assert tlsa.fits(found, one.der(), digest)
    assert not tlsa.fits(found, other.der(), digest)


def test_the_key_is_found_in_certificates_of_this_system() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if not bundle.exists():
        pytest.skip("no certificates of authorities: apt-get install ca-certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    tried = 0
    for der in context.get_ca_certs(binary_form=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                certificate = x509.load_der_x509_certificate(der)
        except (ValueError, UserWarning):  # cryptography takes, or will take, no serial number below 1
            continue
        tried += 1
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        found = tlsa.public_key(certificate.public_bytes(Encoding.DER))
        assert hashlib.sha256(found).digest() == hashlib.sha256(key).digest()
    assert tried > 50


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda data: b"\x30\x82" + data))
def test_any_bytes_are_a_certificate_or_malformed(data: bytes) -> None:
    try:
        assert tlsa.public_key(data) in data
    except tlsa.Malformed:
        pass


def test_a_broken_certificate_is_malformed(authority: Authority) -> None:
    whole = authority.issue("one.example").der()
    end = whole.index(tlsa.public_key(whole)) + len(tlsa.public_key(whole))
    for length in range(end):
        with pytest.raises(tlsa.Malformed):
            tlsa.public_key(whole[:length])
    assert not tlsa.fits(record("3 1 0 00"), whole[:50], digest)


@given(st.lists(st.binary(max_size=70), max_size=70))
def test_any_data_are_records_or_none(data: list[bytes]) -> None:
    assert len(tlsa.usable(data)) <= min(len(data), tlsa.MOST)
