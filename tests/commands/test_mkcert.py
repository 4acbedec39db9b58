"""mkcert: what OpenSSL and Python's ssl think of its keys, certificates and requests, and what its check finds."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.commands import mkcert
from tests.helpers import BIN, ROOT, environment, needs, run

MKCERT = BIN / "mkcert"
NAMES = ("mail.example", "192.0.2.1", "2001:db8::1", "*.pop.example", "Other.Example.")
LINES = ["names", "key", "issuer", "valid", "sha256"]


def made(path: Path, *words: str) -> Path:
    done = run([MKCERT, *words[:-1], path, words[-1]] if words[:1] == ("-k",) else [MKCERT, path, *words])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return path


def openssl(*words: str | Path, input: bytes = b"") -> str:
    done = run([needs("openssl"), *words], input)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def checked(path: Path, *words: str) -> tuple[int, list[str], str]:
    """(exit code, lines, complaints)"""
    done = run([MKCERT, "-c", *words[:-1], path, *words[-1:]] if words[:1] == ("-d",) else [MKCERT, "-c", path, *words])
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()


def handshake(path: Path, name: str, cafile: Path | None = None) -> str:
    """The version that a client who trusts path alone comes to with a server that has it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cafile=cafile or path)
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # as from Python 3.13 on
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as secured:
            return secured.version() or ""
    finally:
        here.close()
        thread.join()


def test_the_file_is_its_owners_alone_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = made(tmp_path / "cert.pem", "mail.example")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o400
    assert os.listdir(tmp_path) == ["cert.pem"]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ([], "ECDSA P-256"),
        (["-t", "p384"], "ECDSA P-384"),
        (["-t", "rsa2048"], "RSA 2048 bits"),
        (["-t", "rsa"], "RSA 3072 bits"),
    ],
)
def test_a_client_that_trusts_the_certificate_is_content_with_its_names(
    kind: list[str], shown: str, tmp_path: Path
) -> None:
    path = tmp_path / "cert.pem"
    assert run([MKCERT, *kind, path, *NAMES]).returncode == 0
    for name in ("mail.example", "192.0.2.1", "2001:db8::1", "x.pop.example", "other.example"):
        assert handshake(path, name).startswith("TLSv1.")
    with pytest.raises(ssl.SSLError):
        handshake(path, "elsewhere.example")
    code, lines, complaints = checked(path, "mail.example", "a.pop.example", "2001:DB8:0::1", "192.0.2.1")
    assert (code, complaints) == (0, "")
    assert [line.partition(": ")[0] for line in lines] == LINES
    assert lines[:3] == [
        "names: mail.example *.pop.example other.example 192.0.2.1 2001:db8::1",
        f"key: {shown}",
        "issuer: itself",
    ]
    fingerprint = openssl("x509", "-in", path, "-noout", "-fingerprint", "-sha256").strip().partition("=")[2]
    assert lines[4] == f"sha256: {fingerprint}"


def test_the_certificate_may_sign_nobody_and_is_valid_for_825_days(tmp_path: Path) -> None:
    path = made(tmp_path / "cert.pem", "mail.example")
    text = openssl("x509", "-in", path, "-noout", "-text", "-checkend", "0")
    assert "CA:FALSE" in text
    assert "TLS Web Server Authentication" in text
    dates = [ssl.cert_time_to_seconds(found) for found in re.findall(r"Not (?:Before|After ?): ?(.*)", text)]
    assert dates[1] - dates[0] == 825 * 86400 + 3600
    openssl("verify", "-x509_strict", "-CAfile", path, path)
    short = tmp_path / "short.pem"
    assert run([MKCERT, "-d", "2", short, "a.example"]).returncode == 0
    assert checked(short, "-d", "1", "a.example")[0] == 0
    code, _, complaints = checked(short, "-d", "3", "a.example")
    assert code == 100
    assert re.fullmatch(r"mkcert: warning: .*: the certificate expires on \d{4}-\d\d-\d\d\n", complaints)


