"""doc/SENDMAIL.md: every line of it does what it says, with the programs that read these files."""

import os
import re
from pathlib import Path

import pytest

from qmailpy.formats import assign, smtproutes
from qmailpy.mta.rewriting import LOCAL, REMOTE, Rewriting
from qmailpy.stores.users import candidates
from tests.helpers import BIN, ROOT, run
from tests.queuehomes import QueueHome
from tests.smtp import Mailhost, mailhost

__all__ = ["mailhost"]

PAGE = (ROOT / "doc" / "SENDMAIL.md").read_text()

Files = dict[str, list[str]]


def rows(page: str) -> dict[str, Files]:
    """By each line of sendmail: what to write into which files."""
    found: dict[str, Files] = {}
    source = file = ""
    for line in re.findall(r"^ {4}(.*  .*)$", page, re.MULTILINE):
        columns = re.split(r" {2,}", line)
        text = columns.pop()
        if columns and columns[0]:
            source = columns[0]
        if columns[1:]:
            file = columns[1]
        found.setdefault(source, {}).setdefault(file, []).append(text)
    return found


ROWS = rows(PAGE)
WHOLE = {"control/smtp.rules", "control/smtproutes", "/etc/aliases"}  # are tested as one file each
COMMANDS = re.findall(r"^ {4}(tcprules .*|newaliases|qmail-newu|qmail-newmrh)$", PAGE, re.MULTILINE)


def text(source: str, file: str) -> bytes:
    return ("\n".join(ROWS[source][file]) + "\n").encode()


def all_of(file: str) -> bytes:
    """What the page puts into one of WHOLE, line after line."""
    return b"".join([text(source, file) for source in ROWS if file in ROWS[source]])


def test_the_page_is_read_as_it_is_meant() -> None:
    assert len(ROWS) == 44
    assert ROWS["To:partner.example RELAY"] == {"control/rcpthosts": ["partner.example", ".partner.example"]}
    assert ROWS["nobody: /dev/null"] == {"DIR/.qmail-nobody": ["# nothing"]}
    assert {len(lines) for files in ROWS.values() for lines in files.values()} == {1, 2}


# SMTP


def answer(host: Mailhost, sender: str, recipient: str, **env: str) -> bytes:
    """The reply to RCPT."""
    dialogue = f"HELO x\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nQUIT\r\n"
    done = run([BIN / "qmail-smtpd"], dialogue.encode(), host.environment(**env))
    return done.stdout.splitlines()[3]


@pytest.mark.parametrize(
    ("source", "file", "sender", "recipient", "others"),
    [
        ("From:bad@spam.example REJECT", "badmailfrom", "Bad@spam.example", "joe@here", "good@spam.example joe@here"),
        ("From:spam.example REJECT", "badmailfrom", "any@SPAM.example", "joe@here", "any@x.spam.example joe@here"),
        ("To:gone@example.org REJECT", "badrcptto", "s@t", "gone@example.org", "s@t joe@example.org"),
        ("To:old.example.org REJECT", "badrcptto", "s@t", "any@old.example.org", "s@t any@example.org"),
    ],
)
def test_senders_and_recipients_are_refused(
    mailhost: Mailhost, source: str, file: str, sender: str, recipient: str, others: str
) -> None:
    mailhost.control(rcpthosts=b"here\nexample.org\n.example.org\n", **{file: text(source, f"control/{file}")})
    assert answer(mailhost, sender, recipient).startswith(b"553 sorry, your envelope ")
    assert answer(mailhost, *others.split()) == b"250 ok"


@pytest.mark.parametrize(
    ("source", "hosts"),
    [
        ("To:partner.example RELAY", ["partner.example", "x.partner.example"]),
        ("local-host-names: example.org", ["example.org"]),
        ("relay-domains: example.net", ["example.net", "x.example.net"]),
    ],
)
def test_mail_is_taken_for_hosts(mailhost: Mailhost, source: str, hosts: list[str]) -> None:
    mailhost.control(rcpthosts=text(source, "control/rcpthosts"))
    for host in hosts:
        assert answer(mailhost, "s@t", f"any@{host}") == b"250 ok"
    assert answer(mailhost, "s@t", "any@elsewhere.example").startswith(b"553 sorry, that domain")


