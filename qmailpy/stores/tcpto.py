"""tcpto - the file HOME/queue/lock/tcpto, shared by all qmail-remotes: formats/tcpto says what is in it.

Readers and writers lock the whole file for a moment. It only spares time: whatever goes wrong with it, mail goes on as
if nothing were known. A record is written at once, so that a kill leaves the old one or the new one."""

import os

from qmailpy.formats.tcpto import SIZE
from qmailpy.unix import fds, locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Decision = Callable[[bytes], "tuple[int, bytes] | None"]

FOLDER = b"/queue/lock"
NAME = b"tcpto"


def _open(home: bytes, mode: int) -> int:
    return os.open(home + FOLDER + b"/" + NAME, mode | os.O_NONBLOCK | os.O_CLOEXEC)


def read(home: bytes) -> bytes:
    """The table; b"" if there is none, or none that may be written."""
    try:
        fd = _open(home, os.O_RDWR)
    except OSError:
        return b""
    try:
        locks.lock(fd, wait=True)
        return os.read(fd, SIZE)
    except OSError:
        return b""
    finally:
        os.close(fd)


def change(home: bytes, decide: "Decision") -> None:
    """Change a record: decide gets the table, which nobody else changes meanwhile, and says where what is to be
    written, or None."""
    try:
        fd = _open(home, os.O_RDWR)
    except OSError:
        return
    try:
        locks.lock(fd, wait=True)
        decision = decide(os.read(fd, SIZE))
        if decision is not None:
            os.pwrite(fd, decision[1], decision[0])
    except OSError:
        pass
    finally:
        os.close(fd)


def empty(fd: int) -> None:
    """Forget all hosts, in the file of a descriptor. Raises OSError."""
    fds.write_all(fd, bytes(SIZE))


def clear(home: bytes) -> None:
    """Forget all hosts, if that can be done; for qmail-rspawn, before the first qmail-remote. It does not wait for a
    lock: one that is left over must not keep mail from going out."""
    try:
        fd = _open(home, os.O_WRONLY)
    except OSError:
        return
    try:
        empty(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