def test_two_keys_are_never_the_same(tmp_path: Path) -> None:
    texts = {made(tmp_path / name, "a.example").read_bytes() for name in ("a", "b", "c")}
    assert len(texts) == 3


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_there_is_never_overwritten(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "link":
        path.symlink_to("elsewhere")
    else:
        path.mkdir()
    done = run([MKCERT, path, "mail.example"])
    said = f"mkcert: fatal: unable to make {path}: file already exists\n"
    assert (done.returncode, done.stderr.decode()) == (111, said)
    assert os.listdir(tmp_path) == ["cert.pem"]


def test_without_a_folder_there_is_a_line_that_says_so(tmp_path: Path) -> None:
    done = run([MKCERT, tmp_path / "none" / "cert.pem", "mail.example"])
    assert done.returncode == 111
    said = rb"mkcert: fatal: unable to create .*/none/cert\.pem\.tmp\.\w+: file does not exist\n"
    assert re.fullmatch(said, done.stderr)


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "link", "unlink"])
def test_killed_at_any_call_it_leaves_a_whole_file_or_none(call: str, tmp_path: Path) -> None:
    """The key is whole where it has its name, as a server may start just then."""
    code = (
        "import os, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from qmailpy.commands import mkcert\n"
        "from qmailpy.stores import safeio\n"
        "create = safeio.create\n"
        "def killed(*arguments):\n"
        f"    os.{call} = lambda *words, **more: os.kill(os.getpid(), 9)\n"
        "    create(*arguments)\n"
        "safeio.create = killed\n"
        "mkcert.main([b'mkcert', os.fsencode(sys.argv[2]), b'mail.example'], {})\n"
    )
    path = tmp_path / "cert.pem"
    done = run([sys.executable, "-c", code, ROOT, path])
    assert done.returncode == -signal.SIGKILL
    assert path.exists() is (call == "unlink")
    if path.exists():
        assert checked(path, "mail.example")[0] == 0
    else:
        made(path, "mail.example")


# Requests, and keys that are there


def test_a_request_is_about_the_key_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    requests = []
    for _ in range(2):  # the first makes the file, the second finds it
        done = run([MKCERT, "-r", path, "mail.example", "192.0.2.1"])
        assert (done.returncode, done.stderr) == (0, b"")
        requests.append(done.stdout)
        assert checked(path, "mail.example")[0] == 0
    key = openssl("pkey", "-in", path, "-pubout")
    for text in requests:
        assert openssl("req", "-noout", "-pubkey", "-verify", input=text) == key
        shown = openssl("req", "-noout", "-text", input=text)
        assert "DNS:mail.example, IP Address:192.0.2.1" in shown


def test_what_a_certification_authority_has_signed_is_checked_with_its_chain(tmp_path: Path) -> None:
    authority = made(tmp_path / "ca.pem", "ca.example")
    request = run([MKCERT, "-r", tmp_path / "cert.pem", "mail.example"]).stdout
    (tmp_path / "csr").write_bytes(request)
    words = ["-req", "-in", str(tmp_path / "csr"), "-CA", str(authority), "-days", "9", "-copy_extensions", "copy"]
    signed = openssl("x509", *words, "-out", "/dev/stdout")
    key = openssl("pkey", "-in", tmp_path / "cert.pem")
    own = openssl("x509", "-in", authority)
    (tmp_path / "signed.pem").write_text(key + signed + own)
    code, lines, complaints = checked(tmp_path / "signed.pem", "mail.example")
    assert (code, complaints) == (0, "")
    assert lines[2] == "issuer: CN=ca.example"
    (tmp_path / "wrong.pem").write_text(key + own + signed)
    code, _, complaints = checked(tmp_path / "wrong.pem", "mail.example")
    assert code == 100
    assert [line.rpartition(": ")[2] for line in complaints.splitlines()] == [
        "the key is not that of the certificate",
        "certificate 2 has not signed the one before it",
        "the certificate is not for mail.example",
    ]


def test_a_certificate_can_be_made_for_a_key_that_is_there(tmp_path: Path) -> None:
    old = made(tmp_path / "old.pem", "mail.example")
    new = tmp_path / "new.pem"
    assert run([MKCERT, "-k", old, new, "mail.example", "more.example"]).returncode == 0
    assert openssl("pkey", "-in", old) == openssl("pkey", "-in", new)
    assert checked(new, "more.example")[0] == 0
    assert handshake(new, "mail.example").startswith("TLSv1.")


