"""processes - what a forked child does that never execs, and so keeps what exec would have taken from it."""

import os


def descriptors() -> list[int]:
    """The open descriptors; one more may be listed, that of the listing itself. Without /proc, all there can be."""
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # as in a chroot
        return list(range(os.sysconf("SC_OPEN_MAX")))


def close_others(*kept: int) -> None:
    """Close every descriptor but these. A peer sees the end of a connection only when nobody holds it any more."""
    for fd in descriptors():
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass
