"""A mail system as `make home` and service/ make it: as root, in a mount namespace where the accounts of qmail exist,
on loopback, under a supervisor. `with` ends all that runs below its folder."""

import os
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.accounts import NAMESPACE, sha512
from tests.helpers import BIN, PYTHON, ROOT, environment, eventually, needs, run
from tests.ports import free_port
from tests.queuehomes import QueueHome
from tests.servers import TIMEOUT, Log

HOST = "mail.example"
USER, PASSWORD = "q-max", "secret"

FIRST = 603  # uid of the first account; qmaild and nofiles have the numbers that guides give them
GROUPS = {"nofiles": 601, "qmail": 602}
ACCOUNTS = {"alias": "nofiles", "qmaild": "nofiles", "qmaill": "nofiles", "qmailp": "nofiles",
            "qmailq": "qmail", "qmailr": "qmail", "qmails": "qmail"}  # fmt: skip
UIDS = {name: FIRST + number for number, name in enumerate(ACCOUNTS)}

SUPERVISORS: dict[str, Sequence[str]] = {
    "ours": ("svscan",),
    "Debian's": ("/usr/bin/svscan",),
    "runit": ("/usr/bin/runsvdir", "-P"),
    "s6": ("/usr/bin/s6-svscan",),
}
SERVICES = ("smtpd", "submission", "qmail-queued", "authd")


