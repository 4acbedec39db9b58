"""What doc/TLS.md says: its commands, scripts and configurations are run here, in what `make home` makes."""

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import BIN, PYTHON, ROOT, environment, eventually, needs, run
from tests.mailsystem import HOST, PASSWORD, USER, MailSystem, answers, needs_root
from tests.ports import free_port
from tests.servers import TIMEOUT, Server

PAGE = (ROOT / "doc" / "TLS.md").read_text()
INDENTED = re.compile(r"(?:^ {4}.*\n|^\n(?= {4}))+", re.MULTILINE)
BLOCKS = [
    textwrap.dedent(part).strip("\n")
    for found in INDENTED.finditer(PAGE)
    for part in ([found[0]] if "[pop3s]" in found[0] else re.split(r"\n\n", found[0]))
]

POP3_LOGIN = f"USER {USER}\r\nPASS {PASSWORD}\r\n".encode()
NO_MAILDIR = b"+OK \r\n-ERR this user has no $HOME/Maildir\r\n"  # logged in, and at the end of the chain


def block(start: str) -> str:
    """The one that begins so."""
    (found,) = (text for text in BLOCKS if text.startswith(start))
    return found


@pytest.fixture(scope="module")
def system() -> Iterator[MailSystem]:
    """With a certificate; no service runs but those of the queue and of passwords."""
    needs_root()
    with MailSystem() as made:
        for name in ("smtpd", "submission", "smtpsd", "pop3sd"):
            (made.path / "service" / name / "down").touch()
        made.start("ours")
        shell(made, block("cd /var/qmail/control"))
        yield made


def here(system: MailSystem, text: str) -> str:
    return text.replace("/var/qmail", str(system.path))


def path(system: MailSystem, **changes: str) -> dict[str, str]:
    python = Path(PYTHON).parent  # mkcert needs what the tests' own Python has
    folders = f"{system.path}/bin:{python}:/usr/bin:/bin:/usr/sbin"
    return environment(QMAILHOME=str(system.path), PATH=folders, **changes)


def shell(system: MailSystem, text: str, **changes: str) -> "subprocess.CompletedProcess[bytes]":
    done = run([*system.prefix, "sh", "-euc", here(system, text)], env=path(system, **changes), timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return done


def started(system: MailSystem, command: str) -> Server:
    """A tcpserver of the page, on a port of loopback."""
    text, count = re.subn(r" (?:0|127\.0\.0\.1) (?:pop3s?|465|submission|1109|1465) ", " 127.0.0.1 0 ", command)
    assert count == 1
    text = text.replace("tcpserver ", "exec tcpserver -1v ")
    return Server([*system.prefix, "sh", "-c", here(system, text)], env=path(system))


def trusting(system: MailSystem) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=system.path / "control" / "servercert.pem")


