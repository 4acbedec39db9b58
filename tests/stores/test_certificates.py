"""Certificates on disk: which one a client gets, what is loaded again, and what is said of what cannot be."""

import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.stores import certificates
from qmailpy.stores.certificates import Broken, Certificates, Wanted
from tests.helpers import BIN, run
from tests.tls import Authority, openssl


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    for name in ("default", "one.example", "two.example", "renewed"):
        authority.certificate(name)
    authority.certificate("wild.example", "*.wild.example")
    authority.certificate("rsa", kind="rsa")
    return authority.folder


class Place:
    """Certificates, what they complained of, and the time."""

    def __init__(self, wanted: Wanted) -> None:
        self.complaints: list[bytes] = []
        self.now_s = 0.0
        self.found = Certificates(wanted, self.complaints.append, lambda: self.now_s)

    def serves(self, name: str | None = None, **more: str) -> str:
        """The common name of the certificate that a client gets."""
        return common_name(self.found, name, **more)


def common_name(found: Certificates, name: str | None, ciphers: str = "") -> str:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if ciphers:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers(ciphers)
    buffers = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = made.wrap_bio(buffers[0], buffers[1], server_hostname=name)
    server = found.context.wrap_bio(buffers[1], buffers[0], server_side=True)
    for _ in range(4):
        for side in client, server:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    der = client.getpeercert(True)
    assert der is not None
    subject = openssl("x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "multiline,-esc_msb", input=der)
    return subject.decode().split("commonName")[1].split("=")[1].strip()


def test_a_file_serves_every_name(made: Path) -> None:
    place = Place(Wanted(os.fsencode(made / "one.example.pem")))
    assert place.serves() == place.serves("two.example") == "one.example"
    assert place.found.asked == b"two.example"
    assert place.found.variables(place.found.context)[b"SSL_SERVER_S_DN"] == b"/CN=one.example"


def test_a_key_may_have_a_file_of_its_own(made: Path) -> None:
    one = os.fsencode(made / "one.example")
    assert Place(Wanted(one + b".crt", key=one + b".key")).serves() == "one.example"


def test_two_kinds_of_keys_serve_two_kinds_of_clients(made: Path) -> None:
    more = os.fsencode(made / "rsa.pem")
    place = Place(Wanted(os.fsencode(made / "one.example.pem"), more=(more, more)))
    assert place.serves(ciphers="ECDHE+aRSA") == "rsa"
    assert place.serves(ciphers="ECDHE+aECDSA") == "one.example"


def folder_of(made: Path, folder: Path) -> Wanted:
    for name in ("default.pem", "one.example.pem"):
        shutil.copy(made / name, folder)
    shutil.copy(made / "wild.example.pem", folder / "*.wild.example.pem")
    two = folder / "Two.Example"  # as ACME clients have it
    two.mkdir()
    shutil.copy(made / "two.example.crt", two / "fullchain.pem")
    shutil.copy(made / "two.example.key", two / "privkey.pem")
    (folder / "README").write_text("not a certificate")
    (folder / ".hidden.pem").write_text("nor this")
    return Wanted(os.fsencode(folder))


def cdb_of(made: Path, folder: Path) -> Wanted:
    records = {"default": "default.pem", "one.example": "one.example.pem", "*.wild.example": str(folder / "wild")}
    records["two.example"] = "two.pem"
    for source, target in (("default.pem",) * 2, ("one.example.pem",) * 2, ("wild.example.pem", "wild")):
        shutil.copy(made / source, folder / target)
    shutil.copy(made / "two.example.pem", folder / "two.pem")
    from qmailpy.formats import cdb

    pairs = [(name.encode(), file.encode()) for name, file in records.items()]
    (folder / "names.cdb").write_bytes(b"".join(cdb.make(pairs)))
    return Wanted(os.fsencode(folder / "names.cdb"))


@pytest.mark.parametrize("make", [folder_of, cdb_of])
def test_a_client_gets_the_certificate_of_the_name_that_it_asks_for(
    made: Path, tmp_path: Path, make: Callable[[Path, Path], Wanted]
) -> None:
    place = Place(make(made, tmp_path))
    answers = {
        None: "default",
        "nobody.example": "default",
        "default": "default",
        "one.example": "one.example",
        "ONE.Example": "one.example",
        "two.example": "two.example",
        "a.wild.example": "wild.example",
        "a.b.wild.example": "default",
        "wild.example": "default",
    }
    assert {name: place.serves(name) for name in answers} == answers
    assert place.complaints == []


def test_a_renewed_certificate_is_used_at_once_and_others_are_left_alone(made: Path, tmp_path: Path) -> None:
    place = Place(folder_of(made, tmp_path))
    before = place.found.context
    assert not place.found.refresh()
    shutil.copy(made / "renewed.pem", tmp_path / "new")
    os.rename(tmp_path / "new", tmp_path / "one.example.pem")
    assert place.found.refresh()
    assert place.serves("one.example") == "renewed"
    assert place.found.context is before
    assert not place.found.refresh()


def test_a_file_that_is_written_over_in_place_is_seen_too(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "one.example.pem", tmp_path / "c.pem")
    place = Place(Wanted(os.fsencode(tmp_path / "c.pem")))
    (tmp_path / "c.pem").write_bytes((made / "renewed.pem").read_bytes())
    assert place.found.refresh()
    assert place.serves() == "renewed"


def test_a_link_that_leads_elsewhere_is_a_change(made: Path, tmp_path: Path) -> None:
    (tmp_path / "c.pem").symlink_to(made / "one.example.pem")
    place = Place(Wanted(os.fsencode(tmp_path / "c.pem")))
    (tmp_path / "c.pem").unlink()
    (tmp_path / "c.pem").symlink_to(made / "renewed.pem")
    assert place.found.refresh()
    assert place.serves() == "renewed"


def test_names_come_and_go(made: Path, tmp_path: Path) -> None:
    place = Place(folder_of(made, tmp_path))
    shutil.copy(made / "renewed.pem", tmp_path / "renewed.pem")
    (tmp_path / "one.example.pem").unlink()
    assert place.found.refresh()
    assert (place.serves("renewed"), place.serves("one.example")) == ("renewed", "default")


@pytest.mark.parametrize("how", ["the folder is gone", "there is no default", "the cdb is gone"])
def test_a_place_that_is_not_whole_stays_as_it_was_and_is_said_each_time(made: Path, tmp_path: Path, how: str) -> None:
    place = Place((cdb_of if "cdb" in how else folder_of)(made, tmp_path))
    path = os.fsdecode(place.found._wanted.place)
    inner = f"{path}/default.pem" if "default" in how else path
    what = "unable to read " if "cdb" in how else "unable to load certificate "
    why = ": there is no default" if "default" in how else ": file does not exist"
    for times in (1, 2):
        os.rename(inner, f"{path}.away")
        for _ in range(2):
            assert not place.found.refresh()
            assert (place.serves("one.example"), place.serves()) == ("one.example", "default")
        assert place.complaints.count(os.fsencode(what + path + why)) == times
        os.rename(f"{path}.away", inner)
        place.found.refresh()


def broken(made: Path, target: Path, how: str) -> bytes:
    """Break a file; returns the complaint."""
    text = (made / "renewed.pem").read_bytes()
    path = os.fsencode(target)
    key = text[: text.index(b"-----BEGIN CERT")]
    certificate = text[len(key) :]
    other = (made / "two.example.pem").read_bytes()
    contents = {
        "empty": b"",
        "garbage": b"\0\xff" * 500,
        "no key": certificate,
        "no certificate": key,
        "cut in the certificate": text[:-100],
        "cut in the key": key[:60] + b"\n" + certificate,
        "another's key": other[: other.index(b"-----BEGIN CERT")] + certificate,
        "bad base64": key + certificate[:100] + b"!!" + certificate[102:],
    }
    complaints = {
        "missing": b"unable to load certificate " + path + b": file does not exist",
        "empty": b"unable to load certificate " + path + b": there is none in it",
        "garbage": b"unable to load certificate " + path + b": there is none in it",
        "no key": b"unable to load key " + path + b": there is none in it",
        "no certificate": b"unable to load certificate " + path + b": there is none in it",
        "another's key": b"unable to load key " + path + b": key does not match certificate",
        "cut in the certificate": b"unable to load certificate " + path + b": ",
        "cut in the key": b"unable to load key " + path + b": ",
        "bad base64": b"unable to load certificate " + path + b": ",
    }
    if how == "missing":
        target.unlink()
    else:
        target.write_bytes(contents[how])
    return complaints[how]


HOW = ["missing", "empty", "garbage", "no key", "no certificate", "cut in the certificate", "cut in the key"]
HOW += ["another's key", "bad base64"]


@pytest.mark.parametrize("how", HOW)
def test_what_has_become_unusable_is_said_once_and_the_old_one_stays(made: Path, tmp_path: Path, how: str) -> None:
    target = tmp_path / "c.pem"
    shutil.copy(made / "one.example.pem", target)
    place = Place(Wanted(os.fsencode(target)))
    complaint = broken(made, target, how)
    for _ in range(3):
        assert not place.found.refresh()
        assert place.serves() == "one.example"
    (said,) = place.complaints
    assert said.startswith(complaint)
    assert b"\n" not in said
    shutil.copy(made / "renewed.pem", target)
    assert place.found.refresh()
    assert place.serves() == "renewed"


def test_what_goes_away_while_it_is_loaded_is_unusable(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "c.pem"
    shutil.copy(made / "one.example.pem", target)
    place = Place(Wanted(os.fsencode(target)))
    load_pair = certificates._load_pair

    def load_and_lose(*arguments: Any) -> None:
        load_pair(*arguments)
        target.unlink()

    monkeypatch.setattr(certificates, "_load_pair", load_and_lose)
    shutil.copy(made / "renewed.pem", target)
    assert not place.found.refresh()
    assert place.serves() == "one.example"
    assert place.complaints == [b"unable to load certificate " + os.fsencode(target) + b": file does not exist"]


def test_what_only_openssl_understands_is_unusable(made: Path, tmp_path: Path) -> None:
    text = (made / "one.example.pem").read_bytes()
    (tmp_path / "c.pem").write_bytes(b"Behind -----BEGIN CERTIFICATE-----:\n" + text)
    with pytest.raises(Broken):
        Place(Wanted(os.fsencode(tmp_path / "c.pem")))


@pytest.mark.parametrize("how", HOW)
def test_at_the_start_it_is_an_error(made: Path, tmp_path: Path, how: str) -> None:
    target = tmp_path / "c.pem"
    shutil.copy(made / "one.example.pem", target)
    complaint = broken(made, target, how)
    with pytest.raises(Broken) as caught:
        Place(Wanted(os.fsencode(target)))
    assert caught.value.text.startswith(complaint)


def test_a_name_that_cannot_be_served_does_not_stop_the_others(made: Path, tmp_path: Path) -> None:
    wanted = folder_of(made, tmp_path)
    (tmp_path / "one.example.pem").write_text("nothing")
    place = Place(wanted)
    assert len(place.complaints) == 1
    assert (place.serves("one.example"), place.serves("two.example")) == ("default", "two.example")


def test_a_place_without_a_default_is_an_error(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "one.example.pem", tmp_path)
    with pytest.raises(Broken) as caught:
        Place(Wanted(os.fsencode(tmp_path)))
    assert caught.value.text == b"unable to load certificate " + os.fsencode(tmp_path) + b": there is no default"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=2500))
