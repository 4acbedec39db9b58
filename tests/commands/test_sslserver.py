"""sslserver: what the program finds behind TLS, who gets in, which processes have the key, and how it stands up to
clients that do not behave. Clients are openssl(1), curl(1), stunnel(8) and our own, byte by byte."""

import contextlib
import hashlib
import os
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.helpers import BIN, environment, eventually, needs, run
from tests.ports import free_port
from tests.servers import (
    MESSAGES,
    NAME,
    PASSWORD,
    TIMEOUT,
    Home,
    Server,
    Word,
    on_wire,
    pop3,
    public_folder,
    reachable_python,
    serve,
)
from tests.tls import (
    Authority,
    Client,
    connect,
    context,
    descendants,
    holds,
    keeper_of,
    needles,
    needs_root,
    openssl,
    stunnel,
    talk,
    tls_processes,
)

OURS = str(BIN / "sslserver")
ORDINARY = 65533


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with public_folder() as folder:
        made = Authority(folder)
        made.certificate("mail.example", "mail.example", "localhost")
        made.certificate("other.example")
        made.certificate("client", subject="/O=Org/CN=Client")
        yield made


def env_of(authority: Authority, **changes: str) -> dict[str, str]:
    return environment(**{"CERTFILE": str(authority.folder / "mail.example.pem"), **reachable_python(), **changes})


def serve_tls(authority: Authority, *words: Word, options: Sequence[str] = ("-RHl0",), **changes: str) -> Server:
    return serve(OURS, *words, options=options, env=env_of(authority, **changes))


def refused(server: Server, reason: str, end: str = "28416") -> None:
    """Wait for the keeper's line and for the server's: two processes, in any order."""
    said = re.compile(rb"^sslserver: warning: dropping connection, unable to SSL accept: %s$" % reason.encode(), re.M)
    assert eventually(lambda: said.search(server.log.text) is not None), server.log.text
    server.line(f"sslserver: end .* status {end}")


def variables(text: bytes) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in os.fsdecode(text).split("\0")[:-1])
    return {name: value for name, _, value in pairs}


# What the program finds


def test_the_program_finds_the_names_of_sslserver(authority: Authority) -> None:
    stale = {"SSLREMOTEHOST": "stale", "TCPREMOTEIP": "stale", "SSL_PROTOCOL": "stale", "SSL_CLIENT_S_DN": "stale"}
    with serve_tls(authority, "env", "-0", options=["-RHl", "here"], **stale) as server, connect(server) as client:
        found = variables(client.rest())
        port = client.socket.getsockname()[1]
    names = {name: value for name, value in found.items() if name.startswith(("SSL", "TCP", "PROTO"))}
    assert names == {
        "PROTO": "SSL",
        "SSLLOCALIP": "127.0.0.1",
        "SSLLOCALPORT": str(server.port),
        "SSLLOCALHOST": "here",
        "SSLREMOTEIP": "127.0.0.1",
        "SSLREMOTEPORT": str(port),
    }


def test_e_sets_the_names_of_tcpserver_too_and_s_says_what_tls_is_like(authority: Authority) -> None:
    with serve_tls(authority, "env", "-0", options=["-seRHl0"]) as server:
        for version, shown in (("TLSv1_2", "TLSv1.2"), ("TLSv1_3", "TLSv1.3")):
            found = variables(talk(server, made=context(version=version), name="localhost"))
            assert (found["PROTO"], found["TCPREMOTEIP"], found["SSLREMOTEIP"]) == ("SSL", "127.0.0.1", "127.0.0.1")
            assert (found["SSL_PROTOCOL"], found["SSL_TLS_SNI"]) == (shown, "localhost")
            assert found["SSL_SERVER_S_DN"] == "/CN=mail.example"
            assert found["SSL_SERVER_CERT"] == (authority.folder / "mail.example.crt").read_text()
            assert found["SSL_CIPHER_USEKEYSIZE"] in ("128", "256")
            assert [name for name in found if name.startswith("SSL_CLIENT")] == ["SSL_CLIENT_VERIFY"]


def test_the_program_has_a_socket_on_0_and_1_and_nothing_else(authority: Authority) -> None:
    code = '(for fd in /proc/$$/fd/*; do echo "${fd##*/} $(readlink $fd)"; done); :'
    with serve_tls(authority, "sh", "-c", code) as server:
        lines = talk(server).splitlines()
    assert sorted(line.partition(b":")[0] for line in lines) == [b"0 socket", b"1 socket", b"2 pipe"]


def test_the_log_has_a_line_more_and_says_what_is_configured(authority: Authority) -> None:
    with serve_tls(authority, "sh", "-c", "exit 3", CAFILE="/some/file") as server:
        for name, value in (("cafile", "/some/file"), ("ccafile", ""), ("cadir", ""), ("cert", ".*mail.example.pem")):
            server.line(f"sslserver: {name} {server.pid} {value}")
        with connect(server, context(version="TLSv1_3")) as client:
            client.rest()
            server.line(r"sslserver: pid \d+ from 127.0.0.1")
            pid = server.line(r"sslserver: ok (\d+) 0:127.0.0.1:\d+ :127.0.0.1::\d+")[1].decode()
            server.line(f"sslserver: ssl {pid} accept TLSv1.3 TLS_AES_256_GCM_SHA384")
        server.line(f"sslserver: end {pid} status 768")