# The check


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "unable to find a certificate in FILE"),
        (b"garbage", "unable to find a certificate in FILE"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "unable to use a certificate in FILE: "),
        (b"-----BEGIN CERTIFICATE-----\n", "unable to find a certificate in FILE"),
    ],
)
def test_what_is_no_certificate_is_said(text: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(text)
    code, lines, complaints = checked(tmp_path / "file", "a.example")
    assert (code, lines) == (100, [])
    assert complaints.startswith("mkcert: fatal: " + said.replace("FILE", str(tmp_path / "file")))
    assert len(complaints.splitlines()) == 1


def test_a_truncated_file_has_no_key_or_no_certificate(tmp_path: Path) -> None:
    text = made(tmp_path / "cert.pem", "a.example").read_bytes()
    for size in range(0, len(text) - 30, 40):
        (tmp_path / "short").write_bytes(text[:size])
        code, _, complaints = checked(tmp_path / "short")
        assert code == 100
        assert complaints.startswith("mkcert: fatal: unable to ")


def test_an_expired_certificate_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    done = run([needs("faketime"), "2020-01-01 12:00:00", sys.executable, "-IS", MKCERT, "-d", "9", path, "a.example"])
    assert (done.returncode, done.stderr) == (0, b"")
    code, _, complaints = checked(path, "a.example")
    assert (code, complaints) == (100, f"mkcert: warning: {path}: the certificate has expired on 2020-01-10\n")


def test_a_file_that_is_missing_is_said(tmp_path: Path) -> None:
    code, _, complaints = checked(tmp_path / "none", "a.example")
    assert (code, complaints) == (111, f"mkcert: fatal: unable to read {tmp_path}/none: file does not exist\n")


# The command line

BAD_NAMES = ["", ".", "a..b", "-a.example", "a b", "a_b\\", "*", "*.example", "a.*.example", "m\xfcller.example",
             "1.2.3.4.5", "1.2.3", "a" * 64 + ".example", "a." * 127 + "ab"]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_name_is_refused_before_a_key_is_made(name: str, tmp_path: Path) -> None:
    done = run([MKCERT, tmp_path / "cert.pem", "good.example", name])
    assert done.returncode == 100
    assert done.stderr.startswith(b"mkcert: fatal: unable to use the name ")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["file"],
        ["-r", "file"],
        ["-c"],
        ["-c", "-r", "file", "a.example"],
        ["-c", "-t", "rsa", "file"],
        ["-x", "file", "a.example"],
        ["-d", "0", "file", "a.example"],
        ["-d", "x", "file", "a.example"],
        ["-d", "999999", "file", "a.example"],
        ["-t", "dsa", "file", "a.example"],
    ],
)
def test_wrong_usage(words: list[str], tmp_path: Path) -> None:
    done = run([MKCERT, *words], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (100, b"")
    assert done.stderr == b"mkcert: usage: mkcert [ -cr ] [ -d days ] [ -t type ] [ -k keyfile ] file [ name ... ]\n"
    assert os.listdir(tmp_path) == []


def test_without_the_package_it_says_where_to_get_it(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    env = environment()
    done = run([bare / "bin" / "python3", "-IS", MKCERT, tmp_path / "cert.pem", "a.example"], env=env)
    assert done.returncode == 111
    assert done.stderr.endswith(b": apt-get install python3-cryptography, or pip install cryptography\n")
    assert not (tmp_path / "cert.pem").exists()


@given(name=st.binary(max_size=30))
def test_any_word_is_a_name_or_none(name: bytes) -> None:
    if mkcert.is_host(name):
        assert not name.strip(mkcert.LABEL + b".*")
        assert mkcert.matches(name, name)


@pytest.mark.parametrize(
    ("name", "covered", "found"),
    [
        (b"a.example", b"a.example", True),
        (b"a.b.example", b"*.b.example", True),
        (b"a.a.b.example", b"*.b.example", False),
        (b"b.example", b"*.b.example", False),
        (b"*.b.example", b"*.b.example", True),
        (b"1.2.3.4", b"*.2.3.4", False),
        (b"::1", b"0:0::1", True),
        (b"::1", b"a", False),
    ],
)
def test_which_names_a_certificate_covers(name: bytes, covered: bytes, found: bool) -> None:
    assert mkcert.matches(name, covered) is found
