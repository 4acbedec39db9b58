"""What every test needs: the commands of this checkout, a run of one, and Debian's C originals beside them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / "bin"
PYTHON = sys.executable

# Where to find a peer that is no Debian package of the same name.
PACKAGES = {
    **dict.fromkeys(("tcpserver", "tcpclient", "tcprules", "tcprulescheck", "rblsmtpd", "recordio"), "ucspi-tcp"),
    **dict.fromkeys(("fixcrio", "addcr", "delcr", "argv0", "mconnect", "tcpcat"), "ucspi-tcp"),
    **dict.fromkeys(("who@", "date@", "finger@", "http@", "mconnect-io"), "ucspi-tcp"),
    **dict.fromkeys(
        ("svscan", "supervise", "svc", "svok", "svstat", "softlimit", "setuidgid", "envdir"), "daemontools"
    ),
    **dict.fromkeys(("multilog", "tai64n", "tai64nlocal"), "daemontools"),
    **dict.fromkeys(("envuidgid", "setlock", "fghack", "pgrphack", "readproctitle"), "daemontools"),
    "svscanboot": "daemontools",
    **dict.fromkeys(("runsvdir", "runsv", "sv"), "runit"),
    **dict.fromkeys(("s6-svscan", "s6-supervise", "s6-svscanctl", "s6-svc", "s6-svstat"), "s6"),
    "systemd-analyze": "systemd",
    **dict.fromkeys(("setpriv", "unshare"), "util-linux"),
    "cdb": "tinycdb",
    "ip": "iproute2",
    "dovecot": "dovecot-core dovecot-pop3d",
    "getmail": "getmail6",
}


def environment(**changes: str) -> dict[str, str]:
    """A small environment with this checkout's bin first on PATH, and this Python the first python3."""
    path = f"{BIN}:{Path(PYTHON).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"PATH": path, "LC_ALL": "C.UTF-8", **changes}


def run(
    argv: Sequence[str | bytes | Path],
    input: bytes = b"",
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: str | Path | None = None,
    timeout: float = 20,
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command to its end and collect what it wrote. env replaces environment() whole."""
    return subprocess.run(
        argv,
        input=input,
        capture_output=True,
        env=environment() if env is None else env,
        pass_fds=pass_fds,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


def needs(program: str) -> str:
    """Path of a peer outside this checkout. Where it is missing: a skip that says what to install; in CI a failure."""
    found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if found is not None:
        return found
    sentence = f"{program} is missing: apt-get install {PACKAGES.get(program, program)}"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


def eventually(true: Callable[[], bool], limit_s: float = 20) -> bool:
    """Ask again and again until it is true: for what tells nobody when it changes, as supervise does."""
    limit = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True
