"""Debian's postfix for tests and benchmarks: a master with a configuration and a queue of its own, as root."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

DAEMONS = Path("/usr/lib/postfix/sbin")
START_S = 20

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.example
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
mynetworks = 127.0.0.0/8
smtpd_tls_security_level = none
smtp_tls_security_level = none
smtputf8_enable = no
"""

# name, type, chroot, wakeup, limit, program: as Debian's, without chroot and without what is not needed.
MASTER = """\
pickup    unix  n - n 60  1 pickup
cleanup   unix  n - n -   0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -   - trivial-rewrite
bounce    unix  - - n -   0 bounce
defer     unix  - - n -   0 bounce
trace     unix  - - n -   0 bounce
verify    unix  - - n -   1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -   - proxymap
smtp      unix  - - n -   - smtp
relay     unix  - - n -   - smtp
local     unix  - n n -   - local
showq     unix  n - n -   - showq
error     unix  - - n -   - error
retry     unix  - - n -   - error
discard   unix  - - n -   - discard
anvil     unix  - - n -   1 anvil
scache    unix  - - n -   1 scache
"""


class Trouble(Exception):
    """It does not start."""


def is_there() -> bool:
    return (DAEMONS / "master").exists() and os.geteuid() == 0


class Postfix:
    """A running postfix, in `with`. folder: one that postfix's own users may enter; settings: lines behind those of
    main.cf; port: where it listens, if at all."""

    def __init__(self, folder: Path, settings: str = "", port: int | None = None) -> None:
        """Raises Trouble."""
        self.spool = folder / "spool"
        self.configuration = folder / "etc"
        for path in (self.spool, self.configuration, folder / "data"):
            path.mkdir(parents=True)
        shutil.chown(folder / "data", "postfix")
        (self.configuration / "main.cf").write_text(MAIN.format(folder=folder) + settings)
        listening = "" if port is None else f"127.0.0.1:{port} inet n - n - - smtpd\n"
        (self.configuration / "master.cf").write_text(listening + MASTER)
        for name in ("postfix-files", "dynamicmaps.cf"):
            source = Path("/etc/postfix", name)
            (self.configuration / name).write_text(source.read_text() if source.exists() else "")
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        check = self._run("/usr/sbin/postfix", "-c", self.configuration, "check")
        if check.returncode:
            raise Trouble(check.stderr.decode(errors="replace"))
        self.process = subprocess.Popen(
            [DAEMONS / "master", "-d", "-c", self.configuration], env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        ready = self.spool / "public" / "pickup"
        limit = time.monotonic() + START_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > limit:
                raise Trouble("postfix does not start")
            time.sleep(0.02)

    def _run(self, *argv: str | Path, text: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(argv, input=text, capture_output=True, env=self.env, check=False)

    def send(self, sender: str, recipients: list[str], text: bytes) -> None:
        """By its sendmail."""
        self._run("/usr/sbin/sendmail", "-C", self.configuration, "-i", "-f", sender, "--", *recipients, text=text)

    def files(self, queue: str) -> list[Path]:
        """The messages in one of its queues, such as hold or deferred."""
        return [path for path in (self.spool / queue).rglob("*") if path.is_file()]

    def empty(self, queue: str) -> None:
        for path in self.files(queue):
            path.unlink()

    def __enter__(self) -> "Postfix":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)  # and it ends all of its session
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