def test_any_bytes_as_a_cdb_are_names_or_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.cdb").write_bytes(data)
    with pytest.raises(Broken):
        Place(Wanted(os.fsencode(tmp_path / "x.cdb")))


def test_contexts_are_made_anew_after_a_day_and_tickets_of_the_old_ones_end(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "one.example.pem", tmp_path / "c.pem")
    place = Place(Wanted(os.fsencode(tmp_path / "c.pem")))
    before = place.found.context
    place.now_s = certificates.LIFETIME_S - 1
    assert not place.found.refresh()
    place.now_s = certificates.LIFETIME_S
    assert place.found.refresh()
    assert place.found.context is not before
    place.now_s *= 2
    (tmp_path / "c.pem").write_text("broken meanwhile")
    assert not place.found.refresh()
    assert place.serves() == "one.example"


def test_old_versions_are_off_and_a_bad_list_of_ciphers_is_an_error(made: Path) -> None:
    path = os.fsencode(made / "one.example.pem")
    found = Place(Wanted(path)).found.context
    assert found.minimum_version == ssl.TLSVersion.TLSv1_2
    assert found.options & ssl.OP_NO_RENEGOTIATION
    assert found.options & ssl.OP_NO_COMPRESSION
    with pytest.raises(Broken) as caught:
        Place(Wanted(path, ciphers=b"no such cipher"))
    assert caught.value.text == b"unable to set cipher list: no such cipher"


