"""service/pop3d of this project, for one address and port and the accounts of a test, under whatever supervises it."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.helpers import BIN, ROOT, eventually, needs, run
from tests.ports import free_port
from tests.servers import MESSAGES, NAME, PASSWORD, TIMEOUT, Home, Log, read_all

LOGIN = f"user {NAME}\r\npass {PASSWORD}\r\nstat\r\nquit\r\n".encode()

UP = re.compile(r"(?:\S+: up|run: \S+:|up) \(pid (\d+)")  # svstat, sv status, s6-svstat


class Control(NamedTuple):
    """How a supervisor is asked and told: command lines in front of a service directory."""

    stat: Sequence[str]
    down: Sequence[str]
    up: Sequence[str]


DAEMONTOOLS = Control(("svstat",), ("svc", "-d"), ("svc", "-u"))
RUNIT = Control(("sv", "status"), ("sv", "down"), ("sv", "up"))
S6 = Control(("s6-svstat",), ("s6-svc", "-d"), ("s6-svc", "-u"))


class Supervisor(NamedTuple):
    """argv: a command line in front of the folder of services, without whose program it cannot be tried.

    ending: the signal on which it ends in order; code: its exit code then. Debian's svscan ends alone, and its services
    are ended one by one.
    """

    argv: Sequence[str | Path]
    control: Control
    ending: signal.Signals = signal.SIGTERM
    code: int = 0


SUPERVISORS = {
    "ours": Supervisor((BIN / "svscan",), DAEMONTOOLS),
    "ours -s": Supervisor((BIN / "svscan", "-s"), DAEMONTOOLS),
    "Debian's": Supervisor(("svscan",), DAEMONTOOLS, code=-signal.SIGTERM),
    "runit": Supervisor(("runsvdir", "-P"), RUNIT, signal.SIGHUP, 111),
    "s6": Supervisor(("s6-svscan",), S6),
}


def peer(argv: Sequence[str | Path]) -> list[str | Path]:
    """A command line whose program, if it is a name alone, is Debian's."""
    program, *words = argv
    return [needs(program) if isinstance(program, str) else program, *words]


def below(folder: Path) -> list[int]:
    """The processes that have their working directory below folder: services and those that supervise them."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(os.getpid()):
            try:
                if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                    found.append(int(process.name))
            except OSError:  # it has ended, or is not ours
                pass
    return found


def place(at: Home, tools: str = "ours") -> tuple[Path, int]:
    """Put the service into at.folder/service, with our softlimit and multilog or Debian's; its directory, and its
    port."""
    port = free_port()
    hidden = at.folder / "service" / ".pop3d"
    shutil.copytree(ROOT / "service" / "pop3d", hidden)
    softlimit, multilog = ("softlimit", "multilog") if tools == "ours" else (needs("softlimit"), needs("multilog"))
    for script, old, new in (
        ("run", "/var/qmail", str(at.folder)),
        ("run", "0 pop3", f"127.0.0.1 {port}"),
        ("run", "checkpassword ", "checkpassword-flatfile "),
        ("run", "exec softlimit", f"exec {softlimit}"),
        ("log/run", "setuidgid qmaill multilog t", f"{multilog} t e"),  # e: to descriptor 2 of the supervisor too
    ):
        text = (hidden / script).read_text()
        assert old in text
        (hidden / script).write_text(text.replace(old, new))
    return hidden.rename(hidden.with_name("pop3d")), port


def surroundings(at: Home, supervisor: str) -> dict[str, str]:
    """The environment of a supervisor. The original svscan has the original supervise, which comes before ours."""
    env = at.environment(QMAILHOME=str(at.folder))
    if supervisor == "Debian's":
        (at.folder / "original").mkdir(exist_ok=True)
        if not (at.folder / "original" / "supervise").exists():
            (at.folder / "original" / "supervise").symlink_to(needs("supervise"))
        env["PATH"] = f"{at.folder}/original:{env['PATH']}"
    return env


class Service:
    """The service. argv, if given, is a command line that in the end has at.folder/service supervised, as supervisor
    does it. `with` ends everything that has its working directory below at.folder, as all of this has."""

    def __init__(
        self,
        at: Home,
        supervisor: str,
        tools: str = "ours",
        argv: Sequence[str | Path] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.home = at.folder
        self.scan = at.folder / "service"
        self.supervisor = SUPERVISORS[supervisor]
        self.control = self.supervisor.control
        command = [*peer(self.supervisor.argv), self.scan] if argv is None else list(argv)
        for words in self.control:
            needs(words[0])
        self.folder, self.port = place(at, tools)
        self.start(command, surroundings(at, supervisor) if env is None else env)

    def start(self, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
        """The supervisor, again if it has ended."""
        self.log = Log()
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self.log.writing,
            stderr=self.log.writing,
            start_new_session=True,
        )
        os.close(self.log.writing)

    def line(self, pattern: str) -> None:
        self.log.line(f"@[0-9a-f]+ tcpserver: {pattern}")

    def is_up(self) -> bool:
        """Whether it serves, which it says in its log."""
        self.line("status: 0/100")
        return self.pid() != 0

    def pid(self) -> int:
        """0 if it is down, or not supervised."""
        said = run([needs(self.control.stat[0]), *self.control.stat[1:], self.folder]).stdout.decode()
        found = UP.match(said)
        return int(found[1]) if found else 0

    def stat(self) -> str:
        """up, down and the rest of what Debian's svstat says, without the name."""
        return run([needs("svstat"), self.folder]).stdout.decode().partition(": ")[2]

    def tell(self, words: Sequence[str], *directories: Path) -> None:
        """svc, sv or s6-svc."""
        done = run([needs(words[0]), *words[1:], *(directories or (self.folder,))], cwd=self.folder)
        assert (done.returncode, done.stderr) == (0, b"")

    def svc(self, letters: str, *directories: Path) -> None:
        self.tell(("svc", letters), *directories)

    def talk(self) -> list[bytes]:
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as connection:
            connection.sendall(LOGIN)
            return read_all(connection).splitlines()

    def serves(self) -> bool:
        """Whether it serves the mail, and is through with that in its log."""
        lines = self.talk()
        self.line(r"end \d+ status 256")
        self.line("status: 0/100")
        size = sum(map(len, MESSAGES))
        return [line[:3] for line in lines] == [b"+OK"] * 5 and lines[3] == b"+OK %d %d" % (len(MESSAGES), size)

    def is_closed(self) -> bool:
        """Whether nobody listens."""
        try:
            socket.create_connection(("127.0.0.1", self.port), TIMEOUT).close()
        except ConnectionRefusedError:
            return True
        return False

    def stop(self) -> int:
        """End the supervisor as it wants to be; its exit code."""
        self.process.send_signal(self.supervisor.ending)
        code = self.process.wait(TIMEOUT)
        if self.supervisor.code == -signal.SIGTERM:
            self.svc("-dx", self.folder, self.folder / "log")
        return code

    def is_over(self) -> bool:
        """Whether nothing is left, and the log is whole."""
        return eventually(lambda: below(self.home) == []) and self.is_closed() and self.log_is_complete()

    def supervise(self) -> str:
        """The program that has started the service."""
        parent = re.findall(r"PPid:\t(\d+)", Path(f"/proc/{self.pid()}/status").read_text())[0]
        return os.readlink(f"/proc/{parent}/exe")

    def log_is_complete(self) -> bool:
        """multilog marks a log whose end it has written."""
        return (self.folder / "log" / "main" / "current").stat().st_mode & 0o777 == 0o744

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

        def killed() -> bool:
            left = below(self.home)
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return not left

        assert eventually(killed)
