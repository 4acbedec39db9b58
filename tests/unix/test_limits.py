import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.unix import limits
from tests.helpers import PYTHON, ROOT, run

SET = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "import resource\n"
    "from qmailpy.unix import limits\n"
    "limits.set_soft(resource.RLIMIT_FSIZE, int(sys.argv[2]))\n"
    "print(*limits.get(resource.RLIMIT_FSIZE))\n"
    "print(open('/proc/self/limits').read())\n"
)


@pytest.mark.parametrize("soft", [0, 5, limits.INFINITY >> 1, (limits.INFINITY >> 1) + 1, limits.INFINITY - 1])
def test_a_soft_limit_is_set_and_read_unsigned_and_the_hard_one_stays(soft: int) -> None:
    _, hard = limits.get(resource.RLIMIT_FSIZE)
    soft = min(soft, hard)
    done = run([PYTHON, "-ISc", SET, ROOT, str(soft)])
    assert done.stdout.startswith(b"%d %d\n" % (soft, hard)), done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith(b"Max file size"))
    assert row.split()[3] == b"%d" % soft


def test_infinity_is_the_largest_number() -> None:
    _, hard = limits.get(resource.RLIMIT_FSIZE)
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY:
        assert hard == limits.INFINITY
        done = run([PYTHON, "-ISc", SET, ROOT, str(hard)])
        row = next(line for line in done.stdout.splitlines() if line.startswith(b"Max file size"))
        assert row.split()[3] == b"unlimited"


def test_what_is_needed_is_more_than_there_is_now_in_whole_millions() -> None:
    needed = limits.needed()
    assert needed.keys() == {resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_NOFILE}
    with open("/proc/self/status") as f:
        size = next(int(line.split()[1]) for line in f if line.startswith("VmSize"))
    assert needed[resource.RLIMIT_AS] > size * 1000
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_STACK):
        assert needed[limit] % 1_000_000 == 0


def test_without_proc_constants_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", fail)
    monkeypatch.setattr(os, "listdir", fail)
    assert limits.needed() == {
        resource.RLIMIT_AS: 39_000_000,
        resource.RLIMIT_DATA: 31_000_000,
        resource.RLIMIT_STACK: 1_000_000,
        resource.RLIMIT_NOFILE: 24,
    }


@given(st.binary() | st.lists(st.sampled_from([b"VmSize:", b"VmData", b":", b" 5 kB", b"\n", b"\xb2"])).map(b"".join))
def test_any_status_is_read(text: bytes) -> None:
    assert limits._memory(text).keys() == limits.ASSUMED_KB.keys()


def test_a_field_of_the_status_is_read_in_kilobytes() -> None:
    found = limits._memory(b"Name:\tx\nVmSize:\t   12568 kB\nVmData:\nVmStk:\t132 kB\n")
    assert found == {b"VmSize": 12568, b"VmData": limits.ASSUMED_KB[b"VmData"], b"VmStk": 132}


HOLD = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "import os, resource\n"
    "from qmailpy.unix import limits\n"
    "limits.hold_memory(5_000_000)\n"
    "limits.set_soft(resource.RLIMIT_AS, 0)\n"
    "bytes(4_000_000)\n"
    "try: bytes(40_000_000)\n"
    "except MemoryError: os.write(1, b'no more')\n"
)


def test_memory_that_is_held_is_there_when_the_system_gives_none() -> None:
    done = run([PYTHON, "-ISc", HOLD, ROOT])
    assert (done.stdout, done.stderr, done.returncode) == (b"no more", b"", 0)


def test_memory_that_cannot_be_held_is_no_error() -> None:
    limits.hold_memory(1 << 62)
