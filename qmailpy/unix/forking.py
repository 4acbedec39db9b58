"""forking - what makes the processes cheaper that a long-lived one forks."""

import os

LEAST = 1 << 17  # bytes of a mapping that is worth it


def hand_down_code() -> None:
    """Let forked processes begin with the code of the interpreter and its libraries mapped as it is here.

    Linux leaves the pages of a file to be mapped anew in each child, sixteen at a fault, a hundred faults for a session
    (vma_needs_copy); but not those of a mapping that has a page of its own, as after a breakpoint. So each large one is
    given one, by writing a byte over itself. Does nothing where the system does not let it."""
    try:
        with open("/proc/self/maps", "rb") as f:
            lines = f.read().splitlines()
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for line in lines:
            place, flags, _, _, inode, *_ = line.split()
            start, _, end = place.partition(b"-")
            if inode != b"0" and flags[:2] == b"r-" and flags[3:] == b"p" and int(end, 16) - int(start, 16) >= LEAST:
                _touch(memory, int(start, 16))
    finally:
        os.close(memory)


def _touch(memory: int, address: int) -> None:
    try:
        os.pwrite(memory, os.pread(memory, 1, address), address)
    except OSError:
        pass
