"""vadddomain: what it says, makes and refuses."""

import os
import pwd
import re
import signal
import subprocess
from pathlib import Path

import pytest

from qmailpy.formats import vpasswd
from qmailpy.stores.vpopmail import accounts, domains
from qmailpy.unix import crypt
from tests.helpers import BIN, needs, run
from tests.servers import GID, UID
from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]

ROOT = os.geteuid() == 0


def account(home: VpopmailHome, name: bytes = b"example.com", user: bytes = b"postmaster") -> vpasswd.Account:
    domain = domains.find(home.value, name)
    assert domain is not None
    found = accounts.get(domain, user)
    assert found is not None
    return found


def opens(found: vpasswd.Account, password: bytes) -> bool:
    return crypt.crypt(bytearray(password), found.password) == found.password


def test_a_domain_is_known_to_all_that_take_and_deliver_its_mail(vpopmail_home: VpopmailHome) -> None:
    folder = vpopmail_home.add("Example.COM")
    folder = vpopmail_home.domains / "example.com"
    assert vpopmail_home.text("users/assign") == f"+example.com-:example.com:{UID}:{GID}:{folder}:-::\n.\n"
    assert vpopmail_home.text("control/virtualdomains") == "example.com:example.com\n"
    assert vpopmail_home.text("control/rcpthosts") == "example.com\n"
    assert vpopmail_home.text("control/locals") == "absent"
    assert (folder / ".qmail-default").read_text() == "| vdelivermail '' bounce-no-mailbox\n"
    assert (vpopmail_home.domains / ".dir-control").read_text() == "1\n0\n3\n0 0 0\n61 61 61\n0 2 4\n0 0 0\n\n"
    assert (folder / ".dir-control").read_text().startswith("1\n")
    found = account(vpopmail_home)
    line = (folder / "vpasswd").read_bytes()
    assert line == b"postmaster:%s:1:0:Postmaster:%s/postmaster:NOQUOTA\n" % (found.password, bytes(folder))
    assert opens(found, b"secret") and not opens(found, b"Secret")
    for path in (folder, *folder.rglob("*")):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (UID, GID)
        assert status.st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_the_originals_path_is_used_where_its_program_is(vpopmail_home: VpopmailHome) -> None:
    (vpopmail_home.vhome / "bin").mkdir()
    (vpopmail_home.vhome / "bin/vdelivermail").touch()
    folder = vpopmail_home.add()
    assert (folder / ".qmail-default").read_text() == (
        f"| {vpopmail_home.vhome}/bin/vdelivermail '' bounce-no-mailbox\n"
    )


@pytest.mark.parametrize(
    ("options", "action"),
    [
        (["-b"], "bounce-no-mailbox"),
        (["-b", "delete"], "delete"),
        (["-b", "bounce-no-mailbox"], "bounce-no-mailbox"),
        (["-b", "joe@b.example"], "joe@b.example"),
        (["-b", "/var/mail/all"], "/var/mail/all"),
        (["-e", "joe@b.example"], "joe@b.example"),
        (["-e", "postmaster"], "DIR/postmaster"),
    ],
)
def test_mail_for_unknown_users_goes_where_it_is_said(
    vpopmail_home: VpopmailHome, options: list[str], action: str
) -> None:
    folder = vpopmail_home.add("example.com", *options)
    line = f"| vdelivermail '' {action.replace('DIR', str(folder))}\n"
    assert (folder / ".qmail-default").read_text() == line


