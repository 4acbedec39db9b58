"""logs - lines per second through multilog, and what one costs that waits."""

import os
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import load, processes, table
from tests.bench.chains import BIN, debian, environment

if TYPE_CHECKING:
    from tests.bench.measures import Bench

LINES = 300_000

# What a filter of a real service looks like: most never match, some match some lines, one matches one in ten.
PATTERNS = (
    *("-*status:*1/40*", "+*status:*11/40*", "-*debug:*", "-*fatal:*", "+*oops*"),
    *("-*2/40*", "+*tcpserver:*0/40*", "-*from*unknown*", "-*line*99*", "+*warning:*"),
)
SCRIPTS = (("plain", ()), ("t", ("t",)), ("ten patterns", PATTERNS), ("t, ten patterns", ("t", *PATTERNS)))

EIGHT_LINES = b"tcpserver: status: 1/40\n" * 8


def write_lines(path: Path) -> None:
    """The log of a busy service."""
    with open(path, "w") as file:
        for number in range(LINES):
            filling = "x" * (number * 7919 % 60)
            file.write(f"tcpserver: status: {number % 41}/40 line {number} from 127.0.0.1 {filling}\n")


def _through(argv: list[str], source: Path, folder: Path) -> float:
    """Lines per second of a program that reads all of source from a pipe. Raises Trouble."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    begin = time.perf_counter()
    with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as cat:
        reading = subprocess.Popen(argv, stdin=cat.stdout, cwd=folder, env=environment())
        assert cat.stdout is not None
        cat.stdout.close()
        code = reading.wait()
    seconds = time.perf_counter() - begin
    if code:
        raise load.Trouble(f"exit code {code}")
    return LINES / seconds


def programs() -> dict[str, str]:
    """Name -> path of those that are there."""
    found = {"ours": str(BIN / "multilog"), "C": debian("multilog"), "s6-log": debian("s6-log")}
    return {name: path for name, path in found.items() if path is not None}


def _argv(name: str, path: str, script: tuple[str, ...]) -> list[str]:
    return [path, *script, "n20", "s99999", "./log"]


def logs(bench: "Bench") -> None:
    """multilog, with files of the size that is the default, each synced."""
    source = bench.home.work / "lines"
    write_lines(source)
    for title, script in SCRIPTS:
        turns: dict[str, table.Turn] = {}
        for name, path in programs().items():
            if name == "s6-log" and script[-1:] == PATTERNS[-1:]:  # its patterns are regular expressions
                continue
            turns[name] = partial(_through, _argv(name, path, script), source, bench.home.work / "log")
        values = table.alternate(turns, bench.rounds)
        table.show(f"lines through multilog, {title}", "/s", values, "C")
    _memory(bench, ("t",), "multilog t ./log that waits (PSS)")
    _memory(bench, ("t", *PATTERNS), "the same with ten patterns")


def _memory(bench: "Bench", script: tuple[str, ...], title: str) -> None:
    values = {}
    for name, path in programs().items():
        if name == "s6-log":
            continue
        folder = bench.home.work / "log"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with subprocess.Popen(_argv(name, path, script), stdin=subprocess.PIPE, cwd=folder, env=environment()) as child:
            assert child.stdin is not None
            for _ in range(50):
                os.write(child.stdin.fileno(), EIGHT_LINES * 100)
            while not (folder / "log" / "current").exists() or not _idle(child.pid):
                time.sleep(0.01)
            values[name] = [processes.pss(child.pid) / 1e6]
            child.stdin.close()
    table.show(title, "MB", values, "C")


def _idle(pid: int) -> bool:
    """Whether it sleeps, and has done nothing for a while."""
    before = processes.cpu(pid)
    time.sleep(0.1)
    return processes.cpu(pid) == before
