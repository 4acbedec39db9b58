"""Real clients send through tcpserver and qmail-smtpd: swaks, msmtp, curl and Python's smtplib."""

import os
import random
import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dialogues import NAME, NOBODY, PASSWORD
from tests.helpers import environment, eventually, needs, run
from tests.servers import OURS, Server, read_all, serve
from tests.smtp import CHECKER, SMTPD, Mailhost, mailhost

__all__ = ["mailhost"]

USER, SECRET = NAME.decode(), PASSWORD.decode()

# A client gets the server, a message with LF line ends, a mechanism or "", a password and a folder of its own. It sends
# the message from s@here.test to r@there.test and q@there.test; returns whether that went well, and what it said.
Client = Callable[[Server, bytes, str, str, Path], tuple[bool, bytes]]

SENDER, RECIPIENTS = "s@here.test", ["r@there.test", "q@there.test"]


def called(argv: Sequence[str | Path], folder: Path, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return run(argv, input, env=environment(HOME=str(folder), USER="max"), cwd=folder)


def swaks(server: Server, message: bytes, mechanism: str, password: str, folder: Path) -> tuple[bool, bytes]:
    (folder / "mail").write_bytes(message)
    login = ["--auth", mechanism, "--auth-user", USER, "--auth-password", password] if mechanism else []
    argv = [needs("swaks"), "--server", "127.0.0.1", "--port", str(server.port), "--from", SENDER, "--no-data-fixup"]
    data = message.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n") + b".\r\n"
    (folder / "data").write_bytes(data)
    done = called([*argv, "--to", ",".join(RECIPIENTS), "--data", f"@{folder}/data", *login], folder)
    return done.returncode == 0, done.stdout + done.stderr


def msmtp(server: Server, message: bytes, mechanism: str, password: str, folder: Path) -> tuple[bool, bytes]:
    argv = [needs("msmtp"), "--file=/dev/null", "--host=127.0.0.1", f"--port={server.port}", f"--from={SENDER}"]
    login = [f"--auth={mechanism.lower()}", f"--user={USER}", f"--passwordeval=echo {password}"] if mechanism else []
    as_it_is = ["--set-from-header=off", "--set-date-header=off", "--set-msgid-header=off"]
    done = called([*argv, "--tls=off", *as_it_is, *login, "--", *RECIPIENTS], folder, message)
    return done.returncode == 0, done.stdout + done.stderr


def curl(server: Server, message: bytes, mechanism: str, password: str, folder: Path) -> tuple[bool, bytes]:
    (folder / "mail").write_bytes(message.replace(b"\n", b"\r\n"))
    argv = [needs("curl"), "-sSv", "--disable", f"smtp://127.0.0.1:{server.port}/client.test", "--mail-from", SENDER]
    to = [word for recipient in RECIPIENTS for word in ("--mail-rcpt", recipient)]
    login = ["--user", f"{USER}:{password}", "--login-options", f"AUTH={mechanism}"] if mechanism else []
    done = called([*argv, *to, *login, "--upload-file", folder / "mail"], folder)
    return done.returncode == 0, done.stdout + done.stderr


def python(server: Server, message: bytes, mechanism: str, password: str, folder: Path) -> tuple[bool, bytes]:
    try:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
            client.ehlo()
            if mechanism:
                client.user, client.password = USER, password
                authobject = getattr(client, "auth_" + mechanism.lower().replace("-", "_"))
                client.auth(mechanism, authobject)
            client.sendmail(SENDER, RECIPIENTS, message.replace(b"\n", b"\r\n"))
    except smtplib.SMTPException as e:
        return False, repr(e).encode()
    return True, b""


CLIENTS: list[Client] = [swaks, msmtp, curl, python]
MECHANISMS = [
    *((client, mechanism) for client in (msmtp, curl, python) for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5")),
    *((swaks, mechanism) for mechanism in ("PLAIN", "LOGIN")),
]

MESSAGES = {
    "short": b"Subject: one\n\nA line.\n",
    "dots": b"Subject: dots\n\n.\n..\n.dot\n. \nend\n.\n",
    "eight bits": b"Subject: \xc3\xbc\n\n\xff\xfe\x80 \xc3\xa4\n",
    "empty lines": b"Subject: x\n\n\n\n\n",
    "large": b"Subject: large\n\n" + b"".join(b"%06d " % n + b"." * (n % 70) + b"\n" for n in range(25000)),
}


@contextmanager
def served(host: Mailhost, *words: str, **changes: str) -> Iterator[Server]:
    options = ["-RH", "-l0", *(["-u", str(NOBODY), "-g", str(NOBODY)] if os.geteuid() == 0 else [])]
    with serve(OURS, SMTPD, *words, options=options, env=host.environment(**changes)) as server:
        yield server


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_client_sends_a_message_as_it_is(client: Client, name: str, mailhost: Mailhost, tmp_path: Path) -> None:
    mailhost.control(rcpthosts=b"there.test")
    with served(mailhost) as server:
        done, said = client(server, MESSAGES[name], "", "", tmp_path)
    assert done, said
    wanted = [recipient.encode() for recipient in RECIPIENTS]
    assert mailhost.queued() == [(SENDER.encode(), wanted, MESSAGES[name])], said


@pytest.mark.parametrize(("client", "mechanism"), MECHANISMS)
def test_a_client_logs_in_and_may_relay(client: Client, mechanism: str, mailhost: Mailhost, tmp_path: Path) -> None:
    mailhost.control(rcpthosts=b"none")
    with served(mailhost, CHECKER, "true", SMTPAUTH="!+cram") as server:
        done, said = client(server, MESSAGES["short"], mechanism, SECRET, tmp_path)
    assert done, said
    assert b" with ESMTPA; " in mailhost.queued(received=True)[0][2]


@pytest.mark.parametrize(("client", "mechanism"), MECHANISMS)
def test_a_client_understands_that_the_password_is_wrong(
    client: Client, mechanism: str, mailhost: Mailhost, tmp_path: Path
) -> None:
    with served(mailhost, CHECKER, "true", SMTPAUTH="!+cram", AUTHDELAY="0") as server:
        done, said = client(server, MESSAGES["short"], mechanism, "wrong", tmp_path)
        assert not done, said
        server.line(f"qmail-smtpd: 127.0.0.1 auth failed: user max mechanism {mechanism}")
    assert mailhost.queued() == []


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_understands_that_a_recipient_is_refused(client: Client, mailhost: Mailhost, tmp_path: Path) -> None:
    mailhost.control(rcpthosts=b"other")
    with served(mailhost) as server:
        done, said = client(server, MESSAGES["short"], "", "", tmp_path)
    assert not done
    assert b"rcpthosts" in said or client is curl
    assert mailhost.queued() == []


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_understands_that_a_message_is_too_large(client: Client, mailhost: Mailhost, tmp_path: Path) -> None:
    mailhost.control(databytes=b"100000")
    with served(mailhost) as server:
        done, said = client(server, MESSAGES["large"], "", "", tmp_path)
    assert not done, said
    assert mailhost.queued() == []


def test_smtplib_sends_many_messages_on_one_connection_with_utf8_addresses(mailhost: Mailhost) -> None:
    with served(mailhost) as server, smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.ehlo()
        for feature in ("pipelining", "8bitmime", "smtputf8", "enhancedstatuscodes", "size"):
            assert client.has_extn(feature)
        for number in range(5):
            options = ("SMTPUTF8", "BODY=8BITMIME")
            client.sendmail("gr\u00fc\u00dfe@x.test", ["\u4f60@y.test"], b"%d\r\n" % number, options)
    addresses = ("gr\u00fc\u00dfe@x.test".encode(), ["\u4f60@y.test".encode()])
    assert mailhost.queued() == [(*addresses, b"%d\n" % number) for number in range(5)]
    assert b" with UTF8SMTP; " in mailhost.queued(received=True)[0][2]


def test_a_pipelining_client_in_packets_of_any_size_gets_every_message_through(mailhost: Mailhost) -> None:
    one = b"MAIL FROM:<s@x>\r\nRCPT TO:<r@y>\r\nDATA\r\n%d\r\n..\r\n.\r\n"
    sent = b"EHLO x\r\n" + b"".join(one % number for number in range(20)) + b"QUIT\r\n"
    chance = random.Random(1)
    with served(mailhost) as server, server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = 0
        while at < len(sent):
            size = chance.randint(1, 50)
            connection.sendall(sent[at : at + size])
            at += size
        answers = read_all(connection)
    assert answers.count(b"250 2.0.0 ok ") == 20
    assert answers.endswith(b"221 2.0.0 mail.example\r\n")
    assert mailhost.queued() == [(b"s@x", [b"r@y"], b"%d\n.\n" % number) for number in range(20)]


def test_connections_that_are_cut_leave_nothing_behind(mailhost: Mailhost) -> None:
    whole = b"EHLO x\r\nMAIL FROM:<s@x>\r\nRCPT TO:<r@y>\r\nDATA\r\nSubject: x\r\n\r\ny\r\n.\r\n"
    with served(mailhost) as server:
        for size in range(0, len(whole), 7):
            server.talk(whole[:size])
        assert eventually(lambda: not server.children())
    assert list(mailhost.out.glob("*.envelope")) == []
