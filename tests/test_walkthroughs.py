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
from functools import partial
from pathlib import Path

import pytest

from tests import dnsserver
from tests.accounts import GID as SYSTEM_GID
from tests.accounts import UID as SYSTEM_UID
from tests.accounts import SystemAccounts, system_accounts
from tests.commands.test_splogger import DEV
from tests.helpers import PYTHON, environment, eventually, needs, run
from tests.mailsystem import HOST, UIDS, MailSystem, needs_root, started
from tests.mailsystem import PASSWORD as MAIL_PASSWORD
from tests.mailsystem import USER as MAIL_USER
from tests.servers import GID, MESSAGES, NAME, PASSWORD, TIMEOUT, UID, Home, Server, home, pop3, read_all, serve
from tests.smtpsink import FAIR, sink
from tests.virtualsystem import VirtualSystem

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


LOGGED = """
import os, re, signal, socket, subprocess, sys
listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listening.settimeout(20)
listening.bind("/dev/log")
shell = subprocess.Popen(["sh", "-c", sys.argv[1]], start_new_session=True)
port = listening.recv(8192)  # what -1 prints goes there too
print(port, flush=True)
with socket.create_connection(("127.0.0.1", int(port.split()[-1]))) as connection:
    connection.sendall(sys.argv[2].encode())
    print(listening.recv(8192))
os.killpg(shell.pid, signal.SIGKILL)
"""


def test_the_log_goes_to_syslog_by_splogger(mail: MailSystem) -> None:
    """`2>&1 | splogger smtpd 3`: facility 3 is daemon."""
    line = f"{W7} checkpassword-authd true 2>&1 | splogger smtpd 3"
    line = line.replace(" 0 smtp ", " 127.0.0.1 0 ").replace("tcpserver ", "tcpserver -1 ", 1)
    folder = mail.folder / "devices"
    folder.mkdir()
    inside = [*mail.prefix, "sh", "-c", DEV, str(folder), PYTHON, "-c", LOGGED, line]
    done = run([*inside, f"helo there\r\n{login(MAIL_USER, 'guess')}\r\n"], env=mail.env(AUTHDELAY="0"), cwd=mail.path)
    assert done.returncode == 0, done.stderr
    _, said = done.stdout.decode().splitlines()
    failed = f"qmail-smtpd: 127.0.0.1 auth failed: user {MAIL_USER} mechanism PLAIN"
    assert re.search(rf"<30>.* smtpd: \d+\.\d{{6}} {failed}", said), said


# W8. Virtual domains, and W9. SMTP after POP: on the services of doc/VPOPMAIL.md, which a test of its own follows.


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualSystem]:
    needs_root()
    with VirtualSystem() as system:
        (system.vhome / "etc").mkdir()
        (system.vhome / "etc" / "defaultdomain").write_text("klient1.example\n")
        for line in ("vadddomain klient1.example secret", "vadddomain klient2.example secret",
                     "vadduser pepa@klient1.example secret", "vadduser pepa@klient2.example other"):  # fmt: skip
            silently(system, line)
        system.link()
        system.start("ours")
        assert eventually(system.is_up), system.log.text
        yield system


