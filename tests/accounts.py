"""Logins for tests: a packet on descriptor 3, and system accounts that exist in a mount namespace of their own only,
so that the machine's passwd and shadow are never touched."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from qmailpy.unix import crypt
from tests.helpers import run

TODAY = int(time.time()) // 86400
UID = 54321
GID = 54322

FROM_STDIN = 'exec 3<&0 </dev/null; exec "$@"'
NAMESPACE = 'for file in passwd shadow group; do mount --bind "$0/$file" "/etc/$file" || exit 99; done; exec "$@"'


def login(
    argv: Sequence[str | bytes | Path], packet: bytes, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> "subprocess.CompletedProcess[bytes]":
    """Run a checker with packet on descriptor 3 and nothing on 0."""
    return run([*prefix, "sh", "-c", FROM_STDIN, "sh", *argv], input=packet, env=env)


def hashed(password: bytes) -> str:
    return crypt.make(bytearray(password)).decode()


def sha512(password: bytes) -> str:
    made = crypt.crypt(bytearray(password), b"$6$sixteenlettersof$")
    assert made is not None
    return made.decode()


class SystemAccounts:
    """`prefix` runs a command where /etc/passwd, /etc/shadow and /etc/group have the accounts of ACCOUNTS too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.prefix = ["unshare", "-m", "sh", "-c", NAMESPACE, str(folder)]

    def login(
        self, argv: Sequence[str | bytes | Path], packet: bytes, env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        return login(argv, packet, env, self.prefix)


def _accounts() -> dict[str, tuple[str, str]]:
    """Name -> hash in shadow (none: no line there) and the fields of shadow(5) behind the hash."""
    sound = f"{TODAY - 10}:0:99999:7:::"
    right = sha512(b"secret")
    return {
        "q-right": (right, sound),
        "q-yescrypt": (hashed(b"secret"), sound),
        "q-bang": ("!" + right, sound),
        "q-star": ("*", sound),
        "q-empty": ("", sound),
        "q-argon": ("$argon2id$v=19$m=65536,t=3,p=4$Xes9h7DW2tt7b41xrpVybg$Y9euS4z0E3PQ6sA9krIv", sound),
        "q-homeless": (right, sound),
        "q-shadowless": ("", ""),
        "q-expired": (right, f"{TODAY - 10}:0:99999:7::{TODAY}:"),
        "q-expires-tomorrow": (right, f"{TODAY - 10}:0:99999:7::{TODAY + 2}:"),
        "q-expired-at-zero": (right, f"{TODAY - 10}:0:99999:7::0:"),
        "q-must-change": (right, "0:0:99999:7:::"),
        "q-too-old": (right, f"{TODAY - 40}:0:20:7:10::"),
        "q-in-grace": (right, f"{TODAY - 25}:0:20:7:10::"),
        "q-old-without-limit": (right, f"{TODAY - 25}:0:20:7:::"),
        "q-no-dates": (right, "::::::"),
    }


@pytest.fixture(scope="session")
def system_accounts() -> Iterator[SystemAccounts]:
    if os.geteuid() != 0:
        sentence = "only root can set up system accounts: run the tests as root"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
    folder = Path(tempfile.mkdtemp(prefix="qmailpy-accounts-"))  # tmp_path is closed to other users
    try:
        folder.chmod(0o755)
        (folder / "home").mkdir()
        os.chown(folder / "home", UID, GID)
        passwd = Path("/etc/passwd").read_text()
        shadow = Path("/etc/shadow").read_text()
        for name, (stored, rest) in _accounts().items():
            home = folder / ("missing" if name == "q-homeless" else "home")
            passwd += f"{name}:x:{UID}:{GID}::{home}:/bin/q-shell\n"
            shadow += f"{name}:{stored}:{rest}\n" if rest else ""
        (folder / "passwd").write_text(passwd)
        (folder / "group").write_text(Path("/etc/group").read_text() + f"q-extra:x:{GID + 1}:q-right\n")
        (folder / "shadow").touch(mode=0o600)
        (folder / "shadow").write_text(shadow)
        accounts = SystemAccounts(folder)
        tried = run([*accounts.prefix, "true"])
        if tried.returncode:
            sentence = "no mount namespace for system accounts here: " + tried.stderr.decode().strip()
            pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
        yield accounts
    finally:
        shutil.rmtree(folder)
