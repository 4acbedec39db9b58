"""limits - the soft limits of this process (getrlimit(2)), and how low they may be for a command of this toolkit.

Numbers are unsigned, and infinity is the largest of them, as in C; for Python's resource it may be -1.
"""

import os
import resource
from resource import RLIMIT_AS, RLIMIT_DATA, RLIMIT_NOFILE, RLIMIT_STACK

INFINITY = (1 << 64) - 1

# What a process has now, if /proc does not say.
ASSUMED_KB = {b"VmSize": 16000, b"VmData": 8000, b"VmStk": 140}
ASSUMED_DESCRIPTORS = 8
FIELDS = {RLIMIT_AS: b"VmSize", RLIMIT_DATA: b"VmData", RLIMIT_STACK: b"VmStk"}

# What it may need above that. The POP3 chain, imported and in a session, takes 2 MB, and a yescrypt hash of the usual
# cost 16 MB; 100,000 bytes of stack do; and one descriptor more.
MARGIN = {RLIMIT_AS: 22_000_000, RLIMIT_DATA: 22_000_000, RLIMIT_STACK: 800_000, RLIMIT_NOFILE: 16}
ROUND = 1_000_000  # bytes


def get(limit: int) -> tuple[int, int]:
    """The soft and the hard limit. Raises OSError."""
    soft, hard = resource.getrlimit(limit)
    return soft & INFINITY, hard & INFINITY


def set_soft(limit: int, soft: int) -> None:
    """Change a soft limit, which must not be above the hard one, and no other. Raises OSError."""
    _, hard = resource.getrlimit(limit)
    if resource.RLIM_INFINITY < 0 and soft > INFINITY >> 1:
        soft -= INFINITY + 1
    resource.setrlimit(limit, (soft, hard))


def _memory(status: bytes) -> dict[bytes, int]:
    """The fields of /proc/PID/status that count, in kB."""
    found = dict(ASSUMED_KB)
    for line in status.split(b"\n"):
        name, _, value = line.partition(b":")
        words = value.split()
        if name in found and words[:1] and words[0].isdigit():
            found[name] = int(words[0])
    return found


def _read_status() -> bytes:
    try:
        fd = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 65536)
        finally:
            os.close(fd)
    except OSError:
        return b""


def _count_descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return ASSUMED_DESCRIPTORS


def needed() -> dict[int, int]:
    """Limit: a number that suffices for a process that goes on as a command of this toolkit, warm or cold. Other limits
    may be anything."""
    memory = _memory(_read_status())
    suffices = {RLIMIT_NOFILE: _count_descriptors() + MARGIN[RLIMIT_NOFILE]}
    for limit, field in FIELDS.items():
        suffices[limit] = -(-(memory[field] * 1024 + MARGIN[limit]) // ROUND) * ROUND
    return suffices


def hold_memory(size: int) -> None:
    """Have size bytes that malloc(3) need not ask the system for later, under a limit that gives none.

    glibc keeps up to twice as much as the largest block that it has once given back: mallopt(3), M_MMAP_THRESHOLD. So
    the first block makes it keep the second.
    """
    try:
        for _ in range(2):
            bytes(size)
    except MemoryError:  # as it is already
        pass