def conversation(port: int, context: ssl.SSLContext, start: bytes, sent: bytes) -> bytes:
    """What comes under TLS, at once or behind the command start, without the greeting."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        if start:
            connection.recv(1000)
            connection.sendall(start)
            assert connection.recv(1000)[:3] in (b"+OK", b"220")
        with context.wrap_socket(connection, server_hostname=HOST) as secured:
            if not start:
                assert secured.recv(1000)[:3] in (b"+OK", b"220")
            secured.sendall(sent)
            found = b""
            with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):
                while part := secured.recv(4096):
                    found += part
    return found


def test_every_block_is_run_or_named_here() -> None:
    """The others are for a certification authority, or for programs that are not there."""
    known = (
        "cd /var",
        "openssl ",
        "tcpserver ",
        "SMTPAUTH",
        "192.168",
        "192.0.2.9",
        "#!/bin/sh",
        "cert = ",
        "SSL=1",
        "CERTFILE",
    )
    assert [text for text in BLOCKS if not text.startswith((*known, "certbot "))] == []


def test_the_certificate_is_made_and_checked(system: MailSystem) -> None:
    file = system.path / "control" / "servercert.pem"
    assert file.stat().st_mode & 0o777 == 0o400
    shell(system, block("openssl x509"))
    copy = (system.path / "control" / "mail.example.crt").read_text()
    assert copy.startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in copy


TCPSERVERS = [text for text in BLOCKS if "tcpserver " in text.partition("\n")[0] and "servercert.pem" in text]


@pytest.mark.parametrize("command", TCPSERVERS)
def test_a_tcpserver_of_the_page_speaks_tls(command: str, system: MailSystem) -> None:
    pop3 = "qmail-popup" in command
    start = b"" if " -s " in command else b"STLS\r\n" if pop3 else b"STARTTLS\r\n"
    with started(system, command) as server:
        sent = POP3_LOGIN if pop3 else b"EHLO x\r\nMAIL FROM:<a@b>\r\nQUIT\r\n"
        found = conversation(server.port, trusting(system), start, sent)
    if pop3:
        assert found == NO_MAILDIR
    else:
        assert b"250-AUTH LOGIN PLAIN\r\n" in found
        assert b"Authorization required" in found


def test_there_are_four_of_them() -> None:
    assert len(TCPSERVERS) == 4


def test_the_rules_are_rules(system: MailSystem, tmp_path: Path) -> None:
    text = block("192.168")
    done = run([BIN / "tcprules", tmp_path / "cdb", tmp_path / "tmp"], text.encode() + b"\n")
    assert (done.returncode, done.stderr) == (0, b"")
    with started(system, TCPSERVERS[1].replace("-RH", f"-x {tmp_path}/cdb -X -RH")) as server:
        assert b"-ERR TLS required" in server.talk(POP3_LOGIN + b"QUIT\r\n")  # from this host, by the last rule


def test_by_a_rule_who_shows_no_certificate_does_not_get_in(system: MailSystem, tmp_path: Path) -> None:
    text = block("192.0.2.9").replace("192.0.2.9", "127.0.0.1")
    done = run([BIN / "tcprules", tmp_path / "cdb", tmp_path / "tmp"], text.encode() + b"\n")
    assert (done.returncode, done.stderr) == (0, b"")
    submission = TCPSERVERS[3].replace("-RH", f"-x {tmp_path}/cdb -RH")
    roots = f"CAFILE={system.path}/control/servercert.pem "
    mail = b"EHLO h\r\nMAIL FROM:<a@b>\r\nQUIT\r\n"
    with started(system, roots + submission) as server:
        assert b"\r\n530 " in server.talk(mail)
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert conversation(server.port, trusting(system), b"STARTTLS\r\n", mail) == b""
        assert eventually(lambda: b": peer did not return a certificate\n" in server.log.text)


def test_a_renewed_certificate_is_used_from_the_next_connection_on(system: MailSystem, tmp_path: Path) -> None:
    script = tmp_path / "use-certificate"
    script.write_text(here(system, block("#!/bin/sh")))
    script.chmod(0o755)
    file = system.path / "control" / "servercert.pem"
    kept = tmp_path / "kept"
    shutil.copy2(file, kept)
    lineage = tmp_path / "mail.example"
    lineage.mkdir()
    assert run([BIN / "mkcert", tmp_path / "new.pem", HOST]).returncode == 0
    key, mark, certificate = (tmp_path / "new.pem").read_text().partition("-----BEGIN CERTIFICATE-----")
    (lineage / "privkey.pem").write_text(key)
    (lineage / "fullchain.pem").write_text(mark + certificate)
    try:
        with started(system, TCPSERVERS[0]) as server:
            assert conversation(server.port, trusting(system), b"", POP3_LOGIN) == NO_MAILDIR
            before = trusting(system)
            done = run([script], env=path(system, RENEWED_LINEAGE=str(lineage)))
            assert (done.returncode, done.stderr) == (0, b"")
            assert file.read_text() == (tmp_path / "new.pem").read_text()
            assert file.stat().st_mode & 0o777 == 0o400
            assert conversation(server.port, trusting(system), b"", POP3_LOGIN) == NO_MAILDIR
            with pytest.raises(ssl.SSLError):
                conversation(server.port, before, b"", POP3_LOGIN)
            (lineage / "fullchain.pem").write_text(mark + certificate[:100])
            done = run([script], env=path(system, RENEWED_LINEAGE=str(lineage)))
            assert done.returncode != 0
            assert conversation(server.port, trusting(system), b"", POP3_LOGIN) == NO_MAILDIR
    finally:
        os.replace(shutil.copy2(kept, file.with_name("kept")), file)


def test_stunnel_stands_in_front(system: MailSystem, tmp_path: Path) -> None:
    stunnel = needs("stunnel4")
    text = here(system, block("cert = "))
    pop3d, smtpd = (started(system, block(start)) for start in ("tcpserver -RH -l0 127", "SSL=1"))
    with pop3d, smtpd:
        ports = {}
        for name, old in (("pop3s", 995), ("submissions", 465)):
            ports[name] = free_port()
            text = text.replace(f"accept = {old}\n", f"accept = 127.0.0.1:{ports[name]}\n")
        text = text.replace(":1109", f":{pop3d.port}").replace(":1465", f":{smtpd.port}")
        (tmp_path / "conf").write_text(f"foreground = yes\npid =\n{text}\n")
        with open(tmp_path / "log", "wb") as log:
            process = subprocess.Popen([stunnel, tmp_path / "conf"], stderr=log, stdout=log, stdin=subprocess.DEVNULL)
        try:
            assert eventually(lambda: answers(ports["pop3s"]) and answers(ports["submissions"]))
            context = trusting(system)
            assert conversation(ports["pop3s"], context, b"", POP3_LOGIN) == NO_MAILDIR
            found = conversation(ports["submissions"], context, b"", b"EHLO x\r\nQUIT\r\n")
            assert b"250-AUTH LOGIN PLAIN\r\n" in found
        finally:
            process.terminate()
            process.wait(TIMEOUT)


def test_sslserver_takes_the_command_line_of_ucspi_ssl(system: MailSystem) -> None:
    control = system.path / "control"
    key, mark, certificate = (control / "servercert.pem").read_text().partition("-----BEGIN CERTIFICATE-----")
    (control / "key.pem").write_text(key)
    (control / "cert.pem").write_text(mark + certificate)
    text = block("CERTFILE").replace(" 0 pop3s ", " 127.0.0.1 0 ").replace("sslserver ", "exec sslserver -1v ")
    with Server([*system.prefix, "sh", "-c", here(system, text)], env=path(system)) as server:
        assert conversation(server.port, trusting(system), b"", POP3_LOGIN) == NO_MAILDIR


def test_openssl_and_curl_look_at_it(system: MailSystem) -> None:
    shell(system, block("openssl x509"))
    at_once, later, curl = block("openssl s_").splitlines()
    with started(system, TCPSERVERS[0]) as pop3sd, started(system, TCPSERVERS[1]) as pop3d:
        for command in (at_once.replace(":995", f":{pop3sd.port}"), later.replace(":110 ", f":{pop3d.port} ")):
            done = run(["sh", "-c", here(system, command)], env=path(system))
            assert b"Verify return code: 0 (ok)" in done.stdout, done.stderr
        text = here(system, curl).replace(":110", f":{pop3d.port}").replace("-u max", f"-sS -u {USER}:{PASSWORD}")
        text = text.replace("pop3://mail.example/", f"pop3://mail.example:{pop3d.port}/")
        done = run(["sh", "-c", text], env=path(system))
        assert b"no $HOME/Maildir" in done.stderr or done.returncode in (8, 67), done.stderr


def test_the_services_are_started_as_the_page_says() -> None:
    needs_root()
    with MailSystem() as system:
        shutil.copytree(ROOT / "service" / "pop3d", system.path / "service" / "pop3d")
        shutil.rmtree(system.path / "service" / "pop3d" / "log")
        for name, port_name in (("pop3d", "pop3"), ("pop3sd", "pop3s"), ("smtpsd", "465")):
            system.ports[name] = system._place(name, port_name)
        up = {name: port for name, port in system.ports.items() if name not in ("pop3sd", "smtpsd")}
        system.start("ours")
        assert eventually(lambda: all(map(answers, up.values())))
        shell(system, block("cd /var/qmail/control"))
        shell(system, block("cd /var/qmail/service"))
        assert eventually(lambda: all(map(answers, system.ports.values())))
        context = trusting(system)

        def offers(service: str, command: bytes) -> bool:
            with contextlib.suppress(OSError, AssertionError):  # the one from before svc -t answers otherwise
                return conversation(system.ports[service], context, command, b"QUIT\r\n") != b""
            return False

        # A connection that the old server leaves unanswered is given up after TIMEOUT: there is time for more than one.
        for service, command in (("pop3d", b"STLS\r\n"), ("smtpd", b"STARTTLS\r\n"), ("submission", b"STARTTLS\r\n")):
            assert eventually(lambda service=service, command=command: offers(service, command), 3 * TIMEOUT)  # type: ignore[misc]
        assert conversation(system.ports["pop3sd"], context, b"", POP3_LOGIN) == NO_MAILDIR
        assert offers("smtpsd", b"")