def test_the_banner_is_under_tls(authority: Authority) -> None:
    with serve_tls(authority, "echo", "program", options=["-RHl0", "-B", "hello\r\n"]) as server:
        assert talk(server) == b"hello\r\nprogram\n"


def test_rules_come_before_the_handshake_and_may_not_speak_for_tls(authority: Authority) -> None:
    rules = authority.folder / "rules.cdb"
    text = b'127.0.0.1:allow,A="b",SSL_PROTOCOL="none"\n:deny'
    assert run([BIN / "tcprules", rules, authority.folder / "rules.tmp"], input=text).returncode == 0
    with serve_tls(authority, "env", "-0", options=["-sRHl0", "-x", str(rules)]) as server:
        found = variables(talk(server))
        assert (found["A"], found["SSL_PROTOCOL"]) == ("b", "TLSv1.3")
        with server.connect("127.0.0.2") as connection:
            assert connection.recv(1) == b""
        server.line(r"sslserver: deny \d+ .*")
        server.line("sslserver: end .* status 25600")


# The handshake comes first


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"QUIT\r\n", "wrong version number"),
        (b"GET / HTTP/1.0\r\n\r\n", "http request"),
        (b"\x16\x03\x01\x02\x00\x01", "(timed out|the other side has gone)"),
        (b"", "the other side has gone"),
        (bytes(1_000_000), ".*"),
    ],
    ids=["plain text", "http", "half a hello", "nothing", "a megabyte"],
)
def test_who_fails_at_the_handshake_never_starts_the_program(
    authority: Authority, tmp_path: Path, sent: bytes, said: str
) -> None:
    with serve_tls(authority, "touch", tmp_path / "started", options=["-RHl0", "-T", "1"]) as server:
        server.talk(sent)
        refused(server, f"127.0.0.1: {said}")
        assert not (tmp_path / "started").exists()
        talk(server)
        server.line("sslserver: end .* status 0")
        assert (tmp_path / "started").exists()


def test_who_breaks_off_before_a_byte_has_an_address_in_the_log(authority: Authority) -> None:
    with serve_tls(authority, "true") as server:
        with server.connect() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        refused(server, "127.0.0.1: the other side has gone")


