"""What a service manager is told, on sockets of both kinds of name."""

import os
import socket
from pathlib import Path

import pytest

from qmailpy.unix import notify


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_a_datagram_comes_to_the_socket(tmp_path: Path, abstract: bool) -> None:
    name = f"@qmailpy-test-{os.getpid()}" if abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0") if abstract else name)
        notify.tell(name.encode(), b"READY=1")
        assert receiver.recv(100) == b"READY=1"


def test_a_socket_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        notify.tell(bytes(tmp_path / "nothing"), b"READY=1")
