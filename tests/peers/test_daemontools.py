"""service/pop3d under the original daemontools: svscan, supervise, svc, svstat, multilog and softlimit."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import eventually, needs, run
from tests.peers.supervisors import LOGIN, Service
from tests.servers import MESSAGES, TIMEOUT, home, read_all


@pytest.fixture
def service() -> Iterator[Service]:
    with home() as at:
        at.deliver(*MESSAGES)
        with Service(at, "Debian's", "Debian's") as started:
            yield started


def test_a_service_serves_mail_and_logs_through_multilog(service: Service) -> None:
    assert service.is_up()
    assert service.supervise() == os.path.realpath(needs("supervise"))
    assert service.stat().startswith("up (pid ")
    lines = service.talk()
    assert [line[:3] for line in lines] == [b"+OK"] * 5
    assert lines[3] == b"+OK %d %d" % (len(MESSAGES), sum(map(len, MESSAGES)))
    service.line(r"end \d+ status 256")
    current = (service.folder / "log" / "main" / "current").read_text()
    assert all(line.startswith("@4") for line in current.splitlines())
    assert "tcpserver: ok " in current


def test_svc_stops_and_starts_the_service_and_sessions_go_on(service: Service) -> None:
    assert service.is_up()
    with socket.create_connection(("127.0.0.1", service.port), TIMEOUT) as session:
        assert session.recv(3) == b"+OK"
        service.svc("-d")
        assert eventually(lambda: service.stat().startswith("down "))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port), TIMEOUT)
        service.svc("-u")
        service.line("status: 0/100")
        assert service.talk()[0][:3] == b"+OK"
        session.sendall(LOGIN)
        assert b"+OK %d " % len(MESSAGES) in read_all(session)


def test_svc_t_starts_it_anew(service: Service) -> None:
    assert service.is_up()
    before = service.pid()
    service.svc("-t")
    service.line("status: 0/100")
    assert eventually(lambda: service.stat().startswith("up ") and service.pid() != before)
    assert service.talk()[0][:3] == b"+OK"


def test_svc_x_ends_supervise_and_its_log(service: Service) -> None:
    assert service.is_up()
    service.process.terminate()  # svscan would start them again
    service.process.wait(TIMEOUT)
    service.svc("-d", Path("."))
    assert eventually(lambda: service.stat().startswith("down "))
    service.svc("-x", Path("."), Path("log"))
    assert eventually(lambda: "supervise not running" in service.stat())
    assert eventually(lambda: run([needs("svok"), service.folder / "log"]).returncode != 0)


def test_an_idle_chain_fits_into_the_softlimit_of_the_service(service: Service) -> None:
    assert service.is_up()
    limits = Path(f"/proc/{service.pid()}/limits").read_text()
    assert "64000000" in limits
    assert service.talk()[3].startswith(b"+OK ")
