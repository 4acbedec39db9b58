"""Dovecot as a foreign consumer: its checkpassword passdb logs in through ours (Dovecot 2.3; 2.4 has none)."""

import grp
import os
import poplib
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.accounts import GID, UID, SystemAccounts, sha512, system_accounts
from tests.helpers import BIN, environment, needs, run
from tests.ports import free_port

__all__ = ["system_accounts"]

ROOT = os.geteuid() == 0
ME = pwd.getpwuid(os.geteuid()).pw_name
OTHER = "nobody" if ROOT else ME
GROUP = grp.getgrgid(pwd.getpwnam(OTHER).pw_gid).gr_name

# The reply program refuses a changed uid unless INSECURE_SETUID says that it is meant.
CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
auth_debug = yes
protocols = pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_internal_user = {other}
default_login_user = {other}
default_internal_group = {group}
auth_failure_delay = 0
mail_location = maildir:~/Maildir
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  user = {me}
}}
passdb {{
  driver = checkpassword
  args = /usr/bin/env INSECURE_SETUID=1 PATH={path} {command}
}}
userdb {{
  driver = prefetch
}}
"""

MESSAGE = b"Subject: hello\r\n\r\nOne line.\r\n"


class Dovecot:
    """A private server; run it in a with block."""

    def __init__(self, folder: Path, checker: str, prefix: Sequence[str] = (), **variables: str) -> None:
        self.port = free_port()
        self.log = folder / "log"
        self.config = folder / "dovecot.conf"
        self.prefix = list(prefix)
        text = CONFIG.format(
            folder=folder,
            port=self.port,
            me=ME,
            other=OTHER,
            group=GROUP,
            path=environment()["PATH"],
            command=" ".join([*(f"{name}={value}" for name, value in variables.items()), str(BIN / checker)]),
        )
        self.config.write_text(text)

    def __enter__(self) -> "Dovecot":
        argv = [*self.prefix, needs("dovecot"), "-F", "-c", str(self.config)]
        self.process = subprocess.Popen(argv, env=environment())
        limit = time.monotonic() + 10
        while not self.answers():
            try:
                self.process.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                if time.monotonic() < limit:
                    continue
            self.__exit__()
            pytest.fail("dovecot does not start: " + self.log.read_text())
        return self

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def pop3(self) -> poplib.POP3:
        return poplib.POP3("127.0.0.1", self.port, timeout=10)


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="qmailpy-dovecot-"))  # tmp_path is closed to other users
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def maildir(home: Path, uid: int, gid: int) -> None:
    for name in "tmp", "cur", "new":
        (home / "Maildir" / name).mkdir(parents=True)
    (home / "Maildir" / "new" / "1.1.host").write_bytes(MESSAGE.replace(b"\r", b""))
    if ROOT:
        for path in [home, *home.rglob("*")]:
            os.chown(path, uid, gid)


def needs_the_passdb() -> None:
    version = run([needs("dovecot"), "--version"]).stdout
    if not version.startswith((b"2.2", b"2.3")):
        pytest.skip("dovecot has no checkpassword passdb: install one before 2.4")


def logs_in(dovecot: Dovecot, name: str) -> None:
    client = dovecot.pop3()
    client.user(name)
    try:
        client.pass_("secret")
    except poplib.error_proto:
        pytest.fail(dovecot.log.read_text())
    assert client.stat() == (1, len(MESSAGE)), dovecot.log.read_text()
    assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == MESSAGE
    client.quit()
    client = dovecot.pop3()
    client.user(name)
    with pytest.raises(poplib.error_proto, match="AUTH"):
        client.pass_("secreT")
    client.close()


def test_dovecot_logs_in_through_checkpassword_flatfile(folder: Path) -> None:
    needs_the_passdb()
    entry = pwd.getpwnam(OTHER)
    file = folder / "flatfile"
    file.write_text(f"max@host.example:{sha512(b'secret')}:::Max:home\n")
    (folder / "home").mkdir()
    maildir(folder / "home", entry.pw_uid, entry.pw_gid)
    if ROOT:
        os.chown(file, entry.pw_uid, entry.pw_gid)
    with Dovecot(folder, "checkpassword-flatfile", CHECKPASSWORD_FILE=str(file)) as dovecot:
        logs_in(dovecot, "max@host.example")


def test_dovecot_logs_in_through_checkpassword(system_accounts: SystemAccounts, folder: Path) -> None:
    needs_the_passdb()
    maildir(system_accounts.home, UID, GID)
    with Dovecot(folder, "checkpassword", system_accounts.prefix) as dovecot:
        logs_in(dovecot, "q-right")
