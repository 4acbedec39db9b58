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

from tests.commands.scans import Scan, script
from tests.helpers import BIN, eventually

KILLS = 1000
AT_LEAST = {"service": 200, "log": 200, "svscan": 6}  # of them
SERVICES = 16
SPARED = 0.01  # seconds from one kill to the next

# Writes lines as fast as its log takes them, but not faster than this machine's two processors allow for all of them.
# A line counts as written once it is in `written`, and no page ends within one, so that a kill cuts none off; the lock
# says whether another is at it. When svscan and the log are both dead, nobody reads: this service tries again, and has
# the pipe meanwhile. One that ends by SIGPIPE takes with it what is in the pipe: svscan(8), BUGS.
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
    line = (b"%d.%d.%d" % (os.getpid(), time.monotonic_ns(), number)).ljust(31) + b"\\n"
    while True:
        try:
            os.write(1, line)
            break
        except BrokenPipeError:
            time.sleep(0.02)
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


def work(folder: Path) -> tuple[int, int]:
    """What a service or a log has done up to now: another value as soon as it has done more. By that, and not by its
    pid, who is there is told from who is about to end: by a signal that it has not felt yet, or since there was nobody
    who could write to it."""
    try:
        status = (folder / ("main/current" if folder.name == "log" else "written")).stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_size


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
        while sum(killed.values()) < KILLS or any(killed[what] < number for what, number in AT_LEAST.items()):
            # A pipe lives as long as anybody has it: svscan, the service, its log, or one that waits to be these. So
            # around the death of svscan only services die, or only logs, while all others are at work.
            what, victims, others = dice.choice([("service", names, logs), ("log", logs, names)])
            svscan_too = dice.random() < 0.5
            if svscan_too:
                done = {folder: work(folder) for folder in (scan.folder / name for name in others)}
                assert eventually(lambda done=done: all(work(folder) != then for folder, then in done.items()))  # type: ignore[misc]
            for _ in range(dice.randint(5, 15)):
                killed[what] += kill(pid_of(scan.folder / dice.choice(victims)))
                time.sleep(dice.random() * 2 * SPARED)
            if not svscan_too:
                continue
            kill(scan.process.pid)
            scan.process.wait()
            killed["svscan"] += 1
            scan.process = subprocess.Popen(
                scan.argv, env=scan.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            while supervised(scan.process.pid) < len(names + logs):
                killed[what] += kill(pid_of(scan.folder / dice.choice(victims)))
                time.sleep(dice.random() * 2 * SPARED)
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
