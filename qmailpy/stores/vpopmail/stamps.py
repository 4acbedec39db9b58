"""stamps - who was there last, and when: a file that holds an address without newline, and was changed at that time.
DIR/lastauth of each account is one."""

import os

SIZE = 64  # bytes of an address


def write(path: bytes, address: bytes) -> None:
    """Now, from address, of which SIZE bytes count. Raises OSError.

    In place: a reader never finds less than an address, but maybe, for a moment, a mixture of both."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, os.pwrite(fd, address[:SIZE], 0))
    finally:
        os.close(fd)


def read(path: bytes) -> tuple[bytes, int] | None:
    """(address, seconds since 1970); None if there is none. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, SIZE), int(os.fstat(fd).st_mtime)
    finally:
        os.close(fd)