# tcp rules

RELAYS = b"set environment variable RELAYCLIENT=\nallow connection\n"
DENIES = b"deny connection\n"


@pytest.mark.parametrize(
    ("ip", "name", "outcome"),
    [
        ("192.0.2.7", None, DENIES),
        ("192.0.2.8", None, b"set environment variable RBLSMTPD=-no\nallow connection\n"),
        ("192.0.3.8", None, DENIES),
        ("192.0.3.9", None, b"allow connection\n"),
        ("192.0.4.1", "spam.example", DENIES),
        ("192.0.4.1", "a.spam.example", DENIES),
        ("198.51.100.1", None, RELAYS),
        ("2001:db8:7:ffff::1", None, RELAYS),
        ("2001:db8:8::1", None, b"allow connection\n"),
        ("127.0.0.1", None, RELAYS),
        ("192.0.4.1", "example.net", RELAYS),
        ("192.0.4.1", "x.example.net", RELAYS),
        ("203.0.113.99", None, RELAYS),
        ("192.0.4.1", "elsewhere.example", b"allow connection\n"),
    ],
)
def test_clients_are_judged_by_rules(mailhost: Mailhost, ip: str, name: str | None, outcome: bytes) -> None:
    mailhost.control(**{"smtp.rules": all_of("control/smtp.rules")})
    (command,) = (command for command in COMMANDS if command.startswith("tcprules"))
    done = run(["sh", "-c", command], env=mailhost.environment(), cwd=mailhost.path)
    assert (done.returncode, done.stderr) == (0, b"")
    env = mailhost.environment(TCPREMOTEIP=ip, **({} if name is None else {"TCPREMOTEHOST": name}))
    done = run([BIN / "tcprulescheck", "control/smtp.rules.cdb"], env=env, cwd=mailhost.path)
    assert done.stdout.partition(b"\n")[2].endswith(outcome)
    assert (b"RELAYCLIENT" in done.stdout) == (b"RELAYCLIENT" in outcome)


