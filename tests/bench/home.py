"""home - what is served: one account, known to the system in this process's view alone, and its Maildirs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

USER = "popbench"
PASSWORD = "secret"
HASH = "$1$benchmrk$KfXbLc/thZTd2wOXCjjNS1"  # md5-crypt: every peer knows it, and its cost hides none of the rest
UID = 54321

# Accounts of qmail, all in one group: name -> uid
QMAIL = {
    name: 54330 + number
    for number, name in enumerate(("alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails"))
}
QMAIL_GID = 54330

OUTER = "BENCH_OUTER_NAMESPACE"

ATTACHED = 1_000_000  # bytes from which a message is an attachment
LINE = b"All work and no play makes a message of ordinary text, 72 columns wide..\n"
BASE64 = b"VGhpcyBpcyBhIGxpbmUgb2YgYW4gYXR0YWNobWVudCwgc2V2ZW50eS1zaXggY29sdW1ucyB3aWRl\n"


def enter_namespace() -> bool:
    """Run the whole program again with a view of the file system of its own; True if it is that already.

    There /etc/passwd can be replaced by a copy with one more account, and nobody else sees it.
    """
    namespace = os.readlink("/proc/self/ns/mnt")
    outer = os.environ.get(OUTER)
    if outer is not None:
        return outer != namespace
    if os.getuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        return False
    again = [sys.executable, "-m", "tests.bench", *sys.argv[1:]]
    os.execvpe("unshare", ["unshare", "-m", *again], {**os.environ, OUTER: namespace})


class Home:
    """A folder for everything, and the account's home in it."""

    def __init__(self, work: Path, system: bool) -> None:
        self.work = work
        self.path = work / "home"
        self.system = system  # whether the account is one of the system
        self.uid = UID if os.getuid() == 0 else os.getuid()
        self.gid = UID if os.getuid() == 0 else os.getgid()
        self.made: set[str] = set()
        work.chmod(0o711)
        self.path.mkdir()
        os.chown(self.path, self.uid, self.gid)
        self.passwords = work / "passwords"
        self.passwords.write_text(f"{USER}:{HASH}:{self.uid}:{self.gid}::{self.path}:/bin/sh\n")
        self.passwords.chmod(0o644)  # Dovecot reads it as a user of its own
        if system:
            accounts = "".join(f"{name}:x:{uid}:{QMAIL_GID}::/:/bin/false\n" for name, uid in QMAIL.items())
            self._replace("passwd", f"{USER}:x:{self.uid}:{self.gid}::{self.path}:/bin/sh\n{accounts}")
            self._replace("shadow", f"{USER}:{HASH}:19000:0:99999:7:::\n")
            groups = f"qmail:x:{QMAIL_GID}:\nnofiles:x:{QMAIL_GID + 1}:\n"
            self._replace("group", f"{USER}:x:{self.gid}:\n{groups}")

    def _replace(self, name: str, line: str) -> None:
        """Put a copy with one more line over /etc/NAME, in this namespace."""
        original, copy = Path("/etc", name), self.work / name
        copy.touch(0o600)
        copy.write_bytes(original.read_bytes() + line.encode())
        shutil.copystat(original, copy)
        os.chown(copy, original.stat().st_uid, original.stat().st_gid)
        subprocess.run(["mount", "--bind", copy, original], check=True)

    def maildir(self, name: str) -> str:
        """The Maildir NAME of MAILDIRS, made at first use; returns the name."""
        if name not in self.made:
            self.made.add(name)
            for sub in ("", "tmp", "new", "cur"):
                folder = self.path / name / sub
                folder.mkdir(mode=0o700)
                os.chown(folder, self.uid, self.gid)
            count, size, seconds = MAILDIRS[name]
            text = message(size)
            for number in range(count):
                at = 1_500_000_000 + number * seconds // count
                path = self.path / name / "cur" / f"{at}.{number}.bench.example:2,S"
                path.write_bytes(text)
                os.utime(path, (at, at))
                os.chown(path, self.uid, self.gid)
        return name


# name: number of messages, bytes of each, seconds over which their times are spread
MAILDIRS = {
    "few": (3, 2000, 3),
    "messages": (50, 2000, 50),
    "large": (1, 25_000_000, 1),
    "distinct": (10_000, 500, 10_000_000),
    "equal": (10_000, 500, 10),
}


def message(size: int) -> bytes:
    """A message of size bytes: text, or an attachment if it is large."""
    head = b"From: a@bench.example\nTo: b@bench.example\nSubject: benchmark\nDate: Fri, 14 Jul 2017 02:40:00 +0000\n\n"
    line = LINE if size < ATTACHED else BASE64
    return (head + line * (size // len(line) + 1))[: size - 1] + b"\n"
