"""appwords - passwords of an account besides its own, one for each program or device, each of which can be revoked.

    DIR/.app-passwords/NAME     the hash, and a newline; mode 600
    DIR/.app-passwords/.NAME    the address of its last use; the time of change is when that was

DIR is the account's directory. The hash is `{SHA256.HEX}` and 64 digits: these passwords have 100 random bits, and
need no slow hash. Any other that stores.accounts.schemes knows will do too.

Whoever calls these acts as the owner of the domain.
"""

import errno
import os
import stat
import time

from qmailpy.formats import hashes
from qmailpy.stores import safeio
from qmailpy.stores.accounts import Refusal, schemes
from qmailpy.stores.vpopmail import stamps
from qmailpy.unix import crypt, fds

try:
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:  # Python 3.11
    from _sha256 import sha256  # type: ignore[import-not-found]

FOLDER = b"/.app-passwords"
METHOD = b"{SHA256.HEX}"

MOST = 50  # of an account; each wrong password is compared with all of them
NAME_LENGTH = 64
NAME_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
SIZE = 512  # bytes of a hash

LETTERS = b"abcdefghijklmnopqrstuvwxyz234567"  # 32: five bits each
GROUPS, GROUP = 4, 5


class TooMany(Exception):
    """The account has as many as it may."""


class Record:
    """name; made, used: seconds since 1970, used 0 for never; address: of the last use."""

    __slots__ = ("address", "made", "name", "used")

    def __init__(self, name: bytes, made: int, used: int, address: bytes) -> None:
        self.name = name
        self.made = made
        self.used = used
        self.address = address


def is_name(name: bytes) -> bool:
    return 0 < len(name) <= NAME_LENGTH and not name.startswith(b".") and not name.translate(None, NAME_CHARACTERS)


def new() -> bytearray:
    """A new password: four groups of five letters and digits."""
    letters = [LETTERS[byte & 31] for byte in os.urandom(GROUPS * GROUP)]
    return bytearray(b"-").join([bytes(letters[at : at + GROUP]) for at in range(0, len(letters), GROUP)])


def hashed(password: bytearray) -> bytes:
    digest: str = sha256(password).hexdigest()
    return METHOD + digest.encode()


def add(folder: bytes, name: bytes, stored: bytes) -> None:
    """Add a password. Raises TooMany; OSError: FileExistsError if the account has one of that name."""
    path = folder + FOLDER
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    known = names(folder)
    if name in known:  # whose last use is to stay
        raise FileExistsError(errno.EEXIST, "")
    if len(known) >= MOST:
        raise TooMany
    try:
        os.unlink(path + b"/." + name)
    except FileNotFoundError:
        pass
    try:
        safeio.create(path + b"/" + name, path + b"/..%d.%d" % (time.time_ns(), os.getpid()), stored + b"\n", 0o600)
    except safeio.Failed as e:
        if e.errno == errno.EEXIST and os.path.lexists(path + b"/" + name):
            raise FileExistsError(errno.EEXIST, "") from None
        raise


def remove(folder: bytes, name: bytes) -> None:
    """Raises OSError: FileNotFoundError if there is none of that name."""
    path = folder + FOLDER + b"/"
    os.unlink(path + name)
    try:
        os.unlink(path + b"." + name)
    except FileNotFoundError:
        pass
    safeio.sync_folder(path)  # what was revoked does not come back


def names(folder: bytes) -> list[bytes]:
    """In their order. Raises OSError."""
    try:
        return sorted(name for name in os.listdir(folder + FOLDER) if is_name(name))
    except FileNotFoundError:
        return []


def every(folder: bytes) -> list[Record]:
    """Raises OSError."""
    found = []
    for name in names(folder):
        path = folder + FOLDER + b"/"
        try:
            made = int(os.stat(path + name).st_mtime)
        except FileNotFoundError:  # removed meanwhile
            continue
        address, used = stamps.read(path + b"." + name) or (b"", 0)
        found.append(Record(name, made, used, address))
    return found


def match(folder: bytes, password: bytearray) -> bytes:
    """The name of the password of the account that this is; b"" if it is none."""
    try:
        candidates = names(folder)
    except OSError:
        return b""
    for name in candidates[:MOST]:
        if _is_right(folder + FOLDER + b"/" + name, password):
            return name
    return b""


def used(folder: bytes, name: bytes, address: bytes) -> None:
    """Note a login. Raises OSError."""
    stamps.write(folder + FOLDER + b"/." + name, address)


def _is_right(path: bytes, password: bytearray) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return False
            stored = fds.read_all(fd, SIZE).partition(b"\n")[0]
        finally:
            os.close(fd)
        if stored.startswith(METHOD):
            return crypt.same(stored, hashed(password))
        return not hashes.locked(stored) and schemes.matches(stored, password, b"")
    except (OSError, Refusal):  # it is no password, or none that anybody here can check
        return False
