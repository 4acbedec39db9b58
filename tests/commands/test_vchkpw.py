import base64
import hashlib
import hmac
import os
import re
import shutil
import socket
import stat
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.commands import vchkpw
from qmailpy.stores.vpopmail import appwords
from qmailpy.unix import crypt
from tests.accounts import SystemAccounts, hashed, sha512, system_accounts
from tests.authd import Authd
from tests.helpers import BIN, needs
from tests.virtual import GID, OWNER, ROOT, SHA512, Virtual, virtual

__all__ = ["system_accounts", "virtual"]

OURS = str(BIN / "vchkpw")
CLIENT = "192.0.2.1"
STAMP = b"<1.2@host.example>"
DES = (crypt.crypt(bytearray(b"secret"), b"ns") or b"").decode()
MD5 = (crypt.crypt(bytearray(b"secret"), b"$1$saltsalt$") or b"").decode()

FLAGS = {"pop": 0x02, "webmail": 0x04, "imap": 0x08, "smtp": 0x800}
PORTS = {"pop": "110", "imap": "143", "smtp": "587"}
NO_PASSWD_CHNG, NO_RELAY, V_OVERRIDE = 0x01, 0x20, 0x2000


def account(user: str, stored: str = SHA512, flags: int = 0, clear: str = "", folder: str = "DIR/") -> str:
    line = f"{user}:{stored}:1:{flags}:{user}:{folder}{user if folder else ''}:NOQUOTA"
    return line + f":{clear}" if clear else line


def refused(virtual: Virtual, packet: bytes, **changes: str) -> tuple[int, str]:
    """The exit code, and what is logged."""
    result = virtual.login(packet, **changes)
    assert result.stdout == b""
    return result.returncode, result.stderr.decode()


def accepted(virtual: Virtual, packet: bytes, **changes: str) -> bool:
    return bool(virtual.login(packet, **changes).stdout == b"in\n")


# who, where, and with which environment


@pytest.mark.parametrize("cold", ["", "1"])
def test_the_right_password_runs_the_program_as_the_domains_owner(virtual: Virtual, cold: str) -> None:
    folder = virtual.domain("a.example", account("max")) / "max"
    show = 'pwd; echo "$USER $HOME $SHELL $VPOPUSER"; id -u; id -g; ls /proc/$$/fd'
    result = virtual.login(b"Max@A.Example\0secret\0", "argv0", "sh", "sh", "-c", show, QMAILPY_COLD=cold)
    assert result.stdout.decode().split("\n")[:4] == [
        str(folder),
        f"max {folder} NOLOGIN max@a.example",
        str(OWNER.pw_uid),
        str(GID),
    ]
    assert result.stdout.split()[-3:] == [b"0", b"1", b"2"]
    assert result.stderr == b""


def test_two_users_of_one_name_in_two_domains_are_two(virtual: Virtual) -> None:
    one = virtual.domain("a.example", account("max"))
    other = virtual.domain("b.example", account("max", hashed(b"other")))
    for domain, folder, password in ("a.example", one, "secret"), ("b.example", other, "other"):
        result = virtual.login(f"max@{domain}\0{password}\0".encode(), "pwd")
        assert result.stdout.decode() == f"{folder}/max\n"
    assert not accepted(virtual, b"max@a.example\0other\0")


@pytest.mark.parametrize("name", ["max@a.example", "MAX%a.EXAMPLE", "max/a.example", "max@alias.example", "max"])
def test_names_are_split_as_in_the_original(virtual: Virtual, name: str) -> None:
    virtual.domain("a.example", account("max"))
    virtual.domain("alias.example", alias="a.example")
    (virtual.etc / "defaultdomain").write_text("a.example\n")
    assert accepted(virtual, f"{name}\0secret\0".encode())