@pytest.mark.parametrize("action", ["a b@c", "$(touch x)@y", "`x`", "a@b;x", "a'b@c", "-x@y", "../x", "a@b\n| x"])
def test_an_action_means_nothing_to_a_shell(vpopmail_home: VpopmailHome, action: str) -> None:
    result = vpopmail_home.run("vadddomain", "-e", action, "example.com", "secret")
    assert result.stdout in (b"Error: invalid email character\n", b"Error: Illegal username\n")
    assert vpopmail_home.text("users/assign") == "absent"


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("ab", 244, "Invalid domain name"),
        ("example", 244, "Invalid domain name"),
        ("../../etc/x.example", 244, "Invalid domain name"),
        ("a..example", 244, "Invalid domain name"),
        ("a:0:0:.example", 244, "Invalid domain name"),
        ("a\n+root-.example", 244, "Invalid domain name"),
        ("\xfc.example", 244, "Invalid domain name"),
        ("a" * 300, 230, "domain name too long (max=96)"),
    ],
)
def test_a_hostile_name_is_refused(vpopmail_home: VpopmailHome, name: str, code: int, text: str) -> None:
    result = vpopmail_home.run("vadddomain", name, "secret")
    assert (result.returncode, result.stdout) == (code, f"Error: {text}\n".encode())
    assert vpopmail_home.text("users/assign") == "absent"
    assert list(vpopmail_home.domains.iterdir()) == []


def test_a_domain_that_exists_is_refused_before_a_password_is_asked_for(vpopmail_home: VpopmailHome) -> None:
    vpopmail_home.add()
    result = vpopmail_home.run("vadddomain", "example.com")
    assert (result.returncode, result.stdout, result.stderr) == (243, b"Error: Domain already exists\n", b"")


def test_passwords_come_from_the_input_too_and_none_is_empty(vpopmail_home: VpopmailHome) -> None:
    assert vpopmail_home.run("vadddomain", "example.com", "-", input=b"typed\nrest").returncode == 0
    assert opens(account(vpopmail_home), b"typed")
    result = vpopmail_home.run("vadddomain", "b.example", "")
    assert (result.returncode, result.stdout) == (255, b"Error: No password entered\n")
    result = vpopmail_home.run("vadddomain", "b.example", "x" * 300)
    assert (result.returncode, result.stdout) == (229, b"Error: password too long (max=128)\n")
    assert "b.example" not in vpopmail_home.text("users/assign")


def test_a_random_password_is_printed(vpopmail_home: VpopmailHome) -> None:
    result = vpopmail_home.run("vadddomain", "-r20", "example.com")
    match = re.fullmatch(rb"Random password: (\S{20})\n", result.stdout)
    assert match and opens(account(vpopmail_home), match[1])
    result = vpopmail_home.run("vadddomain", "-r", "b.example", "secret")
    assert (result.returncode, result.stdout) == (
        255, b"Error: don't use -r option when giving password on command line\n"
    )  # fmt: skip


def test_a_quota_is_postmasters(vpopmail_home: VpopmailHome) -> None:
    vpopmail_home.add("example.com", "-q", "10M")
    assert account(vpopmail_home).quota == b"10485760S"
    assert vpopmail_home.run("vadddomain", "-q", "lots", "b.example", "x").returncode == 255


def test_wrong_usage_prints_the_usage(vpopmail_home: VpopmailHome) -> None:
    for words in ([], ["-Z", "x.example"], ["-e"]):
        result = vpopmail_home.run("vadddomain", *words)
        assert result.returncode == 255
        assert result.stdout.startswith(
            b"vadddomain: usage: vadddomain [options] virtual_domain [postmaster password]\n"
        )
    assert vpopmail_home.run("vadddomain", "-v").stdout.startswith(b"version: ")


def test_an_unknown_account_and_an_odd_folder_are_refused(vpopmail_home: VpopmailHome) -> None:
    result = vpopmail_home.run("vadddomain", "-u", "no-such-user", "example.com", "secret")
    assert (result.returncode, result.stdout) == (255, b"Error: user no-such-user not found in /etc/passwd\n")
    for folder in "relative", "/no/such/folder":
        result = vpopmail_home.run("vadddomain", "-d", folder, "example.com", "secret")
        assert (result.returncode, result.stdout) == (
            250, b"Error: Unable to chdir to vpopmail/domains/domain directory\n"
        )  # fmt: skip


