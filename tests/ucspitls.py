"""A UCSPI-TLS server of the tests' own, which knows only the documented interface: a program gets the raw connection,
and three descriptors with which it can have it encrypted."""

import contextlib
import os
import select
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.dialogues import PATIENCE, Home, Talk
from tests.helpers import BIN, run

NAME = "mail.example"
REMOTE = "192.0.2.7"


@contextlib.contextmanager
def made(*names: str) -> Iterator[Path]:
    """A file with a key and a certificate, both new."""
    with tempfile.TemporaryDirectory(prefix="qmailpy-tls-") as folder:
        path = Path(folder, "cert.pem")
        done = run([BIN / "mkcert", path, *(names or (NAME,))])
        assert (done.returncode, done.stderr) == (0, b"")
        yield path


@pytest.fixture(scope="session")
def certificate() -> Iterator[Path]:
    with made(NAME, "localhost", "127.0.0.1") as path:
        yield path


class TlsTalk(Talk):
    """A program with a socket on 0 and 1, for which TLS can be begun, once.

    pipes: what is decrypted comes through two pipes, as from ucspi-ssl, not a socket. stays: the control socket stays
    open behind the answer. answer: in place of what TLS is like; None: no answer at all. gone: nobody is there.
    """

    def __init__(
        self,
        home: Home,
        argv: Sequence[str | bytes | Path],
        certificate: Path,
        pipes: bool = False,
        stays: bool = False,
        answer: bytes | None = b"",
        gone: bool = False,
        variables: dict[str, str] | None = None,
        **how: Any,
    ) -> None:
        self.certificate = certificate
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(PATIENCE)
        self._answer, self._stays = answer, stays
        self._network = theirs.dup()
        self._control, control = socket.socketpair()
        if pipes:
            reading, self._to = os.pipe()
            self._from, writing = os.pipe()
        else:
            ours, data = socket.socketpair()
            self._to = ours.detach()
            self._from = os.dup(self._to)
            reading = writing = data.detach()
        self.command = b"-"  # what the program has written on the control socket; - while it has not
        numbers = {"SSLCTLFD": control.fileno(), "SSLREADFD": reading, "SSLWRITEFD": writing}
        named = {name: str(number) for name, number in numbers.items()}
        env = home.environment(**{"TCPREMOTEIP": REMOTE, **named, **(variables or {})})
        how = {"env": env, "cwd": home.path, "stderr": subprocess.PIPE, **home.who, **how}
        ends = {"stdin": theirs, "stdout": theirs, "pass_fds": set(numbers.values())}
        self.process = subprocess.Popen(argv, **{**ends, **how})
        for fd in {theirs.detach(), *numbers.values()}:
            os.close(fd)
        control.detach()
        if gone:
            self._control.close()
        self._thread = threading.Thread(target=self._control.close if gone else self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> "TlsTalk":
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def secure(self) -> str:
        """The client's handshake; returns the version."""
        context = ssl.create_default_context(cafile=self.certificate)
        self.socket = context.wrap_socket(self.socket, server_hostname=NAME)
        return self.socket.version() or ""

    def joined(self) -> bytes:
        """What the program has written on the control socket, when it has ended or declined."""
        self._thread.join(PATIENCE)
        return self.command

    def _serve(self) -> None:
        with self._network, self._control:
            self.command = self._control.recv(1)
            try:
                if self.command:
                    self._secured()
                else:
                    self._network.close()
            except OSError:  # the handshake fails, or the client resets
                with contextlib.suppress(OSError):
                    self._network.shutdown(socket.SHUT_RDWR)
            finally:
                for fd in (self._to, self._from):
                    if fd >= 0:
                        os.close(fd)

    def _secured(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        with context.wrap_socket(self._network, server_side=True) as secured:
            cipher = secured.cipher()
            assert cipher is not None
            like = b"SSL_PROTOCOL=%b\0SSL_CIPHER=%b\0\0" % (cipher[1].encode(), cipher[0].encode())
            if self.command == b"Y" and self._answer is not None:
                self._control.sendall(self._answer or like)
            if not self._stays:
                self._control.close()
            self._relay(secured)

    def _relay(self, secured: ssl.SSLSocket) -> None:
        while True:
            waiting = (secured.fileno(), self._from)
            ready = list(waiting[:1]) if secured.pending() else select.select(waiting, [], [])[0]
            if secured.fileno() in ready:
                data = secured.recv(16384)
                if not data:
                    os.close(self._to)
                    self._to = -1
                    return
                with contextlib.suppress(BrokenPipeError):
                    os.write(self._to, data)
            if self._from in ready:
                data = os.read(self._from, 16384)
                if not data:
                    return
                secured.sendall(data)