def below(folder: Path) -> list[int]:
    """The processes that have their working directory there."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(os.getpid()):
            try:
                if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                    found.append(int(process.name))
            except OSError:  # it has ended
                pass
    return found


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class MailSystem(QueueHome):
    """path: the home. services: what svscan looks at. ports: of smtpd and submission. max: the home of the user.
    deliver: what is in the queue leaves it; otherwise it is there to be looked at."""

    def __init__(self, deliver: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qmailpy-system-"))
        self.folder.chmod(0o755)
        self.path = self.folder / "home"
        self.queue = self.path / "queue"
        self.services = self.path / "service"
        self.prefix = ["unshare", "-m", "sh", "-c", NAMESPACE, str(self.folder)]
        self.max = self.folder / "max"
        self.max.mkdir()
        os.chown(self.max, FIRST - 1, FIRST - 1)
        self._write_accounts()
        installed = self.run([PYTHON, ROOT / "tools" / "home.py", self.path], PIP_NO_INDEX="1")
        assert installed.returncode == 0, installed.stderr
        self.said = installed.stderr.decode()
        shutil.rmtree(self.path / "service" / "pop3d")
        if not deliver:
            shutil.rmtree(self.path / "service" / "qmail-send")
        self.ports = {"smtpd": self._place("smtpd", "smtp"), "submission": self._place("submission", "submission")}
        self.control(me=HOST, rcpthosts=HOST)
        self.rules(":allow\n")
        self.supervisor: subprocess.Popen[bytes] | None = None

    def _write_accounts(self) -> None:
        """Copies of the system's files with more accounts."""
        homes = {**dict.fromkeys(ACCOUNTS, "/"), "alias": f"{self.path}/alias"}
        users = "".join(f"{name}:x:{UIDS[name]}:{GROUPS[group]}::{homes[name]}:/bin/false\n"
                        for name, group in ACCOUNTS.items())  # fmt: skip
        lines = {
            "passwd": f"{users}{USER}:x:{FIRST - 1}:{FIRST - 1}::{self.max}:/bin/sh\n",
            "shadow": f"{USER}:{sha512(PASSWORD.encode())}:19000:0:99999:7:::\n",
            "group": "".join(f"{name}:x:{gid}:\n" for name, gid in GROUPS.items()),
        }
        for name, text in lines.items():
            original, copy = Path("/etc", name), self.folder / name
            copy.touch(0o600)
            copy.write_bytes(original.read_bytes() + text.encode())
            shutil.copystat(original, copy)
            os.chown(copy, original.stat().st_uid, original.stat().st_gid)

    def _place(self, service: str, port_name: str) -> int:
        """Give a service a free port on loopback in place of its own."""
        port = free_port()
        script = self.path / "service" / service / "run"
        text = script.read_text()
        assert f" 0 {port_name} " in text
        script.write_text(text.replace(f" 0 {port_name} ", f" 127.0.0.1 {port} "))
        return port

    def rules(self, text: str) -> None:
        """Those of smtpd, compiled."""
        (self.path / "control" / "smtp.rules").write_text(text)
        file = self.path / "control" / "smtp.rules"
        done = run([BIN / "tcprules", f"{file}.cdb", f"{file}.tmp"], input=text.encode())
        assert done.returncode == 0, done.stderr

    def run(self, argv: Sequence[str | Path], **changes: str) -> "subprocess.CompletedProcess[bytes]":
        """A command, as root, among the accounts."""
        return run([*self.prefix, *argv], env=self.env(**changes), timeout=120)

    def start(self, supervisor: str) -> None:
        argv = SUPERVISORS[supervisor]
        if supervisor == "ours":
            argv = (str(self.path / "bin" / "svscan"),)
        else:
            needs(Path(argv[0]).name)
        needs("multilog")
        path = f"{self.path}/bin:" if supervisor == "ours" else ""
        env = environment(QMAILHOME=str(self.path), PATH=f"{path}/usr/bin:/bin:/usr/sbin:/sbin")
        self.log = Log()
        self.supervisor = subprocess.Popen(
            [*self.prefix, *argv, self.services], env=env, stdin=subprocess.DEVNULL,
            stdout=self.log.writing, stderr=self.log.writing, start_new_session=True,
        )  # fmt: skip
        os.close(self.log.writing)

    def is_up(self) -> bool:
        """Whether all services take connections."""
        sockets = [self.path / "run" / name for name in ("qmail-queued", "qmail-authd")]
        return all(map(answers, self.ports.values())) and all(map(_listens, sockets))

    def process(self, service: str) -> int:
        """The pid of a service: what has its directory for working directory and is no supervisor."""
        folder = self.path / "service" / service
        for pid in below(folder):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                there = os.readlink(f"/proc/{pid}/cwd")
            except OSError:  # it has ended
                continue
            if Path(there) == folder and _is_service(command):
                return pid
        return 0

    def text_of_log(self, service: str) -> str:
        file = self.path / "service" / service / "log" / "main" / "current"
        return file.read_text(errors="replace") if file.exists() else ""

    def client(self, service: str) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", self.ports[service], "client.example", TIMEOUT)
        client.ehlo()
        return client

    def __enter__(self) -> "MailSystem":
        return self

    def __exit__(self, *_: object) -> None:
        def killed() -> bool:
            left = [*below(self.folder), *([self.supervisor.pid] if self.supervisor else [])]
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if self.supervisor is not None:
                self.supervisor.wait(TIMEOUT)
                self.supervisor = None
            return not below(self.folder)

        try:
            assert eventually(killed)
        finally:
            shutil.rmtree(self.folder)


def _is_service(command: bytes) -> bool:
    """By its command line: what run executes last, or first and then in warm steps."""
    return b"supervise" not in command and b"runsv" not in command and b"/run\0" not in command


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
    except OSError:
        return False
    return True


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        try:
            caller.connect(str(path))
        except OSError:
            return False
    return True


def needs_root() -> None:
    """A skip unless we are root and may have a mount namespace."""
    if os.geteuid() or run(["unshare", "-m", "true"]).returncode:
        pytest.skip("needs root, and unshare -m")


def started(supervisor: str = "ours", deliver: bool = False) -> MailSystem:
    """A system that is up."""
    needs_root()
    system = MailSystem(deliver)
    try:
        system.start(supervisor)
        assert eventually(system.is_up), system.log.text
    except BaseException:
        system.__exit__()
        raise
    return system
