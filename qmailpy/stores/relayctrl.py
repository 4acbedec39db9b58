"""relayctrl - a folder of addresses whose users have logged in, one file each (relay-ctrl of Bruce Guenter).

The file's name is the address, its time of change is that of the last login, and it holds `USER=name NUL` and
`DOMAIN=name NUL`, of those that were known. It is written beside, under a name that begins with a dot, and takes its
name whole; nothing is locked.

The folder is RELAY_CTRL_DIR; or an open descriptor, RELAY_CTRL_DIR_FD, for a program that may not find its way there.
"""

import errno
import os
import stat
import time

from qmailpy.formats import addresses, numbers
from qmailpy.unix import fds

DIR = b"RELAY_CTRL_DIR"
DIR_FD = b"RELAY_CTRL_DIR_FD"
EXPIRY = b"RELAY_CTRL_EXPIRY"
REMEMBERED = (b"USER", b"DOMAIN")

EXPIRY_S = 900
LARGEST = 8192  # bytes that are read of a file

PRIVATE = 0o600
SHARED = 0o666  # through a descriptor each login may have another uid, and all of them write
LAST_FD = 1 << 20


class Unusable(Exception):
    """Nobody can say where the folder is. text: why; error: the system's reason, or None."""

    def __init__(self, text: bytes, error: OSError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.error = error


class Folder:
    """The folder, open; the descriptor is its owner's to close. mode: of new files."""

    __slots__ = ("fd", "mode")

    def __init__(self, fd: int, mode: int) -> None:
        self.fd = fd
        self.mode = mode

    def close(self) -> None:
        os.close(self.fd)


def name_of(ip: bytes) -> bytes | None:
    """The name of the file for a peer; None if ip is no address. An IPv4 address within an IPv6 one is that; an IPv6
    address has its short form, and no interface behind it."""
    packed = addresses.parse_ipv4(ip) or addresses.parse_ipv6(ip.partition(b"%")[0])
    return None if packed is None else addresses.format_ip(addresses.unmap(packed))


def opened(env: dict[bytes, bytes]) -> Folder:
    """Raises Unusable."""
    inherited = env.get(DIR_FD)
    if inherited is not None:
        fd, length = numbers.scan(inherited)
        if length != len(inherited) or not length or fd > LAST_FD:
            raise Unusable(b"no number in $RELAY_CTRL_DIR_FD")
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.ENOTDIR, "")
            fds.keep(fd)
        except OSError as e:
            raise Unusable(b"unable to use descriptor " + inherited, e) from None
        return Folder(fd, SHARED)
    path = env.get(DIR)
    if path is None:
        raise Unusable(b"$RELAY_CTRL_DIR is not set")
    try:
        return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), PRIVATE)
    except OSError as e:
        raise Unusable(b"unable to open directory " + path, e) from None


def expiry(env: dict[bytes, bytes]) -> int:
    """Seconds that an address is known for."""
    return numbers.scan(env.get(EXPIRY, b""))[0] or EXPIRY_S


def remember(folder: Folder, name: bytes, env: dict[bytes, bytes]) -> None:
    """Write the file of an address, with the user of env. Raises OSError."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    temporary = b".%d.%d:%d" % (seconds, rest // 1000, os.getpid())
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE, dir_fd=folder.fd)
    try:
        try:
            text = b"".join([b"%s=%s\0" % (each, env[each]) for each in REMEMBERED if each in env])
            if text and os.write(fd, text) != len(text):
                raise OSError(errno.ENOSPC, "")
            os.fchmod(fd, folder.mode)  # whatever the umask
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    except OSError:
        os.unlink(temporary, dir_fd=folder.fd)
        raise


def look_up(folder: Folder, name: bytes, oldest: int) -> dict[bytes, bytes] | None:
    """What the file of an address holds, None if it is older than oldest, in seconds since 1970. Raises OSError: ENOENT
    if there is none.

    Only USER and DOMAIN count: whoever may write there must not choose other variables for a server, such as PATH."""
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "")
        if status.st_mtime_ns // 1_000_000_000 < oldest:
            return None
        text = os.read(fd, LARGEST)
    finally:
        os.close(fd)
    found = {}
    for item in text.split(b"\0")[:-1]:
        variable, equals, value = item.partition(b"=")
        if equals and variable in REMEMBERED:
            found[variable] = value
    return found


def forget(folder: Folder, name: bytes, oldest: int) -> None:
    """Remove a file that is older than oldest. Raises OSError.

    A login may renew it at any moment: it is taken aside, looked at there, and put back if it is new."""
    aside = b".%d-%d" % (time.time_ns(), os.getpid())
    os.rename(name, aside, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    try:
        if os.stat(aside, dir_fd=folder.fd, follow_symlinks=False).st_mtime_ns // 1_000_000_000 >= oldest:
            os.link(aside, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
    except FileExistsError:  # renewed once more
        pass
    finally:
        os.unlink(aside, dir_fd=folder.fd)


def age(folder: Folder, oldest: int) -> None:
    """Remove all files older than oldest. Raises OSError if the folder cannot be read."""
    for name in os.listdir(folder.fd):
        try:
            status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
            if status.st_mtime_ns // 1_000_000_000 < oldest and not stat.S_ISDIR(status.st_mode):
                forget(folder, os.fsencode(name), oldest)
        except OSError:  # it is gone, or not ours
            continue
