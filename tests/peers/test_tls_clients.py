"""Real clients over TLS, begun at once or by STLS and STARTTLS: curl, fetchmail, mpop, swaks, msmtp, openssl, Python's
poplib and smtplib. They trust the server's own certificate alone, and look at its name."""

import contextlib
import os
import poplib
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dialogues import NAME as USER
from tests.dialogues import NOBODY
from tests.dialogues import PASSWORD as SECRET
from tests.helpers import needs, run
from tests.peers.test_clients import called, plain, private, saved, saver
from tests.servers import MESSAGES, NAME, OURS, PASSWORD, Home, Server, home, pop3, serve
from tests.smtp import CHECKER, SMTPD, Mailhost, mailhost
from tests.ucspitls import certificate

__all__ = ["certificate", "mailhost"]

HOST = "localhost"  # a name of the certificate
MODES = ["at once", "later"]

# Server, certificate, whether TLS begins at once, a folder of its own -> the messages, and what it said
Reader = Callable[[Server, Path, bool, Path], tuple[list[bytes], bytes]]
Writer = Callable[[Server, Path, bool, Path], bytes]


@pytest.fixture
def at() -> Iterator[Home]:
    with home() as made:
        made.deliver(*MESSAGES[:2])
        yield made


# POP3


def fetchmail(server: Server, cafile: Path, at_once: bool, folder: Path) -> tuple[list[bytes], bytes]:
    tls = "ssl" if at_once else "sslproto 'TLS1.2+'"
    text = f"""set invisible
    poll {HOST} protocol pop3 service {server.port} no dns
        user "{NAME}" there with password "{PASSWORD}" is root here
        {tls} sslcertfile "{cafile}" sslcertck
        fetchall no keep no rewrite pass8bits no mimedecode mda "{saver(folder)}"\n"""
    config = private(folder / "fetchmailrc", text)
    done = called([needs("fetchmail"), "-f", config, "-i", folder / "ids", "--pidfile", folder / "pid", "-v"], folder)
    return saved(folder), done.stdout + done.stderr


def mpop(server: Server, cafile: Path, at_once: bool, folder: Path) -> tuple[list[bytes], bytes]:
    text = f"""account default
host {HOST}
port {server.port}
user {NAME}
password {PASSWORD}
auth on
tls on
tls_starttls {"off" if at_once else "on"}
tls_trust_file {cafile}
keep off
received_header off
uidls_file {folder}/uidls
delivery mda {saver(folder)}\n"""
    done = called([needs("mpop"), "-C", private(folder / "mpoprc", text)], folder)
    return saved(folder), done.stdout + done.stderr


def curl(server: Server, cafile: Path, at_once: bool, folder: Path) -> tuple[list[bytes], bytes]:
    base = [needs("curl"), "-sSv", "--disable", "--ssl-reqd", "--cacert", str(cafile), "--user", f"{NAME}:{PASSWORD}"]
    url = f"pop3{'s' if at_once else ''}://{HOST}:{server.port}/"
    done = [called([*base, url + number], folder) for number in ("1", "2")]
    return [each.stdout.replace(b"\r\n", b"\n") for each in done], done[0].stderr


def python_reads(server: Server, cafile: Path, at_once: bool, folder: Path) -> tuple[list[bytes], bytes]:
    context = ssl.create_default_context(cafile=cafile)
    if at_once:
        client: poplib.POP3 = poplib.POP3_SSL(HOST, server.port, timeout=20, context=context)
    else:
        client = poplib.POP3(HOST, server.port, timeout=20)
        assert "STLS" in client.capa()
        client.stls(context)
    capabilities = client.capa()
    assert "STLS" not in capabilities
    assert {"USER", "SASL"} <= set(capabilities)
    client.user(NAME)
    client.pass_(PASSWORD)
    found = [b"\n".join(client.retr(number)[1]) + b"\n" for number in (1, 2)]
    client.quit()
    return found, b""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", [fetchmail, mpop, curl, python_reads])
def test_a_client_reads_its_mail_under_tls(
    client: Reader, mode: str, at: Home, certificate: Path, tmp_path: Path
) -> None:
    at_once = mode == "at once"
    options = ["-RH", "-l0", "-n", str(certificate), *(["-s"] if at_once else [])]
    with serve(OURS, *pop3(), options=options, env=at.environment(UCSPITLS="!")) as server:
        messages, said = client(server, certificate, at_once, tmp_path)
    assert [plain(text).rstrip(b"\n") for text in messages] == [text.rstrip(b"\n") for text in MESSAGES[:2]], said


