"""What an administrator types, as in the guides: each line as it is written there, with high ports on loopback."""

import base64
import fcntl
import os
import pty
import re
import select
import socket
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests import dnsserver
from tests.accounts import GID as SYSTEM_GID
from tests.accounts import UID as SYSTEM_UID
from tests.accounts import SystemAccounts, system_accounts
from tests.helpers import environment, run
from tests.mailsystem import HOST, MailSystem, started
from tests.mailsystem import PASSWORD as MAIL_PASSWORD
from tests.mailsystem import USER as MAIL_USER
from tests.servers import GID, MESSAGES, NAME, PASSWORD, TIMEOUT, UID, Home, Server, home, pop3, read_all, serve

__all__ = ["system_accounts"]

NAMES: dnsserver.Records = {("1.0.0.127.in-addr.arpa", "PTR"): ["localhost.example."]}


@pytest.fixture
def at() -> Iterator[Home]:
    with home() as made:
        yield made


class Telnet:
    """A person who types a line and waits for the answer."""

    def __init__(self, connection: socket.socket) -> None:
        self.file = connection.makefile("rb")
        self.connection = connection

    def types(self, line: str) -> bytes:
        self.connection.sendall(line.encode() + b"\r\n")
        return self.file.readline()

    def rest_of_message(self) -> bytes:
        lines = list(iter(self.file.readline, b".\r\n"))
        return b"".join(lines)


# W1. POP3


@pytest.mark.parametrize("options", ["", "-RHD"])
def test_a_telnet_session_reads_a_message(at: Home, options: str) -> None:
    at.deliver(*MESSAGES)
    with dnsserver.running(NAMES) as dns:
        env = at.environment(**dns.environment)
        words = ["tcpserver", "-1", *options.split(), "127.0.0.1", "0"]
        with Server([*words, *pop3()], env) as server, server.connect() as connection:
            telnet = Telnet(connection)
            assert re.fullmatch(rb"\+OK <\d+\.\d+@host\.example>\r\n", telnet.file.readline())
            assert telnet.types(f"user {NAME}") == b"+OK \r\n"
            assert telnet.types(f"pass {PASSWORD}") == b"+OK \r\n"
            assert telnet.types("stat") == b"+OK 3 %d\r\n" % sum(map(len, MESSAGES))
            assert telnet.types("retr 2") == b"+OK \r\n"
            assert telnet.rest_of_message() == b"Subject: dots\r\n\r\n..\r\n...\r\n..dot at the start\r\nend.\r\n\r\n"
            assert telnet.types("quit") == b"+OK \r\n"
            assert telnet.file.read() == b""
            assert server.log.text == b""