def test_a_name_that_is_no_ascii_is_one_line(authority: Authority) -> None:
    with serve_tls(authority, "cat") as server:
        argv: list[Word] = [needs("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}"]
        run([*argv, "-servername", b"a\xff\xfe"])
        refused(server, "127.0.0.1: callback failed")
    assert server.log.text.count(b"warning") == 1


def test_who_stops_in_the_handshake_is_left_after_t_seconds(authority: Authority) -> None:
    with serve_tls(authority, "cat", options=["-RHl0", "-T", "0"]) as server, server.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00")
        refused(server, "127.0.0.1: timed out")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""


def test_q_says_nothing(authority: Authority) -> None:
    with serve_tls(authority, "cat", options=["-RHl0", "-q"]) as server:
        server.talk(b"QUIT\r\n")
        assert talk(server, b"x") == b"x"
    assert server.log.text == b""


# Certificates of clients

ASKING = [("-i", 1), ("-z", 1), ("-m", 1), ("-iI", 0), ("-zZ", 0)]


@pytest.mark.parametrize(("option", "asked"), ASKING)
def test_a_client_needs_a_certificate_of_the_cas_if_asked_for_one(
    authority: Authority, option: str, asked: int
) -> None:
    own = context(own=authority.folder / "client.pem")
    with serve_tls(authority, "env", "-0", options=["-sRHl0", option], CAFILE=str(authority.roots)) as server:
        found = variables(talk(server, made=own))
        assert found.get("SSL_CLIENT_S_DN") == ("/O=Org/CN=Client" if asked else None)
        assert found.get("SSL_CLIENT_VERIFY") == ("SUCCESS" if asked else "NONE")
        if asked:
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                talk(server, made=context())
            refused(server, "127.0.0.1: peer did not return a certificate")


def compiled(folder: Path, text: str) -> str:
    """A file of these rules."""
    rules = folder / f"{len(list(folder.iterdir()))}.cdb"
    assert run([BIN / "tcprules", rules, folder / "rules.tmp"], input=text.encode()).returncode == 0
    return str(rules)


NO_CERTIFICATE = b"unable to SSL accept: 127.0.0.1: peer did not return a certificate"

BY_RULE = [  # options, environment, what a rule sets, whether a client has to show a certificate
    ("", {}, 'CCAVERIFY=""', True),
    ("", {"CCAVERIFY": "1"}, 'A="b"', True),
    ("", {}, 'CCAFILE="-"', False),
    ("m", {}, 'CCAFILE="-"', False),
    ("m", {"CCAFILE": "-"}, 'A="b"', False),
    ("m", {"CCAFILE": "-"}, 'CCAVERIFY=""', True),
    ("m", {}, 'CCAFILE="-",CCAVERIFY="1"', True),
    ("n", {}, 'CCAVERIFY=""', True),
]


@pytest.mark.parametrize(("option", "changes", "set_by_rule", "asked"), BY_RULE, ids=range(len(BY_RULE)))
def test_a_rule_says_who_has_to_show_a_certificate(
    authority: Authority, tmp_path: Path, option: str, changes: dict[str, str], set_by_rule: str, asked: bool
) -> None:
    own = context(own=authority.folder / "client.pem")
    options = [f"-s{option}RHl0", "-x", compiled(tmp_path, f"127.0.0.1:allow,{set_by_rule}")]
    program = [sys.executable, "-c", FOREIGN] if option == "n" else ["sh", "-c", 'echo "$SSL_CLIENT_VERIFY"']
    env = {"CAFILE": str(authority.roots), **changes}
    with serve_tls(authority, *program, options=options, **env) as server:
        for made in (own, context()):
            good = made is own or not asked
            with contextlib.suppress(ssl.SSLError, ConnectionError), server.connect() as connection:
                if option == "n":
                    said = connection.makefile("rb")
                    said.readline()
                    connection.sendall(b"Y\n")
                    assert said.readline() == b"go\n"
                client = Client(connection, made)
                assert client.line() == (b"secret TLSv1.3\n" if option == "n" else b"SUCCESS\n" if asked else b"NONE\n")
                assert good
                continue
            assert not good
            assert eventually(lambda: NO_CERTIFICATE in server.log.text)


def test_a_rule_that_asks_for_certificates_without_cas_lets_nobody_in(authority: Authority, tmp_path: Path) -> None:
    options = ["-RHl0", "-x", compiled(tmp_path, '127.0.0.1:allow,CCAVERIFY=""\n:allow')]
    with serve_tls(authority, "echo", "in", options=options) as server:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert talk(server) == b""
        refused(server, "127.0.0.1: unable to verify client certificate: neither CAFILE nor CADIR is set")
        with server.connect("127.0.0.2") as connection:
            assert Client(connection).line() == b"in\n"


def test_a_ticket_of_who_need_not_show_a_certificate_is_none_for_who_has_to(
    authority: Authority, tmp_path: Path
) -> None:
    options = ["-sRHl0", "-x", compiled(tmp_path, '127.0.0.2:allow,CCAVERIFY=""\n:allow')]
    for version in ("TLSv1_2", "TLSv1_3"):
        made = context(version=version)
        with serve_tls(authority, "echo", "in", options=options, CAFILE=str(authority.roots)) as server:
            with connect(server, made) as client:
                assert client.line() == b"in\n"
                session = client.tls.session
            with connect(server, made, session=session) as client:
                assert client.line() == b"in\n"
                assert client.tls.session_reused
            with contextlib.suppress(ssl.SSLError, ConnectionError), server.connect("127.0.0.2") as connection:
                assert Client(connection, made, session=session).rest() == b""
            assert eventually(lambda: b"127.0.0.2: peer did not return a certificate" in server.log.text)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_who_has_shown_a_certificate_shows_it_again_for_the_next_connection(authority: Authority, version: str) -> None:
    made = context(own=authority.folder / "client.pem", version=version)
    with serve_tls(authority, "echo", "in", options=["-msRHl0"], CAFILE=str(authority.roots)) as server:
        session = None
        for _ in range(5):
            with connect(server, made, session=session) as client:
                assert client.line() == b"in\n"
                assert client.rest() == b""
                assert not client.tls.session_reused
                session = client.tls.session
                client.end()
            server.line("sslserver: end .* status 0")


# Rules for addresses


def test_rules_of_y_come_before_anything_is_looked_up_and_an_allow_spares_those_of_x(
    authority: Authority, tmp_path: Path
) -> None:
    early = compiled(tmp_path, '127.0.0.1:allow,WHO="early"\n127.0.0.2:deny\n')
    late = compiled(tmp_path, '127.0.0.1:deny\n127.0.0.3:allow,WHO="late"\n:deny\n')
    # Nobody answers on this port: whoever waits for a name server is not turned away in time.
    env = {"DNSCACHEIP": "127.0.0.1", "QMAILPY_DNSPORT": str(free_port())}
    options = ["-Rhl", "here", "-y", early, "-x", late]
    with serve_tls(authority, "sh", "-c", "echo $WHO", options=options, **env) as server:
        with server.connect("127.0.0.2") as connection:
            assert connection.recv(1) == b""
        server.line(rf"sslserver: deny \d+ here:127.0.0.1:{server.port} :127.0.0.2::\d+")
        server.line("sslserver: end .* status 25600")
        assert talk(server) == b"early\n"
        with server.connect("127.0.0.3") as connection:
            assert Client(connection).line() == b"late\n"
        with server.connect("127.0.0.4") as connection:
            assert connection.recv(1) == b""
        server.line(r"sslserver: deny \d+ here:127.0.0.1:.*")


@pytest.mark.parametrize("optional", [False, True])
def test_without_the_file_of_y_nobody_gets_in_but_with_X(authority: Authority, tmp_path: Path, optional: bool) -> None:
    path = tmp_path / "none.cdb"
    options = ["-RHl0", "-y", str(path), *(["-X"] if optional else [])]
    with serve_tls(authority, "echo", "in", options=options) as server:
        if optional:
            assert talk(server) == b"in\n"
            return
        with server.connect() as connection:
            assert connection.recv(1) == b""
        server.line(f"sslserver: warning: dropping connection, unable to read {path}: file does not exist")


def test_maxconip_is_a_limit_for_each_address_and_0_is_none(authority: Authority, tmp_path: Path) -> None:
    rules = compiled(tmp_path, '127.0.0.2:allow,MAXCONIP="0"\n:allow,MAXCONIP="1"')
    with serve_tls(authority, "cat", options=["-RHl0", "-x", rules]) as server, connect(server) as client:
        client.send(b"x")
        assert client.read() == b"x"
        with server.connect() as connection:
            assert connection.recv(1) == b""
        server.line(r"sslserver: deny \d+ .* ip connection limit:1 exceeded")
        others = [Client(server.connect("127.0.0.2")) for _ in range(3)]
        for other in others:
            other.send(b"y")
            assert other.read() == b"y"
            other.socket.close()


def test_every_address_of_both_kinds_has_a_name_of_its_own(authority: Authority) -> None:
    with serve(OURS, "echo", "in", options=["-RHl0"], host=":0", env=env_of(authority)) as server:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, server.port), TIMEOUT) as connection:
                assert Client(connection).line() == b"in\n"