# SMTP

SENDER, RECIPIENT = "s@here.test", "r@there.test"
MAIL = b"Subject: one\n\nA line.\n"


def swaks(server: Server, cafile: Path, at_once: bool, folder: Path) -> bytes:
    words = ["--server", HOST, "--port", str(server.port), "--from", SENDER, "--to", RECIPIENT, "--tls-verify"]
    words += ["--tls-on-connect" if at_once else "--tls", "--tls-ca-path", str(cafile), "--no-data-fixup"]
    words += ["--auth", "PLAIN", "--auth-user", USER.decode(), "--auth-password", SECRET.decode()]
    (folder / "data").write_bytes(MAIL.replace(b"\n", b"\r\n") + b".\r\n")
    done = called([needs("swaks"), *words, "--data", f"@{folder}/data"], folder)
    return done.stdout + done.stderr


def msmtp(server: Server, cafile: Path, at_once: bool, folder: Path) -> bytes:
    words = ["--file=/dev/null", f"--host={HOST}", f"--port={server.port}", f"--from={SENDER}", "--tls=on"]
    words += [f"--tls-starttls={'off' if at_once else 'on'}", f"--tls-trust-file={cafile}", "--auth=plain"]
    words += [f"--user={USER.decode()}", f"--passwordeval=echo {SECRET.decode()}", "--set-from-header=off"]
    words += ["--set-date-header=off", "--set-msgid-header=off", "--", RECIPIENT]
    done = run([needs("msmtp"), *words], MAIL, cwd=folder)
    return done.stdout + done.stderr


def curl_sends(server: Server, cafile: Path, at_once: bool, folder: Path) -> bytes:
    (folder / "mail").write_bytes(MAIL.replace(b"\n", b"\r\n"))
    words = ["-sSv", "--disable", "--ssl-reqd", "--cacert", str(cafile), "--user", f"{USER.decode()}:{SECRET.decode()}"]
    words += ["--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", str(folder / "mail")]
    done = called([needs("curl"), *words, f"smtp{'s' if at_once else ''}://{HOST}:{server.port}/client.test"], folder)
    return done.stdout + done.stderr


def python_sends(server: Server, cafile: Path, at_once: bool, folder: Path) -> bytes:
    context = ssl.create_default_context(cafile=cafile)
    if at_once:
        client: smtplib.SMTP = smtplib.SMTP_SSL(HOST, server.port, timeout=20, context=context)
    else:
        client = smtplib.SMTP(HOST, server.port, timeout=20)
        client.ehlo()
        assert "auth" not in client.esmtp_features
        client.starttls(context=context)
    with client:
        client.ehlo()
        assert "starttls" not in client.esmtp_features
        client.login(USER.decode(), SECRET.decode())
        client.sendmail(SENDER, [RECIPIENT], MAIL.replace(b"\n", b"\r\n"))
    return b""


def served(host: Mailhost, certificate: Path, at_once: bool, **changes: str) -> Server:
    options = ["-RH", "-l0", *(["-u", str(NOBODY), "-g", str(NOBODY)] if os.geteuid() == 0 else [])]
    options += ["-n", str(certificate), *(["-s"] if at_once else [])]
    changes = {"SMTPAUTH": "!", "UCSPITLS": "!", **changes}
    return serve(OURS, SMTPD, CHECKER, "true", options=options, env=host.environment(**changes))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", [swaks, msmtp, curl_sends, python_sends])
def test_a_client_sends_mail_under_tls(
    client: Writer, mode: str, mailhost: Mailhost, certificate: Path, tmp_path: Path
) -> None:
    mailhost.control(rcpthosts=b"none")
    with served(mailhost, certificate, mode == "at once") as server:
        said = client(server, certificate, mode == "at once", tmp_path)
    queued = mailhost.queued(received=True)
    assert len(queued) == 1, said
    assert queued[0][1] == [RECIPIENT.encode()]
    assert re.search(rb"\n  by 0 with ESMTPSA \(TLSv1\.[23] \S+ encrypted\); ", queued[0][2])
    assert queued[0][2].endswith(b"\n" + MAIL)


