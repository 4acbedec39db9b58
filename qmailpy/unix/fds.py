"""fds - descriptors as integers. Whoever opens one closes it before the next step of a chain."""

import os


def move(source: int, target: int) -> None:
    """Make target what source is, inheritable, and close source. Nothing happens if they are the same, except
    that the descriptor becomes inheritable: the read end of a pipe may already be 3 when it is moved to 3."""
    if source == target:
        os.set_inheritable(source, True)
        return
    os.dup2(source, target)
    os.close(source)


def write_all(fd: int, data: bytes) -> None:
    """Write all of data; raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_all(fd: int, limit: int) -> bytes:
    """Read to the end, or until limit bytes are there; raises OSError."""
    parts = []
    while limit > 0:
        part = os.read(fd, min(limit, 65536))
        if not part:
            break
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)
