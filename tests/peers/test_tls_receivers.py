"""qmail-remote sends by TLS to Debian's postfix, to exim4 with GnuTLS, and to openssl's own server, in the versions and
ciphers that there are."""

import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import postfix
from tests.authority import Authority
from tests.helpers import BIN, environment, eventually, needs, run
from tests.peers.test_mtas import missing
from tests.peers.test_receivers import EXIM_CONFIGURATION, MESSAGE, RECIPIENT, SENDER, exim
from tests.ports import free_port
from tests.queuehomes import nobody
from tests.servers import TIMEOUT

HOST = "there.example"
HELD = "smtpd_data_restrictions = check_client_access static:HOLD\n"


class Home:
    """From which mail goes out, in a folder that others may enter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "control").mkdir()
        self.control(me="here.example")
        self.authority = Authority(folder / "authority")
        self.certificate = self.authority.issue("127.0.0.1", HOST)

    def control(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / "control" / name).write_text(text + "\n")

    def send(self) -> bytes:
        """The report of the message."""
        (self.folder / "message").write_bytes(MESSAGE)
        with open(self.folder / "message", "rb") as file:
            done = subprocess.run(
                [BIN / "qmail-remote", HOST, SENDER, RECIPIENT], stdin=file, capture_output=True, timeout=60,
                check=True, env=environment(QMAILHOME=str(self.folder), SSL_CERT_FILE=str(self.authority.cafile)),
            )  # fmt: skip
        return done.stdout.split(b"\0")[-2]


@pytest.fixture
def home() -> Iterator[Home]:
    folder = Path(tempfile.mkdtemp(prefix="qmailpy-tls-"))
    folder.chmod(0o755)
    try:
        yield Home(folder)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("smtps", [False, True])
def test_postfix_gets_it_by_tls(home: Home, smtps: bool) -> None:
    nobody()
    if not postfix.is_there():
        missing("postfix is missing: apt-get install postfix")
    port = free_port()
    settings = HELD + f"smtpd_tls_chain_files = {home.certificate.path}\nsmtpd_tls_received_header = yes\n" + (
        "smtpd_tls_wrappermode = yes\nsmtpd_tls_security_level = encrypt\n" if smtps
        else "smtpd_tls_security_level = encrypt\n"
    )  # fmt: skip
    with postfix.Postfix(home.folder / "postfix", settings, port) as running:
        assert eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        home.control(
            smtproutes=f":{'smtps://' * smtps}127.0.0.1:{port}", tlsdestinations=f"127.0.0.1:verify:{HOST}",
        )  # fmt: skip
        report = home.send()
        assert report.startswith(
            b"K127.0.0.1 accepted message.\nTLSv1.3 TLS_AES_256_GCM_SHA384 verified.\nRemote host said: 250 2.0.0 Ok"
        )
        (file,) = running.files("hold")
        text = run(["postcat", "-c", running.configuration, "-bh", file]).stdout
        assert b"(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)" in text


def test_exim_gets_it_by_gnutls(home: Home) -> None:
    nobody()
    key = home.folder / "exim.pem"
    key.write_bytes(home.certificate.path.read_bytes())
    key.chmod(0o644)  # it reads that as a user of its own
    tls = f"tls_advertise_hosts = *\ntls_certificate = {key}\ntls_privatekey = {key}\n"
    with exim(home.folder, EXIM_CONFIGURATION.replace("tls_advertise_hosts =\n", tls)) as port:
        home.control(smtproutes=f":127.0.0.1:{port}", tlsdestinations=f":verify:{HOST}")
        report = home.send()
    assert report.startswith(b"K127.0.0.1 accepted message.\nTLSv1.3 TLS_")
    assert b" verified.\nRemote host said: 250 OK id=" in report


def listens(port: int) -> bool:
    """Without a connection: the server takes only one."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()]
    return any(words[1].endswith(f":{port:04X}") and words[3] == "0A" for words in lines)


@contextmanager
def s_server(certificate: Path, *options: str) -> Iterator[tuple[int, list[bytes]]]:
    """openssl's server, with TLS from the first byte; what it says is said here. Port, and the lines heard."""
    heard: list[bytes] = []
    port = free_port()
    argv: list[str | Path] = [
        needs("openssl"), "s_server", "-quiet", "-naccept", "1", "-port", str(port), "-cert",
        certificate, *options,
    ]  # fmt: skip
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin and process.stdout
    input_, output = process.stdin, process.stdout
    input_.write(b"220 hello\r\n")
    input_.flush()

    def serve_() -> None:
        inside = False
        while line := output.readline():
            heard.append(line)
            verb = line[:4].upper()
            if inside and line != b".\r\n":
                continue
            inside = verb == b"DATA"
            if verb == b"QUIT":
                break
            input_.write(b"354 go\r\n" if inside else b"250 2.0.0 ok\r\n")
            input_.flush()

    thread = threading.Thread(target=serve_)
    thread.start()
    try:
        assert eventually(lambda: listens(port))
        yield port, heard
        thread.join(TIMEOUT)  # until QUIT is heard, or the end
    finally:
        process.kill()
        thread.join(TIMEOUT)
        process.wait()
        input_.close()
        output.close()


def rsa(folder: Path, bits: int) -> Path:
    """A self-signed certificate with an RSA key of so many bits."""
    path = folder / "rsa.pem"
    words: list[str | Path] = [
        "req",
        "-x509",
        "-newkey",
        f"rsa:{bits}",
        "-nodes",
        "-subj",
        "/CN=x",
        "-keyout",
        path,
        "-out",
        folder / "c",
    ]
    assert run([needs("openssl"), *words]).returncode == 0
    path.write_bytes(path.read_bytes() + (folder / "c").read_bytes())
    return path


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["-tls1_3"], b"TLSv1.3 TLS_AES_256_GCM_SHA384"),
        (["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], b"TLSv1.3 TLS_CHACHA20_POLY1305_SHA256"),
        (["-tls1_2"], b"TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384"),
        (["-tls1_2", "-cipher", "AES128-SHA"], b"TLSv1.2 AES128-SHA"),
        (["-tls1_3", "-num_tickets", "0"], b"TLSv1.3 TLS_AES_256_GCM_SHA384"),
        (["-tls1_3", "-groups", "P-521"], b"TLSv1.3 TLS_AES_256_GCM_SHA384"),  # a second ClientHello
    ],
)
def test_openssl_gets_it_in_all_ways(home: Home, options: list[str], shown: bytes) -> None:
    """An old key exchange with a short key, too: to whoever it is, that is better than nothing."""
    certificate = rsa(home.folder, 1024) if b"AES128-SHA" in shown else home.certificate.path
    weak = ["-cipher", "AES128-SHA:@SECLEVEL=0"] if b"AES128-SHA" in shown else []
    with s_server(certificate, *options, *weak) as (port, heard):
        home.control(smtproutes=f":smtps://127.0.0.1:{port}")
        assert home.send() == (
            b"K127.0.0.1 accepted message.\n" + shown + b" unverified.\nRemote host said: 250 2.0.0 ok\n"
        )
    assert b"".join(heard).count(b"\r\n") == MESSAGE.count(b"\n") + 6


def test_openssl_in_an_old_version_gets_nothing_where_tls_must_be(home: Home) -> None:
    with s_server(home.certificate.path, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") as (port, heard):
        home.control(smtproutes=f":smtps://127.0.0.1:{port}")
        assert home.send().startswith(b"ZConnected to 127.0.0.1 but TLS failed, which smtps demands: ")
    assert heard == []
