"""trees - folders of domains: made, and removed with all that is in them, in folders that belong to somebody else.

What is done in a folder is done with the rights of its owner, so that a link or folder that he has put there leads root
nowhere that he could not go himself. No link is ever followed."""

import errno
import os
import stat

from qmailpy.unix import ids

WAY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
REMOVED = b".deleted."  # begins the name of a folder that is to be removed


MOST_PASSES = 10000  # over a folder that is removed: its owner may fill it meanwhile, and would never have us end


class Inside:
    """A folder, in `with`: its descriptor, and its owner's rights, for us if we are root. Raises OSError: ELOOP if a
    link on the way to it is not its owner's or root's."""

    __slots__ = ("_acting", "_fd", "_path", "uid")

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._fd = -1
        self.uid = -1

    def __enter__(self) -> int:
        self._fd, leaders = _opened(self._path)
        status = os.fstat(self._fd)
        self.uid = status.st_uid
        self._acting = ids.Acting(status.st_uid, status.st_gid)
        if not leaders <= {0, self.uid} and os.geteuid() == 0:
            os.close(self._fd)
            raise OSError(errno.ELOOP, "", self._path)
        try:
            self._acting.__enter__()
        except BaseException:
            os.close(self._fd)
            raise
        return self._fd

    def __exit__(self, *error: object) -> None:
        self._acting.__exit__()
        os.close(self._fd)


def _opened(path: bytes) -> tuple[int, set[int]]:
    """A descriptor for a folder, and who has led us there: the owners of links on the way, and of the folders with
    these, who may exchange one at any moment. Raises OSError."""
    leaders: set[int] = set()
    fd = os.open(b"/" if path.startswith(b"/") else b".", WAY)
    try:
        for part in [part for part in path.split(b"/") if part]:
            link = os.stat(part, dir_fd=fd, follow_symlinks=False)
            follow = 0 if stat.S_ISLNK(link.st_mode) else os.O_NOFOLLOW
            if not follow:
                leaders |= {link.st_uid, os.fstat(fd).st_uid}
            below = os.open(part, WAY | follow, dir_fd=fd)
            os.close(fd)
            fd = below
        return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd), leaders
    finally:
        os.close(fd)


def make(parent: bytes, name: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Have a folder in parent. Root makes it owner's, else it is parent's owner's. Raises OSError: ENOTDIR if something
    else has the name, EPERM if it is a third one's."""
    inside = Inside(parent)
    with inside as fd:
        try:
            os.mkdir(name, mode, dir_fd=fd)
        except FileExistsError:
            pass
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        status = os.fstat(made)
        if owner is not None and (status.st_uid, status.st_gid) != owner and os.geteuid() == 0:
            if status.st_uid not in (inside.uid, owner[0]):
                raise OSError(errno.EPERM, "", parent + b"/" + name)
            os.fchown(made, *owner)
        os.fsync(made)
    finally:
        os.close(made)


def set_aside(parent: bytes, name: bytes, aside: bytes) -> None:
    """Have the folder name in parent called aside, if it is there; a link, or else, in its place is removed. Raises
    OSError."""
    with Inside(parent) as fd:
        if not _unlinked(fd, name):
            os.rename(name, aside, src_dir_fd=fd, dst_dir_fd=fd)
        os.fsync(fd)


def left(parent: bytes) -> list[bytes]:
    """The folders in parent that wait to be removed. Never fails."""
    try:
        return sorted(name for name in os.listdir(parent) if name.startswith(REMOVED))
    except OSError:
        return []


def sweep(parent: bytes) -> list[bytes]:
    """Remove all that waits for it in parent; what is left of them. Several may do so at once."""
    for name in left(parent):
        remove(parent, name)
    return left(parent)


def remove(parent: bytes, name: bytes) -> None:
    """Remove a folder with all that is in it, or a link, or else, in its place, as far as possible. Never fails.

    Folders in it are moved to its top and removed there: it takes no more descriptors and no deeper a stack for a
    thousand levels."""
    path = parent + b"/" + name
    try:
        with Inside(parent) as fd:
            if _unlinked(fd, name):
                return
        with Inside(path) as top:
            before: list[bytes] = []
            for _ in range(MOST_PASSES):
                names = _names(top)
                if not names or names == before:
                    break
                before = names
                for each in names:
                    _remove(top, each)
        with Inside(parent) as fd:
            os.rmdir(name, dir_fd=fd)
    except OSError:
        pass


def _remove(top: int, name: bytes) -> None:
    try:
        if _unlinked(top, name):
            return
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=top)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        try:
            os.fchmod(fd, 0o700)
            for each in _names(fd):
                if not _unlinked(fd, each):
                    _move_up(fd, each, top)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=top)
    except OSError:
        pass


def _names(fd: int) -> list[bytes]:
    return sorted(map(os.fsencode, os.listdir(fd)))


def _unlinked(fd: int, name: bytes) -> bool:
    """Remove what is no folder; False for a folder."""
    try:
        os.unlink(name, dir_fd=fd)
    except IsADirectoryError:
        return False
    except FileNotFoundError:
        pass
    return True


def _move_up(fd: int, name: bytes, top: int) -> None:
    above = REMOVED + os.urandom(8).hex().encode()
    try:
        os.rename(name, above, src_dir_fd=fd, dst_dir_fd=top)
    except PermissionError:  # its own mode keeps it from another parent
        os.chmod(name, 0o700, dir_fd=fd)
        os.rename(name, above, src_dir_fd=fd, dst_dir_fd=top)
