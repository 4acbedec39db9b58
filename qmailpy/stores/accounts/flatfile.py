"""flatfile - accounts in one text file (formats.flatfile): read safely, and whom a login becomes.

As root, a login never becomes root, and a file gives away no more than its owner has: lines of root's file may
name any other uid; logins of somebody else's file become its owner. Without root everybody stays who they are.
"""

import os
import pwd
import stat

from qmailpy import strerr
from qmailpy.formats import flatfile, hashes
from qmailpy.formats.fd3 import REFUSED
from qmailpy.stores.accounts import Account, Refusal, schemes
from qmailpy.unix import crypt, fds

LARGEST = 16 << 20  # bytes
SHELL = b"/bin/sh"  # an empty shell in passwd(5)
NAMED = 10  # bad lines, in one warning


def check(path: bytes, name: bytes, password: bytearray, stamp: bytes, warn) -> Account:  # type: ignore[no-untyped-def]
    """The account of name if password is right. Raises Refusal. warn(text) is told of bad lines."""
    data, owner = _read(path)
    entry, bad, typical = flatfile.find(data, name)
    if bad:
        numbers = b", ".join(b"%d" % number for number in bad[:NAMED]) + (b" ..." if len(bad) > NAMED else b"")
        warn(b"%s: ignored line %s: not name:hash[:uid:gid:gecos:home:shell]" % (path, numbers))
    if entry is None or hashes.locked(entry.hash):
        schemes.matches(typical or crypt.setting(), password, stamp)  # for the time it takes
        raise Refusal(REFUSED)
    if not schemes.matches(entry.hash, password, stamp):
        raise Refusal(REFUSED)
    uid, gid = _ids(entry, path, owner)
    home = os.path.abspath(os.path.join(os.path.dirname(path), entry.home or entry.name))
    return Account(entry.name, uid, gid, home, entry.shell or SHELL)


def _read(path: bytes) -> tuple[bytes, int]:
    """(contents, uid of the owner) of a file that not everybody can write. Raises Refusal."""
    try:
        # Without O_NONBLOCK a fifo put there would keep every login waiting.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            wrong = _wrong(status)
            if wrong:
                raise Refusal(strerr.LATER, path + wrong)
            return fds.read_all(fd, LARGEST), status.st_uid
        finally:
            os.close(fd)
    except OSError as e:
        raise Refusal(strerr.LATER, b"unable to read " + path, e) from None


def _wrong(status: os.stat_result) -> bytes:
    if not stat.S_ISREG(status.st_mode):
        return b" is not a regular file"
    if status.st_mode & stat.S_IWOTH:
        return b" can be written by everybody: chmod o-w"
    if status.st_size > LARGEST:
        return b" is too large"
    return b""


def _ids(entry: flatfile.Entry, path: bytes, owner: int) -> tuple[int, int]:
    """(uid, gid) that a login of entry gets. Raises Refusal."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    if owner == 0:
        if entry.uid is None or entry.gid is None:
            text = b"line %d of %s gives no uid and gid, and root owns the file: nobody to become"
            raise Refusal(strerr.LATER, text % (entry.line, path))
        return entry.uid, entry.gid
    try:
        own = owner, pwd.getpwuid(owner).pw_gid
    except KeyError:
        raise Refusal(strerr.LATER, b"uid %d, owner of %s, is not in passwd" % (owner, path)) from None
    if entry.uid is not None and (entry.uid, entry.gid) != own:
        text = b"line %d of %s gives other ids than its owner's, %d:%d: only a file of root's may"
        raise Refusal(strerr.LATER, text % (entry.line, path, *own))
    return own