def silently(system: MailSystem, line: str) -> None:
    done = system.run(line.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


W8 = "tcpserver -H -R 0 110 qmail-popup host.example vchkpw qmail-pop3d Maildir"


def vpop3d(system: VirtualSystem) -> Server:
    words = W8.replace(" 0 110 ", " 127.0.0.1 0 ").replace("tcpserver ", "tcpserver -1 ", 1).split()
    return Server([*system.prefix, *words], system.env(VPOPMAIL_SYSLOG="-"), system.path)


def asked(server: Server, name: str, password: str, *lines: str, source: str = "127.0.0.1") -> bytes:
    """What is said behind the password, and then."""
    with server.connect(source) as connection:
        text = "".join(f"{line}\r\n" for line in (f"user {name}", f"pass {password}", *lines, "quit"))
        connection.sendall(text.encode())
        return read_all(connection).split(b"\r\n", 2)[2]


def reads(server: Server, name: str, password: str, text: bytes) -> bool:
    """Whether it is in the first message. One is not listed before the second of its delivery is over."""
    return text in asked(server, name, password, "retr 1")


def test_two_users_of_one_name_in_two_domains_from_the_first_day_to_the_last(virtual: VirtualSystem) -> None:
    system, pepas = virtual, ("pepa@klient1.example", "pepa@klient2.example")
    for number, address in enumerate(pepas, 1):
        system.mail("vsmtpd", address, f"for {number}")
    assert system.refusal("nobody@klient1.example") == "550 sorry, no mailbox here by that name (#5.1.1)"
    assert eventually(lambda: all(system.maildir(*address.split("@")) for address in pepas))
    with dnsserver.running(NAMES), vpop3d(system) as server:
        for name, password, number in (
            ("pepa@klient1.example", "secret", 1), ("pepa%klient1.example", "secret", 1), ("pepa", "secret", 1),
            ("Pepa@Klient2.example", "other", 2), ("pepa%klient2.example", "other", 2),
        ):  # fmt: skip
            assert eventually(partial(reads, server, name, password, b"\nSubject: for %d\r\n" % number))
        refused = b"-ERR authorization failed\r\n"
        assert asked(server, "pepa@klient2.example", "secret") == refused
        silently(system, "vpasswd pepa@klient1.example newsecret")
        assert asked(server, "pepa@klient1.example", "secret") == refused
        assert asked(server, "pepa@klient1.example", "newsecret").startswith(b"+OK")
        assert asked(server, "pepa@klient2.example", "other").startswith(b"+OK")
        silently(system, "vdeluser pepa@klient1.example")
        assert asked(server, "pepa@klient1.example", "newsecret") == refused
        assert system.refusal("pepa@klient1.example").startswith("550")
        silently(system, "vdeldomain klient1.example")
        assert system.refusal("pepa@klient1.example").startswith("553")
        assert system.refusal("pepa@klient2.example") == ""
        assert asked(server, "pepa@klient2.example", "other").startswith(b"+OK")
    for name in ("control/rcpthosts", "control/virtualdomains", "users/assign"):
        text = (system.path / name).read_text()
        assert ("klient1" in text, "klient2" in text) == (False, True)
    assert [folder.name for folder in (system.vhome / "domains").iterdir() if folder.is_dir()] == ["klient2.example"]
    silently(system, "vcheck")


def test_who_has_read_mail_may_send_some_for_a_while(virtual: VirtualSystem) -> None:
    system, etc, far = virtual, virtual.vhome / "etc", "max@far.example"
    (etc / "tcp.smtp").write_text('127.0.0.3:allow,RELAYCLIENT=""\n:allow\n')
    (etc / "roaming").write_text("60\n")
    silently(system, "clearopensmtp")
    assert system.refusal(far, "127.0.0.3") == ""
    assert system.refusal(far, "127.0.0.2").startswith("553")
    with dnsserver.running(NAMES), vpop3d(system) as server:
        assert asked(server, "pepa@klient2.example", "other", source="127.0.0.2").startswith(b"+OK")
        assert system.refusal(far, "127.0.0.2") == ""
        assert system.refusal(far, "127.0.0.3") == ""
        assert system.refusal(far, "127.0.0.4").startswith("553")
    lines = (etc / "open-smtp").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["127.0.0.2"]
    text, _, then = lines[0].partition("\t")
    (etc / "open-smtp").write_text(f"{text}\t{int(then) - 3601}\n")  # an hour and a second later
    silently(system, "clearopensmtp")
    assert system.refusal(far, "127.0.0.2").startswith("553")
    assert system.refusal(far, "127.0.0.3") == ""


# W12. Tables known from sendmail (all of them: doc/SENDMAIL.md), W13. Scanning and filtering, and W14. A machine that
# only relays; in a system with deliveries.


@pytest.fixture(scope="module")
def delivering() -> Iterator[MailSystem]:
    with started(deliver=True) as system:
        maildir = system.run(["setpriv", f"--reuid={UIDS['qmaild'] - 2}", "maildirmake", system.max / "Maildir"])
        assert maildir.returncode == 0, maildir.stderr
        yield system


def send(system: MailSystem, recipient: str, text: bytes = b"Subject: hello\n\nHello.\n", **changes: str) -> None:
    argv = ["qmail-inject", "-f", f"from@{HOST}", recipient]
    done = run([*system.prefix, *argv], text, system.env(**changes))
    assert (done.returncode, done.stderr) == (0, b"")


def mailbox(system: MailSystem) -> list[bytes]:
    return [path.read_bytes() for path in (system.max / "Maildir" / "new").iterdir()]


def owned(path: Path, text: str, user: int) -> None:
    path.write_text(text)
    os.chown(path, user, -1)


def test_mail_to_nobody_bounces_at_once(delivering: MailSystem) -> None:
    before = len(mailbox(delivering))
    argv = ["qmail-inject", "-f", f"{MAIL_USER}@{HOST}", f"nobody-here@{HOST}"]
    assert run([*delivering.prefix, *argv], b"Subject: x\n\n", delivering.env()).returncode == 0
    assert eventually(lambda: len(mailbox(delivering)) == before + 1)
    text = b"<nobody-here@%s>:\nSorry, no mailbox here by that name. (#5.1.1)\n" % HOST.encode()
    assert any(text in message for message in mailbox(delivering))


def test_an_alias_reaches_a_user_a_program_and_a_list(delivering: MailSystem) -> None:
    system = delivering
    aliases = system.path / "aliases"
    (system.path / "list").write_text(f"{MAIL_USER}\n")
    (system.folder / "pipes").mkdir()
    (system.folder / "pipes").chmod(0o777)
    piped = system.folder / "pipes" / "piped"
    aliases.write_text(f'info: {MAIL_USER}\nlist: :include:{system.path}/list\nprogram: "|cat > {piped}"\n')
    for name, file in (("newaliases", aliases), ("newinclude", system.path / "list")):
        done = system.run([name, file])
        assert (done.returncode, done.stderr) == (0, b"")
    owned(system.path / "alias" / ".qmail-default", f"| fastforward {aliases}.cdb\n", UIDS["alias"])
    before = len(mailbox(system))
    for box in ("info", "list", "program"):
        send(system, f"{box}@{HOST}", b"Subject: for %s\n\n" % box.encode())
    assert eventually(lambda: len(mailbox(system)) == before + 2 and piped.exists())
    subjects = re.findall(rb"^Subject: (.*)", b"\n".join(mailbox(system)), re.MULTILINE)
    assert {b"for info", b"for list"} <= set(subjects)


def test_a_domain_has_a_catch_all(delivering: MailSystem) -> None:
    system = delivering
    system.control(virtualdomains=f"klient1.example:{MAIL_USER}-klient1")
    assert system.run(["svc", "-h", system.path / "service" / "qmail-send"]).returncode == 0
    owned(system.max / ".qmail-klient1-default", "./Maildir/\n", UIDS["qmaild"] - 2)
    before = len(mailbox(system))
    send(system, "anybody@klient1.example")
    assert eventually(lambda: len(mailbox(system)) == before + 1)
    assert any(
        f"Delivered-To: {MAIL_USER}-klient1-anybody@klient1.example\n".encode() in text for text in mailbox(system)
    )


def test_a_scanner_in_front_of_the_queue_refuses_with_its_own_text(delivering: MailSystem) -> None:
    scanner = delivering.path / "scanner"
    scanner.write_text("#!/bin/sh\ngrep -q VIRUS && { printf 'Dno viruses here (#5.7.1)' >&6; exit 82; }\nexit 31\n")
    scanner.chmod(0o755)
    with smtpd(delivering, W6.replace("-x tcp.smtp.cdb", "-RHl0"), QMAILQUEUE=str(scanner)) as server:
        mail = f"helo x\r\nmail from:<a@b.example>\r\nrcpt to:<{MAIL_USER}@{HOST}>\r\ndata\r\n"
        assert b"\r\n554 no viruses here (#5.7.1)\r\n" in server.talk(f"{mail}VIRUS\r\n.\r\nquit\r\n".encode())


def test_a_filter_stands_in_a_line_of_a_qmail_file(delivering: MailSystem) -> None:
    needs("procmail")
    system, user = delivering, UIDS["qmaild"] - 2
    owned(system.max / ".qmail-filtered", "| preline procmail -p rc\n", user)
    owned(system.max / "rc", "DEFAULT=$HOME/Maildir/\n:0\n* ^Subject:.*junk\n$HOME/junk\n", user)
    before = len(mailbox(system))
    for subject in (b"junk", b"letter"):
        send(system, f"{MAIL_USER}-filtered@{HOST}", b"Subject: %s\n\nx\n" % subject)
    junk = system.max / "junk"
    assert eventually(
        lambda: len(mailbox(system)) == before + 1 and junk.exists() and junk.read_bytes().endswith(b"\n\n")
    )
    assert b"Subject: junk" in junk.read_bytes()


def test_all_mail_goes_to_a_smart_host_and_waits_while_the_line_is_down(delivering: MailSystem) -> None:
    system = delivering
    with sink(FAIR) as probe:
        port = probe.port
    system.control(smtproutes=f":127.0.0.1:{port}|max|secret")
    send(system, "someone@far.example")

    def listed() -> bytes:
        return system.run(["qmail-queuectl", "list"]).stdout

    assert eventually(lambda: b"someone@far.example: Sorry, I wasn't able to establish an SMTP connection" in listed())
    script = {**FAIR, "EHLO": b"250-x\r\n250 AUTH PLAIN\r\n", "AUTH": b"334 \r\n", "other": b"235 ok\r\n"}
    with sink(script, port=port) as server:
        system.run(["qmail-tcpok"])
        done = system.run(["qmail-queuectl", "retry", "--host", "far.example"])
        assert done.returncode == 0, done.stderr
        assert eventually(lambda: any(session.ended for session in server.sessions))
        lines = server.sessions[-1].lines
        assert any(line.startswith(b"AUTH PLAIN") for line in lines)
        assert eventually(lambda: not listed())