def test_other_separators_can_be_configured(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max"))
    assert not accepted(virtual, b"max!a.example\0secret\0")
    (virtual.etc / "separators").write_text("@!\n")
    assert accepted(virtual, b"max!a.example\0secret\0")
    assert accepted(virtual, b"max@a.example\0secret\0")
    assert not accepted(virtual, b"max%a.example\0secret\0")
    assert accepted(virtual, b"max%a.example\0secret\0", VPOPMAIL_SEPARATORS="%")


def test_the_domain_may_come_from_the_environment_or_the_local_address(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max"))
    virtual.domain("b.example", account("max", hashed(b"other")))
    (virtual.etc / "defaultdomain").write_text("a.example\n")
    (virtual.etc / "ip_alias_map").write_text("192.0.2.25 b.example\n2001:db8::25 b.example\n")
    assert accepted(virtual, b"max\0secret\0", TCPLOCALIP="192.0.2.26")
    assert accepted(virtual, b"max\0other\0", TCPLOCALIP="192.0.2.25")
    assert accepted(virtual, b"max\0other\0", TCPLOCALIP="2001:0db8::25")
    assert accepted(virtual, b"max\0other\0", VPOPMAIL_DOMAIN="b.example")


# what is right


@pytest.mark.parametrize("stored", [SHA512, DES, MD5, "{CRYPT}" + SHA512, "{MD5-CRYPT}" + MD5, "{x}" + DES])
def test_every_hash_that_vpopmail_wrote_is_known(virtual: Virtual, stored: str) -> None:
    virtual.domain("a.example", account("max", stored))
    assert accepted(virtual, b"max@a.example\0secret\0")
    assert refused(virtual, b"max@a.example\0secreT\0")[0] == 3


def test_digests_work_where_the_password_itself_is_kept(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max", clear="sécret"), account("joe"))
    apop = hashlib.md5(STAMP + "sécret".encode()).hexdigest().encode()
    cram = hmac.new("sécret".encode(), STAMP, "md5").hexdigest().encode()
    for digest, mechanism, port in (apop, "APOP", "110"), (cram, "CRAM-MD5", "587"):
        packet = b"max@a.example\0" + digest + b"\0" + STAMP + b"\0"
        result = virtual.login(packet, TCPLOCALPORT=port, VPOPMAIL_LOG="y", TCPREMOTEIP=CLIENT)
        assert result.stdout == b"in\n"
        assert f": ({mechanism}) login success max@a.example:{CLIENT}\n" in result.stderr.decode()
        assert not accepted(virtual, packet.replace(b"max", b"joe"))
        assert not accepted(virtual, packet.replace(STAMP, b"<9.9@host.example>"))
        assert not accepted(virtual, packet.replace(STAMP, b""))
    assert accepted(virtual, b"max@a.example\0secret\0" + STAMP + b"\0")  # the hash is of that one


@pytest.mark.parametrize("stored", ["", "!" + SHA512, "*", "x", "{CRYPT}", "!"])
@pytest.mark.parametrize("password", [b"", b"secret", b"*", b"x"])
def test_an_account_without_a_hash_is_closed(virtual: Virtual, stored: str, password: bytes) -> None:
    folder = virtual.domain("a.example", account("max", stored, clear="secret"))
    appwords.add(bytes(folder / "max"), b"phone", appwords.hashed(bytearray(b"secret")))
    virtual._give(folder)
    digest = hashlib.md5(STAMP + b"secret").hexdigest().encode()
    for packet in b"%s\0" % password, digest + b"\0" + STAMP:
        code, _ = refused(virtual, b"max@a.example\0" + packet + b"\0", TCPLOCALPORT="110")
        assert code == (15 if not stored and packet != b"\0" else 13 if packet == b"\0" else 3)


def test_a_hash_of_no_known_form_is_temporary(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max", "$foo$bar"))
    assert refused(virtual, b"max@a.example\0secret\0") == (
        111,
        "vchkpw: fatal: unable to check hashes of the form $foo$\n",
    )


def test_an_app_password_opens_what_its_account_may_and_is_noted(virtual: Virtual) -> None:
    folder = virtual.domain("a.example", account("max", flags=FLAGS["imap"])) / "max"
    password = appwords.new()
    appwords.add(bytes(folder), b"phone", appwords.hashed(password))
    virtual._give(folder)
    packet = b"max@a.example\0" + bytes(password) + b"\0"
    for port in "110", "587":
        result = virtual.login(packet, TCPLOCALPORT=port, TCPREMOTEIP=CLIENT, VPOPMAIL_LOG="y")
        assert result.stdout == b"in\n"
        assert b"(APP phone) login success max@a.example:192.0.2.1\n" in result.stderr
    assert (folder / ".app-passwords" / ".phone").read_text() == CLIENT
    assert (folder / "lastauth").read_text() == CLIENT
    assert refused(virtual, packet, TCPLOCALPORT="143")[0] == 1
    assert accepted(virtual, b"max@a.example\0secret\0", TCPLOCALPORT="110")
    assert refused(virtual, packet.replace(b"max", b"joe"))[0] == 3


# what for


@pytest.mark.parametrize(
    ("port", "program", "client", "name", "kind"),
    [
        ("25", "x", CLIENT, "smtp", "smtp"),
        ("465", "x", CLIENT, "smtps", "smtp"),
        ("587", "x", "127.0.0.1", "submission", "smtp"),
        ("110", "imapd", CLIENT, "pop3", "pop"),
        ("995", "x", CLIENT, "pop3s", "pop"),
        ("143", "true", CLIENT, "imap", "imap"),
        ("993", "x", CLIENT, "imaps", "imap"),
        ("110", "x", "127.0.0.1", "webmail", "webmail"),
        ("143", "x", "::1", "webmail", "webmail"),
        ("2525", "/bin/true", CLIENT, "2525", "smtp"),
        ("2143", "/usr/bin/imapd", CLIENT, "2143", "imap"),
        ("", "qmail-pop3d", CLIENT, "0", "pop"),
        ("0110x", "x", CLIENT, "pop3", "pop"),
    ],
)
def test_port_program_and_client_say_what_a_login_is_for(
    virtual: Virtual, port: str, program: str, client: str, name: str, kind: str
) -> None:
    virtual.domain("a.example", account("max", flags=FLAGS[kind]))
    result = virtual.login(b"max@a.example\0secret\0", program, TCPLOCALPORT=port, TCPREMOTEIP=client)
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode() == f"vchkpw-{name}: {kind} access denied max@a.example:{client}\n"
    others = sum(FLAGS.values()) - FLAGS[kind]
    virtual.accounts(virtual.folder / "domains" / "a.example", account("max", flags=others))
    assert accepted(virtual, b"max@a.example\0secret\0", TCPLOCALPORT=port, TCPREMOTEIP=client) or program != "x"


def test_other_addresses_of_webmail_can_be_named(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max", flags=FLAGS["webmail"]))
    for name, code in {CLIENT: 1, "2001:db8::1": 1, "127.0.0.1": 0}.items():
        result = virtual.login(
            b"max@a.example\0secret\0", TCPLOCALPORT="110", TCPREMOTEIP=name, VPOPMAIL_WEBMAIL=f"{CLIENT} 2001:db8::1"
        )
        assert result.returncode == code


@pytest.mark.parametrize("kind", ["pop", "imap", "smtp"])
@pytest.mark.parametrize("where", ["domain", "everywhere"])
def test_a_domain_may_be_closed_for_a_use(virtual: Virtual, kind: str, where: str) -> None:
    folder = virtual.domain("a.example", account("max"), account("joe", flags=V_OVERRIDE))
    file = folder / ".qmailadmin-limits" if where == "domain" else virtual.etc / "vlimits.default"
    file.write_text(f"maxpopaccounts 5\ndisable_{kind}\n")
    for each, port in PORTS.items():
        assert accepted(virtual, b"max@a.example\0secret\0", TCPLOCALPORT=port) == (each != kind)
        assert accepted(virtual, b"joe@a.example\0secret\0", TCPLOCALPORT=port)


@pytest.mark.skipif(not ROOT, reason="only root can become somebody: run the tests as root")
def test_for_smtp_nobody_becomes_anybody(virtual: Virtual) -> None:
    folder = virtual.domain("a.example", account("max")) / "max"
    result = virtual.login(b"max@a.example\0secret\0", "sh", "-c", "id -u; pwd; echo $HOME", TCPLOCALPORT="587")
    assert result.stdout.decode().split() == ["0", os.getcwd(), str(folder)]
    assert (folder / "lastauth").stat().st_uid == OWNER.pw_uid


def test_what_becomes_of_a_program_that_is_not_there(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max"))
    for port, code in {"587": 0, "110": 111}.items():
        result = virtual.login(b"max@a.example\0secret\0", "no-such-program", TCPLOCALPORT=port)
        assert result.returncode == code
        assert result.stderr == b"vchkpw: fatal: unable to run no-such-program: file does not exist\n"
    assert virtual.login(b"max@a.example\0secret\0", "sh", "-c", "exit 7").returncode == 7


# what is wrong


@pytest.mark.parametrize(
    ("packet", "code", "told"),
    [
        (b"joe@a.example\0secret\0", 3, "vpopmail user not found joe@a.example"),
        (b"max@b.example\0secret\0", 3, "vpopmail user not found max@b.example"),
        (b"max\0secret\0", 3, "vpopmail user not found max@"),
        (b"max@a.example\0wrong\0", 3, "password fail max@a.example"),
        (b"\0secret\0", 12, "null user name given "),
        (b"max@a.example\0\0", 13, "null password given max@a.example"),
        (b"m:x@a.example\0secret\0", 20, "invalid user/domain characters m:x@a.example"),
        (b"max@a_.example\0secret\0", 20, "invalid user/domain characters max@a_.example"),
        (b"m\xc3\xa4x@a.example\0secret\0", 20, "invalid user/domain characters m??x@a.example"),
        (b"max\nx@a.example\0secret\0", 20, "invalid user/domain characters max?x@a.example"),
        (b"m x%a.example\0secret\0", 20, "invalid user/domain characters m x#a.example"),
        (b"..@a.example\0secret\0", 3, "vpopmail user not found ..@a.example"),
        (b"m/../x@a.example\0secret\0", 3, "vpopmail user not found m/../x@a.example"),
        (
            b"max@" + b"a" * 90 + b".example\0secret\0",
            20,
            "invalid user/domain characters max@" + "a" * 90 + ".example",
        ),
    ],
)
def test_each_refusal_has_its_code_and_its_line(virtual: Virtual, packet: bytes, code: int, told: str) -> None:
    virtual.domain("a.example", account("max"))
    line = f"vchkpw-pop3: {told}:{CLIENT}\n"
    assert refused(virtual, packet, TCPLOCALPORT="110", TCPREMOTEIP=CLIENT) == (code, line)
    assert refused(virtual, packet, TCPLOCALPORT="110", VPOPMAIL_LOG="n") == (code, "")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300), st.binary(min_size=1, max_size=100))
def test_no_packet_of_strangers_logs_in_or_breaks_it(virtual: Virtual, name: bytes, password: bytes) -> None:
    if not virtual.lines:
        virtual.domain("a.example", account("max"))
    code, told = refused(virtual, name + b"@a.example\0" + password + b"\0")
    assert code in (2, 3, 12, 13, 20) and "bug" not in told


def test_misuse_and_a_packet_that_is_none(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max"))
    assert virtual.run(OURS).returncode == 2
    assert refused(virtual, b"max@a.example\0secret")[0] == 2
    assert refused(virtual, b"max@a.example\0" + b"x" * 600)[0] == 3
    result = virtual.run(OURS, "echo", "in")
    assert result.returncode == 11
    assert result.stderr.decode() == (
        "vchkpw-0: vchkpw is only for talking with qmail-popup and qmail-pop3d. "
        "It is not for runnning on the command line.\n"
    )


def test_files_that_cannot_be_read_are_temporary(virtual: Virtual) -> None:
    folder = virtual.domain("a.example", account("max"))
    (folder / "vpasswd.cdb").write_bytes(b"short")
    code, told = refused(virtual, b"max@a.example\0secret\0")
    assert (code, told) == (111, "vchkpw: fatal: unable to look up accounts: protocol error\n")
    (virtual.folder / "users" / "cdb").write_bytes(b"short")
    assert refused(virtual, b"max@a.example\0secret\0")[0] == 111


def test_unknown_names_take_as_long_as_wrong_passwords(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max"), account("bang", "!"), account("none", ""))
    times: dict[str, list[float]] = {name: [] for name in ("max", "joe", "bang", "none")}
    for _ in range(5):
        for name, taken in times.items():
            start = time.process_time() + sum(os.times()[2:4])
            virtual.login(f"{name}@a.example\0wrong\0".encode())
            taken.append(time.process_time() + sum(os.times()[2:4]) - start)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    assert max(medians.values()) < 1.5 * min(medians.values()) + 0.02, medians


# what is left behind


def test_the_last_login_is_noted(virtual: Virtual) -> None:
    folder = virtual.domain("a.example", account("max")) / "max"
    before = int(time.time())
    for client, port in (CLIENT, "110"), ("2001:db8::1", "587"), ("::ffff:192.0.2.9", "143"):
        assert accepted(virtual, b"max@a.example\0secret\0", TCPLOCALPORT=port, TCPREMOTEIP=client)
        assert (folder / "lastauth").read_text() == client.removeprefix("::ffff:")
        status = (folder / "lastauth").stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (OWNER.pw_uid, 0o600)
        assert status.st_mtime >= before
    os.utime(folder / "lastauth", (0, 0))
    assert not accepted(virtual, b"max@a.example\0wrong\0")
    assert (folder / "lastauth").stat().st_mtime == 0


def test_a_link_that_the_owner_has_planted_leads_root_nowhere(virtual: Virtual, tmp_path: Path) -> None:
    folder = virtual.domain("a.example", account("max")) / "max"
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (folder / "lastauth").symlink_to(precious)
    for port in "110", "587":
        result = virtual.login(b"max@a.example\0secret\0", TCPLOCALPORT=port, TCPREMOTEIP=CLIENT)
        assert result.stdout == b"in\n"
        assert b"unable to note the time of a login" in result.stderr
    assert precious.read_text() == "precious"


@pytest.mark.skipif(not ROOT, reason="only root can be led astray")
def test_root_reads_nothing_that_a_domains_owner_could_not_read(virtual: Virtual) -> None:
    folder = virtual.domain("a.example", account("max"))
    others = virtual.domain("b.example", f"max:{sha512(b'other')}")
    for path in (others, *others.rglob("*")):
        os.chown(path, 0, 0)
    others.chmod(0o700)
    (folder / ".qmailadmin-limits").symlink_to(others / "vpasswd")
    assert virtual.login(b"max@a.example\0secret\0").returncode == 111
    (folder / ".qmailadmin-limits").unlink()
    (folder / "vpasswd.cdb").unlink()
    (folder / "vpasswd.cdb").symlink_to(others / "vpasswd.cdb")
    for password in b"other", b"wrong":  # it tells nobody whether this is the other account's
        assert virtual.login(b"max@a.example\0%s\0" % password).returncode == 111


@pytest.mark.parametrize("folder", ["DIR/deep/er/", ""])
def test_a_directory_that_is_missing_is_made(virtual: Virtual, folder: str) -> None:
    domain = virtual.domain("a.example", account("max", folder=folder))
    shutil.rmtree(domain / "max")
    result = virtual.login(b"max@a.example\0secret\0", "sh", "-c", "pwd; ls Maildir", TCPLOCALPORT="110")
    home = str(domain) + "/" + folder.removeprefix("DIR/") + "max"
    assert result.stdout.decode().split() == [home, "cur", "new", "tmp"]
    assert Path(home).stat().st_uid == OWNER.pw_uid
    assert f":{home}:NOQUOTA\n" in (domain / "vpasswd").read_text().replace("DIR", str(domain))
    shutil.rmtree(home)
    assert not (domain / "max").exists()
    assert refused(virtual, b"max@a.example\0wrong\0")[0] == 3
    assert not (domain / "max").exists()


@pytest.mark.parametrize(("stored", "weak"), [(DES, True), (MD5, True), ("{x}" + DES, True), (SHA512, False)])
def test_a_weak_hash_is_replaced_where_that_is_wanted(virtual: Virtual, stored: str, weak: bool) -> None:
    folder = virtual.domain("a.example", account("joe"), account("max", stored, flags=FLAGS["imap"], clear="secret"))
    before = (folder / "vpasswd").read_text()
    assert accepted(virtual, b"max@a.example\0secret\0", TCPLOCALPORT="110")
    assert not accepted(virtual, b"max@a.example\0wrong\0", VPOPMAIL_REHASH="")
    assert (folder / "vpasswd").read_text() == before
    (virtual.etc / "rehash").touch()
    for port in "110", "587":
        assert accepted(virtual, b"max@a.example\0secret\0", TCPLOCALPORT=port)
    after = (folder / "vpasswd").read_text()
    assert (after != before) == weak
    if weak:
        assert re.fullmatch(r"\$(y|6)\$[^:]+", after.splitlines()[1].split(":")[1])
        assert after.replace(after.splitlines()[1].split(":")[1], stored) == before


def test_a_right_digest_replaces_nothing(virtual: Virtual) -> None:
    folder = virtual.domain("a.example", account("max", DES, clear="secret"))
    digest = hashlib.md5(STAMP + b"secret").hexdigest().encode()
    assert accepted(virtual, b"max@a.example\0" + digest + b"\0" + STAMP + b"\0", VPOPMAIL_REHASH="1")
    assert DES in (folder / "vpasswd").read_text()


def test_a_login_to_read_mail_opens_relaying_for_its_address(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max"), account("joe", flags=NO_RELAY))
    (virtual.etc / "tcp.smtp").write_text("127.:allow\n")
    (virtual.etc / "roaming").write_text("60\n")
    virtual._give(virtual.etc)

    def login(user: str, port: str, client: str, password: str = "secret", **changes: str) -> None:
        virtual.login(f"{user}@a.example\0{password}\0".encode(), TCPLOCALPORT=port, TCPREMOTEIP=client, **changes)

    login("max", "110", "192.0.2.1")
    login("max", "143", "2001:DB8::2")
    login("max", "587", "192.0.2.3")
    login("joe", "110", "192.0.2.4")
    login("max", "110", "192.0.2.5", "wrong")
    login("max", "110", "192.0.2.6", VPOPMAIL_ROAMING="0")
    lines = (virtual.etc / "open-smtp").read_text().splitlines()
    assert [line.partition(":allow,")[0] for line in lines] == ["192.0.2.1", "2001:db8::2"]
    for ip, answer in ("192.0.2.1", b"RELAYCLIENT"), ("127.0.0.1", b"rule 127."), ("192.0.2.3", b"default:"):
        for program in needs("tcprulescheck"), "tcprulescheck":
            assert answer in virtual.run(program, str(virtual.etc / "tcp.smtp.cdb"), TCPREMOTEIP=ip).stdout
    assert (virtual.etc / "tcp.smtp.cdb").stat().st_uid == OWNER.pw_uid
    assert (virtual.etc / "tcp.smtp.cdb").stat().st_mode & 0o777 == 0o644


def test_trouble_with_relaying_keeps_nobody_from_his_mail(virtual: Virtual) -> None:
    virtual.domain("a.example", account("max"))
    (virtual.etc / "tcp.smtp").write_text("10.:alow\n")
    changes = {"TCPLOCALPORT": "110", "TCPREMOTEIP": CLIENT, "VPOPMAIL_ROAMING": ""}
    result = virtual.login(b"max@a.example\0secret\0", **changes)
    assert result.stdout == b"in\n"
    assert result.stderr.startswith(b"vchkpw: warning: unable to parse this line of tcp.smtp: 10.:alow (line 1: ")
    (virtual.etc / "open-smtp.lock").unlink()
    (virtual.etc / "open-smtp.lock").mkdir()
    result = virtual.login(b"max@a.example\0secret\0", **changes)
    assert (result.stdout, result.stderr[:47]) == (b"in\n", b"vchkpw: warning: unable to open relaying for 19")


# the log


def test_lines_go_to_the_log_service(virtual: Virtual, tmp_path: Path) -> None:
    virtual.domain("a.example", account("max"))
    path = virtual.folder / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service:
        service.bind(str(path))
        path.chmod(0o666)
        changes = {"VPOPMAIL_SYSLOG": str(path), "TCPLOCALPORT": "110", "TCPREMOTEIP": CLIENT}
        assert refused(virtual, b"max@a.example\0wrong\0", **changes) == (3, "")
        pattern = (
            rb"<21>\w{3} [ \d]\d \d\d:\d\d:\d\d vpopmail\[\d+\]: vchkpw-pop3: password fail max@a\.example:192\.0\.2\.1"
        )
        assert re.fullmatch(pattern, service.recv(1000))
        (virtual.etc / "log").write_text("y\n")
        assert accepted(virtual, b"max@a.example\0secret\0", **changes)
        assert service.recv(1000).endswith(b": vchkpw-pop3: (PLAIN) login success max@a.example:192.0.2.1")
        service.setblocking(False)
        assert accepted(virtual, b"max@a.example\0secret\0", **changes, VPOPMAIL_LOG="e")
        with pytest.raises(BlockingIOError):
            service.recv(1000)


@pytest.mark.parametrize("level", ["p", "v", "y", "e"])
def test_no_level_of_the_log_has_passwords(virtual: Virtual, level: str) -> None:
    virtual.domain("a.example", account("max"))
    for password in b"secret", b"wrong-one":
        result = virtual.login(b"max@a.example\0" + password + b"\0", VPOPMAIL_LOG=level)
        assert password not in result.stderr
        assert (b"success" in result.stderr) == (level in "vy" and password == b"secret")


# accounts of the system


def test_accounts_of_the_system_are_a_fallback_where_that_is_wanted(
    virtual: Virtual, system_accounts: SystemAccounts
) -> None:
    virtual.domain("a.example", account("max"), account("q-yescrypt", hashed(b"virtual")))

    def login(packet: bytes, *program: str, **changes: str) -> tuple[int, str, str]:
        argv = [OURS, *(program or ("echo", "in"))]
        env = virtual.env(**{"VPOPMAIL_SYSTEM_USERS": "1", "TCPLOCALPORT": "110", "VPOPMAIL_LOG": "y", **changes})
        result = system_accounts.login(argv, packet, env)
        return result.returncode, result.stdout.decode(), result.stderr.decode()

    code, out, told = login(b"q-right\0secret\0", "sh", "-c", "id -u; pwd; echo $USER $HOME $SHELL")
    home = system_accounts.home
    assert (code, out.split()) == (0, ["54321", str(home), "q-right", str(home), "NOLOGIN"])
    assert told == "vchkpw-pop3: system password login success q-right:\n"
    assert login(b"q-right@elsewhere.example\0secret\0")[:2] == (0, "in\n")
    assert login(b"q-right\0wrong\0") == (23, "", "vchkpw-pop3: system password fail q-right:\n")
    assert login(b"q-nobody\0secret\0") == (21, "", "vchkpw-pop3: system user not found q-nobody:\n")
    assert login(b"q-right@a.example\0secret\0")[0] == 3  # a virtual domain is nobody else's
    assert login(b"q-right\0secret\0", VPOPMAIL_SYSTEM_USERS="0")[0] == 3
    assert login(b"q-yescrypt\0virtual\0", VPOPMAIL_DOMAIN="a.example")[0] == 0
    assert login(b"q-yescrypt\0secret\0", VPOPMAIL_DOMAIN="a.example")[0] == 3
    assert login(b"q-right\0secret\0", VPOPMAIL_DOMAIN="a.example")[0] == 0


# in chains


@pytest.mark.parametrize("cold", ["", "1"])
def test_behind_qmail_popup_a_user_reads_his_mail(virtual: Virtual, cold: str) -> None:
    folder = virtual.domain("a.example", account("max", clear="secret")) / "max"
    message = folder / "Maildir" / "new" / "1.2.host"
    message.write_text("Subject: x\n\nhello\n")
    os.utime(message, (0, 0))
    virtual._give(folder)
    chain = [str(BIN / "qmail-popup"), "mail.example", "vchkpw", "qmail-pop3d", "Maildir"]
    said = b"USER max@a.example\r\nPASS %s\r\nSTAT\r\nRETR 1\r\nQUIT\r\n"
    changes = {"TCPLOCALPORT": "110", "TCPREMOTEIP": CLIENT, "QMAILPY_COLD": cold}
    result = virtual.run(*chain, input=said % b"secret", **changes)
    assert result.stdout.count(b"+OK") == 6 and b"\r\nhello\r\n" in result.stdout
    assert (folder / "lastauth").read_text() == CLIENT
    wrong = virtual.run(*chain, input=said % b"wrong", **changes)
    assert wrong.stdout.endswith(b"-ERR authorization failed\r\n")
    assert wrong.stderr == b"vchkpw-pop3: password fail max@a.example:192.0.2.1\n"


@pytest.mark.parametrize("cold", ["", "1"])
def test_behind_qmail_smtpd_a_user_authenticates(virtual: Virtual, cold: str) -> None:
    virtual.domain("a.example", account("max", clear="secret"), account("joe", flags=FLAGS["smtp"]))
    (virtual.folder / "control" / "me").write_text("mail.example\n")
    changes = {"TCPLOCALPORT": "587", "TCPREMOTEIP": CLIENT, "QMAILPY_COLD": cold, "ALLOW_INSECURE_AUTH": "1"}
    changes |= {"AUTHDELAY": "0"}

    def plain(user: str, password: str) -> bytes:
        argv = [str(BIN / "qmail-smtpd"), "mail.example", "vchkpw", "true"]
        smtpd = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=virtual.env(**changes))
        with smtpd, smtpd.stdin, smtpd.stdout:  # type: ignore[union-attr]
            smtpd.stdin.write(b"AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()) + b"\r\n")  # type: ignore[union-attr]
            smtpd.stdin.flush()  # type: ignore[union-attr]
            assert smtpd.stdout.readline().startswith(b"220 ")  # type: ignore[union-attr]
            return smtpd.stdout.readline()[:4]  # type: ignore[union-attr]

    assert plain("max@a.example", "secret") == b"235 "
    assert plain("max@a.example", "wrong") == b"535 "
    assert plain("joe@a.example", "secret") == b"535 "


def test_what_a_server_does_before_it_forks_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    before = os.listdir("/proc/self/fd"), os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd()
    vchkpw.prepare()
    assert capfd.readouterr() == ("", "")
    assert (os.listdir("/proc/self/fd"), os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd()) == before


@pytest.mark.parametrize("hashed", [None, b"$5$rounds=1000$x$other"])
def test_a_server_starts_also_where_no_login_can_be_rehearsed(
    monkeypatch: pytest.MonkeyPatch, hashed: bytes | None
) -> None:
    hashes = iter([b"", b"$5$rounds=1000$x$y"])
    monkeypatch.setattr("qmailpy.unix.crypt.crypt", lambda password, setting: next(hashes, hashed))
    vchkpw.prepare()


def test_behind_qmail_authd_it_decides_for_whoever_may_not_read_passwords(virtual: Virtual) -> None:
    folder = virtual.domain("a.example", account("max"), account("joe", flags=FLAGS["smtp"])) / "max"
    with Authd(["-T", OURS], env={"VPOPMAILHOME": str(virtual.folder)}) as service:
        shutil.copytree(virtual.folder / "users", service.home / "users", dirs_exist_ok=True)
        assert service.ask(b"secret", b"max@a.example", CLIENT.encode()) == (b"K", b"max@a.example")
        assert service.ask(b"wrong", b"max@a.example", CLIENT.encode()) == (b"D", b"")
        assert service.ask(b"secret", b"joe@a.example", CLIENT.encode()) == (b"D", b"")
        assert service.ask(b"secret", b"nobody@a.example", CLIENT.encode()) == (b"D", b"")
    assert (folder / "lastauth").read_text() == CLIENT
