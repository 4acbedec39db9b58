"""users - whose mail it is: HOME/users, qmail-users(5), and the accounts of the system, qmail-getpw(8).

Both give six strings, NUL between them: USER, UID, GID, HOME, DASH, EXT."""

import errno
import os

from qmailpy import strerr
from qmailpy.formats import assign, numbers
from qmailpy.stores import cdb, control
from qmailpy.unix import ids

CDB = b"users/cdb"  # below the home

# What qmail-getpw exits with.
NFS = 115
NO_ALIAS = 116
SYSTEM = 118

# What a home on another machine gives, besides temporary errors, while that is away: FUSE, CIFS and NFS without it.
UNREACHABLE = frozenset({errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENOLINK, errno.EREMOTEIO})

ALIAS = b"alias"
BREAK = b"-"  # between an account's name and an extension
LONGEST = 31  # bytes of an account's name


class Trouble(Exception):
    """code: what qmail-getpw exits with."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Users(control.Control):
    """The files of HOME/users that are read as control files are."""

    __slots__ = ()

    def __init__(self, home: bytes) -> None:
        self._folder = home + b"/users/"


def assigned(local: bytes, home: bytes = b".") -> bytes | None:
    """What users/cdb, in the working folder or in home, says of a local part; None if that says nothing, or is not
    there. Raises OSError and LookupError: it cannot be read, or is no such cdb."""
    try:
        fd = os.open(home + b"/" + CDB, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return assign.search(cdb.getter(fd), local)
    finally:
        os.close(fd)


def candidates(local: bytes) -> "list[tuple[bytes, bytes, bytes]]":
    """(account, dash, ext) for each account that a local part may belong to, the longest first."""
    found = []
    end = len(local)
    while end > 0:
        if end <= LONGEST:
            found.append((local[:end].lower(), local[end : end + 1], local[end + 1 :]))
        end = local.rfind(BREAK, 0, end)
    return found


def account(local: bytes) -> bytes:
    """The account that a local part belongs to; for one that belongs to none that of alias. Raises Trouble.

    An account has a number that is not root's and a home that is its own. Where nobody can tell whether there is such
    an account, the original takes it for none, and returns a user's mail to its sender."""
    for name, dash, ext in candidates(local):
        entry = _entry(name)
        if entry is not None and entry[2] and _owns(entry[2], entry[5]):
            return _strings(entry, dash, ext)
    entry = _entry(ALIAS)
    if entry is None:
        raise Trouble(NO_ALIAS)
    return _strings(entry, BREAK, local)


def own_alias(home: bytes, local: bytes) -> bytes | None:
    """What stands for the account alias where there is none, in a home of one user: HOME/alias, if it is his; else
    None."""
    folder = home + b"/alias"
    try:
        status = os.stat(folder + b"/.")
    except OSError:
        return None
    if status.st_uid != os.geteuid():
        return None
    return b"%s\0%d\0%d\0%s\0%s\0%s" % (ALIAS, status.st_uid, os.getegid(), folder, BREAK, local)


def _entry(name: bytes):  # type: ignore[no-untyped-def]
    from qmailpy.unix import nss  # heavy, and most mail is for those whom users/cdb knows

    try:
        return nss.passwd(name)
    except OSError:
        raise Trouble(SYSTEM)


def _owns(uid: int, home: bytes) -> bool:
    try:
        return os.stat(home).st_uid == uid
    except OSError as e:
        if strerr.error_temp(e) or e.errno in UNREACHABLE:
            raise Trouble(NFS)
        return False


def _strings(entry, dash: bytes, ext: bytes) -> bytes:  # type: ignore[no-untyped-def]
    name, _, uid, gid, _, home, _ = entry
    return b"%s\0%d\0%d\0%s\0%s\0%s" % (name, uid, gid, home, dash, ext)


class User:
    """Whose mail a delivery is, as the six strings have it."""

    __slots__ = ("dash", "ext", "gid", "home", "name", "uid")

    def __init__(self, data: bytes) -> None:
        """Raises ValueError: strings are missing, or a number is none. A uid without digits is 0, root's."""
        self.name, uid, gid, self.home, self.dash, self.ext = assign.fields(data)
        self.uid, _ = numbers.scan(uid)
        self.gid, digits = numbers.scan(gid)
        if not digits or max(self.uid, self.gid) > ids.LAST_ID:
            raise ValueError
