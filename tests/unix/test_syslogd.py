import socket
from pathlib import Path

from qmailpy.unix import syslogd


def test_a_packet_arrives_or_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert not syslogd.send(bytes(path), b"x")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service:
        service.bind(str(path))
        assert syslogd.send(bytes(path), b"<21>text")
        assert service.recv(100) == b"<21>text"
        while syslogd.send(bytes(path), b"x" * 1000):  # until the service's room is used up
            pass
    assert not syslogd.send(bytes(path), b"x")
