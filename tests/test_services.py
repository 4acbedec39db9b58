"""The services of mail that comes in, as `make home` installs them, under each supervisor."""

import re
import smtplib
import socket
import ssl
from pathlib import Path

import pytest

from tests.helpers import BIN, ROOT, eventually, needs, run
from tests.mailsystem import HOST, PASSWORD, SUPERVISORS, UIDS, USER, MailSystem, needs_root, started


def uid_of(pid: int) -> int:
    found = re.search(r"^Uid:\t(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_mail_comes_in_by_smtp_and_by_submission(supervisor: str) -> None:
    with started(supervisor) as system:
        with system.client("smtpd") as client:
            assert "auth" not in client.esmtp_features
            client.sendmail("max@elsewhere.example", [f"postmaster@{HOST}"], "Subject: one\r\n\r\n1\r\n")
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail("max@elsewhere.example", ["max@elsewhere.example"], "Subject: two\r\n\r\n2\r\n")
        with system.client("submission") as client:
            assert client.mail("max@elsewhere.example")[0] == 530
            client.login(USER, PASSWORD)
            client.sendmail("max@elsewhere.example", ["max@elsewhere.example"], "Subject: three\r\n\r\n3\r\n")
        one, three = system.messages()
        assert (one.sender, one.recipients) == (b"max@elsewhere.example", [f"postmaster@{HOST}".encode()])
        assert b"\nSubject: one\n\n1\n" in one.text
        assert b" with ESMTPA; " in three.text
        assert {one.uid, three.uid} == {UIDS["qmaild"]}
        assert b"invoked from network" in one.received
        assert uid_of(system.process("smtpd")) == uid_of(system.process("submission")) == UIDS["qmaild"]
        assert uid_of(system.process("qmail-queued")) == UIDS["qmailq"]
        assert eventually(lambda: "tcpserver: end " in system.text_of_log("smtpd"))


def test_a_wrong_password_is_refused_and_logged_by_both() -> None:
    with started("ours") as system, system.client("submission") as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(USER, "wrong")
        assert eventually(lambda: "127.0.0.1 auth failed: user q-max" in system.text_of_log("submission"))
        assert eventually(lambda: f"refused 127.0.0.1 {USER}" in system.text_of_log("authd"))


def test_without_rcpthosts_smtpd_does_not_start() -> None:
    needs_root()
    with MailSystem() as system:
        system.control(rcpthosts=None)
        system.start("ours")
        assert eventually(lambda: "no control/rcpthosts: anybody could relay" in system.text_of_log("smtpd"))


def test_a_rule_lets_a_neighbour_relay_without_a_restart() -> None:
    with started("ours") as system:
        with system.client("smtpd") as client, pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@b.example", ["c@d.example"], "\r\n")
        system.rules('127.:allow,RELAYCLIENT=""\n:allow\n')
        with system.client("smtpd") as client:
            client.sendmail("a@b.example", ["c@d.example"], "\r\n")
        assert system.message().recipients == [b"c@d.example"]


def test_while_the_queue_service_is_down_nothing_is_taken() -> None:
    needs_root()
    with MailSystem() as system:
        (system.path / "service" / "qmail-queued" / "down").touch()
        system.start("ours")
        assert eventually(lambda: _serves(system))
        with system.client("smtpd") as client, pytest.raises(smtplib.SMTPDataError, match="451"):
            client.sendmail("a@b.example", [f"c@{HOST}"], "\r\n")
        assert run([needs("svc"), "-u", system.path / "service" / "qmail-queued"]).returncode == 0
        assert eventually(system.is_up)
        with system.client("smtpd") as client:
            client.sendmail("a@b.example", [f"c@{HOST}"], "\r\n")
        assert len(system.messages()) == 1


def _serves(system: MailSystem) -> bool:
    try:
        system.client("smtpd").close()
    except OSError:
        return False
    return True


def test_a_home_is_installed_without_a_word_where_the_accounts_exist() -> None:
    needs_root()
    with MailSystem() as system:
        assert [line for line in system.said.splitlines() if "libpass" not in line] == []
        assert (system.queue / "mess").stat().st_uid == UIDS["qmailq"]
        assert (system.queue / "lock" / "trigger").stat().st_uid == UIDS["qmails"]
        mains = list((system.path / "service").glob("*/log/main"))
        assert len(mains) == 9
        assert {main.stat().st_uid for main in mains} == {UIDS["qmaill"]}


TLS_PORTS = {"pop3sd": "pop3s", "smtpsd": "465"}


def encrypted(system: MailSystem, port: int) -> ssl.SSLSocket:
    """A client that trusts the system's own certificate alone."""
    context = ssl.create_default_context(cafile=system.path / "control" / "servercert.pem")
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname=HOST)


