"""processes - what a server and everything below it costs, from /proc."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, ppid, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(pid: int) -> list[int]:
    """pid and all its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
            except OSError:  # it ended meanwhile
                pass
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def cpu(pid: int) -> float:
    """Seconds of CPU of pid and its descendants, and of those that they have waited for."""
    total = 0
    for member in family(pid):
        try:
            total += sum(map(int, _stat(member)[11:15]))  # utime, stime, cutime, cstime
        except OSError:
            pass
    return total / TICKS


def pss_of(pid: int) -> int:
    """Bytes of memory of one process; a page in several processes counts in parts. 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def pss(pid: int) -> int:
    """The same of pid and its descendants."""
    return sum(map(pss_of, family(pid)))