def test_accounts_of_the_system_log_in(system_accounts: SystemAccounts) -> None:
    maildir = system_accounts.home / "Mail-of-W1"
    for folder in (maildir, *(maildir / sub for sub in ("tmp", "new", "cur"))):
        folder.mkdir(mode=0o700)
        os.chown(folder, SYSTEM_UID, SYSTEM_GID)
    words = ["qmail-popup", "host.example", "checkpassword", "qmail-pop3d", maildir.name]
    with serve("tcpserver", *words, prefix=system_accounts.prefix) as server:
        answer = server.talk(b"user q-right\r\npass secret\r\nstat\r\nquit\r\n")
        assert answer.splitlines()[1:] == [b"+OK ", b"+OK ", b"+OK 0 0", b"+OK "]
        answer = server.talk(b"user q-right\r\npass guess\r\n")
        assert answer.splitlines()[1:] == [b"+OK ", b"-ERR authorization failed"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can bind the port of pop3: run the tests as root")
def test_the_port_is_a_name_of_services(at: Home) -> None:
    address = f"127.88.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    with Server(["tcpserver", "-1RHD", address, "pop3", *pop3()], at.environment(), host=address) as server:
        assert server.port == 110
        with dnsserver.running(NAMES):
            assert server.connect().recv(3) == b"+OK"


PERL = r"""#!/usr/bin/perl
open(my $packet, "<&=3") or exit 111; local $/; my ($name, $password) = split /\0/, <$packet>; close $packet;
exit 1 unless $name eq "anybody" and $password eq "at all";
print "+OK $name, $ENV{PROTO}\r\n"; $| = 1; exec @ARGV; exit 111;
"""


def test_a_checkpassword_in_another_language_takes_the_place_of_ours(at: Home) -> None:
    path = at.folder / "checkpassword"
    path.write_text(PERL)
    path.chmod(0o755)
    env = at.environment()
    env["PATH"] = f"{at.folder}:{env['PATH']}"
    words = ["qmail-popup", "host.example", "checkpassword", "echo", "and the next"]
    with serve("tcpserver", *words, env=env) as server:
        assert server.talk(b"user anybody\npass at all\n").endswith(b"+OK anybody, TCP\r\nand the next\n")
        assert server.talk(b"user anybody\npass guess\n").endswith(b"-ERR authorization failed\r\n")


# W2. By hand, on a terminal


def session(argv: Sequence[str], typed: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The lines on the screen of a terminal where argv runs and typed is typed, each line after an answer."""
    terminal, other = pty.openpty()
    attributes = termios.tcgetattr(other)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(other, termios.TCSANOW, attributes)

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(argv, stdin=other, stdout=other, stderr=other, env=env, preexec_fn=take_terminal)
    os.close(other)
    screen = b""
    lines = iter(typed)
    answers = 0
    try:
        while select.select([terminal], [], [], TIMEOUT)[0]:
            try:
                block = os.read(terminal, 4096)
            except OSError:  # how a terminal says that nobody is left on the other side
                break
            screen += block
            if screen.count(b"\n") > answers:
                answers = screen.count(b"\n")
                os.write(terminal, next(lines, "").encode() + b"\n")
        process.wait(TIMEOUT)
    finally:
        process.kill()
        os.close(terminal)
    return screen.decode().replace("\r", "").splitlines()


def test_the_program_behind_the_checker_shows_where_and_who_it_is(at: Home) -> None:
    typed = [f"user {NAME}", f"pass {PASSWORD}"]
    lines = session(["qmail-popup", "blah", "checkpassword-flatfile", "pwd"], typed, at.environment())
    assert re.fullmatch(r"\+OK <\d+\.\d+@blah>", lines[0])
    assert lines[1:] == ["+OK ", str(at.home)]
    lines = session(["qmail-popup", "blah", "checkpassword-flatfile", "id"], typed, at.environment())
    assert re.fullmatch(rf"uid={UID}(\(.*\))? gid={GID}(\(.*\))?.*", lines[-1])


def test_the_wrong_password_is_refused_on_a_terminal(at: Home) -> None:
    lines = session(["qmail-popup", "blah", "checkpassword-flatfile", "pwd"], ["user max", "pass x"], at.environment())
    assert lines[1:] == ["+OK ", "-ERR authorization failed"]


def test_an_account_of_the_system_is_shown_by_pwd_and_id(system_accounts: SystemAccounts) -> None:
    typed = ["user q-right", "pass secret"]
    lines = session([*system_accounts.prefix, "qmail-popup", "blah", "checkpassword", "pwd"], typed, environment())
    assert lines[1:] == ["+OK ", str(system_accounts.home)]
    lines = session([*system_accounts.prefix, "qmail-popup", "blah", "checkpassword", "id"], typed, environment())
    assert re.fullmatch(rf"uid={SYSTEM_UID}\(\S+\) gid={SYSTEM_GID} groups={SYSTEM_GID}", lines[-1])


# W5. Rules

TCP_SMTP = '127.0.0.1:allow,RELAYCLIENT=""\n192.168.10.:allow,RELAYCLIENT=""\n:allow\n'
COMPILE = ["sh", "-c", "tcprules tcp.smtp.cdb tcp.smtp.tmp < tcp.smtp"]


@pytest.fixture
def tcp_smtp(tmp_path: Path) -> Path:
    (tmp_path / "tcp.smtp").write_text(TCP_SMTP)
    done = run(COMPILE, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return tmp_path


def test_tcprulescheck_shows_what_a_neighbour_may(tcp_smtp: Path) -> None:
    done = run(["sh", "-c", "TCPREMOTEIP=192.168.10.7 tcprulescheck tcp.smtp.cdb"], cwd=tcp_smtp)
    assert done.stdout == b"rule 192.168.10.:\nset environment variable RELAYCLIENT=\nallow connection\n"
    assert done.returncode == 0


def test_the_new_cdb_replaces_the_old_one_whole(tcp_smtp: Path) -> None:
    with open(tcp_smtp / "tcp.smtp.cdb", "rb") as old:
        before = old.read()
        (tcp_smtp / "tcp.smtp").write_text(":deny\n")
        assert run(COMPILE, cwd=tcp_smtp).returncode == 0
        old.seek(0)
        assert old.read() == before  # whoever has it open reads on
    assert (tcp_smtp / "tcp.smtp.cdb").read_bytes() != before
    assert not (tcp_smtp / "tcp.smtp.tmp").exists()


def test_a_bad_line_leaves_the_old_cdb_in_force_and_is_named(tcp_smtp: Path) -> None:
    before = (tcp_smtp / "tcp.smtp.cdb").read_bytes()
    (tcp_smtp / "tcp.smtp").write_text("127.0.0.1:allow\n:wrong\n")
    done = run(COMPILE, cwd=tcp_smtp)
    assert done.returncode in (100, 111)
    assert b":wrong" in done.stderr
    assert b"2" in done.stderr
    assert (tcp_smtp / "tcp.smtp.cdb").read_bytes() == before


def test_a_running_tcpserver_uses_new_rules_from_the_next_connection_on(tcp_smtp: Path) -> None:
    words = ["sh", "-c", "echo ${RELAYCLIENT-unset}; cat"]
    with serve("tcpserver", *words, options=["-RHl0", "-x", "tcp.smtp.cdb"], cwd=tcp_smtp) as server:
        assert server.talk() == b"\n"
        assert server.talk(source="127.0.0.2") == b"unset\n"
        with server.connect() as connection:
            assert connection.recv(1) == b"\n"
            (tcp_smtp / "tcp.smtp").write_text("127.0.0.2:allow\n:deny\n")
            assert run(COMPILE, cwd=tcp_smtp).returncode == 0
            assert server.talk() == b""
            assert server.talk(source="127.0.0.2") == b"unset\n"
            connection.sendall(b"still here")
            assert connection.recv(10) == b"still here"


# W6. SMTP with relay control, and W7. SMTP AUTH: qmaild and nofiles are 604 and 601, and may write no queue and read no
# passwords; qmail-queued and qmail-authd run as services.


@pytest.fixture(scope="module")
def mail_system() -> Iterator[MailSystem]:
    with started() as system:
        yield system


@pytest.fixture
def mail(mail_system: MailSystem, tcp_smtp: Path) -> MailSystem:
    """Empty, with the rules of W5 in its home."""
    mail_system.empty()
    for name in ("tcp.smtp", "tcp.smtp.cdb"):
        (mail_system.path / name).write_bytes((tcp_smtp / name).read_bytes())
    return mail_system


def smtpd(mail: MailSystem, line: str, **changes: str) -> Server:
    """The line as it is written, but for the address and port."""
    words = line.replace(" 0 smtp ", " 127.0.0.1 0 ").replace("tcpserver ", "tcpserver -1 ", 1).split()
    return Server([*mail.prefix, *words], mail.env(**changes), mail.path)


def says(server: Server, *lines: str, source: str = "127.0.0.1") -> list[str]:
    """The codes of the replies to these lines."""
    with server.connect(source) as connection:
        connection.sendall("".join(f"{line}\r\n" for line in ("helo there", *lines, "quit")).encode())
        text = read_all(connection).decode()
    return [line[:3] for line in text.splitlines()][2:-1]


W6 = "tcpserver -x tcp.smtp.cdb -v -u 604 -g 601 0 smtp qmail-smtpd"
LETTER = ("data", "Subject: w6", "", "w6", ".")


def test_mail_is_taken_for_the_hosts_in_rcpthosts_or_from_those_who_may_relay(mail: MailSystem) -> None:
    with dnsserver.running(NAMES) as dns, smtpd(mail, W6, **dns.environment) as server:
        here, there = ("mail from:<a@b.example>", f"rcpt to:<max@{HOST}>"), ("rcpt to:<max@far.example>",)
        assert says(server, *here, *there, *LETTER, source="127.0.0.2") == ["250", "250", "553", "354", "250"]
        assert says(server, *here, *there, *LETTER) == ["250", "250", "250", "354", "250"]
    first, second = mail.messages()
    assert first.recipients == [b"max@" + HOST.encode()]
    assert second.recipients == [b"max@" + HOST.encode(), b"max@far.example"]
    assert {first.uid, second.uid} == {604}


def test_without_the_file_rcpthosts_mail_is_taken_for_all_domains(mail: MailSystem) -> None:
    mail.control(rcpthosts=None)
    try:
        with dnsserver.running(NAMES) as dns, smtpd(mail, W6, **dns.environment) as server:
            spoken = says(server, "mail from:<a@b.example>", "rcpt to:<max@far.example>", *LETTER, source="127.0.0.2")
        assert spoken == ["250", "250", "354", "250"]
    finally:
        mail.control(rcpthosts=HOST)


W7 = "tcpserver -H -R -l 0 -t 1 -c 100 -x tcp.smtp.cdb -u604 -g601 0 smtp qmail-smtpd"

# A checker that stands for one which is set-uid: everybody with one password.
VCHKPW = """#!/usr/bin/perl
open(my $packet, "<&=3") or exit 111; local $/; my ($name, $password) = split /\\0/, <$packet>; close $packet;
exit 3 unless $password eq "secret"; exec @ARGV; exit 111;
"""


def login(name: str, password: str) -> str:
    return "auth plain " + base64.b64encode(f"\0{name}\0{password}".encode()).decode()


@pytest.mark.parametrize("rest", ["checkpassword-authd true", "host.example checkpassword-authd true",
                                  "vchkpw true", "host.example vchkpw true"])  # fmt: skip
def test_who_gives_the_right_password_may_relay(mail: MailSystem, rest: str) -> None:
    checker = mail.path / "vchkpw"
    checker.write_text(VCHKPW)
    checker.chmod(0o755)
    path = f"{mail.path}:{mail.env()['PATH']}"
    far = ("mail from:<max@far.example>", "rcpt to:<max@far.example>", *LETTER)
    (mail.path / "tcp.smtp").write_text(":allow\n")
    assert run(COMPILE, cwd=mail.path).returncode == 0
    with smtpd(mail, f"{W7} {rest}", PATH=path, AUTHDELAY="0") as server:
        assert says(server, login(MAIL_USER, MAIL_PASSWORD), *far) == ["235", "250", "250", "354", "250"]
        assert says(server, login(MAIL_USER, "guess"), *far[:2]) == ["535", "250", "553"]
    assert f"({MAIL_USER}@127.0.0.1)\n  by 0 with ESMTPA; ".encode() in mail.message().text


def test_a_forgotten_checker_lets_nobody_in(mail: MailSystem) -> None:
    with smtpd(mail, f"{W7} host.example true") as server:
        assert says(server, login(MAIL_USER, MAIL_PASSWORD))[0][0] == "5"
        assert b"AUTH" not in server.talk(b"ehlo there\r\nquit\r\n")
        server.log.line("qmail-smtpd: warning: AUTH is not offered: true cannot be the checker: .*")
