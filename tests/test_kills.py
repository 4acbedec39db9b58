"""A thousand deaths: services, logs and svscan are killed at random, under load. No line that a service has written is
lost, and no service runs twice at the same time."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qmailpy.unix import processes
from tests.commands.scans import Scan, script
from tests.helpers import BIN, eventually

KILLS = 1000
SERVICES = 16
SPARED = 0.01  # seconds from one kill to the next

# Writes lines as fast as its log takes them, but not faster than this machine's two processors allow for all of them.
# A line counts as written once it is in `written`; the lock says whether another is at it.
SERVICE = f"""#!{sys.executable} -IS
import fcntl, os, time
lock = os.open("lock", os.O_CREAT | os.O_RDWR)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    os.close(os.open("doubled", os.O_CREAT))
written = os.open("written", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
number = 0
while True:
    line = b"%d.%d.%d\\n" % (os.getpid(), time.monotonic_ns(), number)
    os.write(1, line)
    os.write(written, line)
    number += 1
    if number % 10 == 0:
        time.sleep(0.02)
"""


def pid_of(folder: Path) -> int:
    try:
        return int.from_bytes((folder / "supervise" / "status").read_bytes()[12:16], "little")
    except FileNotFoundError:
        return 0


def supervised(svscan: int) -> int:
    """How many services and logs svscan has in its care. Not by svok: a child that was forked has its descriptors for a
    moment too."""
    found = 0
    try:
        for fd in Path(f"/proc/{svscan}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += os.readlink(fd).endswith("/supervise/ok")
    except FileNotFoundError:
        pass
    return found


def is_there(folder: Path) -> bool:
    """Not so a process that has ended, and that svscan has not waited for yet."""
    pid = pid_of(folder)
    return pid > 1 and processes.started(pid) != 0


def kill(pid: int) -> bool:
    """Whether there was somebody to kill."""
    if pid <= 1:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("seed", [1])
def test_no_line_is_lost_and_no_service_is_doubled_by_a_thousand_kills(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    scan = Scan(tmp_path / "service")
    for number in range(SERVICES):
        script(scan.folder / f"s{number}" / "run", SERVICE)
        script(scan.folder / f"s{number}" / "log" / "run", f"#!/bin/sh\nexec {BIN}/multilog s16777215 n1000 ./main\n")
    names = [f"s{number}" for number in range(SERVICES)]
    logs = [f"{name}/log" for name in names]
    with scan:
        assert scan.up(*names, *logs)
        killed = {"service": 0, "log": 0, "svscan": 0}
        while sum(killed.values()) < KILLS:
            # A pipe lives as long as anybody has it: svscan, the service, its log, or one that waits to be these. So
            # around the death of svscan only services die, or only logs.
            what, victims, others = dice.choice([("service", names, logs), ("log", logs, names)])
            for _ in range(dice.randint(5, 15)):
                killed[what] += kill(pid_of(scan.folder / dice.choice(victims)))
                time.sleep(dice.random() * 2 * SPARED)
            if dice.random() < 0.5:
                continue
            assert eventually(lambda others=others: all(is_there(scan.folder / name) for name in others))  # type: ignore[misc]
            kill(scan.process.pid)
            scan.process.wait()
            killed["svscan"] += 1
            scan.process = subprocess.Popen(
                scan.argv, env=scan.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            while supervised(scan.process.pid) < len(names + logs):
                killed[what] += kill(pid_of(scan.folder / dice.choice(victims)))
                time.sleep(dice.random() * 2 * SPARED)
        assert killed["service"] > 200 and killed["log"] > 200 and killed["svscan"] > 5, killed
        assert scan.up(*names, *logs)
        assert eventually(lambda: scan.stop() == 0)
    assert list(scan.folder.glob("*/doubled")) == []
    for name in names:
        written = (scan.folder / name / "written").read_bytes().splitlines()
        kept: set[bytes] = set()
        for path in (scan.folder / name / "log" / "main").iterdir():
            if path.name == "current" or path.name.startswith("@"):
                kept.update(path.read_bytes().splitlines())
        lost = [line for line in written if line not in kept]
        assert (len(written) > 100, lost) == (True, [])