def test_a_client_may_hear_a_text(mailhost: Mailhost) -> None:
    variable = text('Connect:192.0.2.8 ERROR:"550 no"', "control/smtp.rules").decode().strip().partition(",")[2]
    name, _, value = variable.partition("=")
    env = mailhost.environment(**{name: value.strip('"')})
    done = run([BIN / "rblsmtpd", "false"], b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n", env)
    assert b"\r\n553 no\r\n" in done.stdout


# Deliveries


class Aliases:
    """A home with the folder of alias, in which qmail-local delivers."""

    def __init__(self, path: Path) -> None:
        self.home = QueueHome(path / "home")
        self.folder = path / "alias"
        self.folder.mkdir(mode=0o755)

    def write(self, source: str) -> None:
        for file in ROWS[source]:
            folder, _, name = file.partition("/")
            if folder == "DIR":
                (self.folder / name).write_bytes(text(source, file))

    def deliver(self, ext: str, *options: str, domain: str = "here.example", sender: str = "s@t") -> tuple[int, bytes]:
        """Exit code and output of qmail-local for ext@domain, which alias has got."""
        mess = self.home.path / "message"
        mess.write_bytes(b"Subject: test\n\ntext\n")
        words = ["alias", str(self.folder), f"alias-{ext}", "-", ext, domain, sender, "./Mailbox"]
        argv = ["sh", "-c", 'exec "$@" < "$0"', str(mess), str(BIN / "qmail-local"), *options, "--", *words]
        done = run(argv, env=self.home.env())
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def aliases(tmp_path: Path) -> Aliases:
    os.umask(0o022)
    return Aliases(tmp_path)


@pytest.mark.parametrize(
    ("source", "ext", "shown"),
    [
        ("postmaster: joe", "Postmaster", "forward joe\ndid 0+0+0\n"),
        ("staff: joe, mary@example.net", "staff", "forward joe\nforward mary@example.net\n"),
        ("owner-staff: joe", "staff-owner", "forward joe\n"),
        ("first.last: joe", "First.Last", "forward joe\n"),
        ("archive: /var/mail/archive", "archive", "mbox /var/mail/archive\n"),
        ('weather: "|weather -q"', "weather", "program preline weather -q\n"),
        ("nobody: /dev/null", "nobody", "did 0+0+0\n"),
        ("bye: error:5.1.1:550 moved away", "bye", "program bouncesaying 'moved away'\n"),
        ("info@virt.example joe", "virt-info", "forward joe\n"),
        ("@virt.example mary@example.net", "virt-other", "forward mary@example.net\n"),
        ("/etc/aliases", "any", "program  fastforward -d /etc/aliases.cdb\n"),
    ],
)
def test_a_qmail_file_says_it(aliases: Aliases, source: str, ext: str, shown: str) -> None:
    aliases.write(source)
    code, said = aliases.deliver(ext, "-n")
    assert code == 0
    wanted = shown.partition("did ")[0].encode()
    assert re.fullmatch(re.escape(wanted) + rb"did \d+\+\d+\+\d+\n", said)


@pytest.mark.parametrize(
    ("source", "ext", "said"),
    [
        ("bye: error:5.1.1:550 moved away", "bye", b"moved away"),
        ("no@virt.example error:nouser x", "virt-no", b"x"),
        ("none.example error:5.1.2:550 x", "none-any", b"x"),
    ],
)
def test_mail_bounces_with_a_text(aliases: Aliases, source: str, ext: str, said: bytes) -> None:
    aliases.write(source)
    assert aliases.deliver(ext) == (100, said + b"\n")


@pytest.mark.parametrize(
    ("source", "ext"),
    [("@moved.example %1@new.example", "moved-Info"), ("old.example new.example", "old-Info")],
)
def test_mail_goes_on_to_another_domain(aliases: Aliases, source: str, ext: str) -> None:
    aliases.write(source)
    code, said = aliases.deliver(ext)
    assert code == 0, said
    assert aliases.home.message().recipients == [b"Info@new.example"]


def test_mail_to_nobody_is_gone(aliases: Aliases) -> None:
    aliases.write("nobody: /dev/null")
    assert aliases.deliver("nobody") == (0, b"did 0+0+0\n")


def test_the_owner_of_an_alias_is_the_sender(aliases: Aliases) -> None:
    aliases.write("staff: joe, mary@example.net")
    aliases.write("owner-staff: joe")
    assert aliases.deliver("staff")[0] == 0
    message = aliases.home.message()
    assert (message.sender, message.recipients) == (b"alias-staff-owner@here.example", [b"joe", b"mary@example.net"])


def test_aliases_with_hosts_are_followed(aliases: Aliases) -> None:
    file = aliases.folder / "aliases"
    file.write_bytes(all_of("/etc/aliases"))
    assert run([BIN / COMMANDS[COMMANDS.index("newaliases")], file], env=aliases.home.env()).returncode == 0
    line = text("/etc/aliases", "DIR/.qmail-default").replace(b"/etc/aliases.cdb", b"./aliases.cdb")
    (aliases.folder / ".qmail-default").write_bytes(line)
    for ext, domain, wanted in (
        ("sales", "virt.example", b"joe@me.example"),
        ("any", "virt2.example", b"mary@example.net"),
    ):
        code, said = aliases.deliver(ext, domain=domain)
        assert code == 0, said
        assert aliases.home.message().recipients == [wanted]
        aliases.home.empty()
    assert aliases.deliver("other", domain="virt.example")[0] == 100


def test_a_forward_file_is_followed(aliases: Aliases) -> None:
    (aliases.folder / ".qmail").write_bytes(text("~/.forward", "~/.qmail"))
    (aliases.folder / ".forward").write_text("mary@example.net\n")
    mess = aliases.home.path / "message"
    mess.write_bytes(b"\n")
    words = ["joe", str(aliases.folder), "joe", "", "", "here.example", "s@t", "./Mailbox"]
    done = run(["sh", "-c", 'exec "$@" < "$0"', mess, BIN / "qmail-local", "--", *words], env=aliases.home.env())
    assert done.returncode == 0, done.stderr
    assert aliases.home.message().recipients == [b"mary@example.net"]
    assert not (aliases.folder / "Maildir").exists()


# Routes

VIRTUAL = {
    "info@virt.example joe": ("info@virt.example", "alias-virt-info@virt.example"),
    "@moved.example %1@new.example": ("Info@moved.example", "alias-moved-Info@moved.example"),
    "@user.example joe+%1": ("info@user.example", "joe-info@user.example"),
    "old.example new.example": ("a@OLD.example", "alias-old-a@OLD.example"),
    "joes.example local:joe": ("a@joes.example", "joe-a@joes.example"),
    "none.example error:5.1.2:550 x": ("a@none.example", "alias-none-a@none.example"),
}


@pytest.mark.parametrize("source", VIRTUAL)
def test_a_domain_is_given_to_an_account(source: str) -> None:
    recipient, local = VIRTUAL[source]
    lines = text(source, "control/virtualdomains").decode().split()
    rewriting = Rewriting([], [], [line.encode() for line in lines], b"me.example")
    assert rewriting.rewrite(recipient.encode()) == (LOCAL, local.encode())
    assert rewriting.rewrite(b"a@elsewhere.example") == (REMOTE, b"a@elsewhere.example")
    account, dash, ext = candidates(local.encode().partition(b"@")[0])[-1]
    assert account in (b"alias", b"joe")
    files = [file.removeprefix("DIR/.qmail-") for file in ROWS[source] if file.startswith("DIR/")]
    default = f"{ext.decode().partition('-')[0]}-default"
    assert (dash, files) in [(b"-", []), (b"-", [ext.decode()]), (b"-", [default])]


def test_a_local_host_is_local() -> None:
    locals_ = text("local-host-names: example.org", "control/locals").split()
    assert Rewriting(locals_, [], [], b"me").rewrite(b"a@Example.org") == (LOCAL, b"a@Example.org")


@pytest.mark.parametrize(
    ("host", "relay"),
    [
        ("far.example", b"relay.example"),
        ("x.far.example", b"192.0.2.25"),
        ("v6.example", b"[2001:db8::25]"),
        ("direct.example", None),
        ("elsewhere.example", b"smart.example"),
    ],
)
def test_a_host_has_a_relay(host: str, relay: bytes | None) -> None:
    value = smtproutes.find(all_of("control/smtproutes"), smtproutes.host_keys(host.encode()))
    assert value is not None
    route = smtproutes.parse(value)
    assert (route and (route.relay, route.port)) == (relay and (relay, 25))


def test_a_name_is_one_more_of_an_account(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "assign").write_bytes(text("info@example.org joe", "users/assign"))
    done = run([BIN / COMMANDS[COMMANDS.index("qmail-newu")]], env={**os.environ, "QMAILHOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, b"")
    table = dict(assign.records((tmp_path / "users" / "assign").read_bytes()))
    assert assign.search(table.get, b"Info") == b"joe\x00503\x0078\0/home/joe\0\0"


# Senders


def inject(home: QueueHome, **env: str) -> bytes:
    done = run([BIN / "qmail-inject", "-n", "-a", "x@y.z"], b"\n", home.env(USER="joe", **env))
    (field,) = (line for line in done.stdout.splitlines() if line.startswith(b"From: "))
    return field


def test_a_sender_has_another_address(tmp_path: Path) -> None:
    home = QueueHome(tmp_path / "home")
    lines = text("joe Joe.Doe@example.org", "environment").decode().split()
    settings = dict(line.split("=") for line in lines)
    assert inject(home, **settings) == b"From: Joe.Doe@example.org"
    host = text("MASQUERADE_AS(`example.org')", "control/defaulthost").decode().strip()
    home.control(defaulthost=host)
    assert inject(home) == b"From: joe@example.org"


def test_no_line_of_the_page_is_left_out() -> None:
    here = Path(__file__).read_text()
    others = {source for source, files in ROWS.items() if not files.keys() <= WHOLE}
    assert [source for source in others if source not in here] == []
    assert set(COMMANDS) > {"newaliases", "qmail-newu", "qmail-newmrh"}