def test_the_list_of_ciphers_is_the_environments_or_the_control_files(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    env = {b"QMAILHOME": os.fsencode(tmp_path)}
    assert certificates.server_ciphers(env) == b""
    (tmp_path / "control" / "tlsserverciphers").write_text("ECDHE+AESGCM \n")
    (tmp_path / "control" / "tlsclientciphers").write_text("HIGH\n")
    assert certificates.server_ciphers(env) == b"ECDHE+AESGCM"
    assert certificates.client_ciphers(env) == b"HIGH"
    assert certificates.server_ciphers({**env, b"CIPHERS": b"LOW"}) == b"LOW"
    (tmp_path / "control" / "tlsserverciphers").unlink()
    (tmp_path / "control" / "tlsserverciphers").mkdir()
    with pytest.raises(Broken) as caught:
        certificates.server_ciphers(env)
    assert caught.value.text == b"unable to read control/tlsserverciphers: is a directory"


def test_a_key_with_a_password_needs_it_and_asks_nobody(made: Path, tmp_path: Path) -> None:
    key = openssl("pkey", "-in", made / "one.example.key", "-aes128", "-passout", "pass:secret")
    (tmp_path / "c.pem").write_bytes(key + (made / "one.example.crt").read_bytes())
    path = os.fsencode(tmp_path / "c.pem")
    assert Place(Wanted(path, password=b"secret")).serves() == "one.example"
    for password in (b"", b"wrong"):
        with pytest.raises(Broken) as caught:
            Place(Wanted(path, password=password))
        assert caught.value.text.startswith(b"unable to load key " + path + b": ")


def test_roots_come_from_files_and_folders_whole(made: Path, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    shutil.copy(made / "ca.crt", tmp_path / "roots" / "any name")
    (tmp_path / "roots" / "README").write_text("no certificate")
    path = os.fsencode(made / "one.example.pem")
    for roots in (made / "ca.crt", tmp_path / "roots"):
        place = Place(Wanted(path, roots=(os.fsencode(roots),))).found
        found = place.verifying
        assert found is not None
        assert (found.cert_store_stats()["x509"], found.verify_mode) == (1, ssl.CERT_REQUIRED)
        assert found.num_tickets == 0
        assert place.context.verify_mode == ssl.CERT_NONE
        assert place.variables(found) == place.variables(place.context) != {}
    assert Place(Wanted(path)).found.verifying is None
    for bad in (tmp_path / "missing", tmp_path / "roots" / "README"):
        with pytest.raises(Broken) as caught:
            Place(Wanted(path, roots=(os.fsencode(bad),)))
        assert caught.value.text.startswith(b"unable to load CA list " + os.fsencode(bad) + b": ")


@pytest.mark.parametrize(
    ("env", "roots"),
    [
        ({}, ()),
        ({b"CAFILE": b"", b"CRLDIR": b"/l"}, ()),
        ({b"CAFILE": b"/a", b"CADIR": b"/b", b"CCAFILE": b"/c"}, (b"/a", b"/b")),
        ({b"CCAFILE": b"/c", b"CRLDIR": b"/l"}, (b"/c", b"/l")),
        ({b"CCAFILE": b"-"}, ()),
    ],
)
def test_clients_are_verified_by_what_the_environment_names(env: dict[bytes, bytes], roots: tuple[bytes, ...]) -> None:
    assert certificates.client_roots(env) == roots


def test_a_client_trusts_whom_the_system_trusts_or_whom_it_is_told() -> None:
    (roots,) = certificates.system_roots()
    assert certificates.client_context(Wanted(b""), True, True).cert_store_stats()["x509_ca"] > 1
    context = certificates.client_context(Wanted(b""), False, True)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    context = certificates.client_context(Wanted(b"", roots=(roots,)), True, False)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_it_is_only_imported_where_tls_is_done() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from qmailpy.commands import tcpserver, sslserver, tcpclient,"
    code += " sslclient; print(*sys.modules)"
    import sys

    loaded = set(run([sys.executable, "-IS", "-c", code, BIN.parent]).stdout.decode().split())
    assert loaded
    assert loaded & {"ssl", "_ssl", "socket", "enum", "re", "qmailpy.stores.certificates", "qmailpy.loops.tls"} == set()
