"""safeio - a file changes as a whole: written beside, made durable, renamed over the old one."""

import os

from qmailpy.unix import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Failed(OSError):
    """errno says why; complaint, such as `unable to write to FILE`, says what."""

    def __init__(self, complaint: bytes, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.complaint = complaint


def replace(path: bytes, temporary: bytes, chunks: "Iterable[bytes]", mode: int = 0o644) -> None:
    """Make path a file that holds chunks. Raises Failed, or whatever chunks raises; path is then what it was.

    temporary is in path's file system and nobody else's; it is created, or emptied, before the first chunk is
    asked for, with mode less the umask. It is left behind after a failure: its name is the caller's choice, and
    may be a device.

    Crash outcome: at any time path is the old file, or the new one complete: it takes the name only after fsync.
    The folder is not synced: a crash of the machine soon after success may bring the old file back, also complete.
    """
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_NONBLOCK | os.O_CREAT | os.O_TRUNC, mode)
    except OSError as e:
        raise Failed(b"unable to create " + temporary, e)
    try:
        for chunk in chunks:
            _writing(temporary, fds.write_all, fd, chunk)
        _writing(temporary, os.fsync, fd)
    except BaseException:
        os.close(fd)
        raise
    _writing(temporary, os.close, fd)  # NFS may find only now that there is no room
    try:
        os.rename(temporary, path)
    except OSError as e:
        raise Failed(b"unable to move " + temporary + b" to " + path, e)


def create(path: bytes, temporary: bytes, data: bytes, mode: int) -> None:
    """Make path a new file that holds data. Raises Failed; path is then what it was, and so it is if it was there.

    temporary is a name beside path that nobody has; it is gone afterwards, but for a crash.

    Crash outcome: there is no file path, or the complete one: the name is a link that is made after fsync.
    """
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as e:
        raise Failed(b"unable to create " + temporary, e)
    try:
        try:
            _writing(temporary, fds.write_all, fd, data)
            _writing(temporary, os.fsync, fd)
        finally:
            os.close(fd)
        try:
            os.link(temporary, path)
        except OSError as e:
            raise Failed(b"unable to make " + path, e)
    finally:
        os.unlink(temporary)
    _writing(path, sync_folder, os.path.dirname(path) or b".")


def sync_folder(folder: bytes) -> None:
    """Make the names in it durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _writing(temporary: bytes, act, *arguments) -> None:  # type: ignore[no-untyped-def]
    """Errors of act are errors of writing; those of chunks must not be taken for them."""
    try:
        act(*arguments)
    except OSError as e:
        raise Failed(b"unable to write to " + temporary, e)
