"""Servers for tests: started on a free port of a loopback address and ended by pid; and mail for them to serve."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.accounts import sha512
from tests.helpers import BIN, environment

TIMEOUT = 20  # seconds for whatever a test waits for

Word = str | bytes | Path


class Log:
    """The lines that processes write to `writing`, in order, as they come."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        self.text = b""
        self._taken = 0  # bytes of text that line() is through with
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while block := os.read(self._reading, 65536):
            with self._changed:
                self.text += block
                self._changed.notify_all()
        os.close(self._reading)

    def line(self, pattern: str) -> "re.Match[bytes]":
        """Wait for a line that matches pattern whole, behind the one found before."""
        whole = re.compile(b"^(?:" + os.fsencode(pattern) + b")\n", re.MULTILINE)
        with self._changed:
            found: list[re.Match[bytes]] = []

            def there() -> bool:
                match = whole.search(self.text, self._taken)
                found.extend([match] if match else [])
                return match is not None

            assert self._changed.wait_for(there, TIMEOUT), f"no line {pattern!r} in {self.text[self._taken :]!r}"
            self._taken = found[0].end()
            return found[0]


class Server:
    """A running tcpserver; end it with a `with` block. -1 is among its options."""

    def __init__(
        self,
        argv: Sequence[Word],
        env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
        cwd: str | Path | None = None,
        host: str = "127.0.0.1",
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.host = host
        self.log = Log()
        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self.log.writing,
                env=environment() if env is None else env,
                cwd=cwd,
                pass_fds=pass_fds,
            )
        finally:
            os.close(self.log.writing)
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            port = stdout.readline()
        if not port.strip().isdigit():
            self.process.wait(TIMEOUT)
            raise AssertionError(f"{argv!r} printed {port!r} as its port, and said {self.log.text!r}")
        self.port = int(port)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.terminate()

    @property
    def pid(self) -> int:
        return self.process.pid

    def terminate(self) -> int:
        """End it, but no child of it; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def connect(self, source: str = "") -> socket.socket:
        """A connection to it, from the address source if there is one."""
        return socket.create_connection((self.host, self.port), TIMEOUT, (source, 0) if source else None)

    def talk(self, data: bytes = b"", source: str = "") -> bytes:
        """What it sends on a connection of its own, once data was all that came."""
        with self.connect(source) as connection:
            with contextlib.suppress(OSError):  # it may have gone without reading
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def line(self, pattern: str) -> "re.Match[bytes]":
        return self.log.line(pattern)

    def children(self) -> list[int]:
        """Its child processes, zombies too."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(word) for word in text.split()]


def read_all(connection: socket.socket) -> bytes:
    """To the end of the connection, which may be a reset: what was not read on the other side makes one."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while block := connection.recv(65536):
            parts.append(block)
    return b"".join(parts)


def serve(
    tcpserver: Word,
    *words: Word,
    options: Sequence[str] = ("-RH", "-l0"),
    host: str = "127.0.0.1",
    port: int = 0,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    cwd: str | Path | None = None,
    prefix: Sequence[Word] = (),
    pass_fds: Sequence[int] = (),
) -> Server:
    """Start tcpserver, with -v, on a port of host, a free one unless given, for the program and arguments words."""
    argv = [*prefix, tcpserver, "-1v", *options, host, str(port), *words]
    return Server(argv, env, cwd, host, pass_fds)


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """A temporary folder that other users can pass through, as pytest's cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="qmailpy-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# What is served: a name that checkpassword-flatfile knows, and its Maildir.

UID = 65534 if os.geteuid() == 0 else os.geteuid()  # qmail-pop3d does not run as root
GID = 65534 if os.geteuid() == 0 else os.getegid()

NAME = "max"
PASSWORD = "mypassword"

MESSAGES = (
    b"Subject: one\nFrom: a@host.example\n\nA line.\n",
    b"Subject: dots\n\n.\n..\n.dot at the start\nend.\n",
    b"Subject: \xc3\xbc\xff\x00 binary\n\nlong " + b"x" * 900 + b"\n",
)


def on_wire(message: bytes) -> bytes:
    """A file of the Maildir as a client has it: lines end in CRLF, and an empty one follows the last."""
    return message.replace(b"\n", b"\r\n") + b"\r\n"


def reachable_python() -> dict[str, str]:
    """PATH with a Python first that UID can run: the tests' own may lie in a folder of root alone."""
    path = environment()["PATH"]
    closed = os.geteuid() == 0 and any(
        not up.stat().st_mode & 1 for up in Path(sys.base_prefix, "lib").resolve().parents
    )
    return {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:{path}" if closed else path}


class Home:
    """A folder with the account NAME and PASSWORD, whose Maildir is maildir; and `plain`, the same person, whose
    password stands as it is in the file, for APOP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / NAME
        self.maildir = self.home / "Maildir"
        self.passwords = folder / "flatfile"
        rest = f":{UID}:{GID}::{self.home}:/bin/sh\n"
        self.passwords.touch(0o600)
        self.passwords.write_text(f"{NAME}:{sha512(PASSWORD.encode())}{rest}plain:{{PLAIN}}{PASSWORD}{rest}")
        for path in (self.home, self.maildir, *(self.maildir / sub for sub in ("tmp", "new", "cur"))):
            path.mkdir(mode=0o700)
            os.chown(path, UID, GID)

    def environment(self, **changes: str) -> dict[str, str]:
        return environment(**{"CHECKPASSWORD_FILE": str(self.passwords), **reachable_python(), **changes})

    def deliver(self, *messages: bytes) -> None:
        """Put messages into new, in this order."""
        for number, message in enumerate(messages):
            path = self.maildir / "new" / f"{1_600_000_000 + number}.M{number}.host.example"
            path.write_bytes(message)
            os.utime(path, (1_600_000_000 + number,) * 2)
            os.chown(path, UID, GID)

    def messages(self) -> list[bytes]:
        """What lies in new and cur."""
        paths = [*(self.maildir / "new").iterdir(), *(self.maildir / "cur").iterdir()]
        return [path.read_bytes() for path in sorted(paths, key=lambda path: path.name)]


@contextlib.contextmanager
def home() -> Iterator[Home]:
    with public_folder() as folder:
        yield Home(folder)


def pop3(
    checker: Word = "checkpassword-flatfile", popup: Word = "qmail-popup", pop3d: Word = "qmail-pop3d"
) -> list[Word]:
    """The chain behind tcpserver."""
    return [popup, "host.example", checker, pop3d, "Maildir"]


OURS = BIN / "tcpserver"
