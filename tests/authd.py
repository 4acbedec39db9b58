"""A running qmail-authd for tests, with accounts of its own, and questions for it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from qmailpy.formats import authd
from tests.helpers import BIN, PYTHON, ROOT, environment
from tests.servers import TIMEOUT, Log, Word

FLATFILE = "checkpassword-flatfile"
YES, NO, LATER = (b"K", b"max"), (b"D", b""), (b"Z", b"")

# qmail-authd with other constants of loops.questions
CHANGED = """
import sys
sys.path.insert(0, sys.argv[1])
from qmailpy import chain
from qmailpy.loops import questions
for change in sys.argv[3].split(","):
    name, _, value = change.partition("=")
    setattr(questions, name, float(value))
argv = sys.argv[4:]
folder = sys.argv[2]
sys.argv = ["qmail-authd", *argv]
chain.start("qmail-authd", folder)
"""


class Authd:
    """A qmail-authd with max, secret, in users/flatfile of a home that others may enter; end it with a `with` block."""

    def __init__(
        self,
        words: Sequence[Word] = (FLATFILE,),
        env: Mapping[str, str] | None = None,
        changed: str = "",
        prefix: Sequence[str] = (),
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="authd-"))  # tmp_path is closed to others, and too long for a socket
        self.home.chmod(0o755)
        (self.home / "users").mkdir()
        owner = "" if os.geteuid() else "65534:65534"
        accounts = self.home / "users" / "flatfile"
        accounts.write_text(f"max:{{PLAIN}}secret:{owner or ':'}::{self.home}:\n" if owner else "max:{PLAIN}secret\n")
        if not owner:
            (self.home / "users" / "max").mkdir()
        self.socket = self.home / "run" / "qmail-authd"
        self.env = environment(QMAILHOME=str(self.home), **(env or {}))
        self.log = Log()
        command: list[Word] = [BIN / "qmail-authd"]
        if changed:
            command = [PYTHON, "-ISc", CHANGED, ROOT, BIN, changed]
        self.argv = [*prefix, *command, *words]
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it, and wait until it answers."""
        process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log.writing, env=self.env
        )
        os.close(self.log.writing)
        self.log.writing = -1
        limit = threading.Event()
        while process.poll() is None and not self.connects():
            limit.wait(0.01)
        return process

    def connects(self) -> bool:
        try:
            self.call().close()
        except OSError:
            return False
        return True

    def call(self) -> socket.socket:
        caller = socket.socket(socket.AF_UNIX)
        caller.settimeout(TIMEOUT)
        try:
            caller.connect(str(self.socket))
        except BaseException:
            caller.close()
            raise
        return caller

    def send(self, password: bytes, name: bytes = b"max", address: bytes = b"192.0.2.1") -> socket.socket:
        """A caller who has asked."""
        caller = self.call()
        caller.sendall(authd.build(address, name, bytearray(password), b""))
        return caller

    def ask(self, password: bytes, name: bytes = b"max", address: bytes = b"192.0.2.1") -> tuple[bytes, bytes] | None:
        """The answer, None if there was none."""
        return answer(self.send(password, name, address))

    def __enter__(self) -> "Authd":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            shutil.rmtree(self.home)


def answer(caller: socket.socket) -> tuple[bytes, bytes] | None:
    """What the caller hears, to the end; None for nothing."""
    data = b""
    with caller:
        while part := caller.recv(4096):
            data += part
    return authd.parse_answer(data) if data else None


def unprivileged(uid: int = 65534) -> list[str]:
    """A prefix that runs a program as uid."""
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
