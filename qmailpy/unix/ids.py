"""ids - becoming another user for good, and the numbers of users and groups."""

import errno
import os

LAST_ID = 0xFFFFFFFE  # the number above means "leave it" to setresuid(2)


def drop(uid: int, gid: int) -> None:
    """Groups, gid and uid, in this order, and a look whether nothing of the old ones is left. Raises OSError.

    The primary group becomes the only one: initgroups(3) is not called (checkpassword, tcpserver, setuidgid).
    """
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or os.getgroups() != [gid]:
        raise OSError(errno.EPERM, "")


def _number(word: bytes) -> int:
    number = int(word[:12])  # digits: enough to exceed any id
    if number > LAST_ID:
        raise LookupError
    return number


def user(word: bytes) -> int:
    """The uid of a number or of a name. Raises LookupError: no such name, or too large a number."""
    if word.isdigit():
        return _number(word)
    import pwd

    return pwd.getpwnam(os.fsdecode(word)).pw_uid


def group(word: bytes) -> int:
    """The gid of a number or of a name. Raises LookupError: no such name, or too large a number."""
    if word.isdigit():
        return _number(word)
    import grp

    return grp.getgrnam(os.fsdecode(word)).gr_gid


def set_gid(gid: int) -> None:
    """Make gid the one group, for a caller that keeps its uid for now (tcpserver -g). Raises OSError."""
    os.setgroups([gid])
    os.setgid(gid)


def set_uid(uid: int) -> None:
    """Become uid for good; the groups are the caller's to have set before (tcpserver -u). Raises OSError."""
    os.setuid(uid)
    if os.getresuid() != (uid, uid, uid):
        raise OSError(errno.EPERM, "")


class Acting:
    """In `with`, root does what there is to do as another: a name that this one has planted leads nowhere that he could
    not go himself. Whoever is not root goes on as he is. Raises OSError."""

    __slots__ = ("_before", "_gid", "_uid")

    def __init__(self, uid: int, gid: int) -> None:
        self._uid = uid
        self._gid = gid
        self._before: tuple[int, list[int]] | None = None

    def __enter__(self) -> None:
        if os.geteuid() == 0 and self._uid != 0:
            self._before = os.getegid(), os.getgroups()
            os.setgroups([self._gid])
            os.setegid(self._gid)
            os.seteuid(self._uid)

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            gid, groups = self._before
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)


def open_as(uid: int, gid: int, path: bytes, flags: int) -> int:
    """Open path as Acting would. One function: for those who do that in each process. Raises OSError."""
    if os.geteuid() != 0 or uid == 0:
        return os.open(path, flags)
    before, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups([gid])
        os.setegid(gid)
        os.seteuid(uid)
        return os.open(path, flags)
    finally:
        os.seteuid(0)
        os.setegid(before)
        os.setgroups(groups)


def forget_saved() -> None:
    """What execve does: the saved ids become the effective ones, and the way back to others is closed."""
    _, effective, saved = os.getresgid()
    if saved != effective:
        os.setresgid(-1, -1, effective)
    _, effective, saved = os.getresuid()
    if saved != effective:
        os.setresuid(-1, -1, effective)