def test_no_domain_is_roots(vpopmail_home: VpopmailHome) -> None:
    for options in (["-u", "root"], ["-i", "0"]):
        result = vpopmail_home.run("vadddomain", *options, "example.com", "secret")
        assert (result.returncode, result.stdout) == (234, b"Error: running as invalid uid\n")


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_domain_may_belong_to_another_and_be_elsewhere(vpopmail_home: VpopmailHome) -> None:
    place = vpopmail_home.path / "home"
    place.mkdir()
    games = pwd.getpwnam("games")
    os.chown(place, games.pw_uid, games.pw_gid)
    vpopmail_home.run("vadddomain", "-u", "games", "-d", str(place), "example.com", "secret")
    folder = place / "domains/example.com"
    assert {path.stat().st_uid for path in (place / "domains", folder, *folder.rglob("*"))} == {games.pw_uid}
    assert vpopmail_home.run("vdeldomain", "example.com").stderr == b""
    assert [path.name for path in (place / "domains").iterdir()] == [".dir-control"]
    vpopmail_home.run("vadddomain", "-i", "54321", "-g", "54322", "b.example", "secret")
    status = (vpopmail_home.domains / "b.example/vpasswd").stat()
    assert (status.st_uid, status.st_gid) == (54321, 54322)


def test_qmail_send_is_told_once_of_many_domains(vpopmail_home: VpopmailHome) -> None:
    (vpopmail_home.path / "control/rcpthosts").write_text("".join(f"d{number:02}.x\n" for number in range(50)))
    vpopmail_home.add("a.example", "-O")
    assert vpopmail_home.text("control/morercpthosts") == "a.example\n"
    assert vpopmail_home.text("control/morercpthosts.cdb") == "absent"
    vpopmail_home.add("b.example")
    assert (vpopmail_home.path / "control/morercpthosts.cdb").exists()


def test_a_busy_file_is_waited_for_and_named_by_an_error(vpopmail_home: VpopmailHome) -> None:
    """It would wait for 20 seconds: the alarm comes at once."""
    vpopmail_home.add("a.example")
    hold = subprocess.Popen(
        ["python3", "-c", "import fcntl,os,sys; f=os.open(sys.argv[1],os.O_RDWR); fcntl.lockf(f,fcntl.LOCK_EX); "
         "print(flush=True); sys.stdin.read()", vpopmail_home.path / "users/.domains.lock"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert hold.stdout is not None and hold.stdout.readline() == b"\n"
    strace = needs("strace")
    inject = ["-e", "trace=alarm,fcntl", "-e", "inject=alarm:signal=ALRM:when=1"]
    words: list[str | Path] = [BIN / "vadddomain", "b.example", "x"]
    result = run([strace, "-f", "-o", "/dev/null", *inject, *words], env=vpopmail_home.env())
    hold.communicate()
    assert (result.returncode, result.stdout, result.stderr) == (111, b"", b"File busy try again later!\n")


def test_what_a_killed_one_has_begun_the_next_one_completes(vpopmail_home: VpopmailHome) -> None:
    """The real program, from outside; tests/stores/vpopmail/test_changes.py does it at each call."""
    strace = needs("strace")
    inject = ["-e", "trace=rename", "-e", "inject=rename:signal=KILL:when=5"]
    words: list[str | Path] = [BIN / "vadddomain", "a.example", "secret"]
    argv = [strace, "-f", "-o", "/dev/null", *inject, *words]
    assert run(argv, env=vpopmail_home.env()).returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert vpopmail_home.run("vcheck", "-n").returncode == 1
    result = vpopmail_home.run("vadddomain", "b.example", "secret")
    assert result.stderr == b"vadddomain: warning: completed what an earlier command had begun: add a.example\n"
    assert vpopmail_home.text("control/rcpthosts") == "a.example\nb.example\n"
    assert opens(account(vpopmail_home, b"a.example"), b"secret")
    assert vpopmail_home.run("vcheck").stdout == b""


@pytest.mark.parametrize("options", [["-g", "no-such-group"], ["-i", "no-such-user"], ["-i", "99999999999"]])
def test_what_is_no_owner_is_not_taken_for_root(vpopmail_home: VpopmailHome, options: list[str]) -> None:
    result = vpopmail_home.run("vadddomain", *options, "example.com", "secret")
    assert (result.returncode, result.stdout) == (234, b"Error: running as invalid uid\n")