def test_with_a_certificate_all_services_speak_tls_and_take_passwords_under_it() -> None:
    needs_root()
    with MailSystem() as system:
        certificate = system.path / "control" / "servercert.pem"
        assert run([BIN / "mkcert", certificate, HOST]).returncode == 0
        for service, name in TLS_PORTS.items():
            (system.path / "service" / service / "down").unlink()
            system.ports[service] = system._place(service, name)
        system.start("ours")
        assert eventually(system.is_up), system.log.text
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False
        for service in ("smtpd", "submission"):
            with system.client(service) as client:
                client.starttls(context=context)
                client.ehlo()
                if service == "submission":
                    client.login(USER, PASSWORD)
                client.sendmail("max@elsewhere.example", [f"postmaster@{HOST}"], "Subject: x\r\n\r\n1\r\n")
        with encrypted(system, system.ports["smtpsd"]) as secured, secured.makefile("rwb") as stream:
            assert stream.readline().startswith(b"220 ")
            stream.write(b"EHLO x\r\nQUIT\r\n")
            stream.flush()
            assert b"AUTH LOGIN PLAIN\r\n" in stream.read()
        with encrypted(system, system.ports["pop3sd"]) as secured, secured.makefile("rwb") as stream:
            assert stream.readline().startswith(b"+OK <")
            stream.write(f"USER {USER}\r\nPASS {PASSWORD}\r\n".encode())
            stream.flush()
            assert stream.read() == b"+OK \r\n-ERR this user has no $HOME/Maildir\r\n"
        mail, submitted = system.messages()
        assert b" with ESMTPS (TLSv1." in mail.text
        assert b" with ESMTPSA (TLSv1." in submitted.text


# What the services of virtual domains have that those whose place they take do not
VIRTUAL = {
    "vpop3d": ("pop3d", {"checkpassword": "vchkpw"}),
    "vsmtpd": ("smtpd", {
        "QMAILHOME/control/smtp.rules.cdb": "vhome/etc/tcp.smtp.cdb", "envuidgid qmaild": "envuidgid vpopmail",
        '/bin:$PATH"\n': '/bin:$PATH" RCPTCHECK=vchkrcpt\n', "smtpd: fatal": "vsmtpd: fatal",
        " || cert=\n": " || cert=; vhome=${VPOPMAILHOME:-~vpopmail}\n",
    }),
    "vauthd": ("authd", {"authd checkpassword": "authd -T vchkpw", "HOME PATH\n": "HOME PATH TCPLOCALPORT=587\n"}),
}  # fmt: skip


@pytest.mark.parametrize("name", VIRTUAL)
def test_a_service_of_virtual_domains_is_the_other_one_but_for_a_few_words(name: str) -> None:
    other, words = VIRTUAL[name]
    texts = []
    for folder in (other, name):
        text = (ROOT / "service" / folder / "run").read_text()
        texts.append("\n".join(line for line in text.splitlines() if not line.startswith("# ")) + "\n")
    for theirs, ours in words.items():
        assert theirs in texts[0]
        texts[0] = texts[0].replace(theirs, ours)
    assert texts[0] == texts[1]
    logs = [(ROOT / "service" / folder / "log" / "run").read_text() for folder in (other, name)]
    assert logs[0] == logs[1]
    assert (ROOT / "service" / name / "down").exists()
    assert f"[{name}](../service/{name}/run)" in (ROOT / "doc" / "VPOPMAIL.md").read_text()


def test_the_services_that_need_a_certificate_or_domains_are_down_until_there_are_some() -> None:
    with started("ours") as system:
        for service in (*TLS_PORTS, *VIRTUAL):
            assert (system.path / "service" / service / "down").exists()
            assert system.process(service) == 0
