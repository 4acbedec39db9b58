"""services - service directories as others see them: is there a supervise, what does it say, how is it told something.

    supervise/ok        a FIFO that supervise holds open for reading, and so can be opened for writing while it lives
    supervise/control   the same, and what is written there supervise obeys
    supervise/status, supervise/child    what it says, in formats/svstatus

Where the FIFO is missing no supervise has ever been (ENOENT); without a reader none is running (ENXIO); all else is
trouble, and means neither. Works with the supervise of anybody who has this interface. servicedir is supervise's side.
"""

import errno
import os

from qmailpy import strerr
from qmailpy.formats import svstatus, tai64n
from qmailpy.formats.svstatus import Status
from qmailpy.unix import fds

OK = b"supervise/ok"
CONTROL = b"supervise/control"
STATUS = b"supervise/status"
CHILD = b"supervise/child"

CHILD_SIZE = 4096  # bytes, more than supervise ever writes
NOT_RUNNING = errno.ENXIO  # from opening a FIFO for writing that nobody reads


class Lost(Exception):
    """There is no way back to the directory where the command started; error says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


class Unknown(Exception):
    """Nothing can be said of a service; text says why, in svstat's words; absent: because there is no supervise."""

    def __init__(self, text: bytes, error: OSError | None = None, absent: bool = False) -> None:
        super().__init__()
        self.text = text if error is None else text + b": " + strerr.reason(error)
        self.absent = absent


class State:
    """status; stamp: its time as it stands there, 12 bytes; normally_up: there is no file down; script: which one runs,
    if supervise says that."""

    __slots__ = ("normally_up", "script", "stamp", "status")

    def __init__(self, status: Status, stamp: bytes, normally_up: bool, script: bytes | None) -> None:
        self.status = status
        self.stamp = stamp
        self.normally_up = normally_up
        self.script = script

    def describe(self, now: int) -> bytes:
        """svstat's words; now in nanoseconds since 1970."""
        return svstatus.describe(self.status, now, self.normally_up)


class Inside:
    """`with Inside(directory, start):` works in directory, then in the directory of the descriptor start again.

    Raises OSError at the beginning, Lost at the end."""

    __slots__ = ("directory", "start")

    def __init__(self, directory: bytes, start: int) -> None:
        self.directory = directory
        self.start = start

    def __enter__(self) -> None:
        os.chdir(self.directory)

    def __exit__(self, *exception: object) -> None:
        try:
            os.fchdir(self.start)
        except OSError as e:
            raise Lost(e)


def open_start() -> int:
    """A descriptor of the current directory. Raises OSError."""
    return os.open(b".", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def open_write(path: bytes) -> int:
    """A descriptor for writing to a FIFO that somebody reads. Raises OSError, see above."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def unread(fd: int) -> int:
    """How many bytes in the FIFO of fd, one end of it, nobody has read yet; 0 if it is no FIFO."""
    try:
        return fds.unread(fd)
    except OSError:
        return 0


def look(directory: bytes, start: int) -> State:
    """The state of the service in directory, which is relative to the one of start. Raises Unknown and Lost."""
    try:
        with Inside(directory, start):
            return _look()
    except OSError as e:
        raise Unknown(b"unable to chdir", e, absent=e.errno == errno.ENOENT)


def _look() -> State:
    """In the order of the original: what fails first is what is said."""
    normally_up = False
    try:
        os.stat(b"down")
    except FileNotFoundError:
        normally_up = True
    except OSError as e:
        raise Unknown(b"unable to stat down", e)
    try:
        os.close(open_write(OK))
    except OSError as e:
        if e.errno == NOT_RUNNING:
            raise Unknown(b"supervise not running", absent=True)
        raise Unknown(b"unable to open " + OK, e, absent=e.errno == errno.ENOENT)
    status, stamp = _status()
    return State(status, stamp, normally_up, _script(status.pid))


def _status() -> tuple[Status, bytes]:
    try:
        fd = os.open(STATUS, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise Unknown(b"unable to open " + STATUS, e)
    try:
        text = os.read(fd, svstatus.SIZE)
    except OSError as e:
        raise Unknown(b"unable to read " + STATUS, e)
    finally:
        os.close(fd)
    status = svstatus.parse(text)
    if status is None:
        raise Unknown(b"unable to read " + STATUS + b": bad format")
    return status, text[: tai64n.SIZE]


def _script(pid: int) -> bytes | None:
    """The script that runs as pid, by supervise/child; None if that does not say."""
    try:
        fd = os.open(CHILD, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        child = svstatus.parse_child(os.read(fd, CHILD_SIZE))
    except OSError:
        return None
    finally:
        os.close(fd)
    return child.script if child is not None and child.pid == pid else None
