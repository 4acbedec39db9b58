"""A server for one connection, for the tests of the clients: it plays a script, in a thread, and ends."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from tests.helpers import BIN, PYTHON, environment, needs, run
from tests.servers import Word, public_folder, reachable_python, serve
from tests.tls import Authority

TIMEOUT = 20  # seconds


class Server:
    """script: what to send (bytes), or what to read until it has come (b"..." inside a one-element tuple)."""

    def __init__(self, *script: bytes | tuple[bytes], address: str = "127.0.0.1", port: int = 0) -> None:
        self.script = script
        self.received = b""
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen()
        self.listener.settimeout(TIMEOUT)
        self.port = str(self.listener.getsockname()[1])
        self.thread = threading.Thread(target=self._play, daemon=True)

    def _play(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(TIMEOUT)
            for step in self.script:
                if isinstance(step, bytes):
                    connection.sendall(step)
                    continue
                while step[0] not in self.received:
                    block = connection.recv(65536)
                    assert block
                    self.received += block

    def __enter__(self) -> "Server":
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.thread.join(TIMEOUT)
        self.listener.close()
        assert not self.thread.is_alive()


def refusing_port() -> str:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def address_of_fixed_ports() -> str:
    """An address of this machine whose ports below 1024 are free for this process alone; or a skip."""
    pid = os.getpid()
    address = f"127.{1 + pid // 62500 % 250}.{1 + pid // 250 % 250}.{1 + pid % 250}"
    try:
        Server(address=address, port=11).listener.close()
    except OSError:
        pytest.skip("ports below 1024 cannot be bound here: run the tests as root, or lower ip_unprivileged_port_start")
    return address


def path_with(folder: Path, ours: tuple[str, ...]) -> dict[str, str]:
    """An environment in which these commands are ours and all others the system's."""
    for name in ours:
        (folder / name).symlink_to(BIN / name)
    return environment(PATH=f"{folder}:{Path(PYTHON).parent}:/usr/local/bin:/usr/bin:/bin")


# How a command meets its partners: name -> which of tcpclient and mconnect-io are ours.
PARTNERS = {
    "with our tcpclient": ("tcpclient", "mconnect-io"),
    "with Debian's tcpclient": ("mconnect-io",),
    "with nothing else of ours": (),
}


class Tool:
    """One of the commands, ours or Debian's, with the environment that decides its partners."""

    def __init__(self, name: str, which: str, folder: Path) -> None:
        original = needs(name)
        self.program = original if which == "Debian's" else BIN / name
        self.env = path_with(folder, PARTNERS.get(which, ()))


ALL = ["Debian's", *PARTNERS]


# Under TLS


@contextlib.contextmanager
def secured(*program: Word) -> Iterator[tuple[str, str]]:
    """sslserver with a program: its port, and a file with the root of its certificate, which is for 127.0.0.1."""
    with public_folder() as folder:
        authority = Authority(folder)
        env = environment(CERTFILE=str(authority.certificate("mail.example")), **reachable_python())
        with serve(BIN / "sslserver", *program, options=["-RHl0"], env=env) as server:
            yield str(server.port), str(authority.roots)


def says_that_it_cannot_connect(name: str, *between: str) -> int:
    """A command that is sslclient behind its words; the exit code. between: words between host and port."""
    port = refusing_port()
    done = run([BIN / name, "-4", "127.0.0.1", *between, port])
    refused = f"sslclient: unable to connect to 127.0.0.1 port {port}: connection refused\n"
    assert (done.stdout, done.stderr.decode()) == (b"", refused)
    return done.returncode
