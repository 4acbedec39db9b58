"""A home with virtual domains for tests of logins, on files as vpopmail has them: written here line by line, without a
command of ours."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.formats import assign, cdb
from tests.accounts import login, sha512
from tests.helpers import BIN, environment, run

ROOT = os.geteuid() == 0
OWNER = pwd.getpwnam("nobody") if ROOT else pwd.getpwuid(os.geteuid())
GID = OWNER.pw_gid if ROOT else os.getegid()

SHA512 = sha512(b"secret")


class Virtual:
    """QMAILHOME and VPOPMAILHOME in one, of nobody where the tests run as root. domains: name -> directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self.lines: list[str] = []
        for name in ("etc", "domains", "users", "control"):
            (folder / name).mkdir()
        self._give(folder)

    def _give(self, folder: Path) -> None:
        if ROOT:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, OWNER.pw_uid, OWNER.pw_gid)

    def domain(self, name: str, *accounts: str, alias: str = "") -> Path:
        """A domain, or an alias of one, with lines of vpasswd: name:hash[:uid:gid:gecos:dir:quota[:clear]]; DIR stands
        for the domain's directory."""
        folder = self.folder / "domains" / (alias or name)
        self.lines.append(f"+{name}-:{alias or name}:{OWNER.pw_uid}:{GID}:{folder}:-::\n")
        text = "".join(sorted(self.lines)) + ".\n"
        (self.folder / "users" / "assign").write_text(text)
        (self.folder / "users" / "cdb").write_bytes(b"".join(cdb.make(assign.records(text.encode()))))
        if not alias:
            folder.mkdir()
            self.accounts(folder, *accounts)
        return folder

    def accounts(self, folder: Path, *accounts: str) -> None:
        lines = []
        for line in sorted(accounts):
            user = line.partition(":")[0]
            if line.count(":") == 1:
                line += f":1:0:{user}:DIR/{user}:NOQUOTA"
            lines.append(line.replace("DIR", str(folder)).encode())
            for part in ("cur", "new", "tmp"):
                (folder / user / "Maildir" / part).mkdir(parents=True, exist_ok=True)
        (folder / "vpasswd").write_bytes(b"".join(line + b"\n" for line in lines))
        records = [(line.partition(b":")[0], line.partition(b":")[2]) for line in lines]
        (folder / "vpasswd.cdb").write_bytes(b"".join(cdb.make(records)))
        self._give(folder)

    def env(self, **changes: str) -> dict[str, str]:
        home = str(self.folder)
        return environment(**{"QMAILHOME": home, "VPOPMAILHOME": home, "VPOPMAIL_SYSLOG": "-", **changes})

    def login(self, packet: bytes, *program: str, **changes: str):  # type: ignore[no-untyped-def]
        return login([str(BIN / "vchkpw"), *(program or ("echo", "in"))], packet, self.env(**changes))

    def run(self, *argv: str, input: bytes = b"", **changes: str):  # type: ignore[no-untyped-def]
        return run(argv, input=input, env=self.env(**changes))


@pytest.fixture
def virtual() -> Iterator[Virtual]:
    folder = Path(tempfile.mkdtemp(prefix="qmailpy-virtual-"))  # tmp_path is closed to other users
    folder.chmod(0o755)
    try:
        yield Virtual(folder)
    finally:
        shutil.rmtree(folder)
