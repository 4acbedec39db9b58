"""aliases - the files around fastforward: mailing lists, the names that complete addresses, and the writing of what is
compiled."""

import os
import stat

from qmailpy import strerr
from qmailpy.formats import cdb
from qmailpy.formats.aliases import Names
from qmailpy.formats.forwardcdb import Wrong
from qmailpy.stores import safeio
from qmailpy.stores.control import Control
from qmailpy.unix import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Env = dict[bytes, bytes]

SIZE = 1 << 32  # bytes of a file, at most: that of a cdb
READ_BY_ALL = 0o444
MASK = 0o033  # others may read what is compiled, whatever the umask says

OVERRIDES = (b"QMAILDEFAULTHOST", b"QMAILDEFAULTDOMAIN", b"QMAILPLUSDOMAIN")


class Unusable(Exception):
    """complaint, such as `unable to read FILE`; error says why, if it was the system."""

    def __init__(self, complaint: bytes, error: OSError | None = None) -> None:
        super().__init__(complaint, error)
        self.complaint = complaint
        self.error = error


def read_input() -> bytes:
    """All that comes on descriptor 0. Raises Unusable."""
    try:
        return fds.read_all(0, SIZE)
    except OSError as e:
        raise Unusable(b"unable to read input", e)


def read_list(path: bytes) -> bytes:
    """All of a mailing list, which must be one that everybody may read: somebody else may have named it. Raises
    Unusable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise Unusable(b"unable to read " + path, e)
    try:
        mode = os.fstat(fd).st_mode
        if mode & READ_BY_ALL != READ_BY_ALL:
            raise Unusable(path + b" is not world-readable")
        if not stat.S_ISREG(mode):
            raise Unusable(path + b" is not a regular file")
        return fds.read_all(fd, SIZE)
    except OSError as e:
        raise Unusable(b"unable to read " + path, e)
    finally:
        os.close(fd)


def names(home: bytes, env: "Env") -> Names:
    """What completes addresses; an entry of env, which may be empty, replaces a control file. Raises Unusable."""
    try:
        os.close(os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as e:
        raise Unusable(b"unable to chdir to " + home, e)
    control = Control(home)
    try:
        me = control.me()
        me = b"me" if me is None else me
        values = []
        for name, override in zip((b"defaulthost", b"defaultdomain", b"plusdomain"), OVERRIDES, strict=True):
            value = env.get(override)
            if value is None:
                value = control.line(name)
            values.append(me if value is None else value)
        return Names(*values)
    except OSError as e:
        raise Unusable(b"unable to read controls", e)


def compile_file(
    who: bytes,
    path: bytes,
    suffix: bytes,
    completion: "Callable[[], Names]",
    make: "Callable[[bytes, Names], Iterable[bytes]]",
    cannot_open: bytes = b"create",
) -> int:
    """Make PATHSUFFIX of the text at path, by way of PATH.tmp. Says what is wrong, as who; returns the exit code.
    cannot_open: what the original calls it if there can be no PATH.tmp."""
    try:
        whole = completion()
        text = _read_file(path)
    except Unusable as e:
        return strerr.fail(strerr.LATER, who, e.complaint, error=e.error)
    return _write(who, path + suffix, path + b".tmp", make(text, whole), cannot_open)


def compile_input(who: bytes, path: bytes, temporary: bytes, make: "Callable[[bytes], Iterable[bytes]]") -> int:
    """Make a file at path of the text on descriptor 0, by way of temporary. Says what is wrong, as who; returns the
    exit code."""
    try:
        text = read_input()
    except Unusable as e:
        return strerr.fail(strerr.LATER, who, e.complaint, error=e.error)
    return _write(who, path, temporary, make(text))


def _read_file(path: bytes) -> bytes:
    """Raises Unusable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return fds.read_all(fd, SIZE)
        finally:
            os.close(fd)
    except OSError as e:
        raise Unusable(b"unable to read " + path, e)


def _write(who: bytes, path: bytes, temporary: bytes, chunks: "Iterable[bytes]", cannot_open: bytes = b"create") -> int:
    """Returns the exit code."""
    try:
        safeio.replace(path, temporary, chunks)
    except safeio.Failed as e:
        complaint = e.complaint.replace(b"create", cannot_open, 1)
        return strerr.fail(strerr.LATER, who, complaint, error=e)
    except Wrong as e:
        return complain(who, e)
    except cdb.TooLarge:
        return strerr.fail(strerr.LATER, who, b"unable to write to ", temporary, b": file too big")
    return 0


def complain(who: bytes, wrong: Wrong) -> int:
    """Say what is wrong with a text, and in which line; returns the exit code."""
    where = b" (line %d)" % wrong.line if wrong.line else b""
    return strerr.fail(strerr.NEVER if wrong.for_ever else strerr.LATER, who, wrong.complaint, where)


def show(who: bytes, pieces: "Callable[[bytes], Iterable[bytes]]") -> int:
    """Print the pieces of the file on descriptor 0. Says what is wrong, as who; returns the exit code."""
    try:
        file = read_input()
    except Unusable as e:
        return strerr.fail(strerr.LATER, who, e.complaint, error=e.error)
    shown: list[bytes] = []
    code = 0
    try:
        for piece in pieces(file):
            shown.append(piece)
    except Wrong as e:
        code = complain(who, e)
    try:
        fds.write_all(1, b"".join(shown))
    except OSError as e:
        return strerr.fail(strerr.LATER, who, b"unable to write output", error=e)
    return code