# openssl


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("protocol", ["pop3", "smtp"])
def test_openssl_begins_tls(protocol: str, version: str, at: Home, mailhost: Mailhost, certificate: Path) -> None:
    server = (
        served(mailhost, certificate, False)
        if protocol == "smtp"
        else serve(OURS, *pop3(), options=["-RH", "-l0", "-n", str(certificate)], env=at.environment(UCSPITLS="!"))
    )
    with server:
        words = [
            "-starttls",
            protocol,
            version,
            "-CAfile",
            str(certificate),
            "-verify_return_error",
            "-quiet",
            "-ign_eof",
        ]
        words += ["-connect", f"127.0.0.1:{server.port}", "-verify_hostname", HOST, "-crlf"]
        sent = b"EHLO x\nQUIT\n" if protocol == "smtp" else f"CAPA\nUSER {NAME}\nPASS {PASSWORD}\nSTAT\nQUIT\n".encode()
        done = run([needs("openssl"), "s_client", *words], sent)
    wanted = b"250-AUTH LOGIN PLAIN\r\n" if protocol == "smtp" else b"+OK 2 "
    assert wanted in done.stdout, done.stderr
    assert b"STLS\r\n" not in done.stdout
    assert b"STARTTLS" not in done.stdout


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize("protocol", ["pop3", "smtp"])
def test_what_is_sent_ahead_of_tls_is_never_answered(
    protocol: str, slowly: bool, at: Home, mailhost: Mailhost, certificate: Path
) -> None:
    """CVE-2011-0411: it would be taken for the client's own words, under TLS."""
    options = ["-RH", "-l0", "-n", str(certificate)]
    server = (
        served(mailhost, certificate, False)
        if protocol == "smtp"
        else serve(OURS, *pop3(), options=options, env=at.environment())
    )
    ahead, injected, wanted = (
        (b"STARTTLS\r\n", b"EHLO evil\r\nMAIL FROM:<evil@x>\r\n", b"503 MAIL first")
        if protocol == "smtp"
        else (b"STLS\r\n", b"USER evil\r\n", b"-ERR USER first")
    )
    context = ssl.create_default_context(cafile=certificate)
    with server, socket.create_connection(("127.0.0.1", server.port), 20) as client:
        client.recv(1000)
        for piece in [bytes((byte,)) for byte in ahead + injected] if slowly else [ahead + injected]:
            with contextlib.suppress(OSError):
                client.sendall(piece)
        assert client.recv(1000).endswith((b"TLS negotiation\r\n", b"ready for tls\r\n"))
        try:
            secured = context.wrap_socket(client, server_hostname=HOST)
        except OSError:
            assert slowly  # what comes behind our reply is for the TLS process, and is no handshake
        else:
            with secured:
                secured.sendall(b"RCPT TO:<r@y>\r\n" if protocol == "smtp" else b"PASS x\r\n")
                assert secured.recv(1000).startswith(wanted)


def test_a_session_under_tls_has_a_process_of_its_own(mailhost: Mailhost, certificate: Path) -> None:
    """That of a session in clear serves the next one: chain.serves_again."""
    mailhost.control(rcpthosts=b"there.test")
    queue = mailhost.path / "queue"
    queue.write_text(f'#!/bin/sh\necho $PPID >> "$OUT/pids"\nexec {mailhost.recorder}\n')
    queue.chmod(0o755)
    options = ["-RH", "-l0", *(["-u", str(NOBODY), "-g", str(NOBODY)] if os.geteuid() == 0 else [])]
    env = mailhost.environment(QMAILQUEUE=str(queue))
    with serve(OURS, SMTPD, options=[*options, "-n", str(certificate)], env=env) as server:
        for secured in (False, False, True, False, True, True):
            with smtplib.SMTP(HOST, server.port, timeout=20) as client:
                if secured:
                    client.starttls(context=ssl.create_default_context(cafile=certificate))
                client.sendmail(SENDER, [RECIPIENT], "x\r\n")
            server.line(r"tcpserver: end \d+ status 0")
    pids = (mailhost.out / "pids").read_text().split()
    assert len(pids) == 6
    for number in (2, 4, 5):  # what was under TLS is the last that its process has served
        assert pids[number] not in pids[number + 1 :]
