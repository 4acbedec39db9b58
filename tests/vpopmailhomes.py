"""Homes with virtual domains for tests, each in a temporary folder that others can pass through: of the account that
runs the tests, or, as root, with domains that are nobody's."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.stores.vpopmail.vhome import Vhome
from tests.helpers import BIN, run
from tests.queuehomes import QueueHome
from tests.servers import GID, UID, public_folder


class VpopmailHome(QueueHome):
    """A home of a mail system, with control/me and a queue, and of virtual domains in its folder vpopmail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path.chmod(0o755)
        self.vhome = path / "vpopmail"
        self.domains = self.vhome / "domains"
        self.etc = self.vhome / "etc"
        for folder in self.vhome, self.domains, self.etc:
            folder.mkdir(0o755)
            os.chown(folder, UID, GID)
        (path / "users").mkdir()

    @property
    def value(self) -> Vhome:
        return Vhome(bytes(self.vhome), bytes(self.path))

    def env(self, **changes: str) -> dict[str, str]:
        return super().env(**{"VPOPMAILHOME": str(self.vhome), **changes})

    def run(self, name: str, *words: str | bytes, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a command of this checkout here."""
        return run([BIN / name, *words], input=input, env=self.env())

    def add(self, name: str = "example.com", *options: str, password: str = "secret") -> Path:
        """A new domain; its folder."""
        result = self.run("vadddomain", *options, name, password)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
        return self.domains / name

    def text(self, name: str) -> str:
        """A file of the mail system's home; `absent` if it is not there."""
        file = self.path / name
        return file.read_text() if file.exists() else "absent"


@pytest.fixture
def vpopmail_home() -> Iterator[VpopmailHome]:
    with public_folder() as folder:
        yield VpopmailHome(folder / "home")
