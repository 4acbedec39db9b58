"""chains - the servers that are compared: how each one is started on a free port, and ended."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.bench import load
from tests.bench.home import Home
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = ROOT / "bin"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

OPTIONS = ["-1", "-RHD", "-l0", "-c", "200", "127.0.0.1", "0"]
START_S = 10  # a server that is not ready by then has failed


def environment(**changes: str) -> dict[str, str]:
    """bin first on PATH, and this Python as the first python3."""
    return {"PATH": f"{BIN}:{Path(sys.executable).parent}:{SYSTEM_PATH}", "LC_ALL": "C.UTF-8", **changes}


def debian(program: str) -> str | None:
    """The path of a program that is not ours."""
    return shutil.which(program, path=SYSTEM_PATH)


class Server:
    """A process that listens on port of 127.0.0.1."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


Start = Callable[[Home, str], Server]  # the name is that of a Maildir


class Chain(NamedTuple):
    name: str
    start: Start


def tcpserver_of(argv: list[str], home: Home, env: dict[str, str]) -> Server:
    """A tcpserver that prints its port. Raises Trouble."""
    log = home.work / "tcpserver.log"
    with open(log, "wb") as stderr:
        process = subprocess.Popen(
            argv, env=env, cwd=home.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
        )
    assert process.stdout is not None
    with process.stdout:
        port = process.stdout.readline()
    if not port.strip().isdigit():
        process.kill()
        process.wait()
        raise load.Trouble(log.read_text(errors="replace").strip() or "tcpserver printed no port")
    return Server(process, int(port))


def tcpserver_chain(tcpserver: str, popup: str, checker: str, pop3d: str) -> Start:
    def start(home: Home, maildir: str) -> Server:
        argv = [tcpserver, *OPTIONS, popup, "bench.example", checker, pop3d, maildir]
        return tcpserver_of(argv, home, environment(CHECKPASSWORD_FILE=str(home.passwords)))

    return start


# Logins are all in clear, all from one address, and Dovecot's notes stay out of the Maildir.
DOVECOT = """\
base_dir = {run}/base
state_dir = {run}
log_path = {run}/log
protocols = pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
passdb {{
  driver = passwd-file
  args = scheme=CRYPT username_format=%u {home.passwords}
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {home.passwords}
}}
mail_location = maildir:~/{maildir}:INDEX={index}:CONTROL={index}
pop3_no_flag_updates = yes
protocol pop3 {{
  mail_max_userip_connections = 1000
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""

DOVECOT_REUSED = """\
service pop3-login {
  service_count = 0
}
service pop3 {
  service_count = 1000
}
"""

# Behind the rest of the configuration: the last word on a setting counts.
DOVECOT_TLS = """\
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{certificate}
service pop3-login {{
  inet_listener pop3s {{
    port = {port}
    ssl = yes
  }}
}}
"""

# Without root every process runs as whoever starts it.
UNPRIVILEGED = """\
first_valid_uid = 1
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
service anvil {{
  chroot =
}}
service pop3-login {{
  chroot =
}}
"""


def dovecot_chain(program: str, variant: str, extra: str) -> Start:
    def start(home: Home, maildir: str) -> Server:
        run = home.work / f"dovecot-{variant}-{maildir}"
        index = home.path / f"dovecot-{variant}-{maildir}"
        index.mkdir(exist_ok=True)
        os.chown(index, home.uid, home.gid)
        run.mkdir(exist_ok=True)
        port = free_port()
        text = DOVECOT.format(run=run, home=home, maildir=maildir, index=index, port=port) + extra
        if os.getuid() != 0:
            import grp
            import pwd

            user, group = pwd.getpwuid(home.uid).pw_name, grp.getgrgid(home.gid).gr_name
            text += UNPRIVILEGED.format(user=user, group=group)
        configuration = run / "dovecot.conf"
        configuration.write_text(text)
        process = subprocess.Popen(
            [program, "-F", "-c", configuration], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
        )
        assert process.stderr is not None
        server = Server(process, port)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                load.connect(port).close()
                return server
            except OSError:
                time.sleep(0.02)
        with server, process.stderr as stderr:
            process.terminate()
            raise load.Trouble(stderr.read().decode(errors="replace").strip() or "dovecot does not answer")

    return start


def chains(system: bool) -> tuple[list[Chain], list[str]]:
    """The chains that can run here, and a sentence for each that cannot. system: checkpassword has its account."""
    found, missing = [], []
    ours = ("qmail-popup", "checkpassword", "qmail-pop3d")
    flat = ("qmail-popup", "checkpassword-flatfile", "qmail-pop3d")
    if system:
        found.append(Chain("ours", tcpserver_chain(str(BIN / "tcpserver"), *ours)))
    else:
        missing.append("no system accounts, so neither checkpassword nor the C chain: that takes root and unshare -m")
    original, c_qmail, c_checker = debian("tcpserver"), os.environ.get("QMAIL_BIN"), os.environ.get("CHECKPASSWORD")
    if original is None:
        missing.append("nothing under the original tcpserver: apt-get install ucspi-tcp")
    elif not c_qmail or not c_checker:
        missing.append("no C chain: QMAIL_BIN (qmail-popup, qmail-pop3d) and CHECKPASSWORD name none")
    elif system:
        words = (f"{c_qmail}/qmail-popup", c_checker, f"{c_qmail}/qmail-pop3d")
        found.append(Chain("C", tcpserver_chain(original, *words)))
    found.append(Chain("ours, flatfile", tcpserver_chain(str(BIN / "tcpserver"), *flat)))
    if original is not None:
        found.append(Chain("ours, cold", tcpserver_chain(original, *(ours if system else flat))))
    dovecot = debian("dovecot")
    if dovecot is None:
        missing.append("no Dovecot: apt-get install dovecot-pop3d")
    else:
        found.append(Chain("Dovecot", dovecot_chain(dovecot, "default", "")))
        found.append(Chain("Dovecot, reused", dovecot_chain(dovecot, "reused", DOVECOT_REUSED)))
    return found, missing
