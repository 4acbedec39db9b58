"""service/pop3d under the original daemontools: svscan, supervise, svc, svstat, multilog and softlimit."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT, needs, run
from tests.servers import MESSAGES, NAME, PASSWORD, TIMEOUT, Home, Log, home, read_all

LOGIN = f"user {NAME}\r\npass {PASSWORD}\r\nstat\r\nquit\r\n".encode()


def eventually(true: Callable[[], bool]) -> bool:
    """supervise tells nobody when something has changed: ask again until it has."""
    limit = time.monotonic() + TIMEOUT
    while not true():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


class Service:
    """The service directory of this project, for one address and port, with the accounts of home; under svscan."""

    def __init__(self, at: Home) -> None:
        for program in ("svscan", "softlimit", "svc", "svstat", "multilog"):
            needs(program)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = at.folder / "service" / "pop3d"
        shutil.copytree(ROOT / "service" / "pop3d", self.folder)
        self._replace("run", "0 pop3", f"127.0.0.1 {self.port}")
        self._replace("run", "checkpassword ", "checkpassword-flatfile ")
        self._replace("log/run", "setuidgid qmaill multilog t", "multilog t e")  # e: to the log of svscan too
        self.log = Log()
        self.process = subprocess.Popen(
            [needs("svscan"), at.folder / "service"],
            env=at.environment(QMAILHOME=str(at.folder)),
            stdin=subprocess.DEVNULL,
            stderr=self.log.writing,
        )
        os.close(self.log.writing)

    def _replace(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def line(self, pattern: str) -> None:
        self.log.line(f".*tcpserver: {pattern}")

    def svc(self, *words: str | Path) -> None:
        done = run([needs("svc"), *words], cwd=self.folder)
        assert (done.returncode, done.stderr) == (0, b"")

    def stat(self) -> str:
        """up, down and the rest of what svstat says, without the name."""
        return run([needs("svstat"), self.folder]).stdout.decode().partition(": ")[2]

    def pid(self) -> int:
        return int(self.stat().partition("(pid ")[2].partition(")")[0])

    def talk(self) -> list[bytes]:
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as connection:
            connection.sendall(LOGIN)
            return read_all(connection).splitlines()

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT)
        with contextlib.suppress(AssertionError):
            self.svc("-dx", self.folder, self.folder / "log")
        eventually(lambda: run([needs("svok"), self.folder]).returncode != 0)
        eventually(lambda: run([needs("svok"), self.folder / "log"]).returncode != 0)


@pytest.fixture
def service() -> Iterator[Service]:
    with home() as at:
        at.deliver(*MESSAGES)
        started = Service(at)
        try:
            yield started
        finally:
            started.end()


def test_a_service_serves_mail_and_logs_through_multilog(service: Service) -> None:
    service.line("status: 0/100")
    assert service.stat().startswith("up (pid ")
    lines = service.talk()
    assert [line[:3] for line in lines] == [b"+OK"] * 5
    assert lines[3] == b"+OK %d %d" % (len(MESSAGES), sum(map(len, MESSAGES)))
    service.line(r"end \d+ status 256")
    current = (service.folder / "log" / "main" / "current").read_text()
    assert all(line.startswith("@4") for line in current.splitlines())
    assert "tcpserver: ok " in current


def test_svc_stops_and_starts_the_service_and_sessions_go_on(service: Service) -> None:
    service.line("status: 0/100")
    with socket.create_connection(("127.0.0.1", service.port), TIMEOUT) as session:
        assert session.recv(3) == b"+OK"
        service.svc("-d", service.folder)
        assert eventually(lambda: service.stat().startswith("down "))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port), TIMEOUT)
        service.svc("-u", service.folder)
        service.line("status: 0/100")
        assert service.talk()[0][:3] == b"+OK"
        session.sendall(LOGIN)
        assert b"+OK %d " % len(MESSAGES) in read_all(session)


def test_svc_t_starts_it_anew(service: Service) -> None:
    service.line("status: 0/100")
    before = service.pid()
    service.svc("-t", service.folder)
    service.line("status: 0/100")
    assert eventually(lambda: service.stat().startswith("up ") and service.pid() != before)
    assert service.talk()[0][:3] == b"+OK"


def test_svc_x_ends_supervise_and_its_log(service: Service) -> None:
    service.line("status: 0/100")
    service.process.terminate()  # svscan would start them again
    service.process.wait(TIMEOUT)
    service.svc("-d", ".")
    assert eventually(lambda: service.stat().startswith("down "))
    service.svc("-x", ".", "./log")
    assert eventually(lambda: "supervise not running" in service.stat())
    assert eventually(lambda: run([needs("svok"), service.folder / "log"]).returncode != 0)


def test_an_idle_chain_fits_into_the_softlimit_of_the_service(service: Service) -> None:
    service.line("status: 0/100")
    limits = Path(f"/proc/{service.pid()}/limits").read_text()
    assert "64000000" in limits
    assert service.talk()[3].startswith(b"+OK ")