# Where processes of TLS are, and as whom


@pytest.mark.parametrize(
    ("changes", "uid", "gid"),
    [
        ({"SSL_UID": "54399"}, 54399, 54399),
        ({"SSL_UID": "54399", "SSL_GID": "54400"}, 54399, 54400),
        ({"SSL_USER": "daemon", "SSL_GROUP": "54400", "TLSUSER": "54401"}, 1, 54400),
        ({"SSL_UID": "0", "SSL_GID": "0", "TLSUSER": "54401"}, 54401, 54401),
    ],
    ids=str,
)
def test_ssl_uid_and_its_like_say_who_does_tls(
    authority: Authority, tmp_path: Path, changes: dict[str, str], uid: int, gid: int
) -> None:
    needs_root()
    rules = compiled(tmp_path, ':allow,SSL_UID="1",SSL_CHROOT="/usr"')
    options = ["-RHl0", "-x", rules]
    with public_folder() as folder:
        changes = {"SSL_CHROOT": str(folder), **changes}
        with serve_tls(authority, "cat", options=options, **changes) as server, connect(server) as client:
            client.send(b"x")
            assert client.read() == b"x"
            for pid in tls_processes(server, 3):
                status = status_of(pid)
                assert (set(status["Uid"].split()), set(status["Gid"].split())) == ({str(uid)}, {str(gid)})
                assert os.readlink(f"/proc/{pid}/root") == str(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SSL_USER": "no-such"}, "unknown user no-such"),
        ({"SSL_GROUP": "no-such"}, "unknown group no-such"),
        ({"SSL_CHROOT": "/no/such"}, "unable to chroot to /no/such: file does not exist"),
        ({"SSL_CHROOT": "/etc/passwd"}, "unable to chroot to /etc/passwd: not a directory"),
    ],
    ids=str,
)
def test_what_processes_of_tls_cannot_be_is_said_at_the_start(
    authority: Authority, changes: dict[str, str], said: str
) -> None:
    needs_root()
    done = run([OURS, "127.0.0.1", "0", "true"], env=env_of(authority, **changes))
    assert (done.returncode, done.stderr.decode()) == (111, f"sslserver: fatal: {said}\n")


