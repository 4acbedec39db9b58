"""Children find the code mapped, and nothing has changed in it."""

import os
import resource
from pathlib import Path

from qmailpy.unix import forking


def faults_of_a_child() -> int:
    def count() -> int:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt

    before = count()
    pid = os.fork()
    if pid == 0:
        sum(len(str(number)) for number in range(1000))
        os._exit(0)
    os.waitpid(pid, 0)
    return count() - before


def code() -> bytes:
    """What is mapped of the interpreter and the C library, and cannot be written."""
    parts = []
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in Path("/proc/self/maps").read_text().splitlines():
            place, flags, _, _, _, *path = line.split()
            start, end = (int(number, 16) for number in place.split("-"))
            if flags == "r-xp" and path and ("python" in path[0] or "libc.so" in path[0]):
                memory.seek(start)
                parts.append(memory.read(end - start))
    return b"".join(parts)


def test_children_map_less_and_the_code_is_the_same() -> None:
    before = code()
    faults = min(faults_of_a_child() for _ in range(5))
    forking.hand_down_code()
    assert code() == before
    assert min(faults_of_a_child() for _ in range(5)) <= faults


def test_without_proc_nothing_happens(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def refused(*args: object, **more: object) -> None:
        raise PermissionError(13, "")

    monkeypatch.setattr(os, "open", refused)
    forking.hand_down_code()