def test_only_root_can_have_another_root(authority: Authority) -> None:
    needs_root()
    with public_folder() as folder:
        pem = Authority(folder / "ca").certificate("mail.example")
        os.chown(pem, ORDINARY, ORDINARY)
        prefix = [needs("setpriv"), f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
        env = env_of(authority, CERTFILE=str(pem), SSL_CHROOT="/var/empty")
        done = run([*prefix, OURS, "127.0.0.1", "0", "true"], env=env)
        said = b"sslserver: fatal: unable to chroot to /var/empty: permission denied\n"
        assert (done.returncode, done.stderr) == (111, said)


def test_a_list_of_revoked_certificates_that_is_written_over_is_used(authority: Authority, tmp_path: Path) -> None:
    crl = tmp_path / "ca.crl"
    crl.write_bytes(authority.revoked())
    own = context(own=authority.folder / "client.pem")
    roots = {"CAFILE": str(authority.roots), "CRLDIR": str(tmp_path)}
    with serve_tls(authority, "echo", "hi", options=["-mRHl0"], **roots) as server:
        assert talk(server, made=own) == b"hi\n"
        crl.write_bytes(authority.revoked("client"))
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert talk(server, made=own) == b""
        refused(server, "127.0.0.1: certificate verify failed: certificate revoked")


def test_asking_for_certificates_without_cas_is_an_error(authority: Authority) -> None:
    done = run([OURS, "-i", "127.0.0.1", "0", "true"], env=env_of(authority))
    said = b"sslserver: fatal: unable to load CA list: neither CAFILE nor CADIR is set\n"
    assert (done.returncode, done.stderr) == (111, said)


# Certificates of the server


def serial(client: Client) -> bytes:
    der = client.tls.getpeercert(True)
    assert der is not None
    return openssl("x509", "-inform", "DER", "-noout", "-subject", "-serial", input=der)


def test_a_name_has_its_certificate(authority: Authority, tmp_path: Path) -> None:
    for name, source in (("default.pem", "mail.example.pem"), ("other.example.pem", "other.example.pem")):
        shutil.copy(authority.folder / source, tmp_path / name)
    with serve_tls(authority, "echo", "hi", CERTFILE=str(tmp_path)) as server:
        for name, verified in (("mail.example", True), ("other.example", True), ("nobody.example", False)):
            made = context(authority.roots)
            if verified:
                assert talk(server, made=made, name=name) == b"hi\n"
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    talk(server, made=made, name=name)


def test_a_renewed_certificate_is_used_from_the_next_connection_on_and_a_broken_one_is_not(
    authority: Authority, tmp_path: Path
) -> None:
    pem = tmp_path / "cert.pem"
    shutil.copy(authority.folder / "mail.example.pem", pem)
    with serve_tls(authority, "cat", CERTFILE=str(pem)) as server, connect(server) as early:
        with connect(server) as client:
            first = serial(client)
        pem.write_text("broken")
        for _ in range(2):
            with connect(server) as client:
                assert serial(client) == first
        complaint = f"unable to load certificate {pem}: there is none in it"
        server.line(f"sslserver: warning: {re.escape(complaint)}")
        authority.certificate("renewed", "mail.example")
        shutil.copy(authority.folder / "renewed.pem", tmp_path / "new")
        os.rename(tmp_path / "new", pem)
        with connect(server) as client:
            assert serial(client) != first
        early.send(b"goes on")
        assert early.read() == b"goes on"
    assert server.log.text.count(complaint.encode()) == 1


def test_only_root_need_read_the_key(authority: Authority) -> None:
    needs_root()
    assert (authority.folder / "mail.example.pem").stat().st_mode & 0o77 == 0
    with serve_tls(authority, "id", "-u", options=["-RHl0", "-u65534", "-g65534"]) as server:
        assert talk(server) == b"65534\n"


ERRORS = [
    (["CERTFILE=/no/such/file"], "unable to load certificate /no/such/file: file does not exist"),
    (["CERTFILE=FOLDER/mail.example.crt"], "unable to load key FOLDER/mail.example.crt: there is none in it"),
    (["CERTFILE=FOLDER/mail.example.key"], "unable to load certificate FOLDER/mail.example.key: there is none in it"),
    (
        ["CERTFILE=FOLDER/mail.example.crt", "KEYFILE=FOLDER/client.key"],
        "unable to load key FOLDER/client.key: key does not match certificate",
    ),
    (["CIPHERS=nonsense"], "unable to set cipher list: nonsense"),
    (["DHFILE=/no/such/file"], "unable to set cipher parameters: file does not exist"),
    (["CERTFILEEC=/no/such/file"], "unable to load certificate /no/such/file: file does not exist"),
    (["QMAILHOME=FOLDER/home"], "unable to read control/tlsserverciphers: is a directory"),
]


@pytest.mark.parametrize(("changes", "text"), ERRORS, ids=range(len(ERRORS)))
def test_what_cannot_be_used_is_said_at_the_start(authority: Authority, changes: list[str], text: str) -> None:
    folder = str(authority.folder)
    (authority.folder / "home" / "control" / "tlsserverciphers").mkdir(parents=True, exist_ok=True)
    env = env_of(authority, **dict(change.replace("FOLDER", folder).split("=", 1) for change in changes))
    done = run([OURS, "127.0.0.1", "0", "true"], env=env)
    expected = f"sslserver: fatal: {text.replace('FOLDER', folder)}\n"
    assert (done.returncode, done.stderr.decode()) == (111, expected)


def test_an_account_that_there_is_not_is_said(authority: Authority) -> None:
    needs_root()
    done = run([OURS, "127.0.0.1", "0", "true"], env=env_of(authority, TLSUSER="no-such-account"))
    assert (done.returncode, done.stderr) == (111, b"sslserver: fatal: unknown user no-such-account\n")


USAGES: list[list[str]] = [[], ["127.0.0.1", "0"], ["-q"], ["-Y"], ["-T"], ["-3", "127.0.0.1", "0"]]


@pytest.mark.parametrize("argv", USAGES, ids=" ".join)
def test_wrong_usage_is_100(authority: Authority, argv: list[str]) -> None:
    done = run([OURS, *argv], env=env_of(authority))
    assert done.returncode == 100
    assert (b"sslserver: usage: sslserver [ -13UXpPhHrRoOdDqQviIeEsS ] " in done.stderr) == ("-q" not in argv)


def test_the_password_of_a_key_comes_on_3(authority: Authority, tmp_path: Path) -> None:
    key = openssl("pkey", "-in", authority.folder / "mail.example.key", "-aes128", "-passout", "pass:secret")
    (tmp_path / "c.pem").write_bytes(key + (authority.folder / "mail.example.crt").read_bytes())
    env = env_of(authority, CERTFILE=str(tmp_path / "c.pem"))
    for word, good in ((b"secret\0more", True), (b"wrong\0", False)):
        (tmp_path / "password").write_bytes(word)
        script = f'exec "$@" 3<{tmp_path}/password'
        argv = ["sh", "-c", script, "sh", OURS, "-13RHl0", "127.0.0.1", "0", "sh", "-c", "ls /proc/$$/fd"]
        if good:
            with Server(argv, env) as server:
                assert b"3" not in talk(server).split()
        else:
            assert run(argv, env=env).returncode == 111
    done = run([OURS, "-3", "127.0.0.1", "0", "true"], env=env)
    said = b"sslserver: fatal: unable to read password: file descriptor not open\n"
    assert (done.returncode, done.stderr) == (111, said)


# Bytes


BIG = hashlib.sha256(b"seed").digest() * (25_000_000 // 32)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_25_megabytes_come_back_as_they_went(authority: Authority, version: str) -> None:
    with serve_tls(authority, "cat") as server, connect(server, context(version=version)) as client:
        assert client.exchange(BIG, len(BIG)) == BIG
        client.end()
        assert client.rest() == b""


def test_two_at_once_do_not_mind_each_other(authority: Authority) -> None:
    with serve_tls(authority, "cat") as server, connect(server) as one, connect(server) as other:
        for client, word in ((one, b"one"), (other, b"other"), (one, b"one more")):
            client.send(word)
            assert client.read() == word


def test_a_client_that_goes_without_close_notify_ends_the_programs_input(authority: Authority) -> None:
    with serve_tls(authority, "wc", "-c") as server:
        with connect(server) as client:
            client.send(b"12345")
            client.socket.shutdown(socket.SHUT_WR)
            assert client.rest() == b"5\n"
        server.line("sslserver: end .* status 0")


def test_a_connection_that_is_cut_ends_the_programs_input(authority: Authority) -> None:
    with serve_tls(authority, "cat") as server:
        with connect(server) as client:
            client.send(b"x")
            assert client.read() == b"x"
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.line("sslserver: end .* status 0")
        assert eventually(lambda: len(descendants(server.pid)) == 3)  # the keeper and two that wait


def test_a_program_that_is_killed_ends_the_connection(authority: Authority) -> None:
    with serve_tls(authority, "sh", "-c", "echo $$; read x; kill -9 $$") as server, connect(server) as client:
        client.line()
        client.send(b"\n")
        assert client.rest() == b""
        server.line("sslserver: end .* status 9")


def test_a_silent_connection_is_ended_after_w_seconds(authority: Authority) -> None:
    with serve_tls(authority, "cat", options=["-RHl0", "-w", "1"]) as server, connect(server) as client:
        assert client.read() == b""
        server.line("sslserver: end .* status 0")


def test_at_the_limit_the_next_client_waits(authority: Authority) -> None:
    with (
        serve_tls(authority, "cat", options=["-RHl0", "-c1"]) as server,
        connect(server) as first,
        server.connect() as second,
    ):
        first.send(b"served")
        assert first.read() == b"served"
        assert len(server.children()) == 2
        first.end()
        assert first.rest() == b""
        later = Client(second)
        later.send(b"served later")
        assert later.read() == b"served later"


# Resumption


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed_by_another_process(authority: Authority, tmp_path: Path, version: str) -> None:
    with serve_tls(authority, "echo", "hello") as server:
        for words, kind in ((["-sess_out"], b"New"), (["-sess_in"], b"Reused"), (["-sess_in"], b"Reused")):
            argv = [needs("openssl"), "s_client", version, "-ign_eof", "-connect", f"127.0.0.1:{server.port}"]
            done = run([*argv, *words, tmp_path / "session"])
            assert b"\n" + kind + b", TLSv1." in done.stdout
            assert b"hello\n" in done.stdout


# The key


def session_of(server: Server) -> Client:
    client = connect(server)
    assert client.line().startswith(b"+OK")
    client.send(f"USER {NAME}\r\n".encode())
    assert client.line().startswith(b"+OK")
    client.send(f"PASS {PASSWORD}\r\n".encode())
    assert client.line().startswith(b"+OK")
    return client


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("who", ["root", "an ordinary user"])
def test_the_key_is_in_the_keeper_and_in_processes_of_tls_alone(authority: Authority, kind: str, who: str) -> None:
    needs_root()
    with public_folder() as folder:
        home = Home(folder)
        pem = Authority(folder / "ca").certificate("mail.example", kind=kind)
        env = {**home.environment(), "CERTFILE": str(pem), **reachable_python()}
        prefix: list[str] = []
        if who != "root":
            for path in (folder / "ca", pem, home.passwords, *home.home.rglob("*"), home.home):
                os.chown(path, ORDINARY, ORDINARY)
            home.passwords.write_text(home.passwords.read_text().replace(":65534:65534:", f":{ORDINARY}:{ORDINARY}:"))
            prefix = [needs("setpriv"), f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
        wanted = needles(pem)
        with serve(OURS, *pop3(), options=["-seRHl0"], env=env, prefix=prefix) as server, session_of(server) as client:
            with connect(server):  # before the login: qmail-popup
                tls = tls_processes(server, 4)  # two connections, and two that wait
                processes = [server.pid, *descendants(server.pid)]
                with_key = {pid for pid in processes if holds(pid, wanted)}
                assert with_key == {keeper_of(server), *tls}
                programs = set(processes) - with_key
                assert len(programs) == 3
                assert all(holds(pid, [b"qmail-popup"]) for pid in programs)  # the search finds what is there
            client.send(b"QUIT\r\n")
            assert client.line().startswith(b"+OK")


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("who", ["root", "an ordinary user"])
def test_the_process_that_does_tls_is_confined(authority: Authority, who: str) -> None:
    needs_root()
    with public_folder() as folder:
        pem = Authority(folder / "ca").certificate("mail.example")
        prefix: list[str] = []
        if who != "root":
            os.chown(pem, ORDINARY, ORDINARY)
            prefix = [needs("setpriv"), f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
        env = environment(CERTFILE=str(pem), TLSUSER="54399", **reachable_python())
        with serve(OURS, "cat", env=env, prefix=prefix) as server, connect(server) as client:
            client.send(b"x")
            assert client.read() == b"x"
            keeper = keeper_of(server)
            owner = os.stat(f"/proc/{keeper}/mem").st_uid
            assert owner == 0  # not dumpable
            for pid in tls_processes(server, 3):
                status = status_of(pid)
                uid = "54399" if who == "root" else str(ORDINARY)
                assert set(status["Uid"].split()) == set(status["Gid"].split()) == {uid}
                assert status["Groups"].split() == ([uid] if who == "root" else [])
                assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
                assert status["CapEff"].strip("0") == ""
                links = {os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
                assert links == {"socket"}
                assert len(os.listdir(f"/proc/{pid}/fd")) <= 4  # network, program, reports, line
                assert (os.readlink(f"/proc/{pid}/root") == "/") == (who != "root")


@pytest.mark.parametrize("again", ["", "1", "3"])
def test_a_process_of_tls_serves_as_many_connections_as_it_is_told(authority: Authority, again: str) -> None:
    with serve_tls(authority, "cat", QMAILPY_TLSAGAIN=again) as server:
        pids: set[int] = set()
        for number in range(9):
            assert talk(server, b"%d" % number) == b"%d" % number
            server.line("sslserver: end .* status 0")
            pids.update(descendants(keeper_of(server)))
        server.talk(b"no handshake")
        refused(server, "127.0.0.1: .*")
        assert talk(server, b"last") == b"last"
    assert len(pids) <= 6 if again == "3" else len(pids) >= 9


# Trouble


def test_a_lack_of_descriptors_in_the_keeper_is_said_and_over_when_it_is(authority: Authority) -> None:
    with serve_tls(authority, "cat") as server:
        assert talk(server, b"x") == b"x"
        keeper = keeper_of(server)
        hard = resource.prlimit(keeper, resource.RLIMIT_NOFILE)[1]
        used = len(os.listdir(f"/proc/{keeper}/fd"))
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, (used, hard))
        server.talk()
        refused(server, "process cannot open more files")
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, (hard, hard))
        assert talk(server, b"y") == b"y"


def test_a_keeper_that_is_killed_ends_sslserver_so_that_it_can_be_started_again(authority: Authority) -> None:
    with serve_tls(authority, "cat") as server, connect(server) as client:
        os.kill(keeper_of(server), signal.SIGKILL)
        server.line("sslserver: fatal: keeper of the key has ended")
        assert server.process.wait(TIMEOUT) == 111
        client.send(b"goes on")
        assert client.read() == b"goes on"


def test_processes_that_wait_may_be_killed(authority: Authority) -> None:
    with serve_tls(authority, "cat") as server:
        for pid in tls_processes(server, 2):
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: descendants(keeper_of(server)) == [])
        for word in (b"one", b"two"):
            assert talk(server, word) == word


def test_sigterm_ends_sslserver_and_its_keeper_when_nobody_needs_it_and_no_session(authority: Authority) -> None:
    with serve_tls(authority, "cat") as server, connect(server) as client:
        client.send(b"x")
        assert client.read() == b"x"
        keeper = keeper_of(server)
        watches = [os.pidfd_open(pid) for pid in (keeper, *descendants(keeper))]
        assert server.terminate() == 0
        client.send(b"after")
        assert client.read() == b"after"
        client.end()
        assert client.rest() == b""
        for watch in watches:
            poller = select.poll()
            poller.register(watch, select.POLLIN)
            assert poller.poll(TIMEOUT * 1000)
            os.close(watch)


# Others' programs


@pytest.fixture
def mail() -> Iterator[Home]:
    with public_folder() as folder:
        home = Home(folder)
        home.deliver(*MESSAGES)
        yield home


def chain(authority: Authority, mail: Home) -> Server:
    env = {**env_of(authority), **mail.environment()}
    return serve(OURS, *pop3(), options=["-seRHl0"], env=env)


def test_curl_fetches_mail_and_verifies_the_server(authority: Authority, mail: Home) -> None:
    with chain(authority, mail) as server:
        url = f"pop3s://localhost:{server.port}/1"
        argv = [needs("curl"), "-sS", "-4", "--cacert", str(authority.roots), "-u", f"{NAME}:{PASSWORD}"]
        done = run([*argv, url])
        assert (done.returncode, done.stdout) == (0, on_wire(MESSAGES[0]))
        done = run([*argv, url.replace("localhost", "127.0.0.1")])
        assert done.returncode == 0
        done = run([needs("curl"), "-sS", "-u", f"{NAME}:{PASSWORD}", url])
        assert done.returncode == 60  # nobody it trusts


def test_openssl_verifies_the_server_for_each_version(authority: Authority) -> None:
    with serve_tls(authority, "echo", "hello") as server:
        for version in ("-tls1_2", "-tls1_3"):
            argv = [needs("openssl"), "s_client", version, "-quiet", "-verify_return_error", "-CAfile", authority.roots]
            argv += ["-verify_hostname", "mail.example", "-connect", f"127.0.0.1:{server.port}"]
            assert run(argv).stdout == b"hello\n"


def test_stunnel_as_client(authority: Authority, tmp_path: Path) -> None:
    with serve_tls(authority, "cat") as server:
        text = f"client=yes\nconnect=127.0.0.1:{server.port}\nCAfile={authority.roots}\nverifyChain=yes"
        with (
            stunnel(tmp_path, text + "\ncheckHost=mail.example") as port,
            socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
        ):
            plain.sendall(b"through stunnel")
            plain.shutdown(socket.SHUT_WR)
            assert plain.makefile("rb").read() == b"through stunnel"


# UCSPI-TLS: a foreign program that knows the interface alone

FOREIGN = """
import os, socket, sys
env = os.environ
def line(fd):
    text = b""
    while not text.endswith(b"\\n"):
        byte = os.read(fd, 1)
        if not byte:
            return b""
        text += byte
    return text
os.write(1, b"hello in clear, %s\\n" % repr(env.get("UCSPITLS")).encode())
while (command := line(0).strip()) not in (b"y", b"Y", b""):
    os.write(1, b"clear " + command + b"\\n")
if not command:
    sys.exit(0)
control = socket.socket(fileno=int(env["SSLCTLFD"]))
os.write(1, b"go\\n")
control.sendall(command)
told = b""
if command == b"Y":
    while not told.endswith(b"\\0\\0"):
        block = control.recv(65536)
        if not block:
            sys.exit(7)
        told += block
os.dup2(int(env["SSLREADFD"]), 0)
os.dup2(int(env["SSLWRITEFD"]), 1)
names = dict(each.split(b"=", 1) for each in told.split(b"\\0") if each)
os.write(1, b"secret " + names.get(b"SSL_PROTOCOL", b"-") + b"\\n")
while text := line(0):
    os.write(1, b"secret " + text)
"""


def delayed(authority: Authority, *options: str, **changes: str) -> Server:
    words = [sys.executable, "-IS", "-c", FOREIGN]
    return serve_tls(authority, *words, options=["-n", "-RHl0", *options], **changes)


def clear_line(connection: socket.socket) -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        byte = connection.recv(1)
        assert byte, text
        text += byte
    return text


@pytest.mark.parametrize(("command", "told"), [(b"y", b"-"), (b"Y", b"TLSv1.3")])
def test_a_foreign_program_begins_tls_when_it_wants(authority: Authority, command: bytes, told: bytes) -> None:
    with delayed(authority) as server, server.connect() as connection:
        connection.settimeout(TIMEOUT)
        assert clear_line(connection) == b"hello in clear, ''\n"
        connection.sendall(b"something\n")
        assert clear_line(connection) == b"clear something\n"
        connection.sendall(command + b"\n")
        assert clear_line(connection) == b"go\n"
        client = Client(connection)
        assert client.line() == b"secret " + told + b"\n"
        client.send(b"text\n")
        assert client.line() == b"secret text\n"
        client.end()
        assert client.rest() == b""
        server.line("sslserver: end .* status 0")


def test_a_program_that_does_not_want_tls_talks_in_clear_and_leaves_nothing(authority: Authority) -> None:
    with delayed(authority, UCSPITLS="-") as server:
        assert server.talk(b"x\n") == b"hello in clear, '-'\nclear x\n"
        server.line("sslserver: end .* status 0")
        keeper = keeper_of(server)
        before = len(os.listdir(f"/proc/{keeper}/fd"))
        for _ in range(5):
            server.talk(b"x\n")
        assert eventually(lambda: len(os.listdir(f"/proc/{keeper}/fd")) <= before)


def test_a_client_that_fails_at_a_delayed_handshake_is_lost_and_the_program_knows(authority: Authority) -> None:
    with delayed(authority) as server, server.connect() as connection:
        connection.settimeout(TIMEOUT)
        clear_line(connection)
        connection.sendall(b"Y\n")
        assert clear_line(connection) == b"go\n"
        connection.sendall(b"no handshake\r\n")
        refused(server, "127.0.0.1: wrong version number", "1792")


def test_what_is_sent_ahead_of_a_delayed_handshake_is_no_plain_text_behind_it(authority: Authority) -> None:
    """The program reads a byte at a time: the rest is in the way of the handshake, which fails."""
    with delayed(authority) as server, server.connect() as connection:
        connection.settimeout(TIMEOUT)
        clear_line(connection)
        connection.sendall(b"Y\nevil\n")
        assert clear_line(connection) == b"go\n"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Client(connection).line()
        server.line("sslserver: end .* status 1792")


def test_other_words_on_the_control_socket_are_no_tls(authority: Authority) -> None:
    code = "import os, socket; c = socket.socket(fileno=int(os.environ['SSLCTLFD'])); c.sendall(b'x');"
    code += " os.write(1, b'%d' % len(c.recv(10)))"
    with serve_tls(authority, sys.executable, "-IS", "-c", code, options=["-n", "-RHl0"]) as server:
        assert server.talk() == b"0"


def test_descriptors_of_a_delayed_connection_are_in_nobodys_way(authority: Authority) -> None:
    with serve_tls(authority, "sh", "-c", "echo $SSLCTLFD $SSLREADFD $SSLWRITEFD", options=["-n", "-RHl0"]) as server:
        numbers = [int(word) for word in server.talk().split()]
    assert len(numbers) == 3
    assert min(numbers) >= 20


def test_a_session_that_goes_on_after_sigterm_can_begin_tls_still(authority: Authority) -> None:
    with delayed(authority) as server, server.connect() as connection:
        connection.settimeout(TIMEOUT)
        clear_line(connection)
        server.terminate()
        connection.sendall(b"Y\n")
        assert clear_line(connection) == b"go\n"
        assert Client(connection).line() == b"secret TLSv1.3\n"
