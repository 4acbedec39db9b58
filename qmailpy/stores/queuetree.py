"""queuetree - what HOME/queue is made of: folders and special files, with their owners and modes, and how they are made
and mended. Messages are none of its business.

    queue           qmailq   0750
    pid, intd       qmailq   0700
    mess/S          qmailq   0750    S is 0 to split - 1
    todo            qmailq   0750
    bounce          qmails   0700
    info/S local/S remote/S    qmails   0700
    last            qmails   0700    not in the original's queue: see lasterrors
    lock            qmailq   0750
    lock/sendmutex  qmails   0600    empty
    lock/tcpto      qmailr   0644    1024 bytes
    lock/trigger    qmails   0622    a FIFO

    mta-sts         qmailr   0700    beside queue: policies that qmail-remote keeps; not in the original's home

All belong to the group qmail. In the queue of the big-todo patch todo and intd are split like mess.
"""

import errno
import os
import stat

from qmailpy.stores.safeio import Failed
from qmailpy.unix import ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SPLIT = 23
TCPTO_SIZE = 1024  # bytes: 64 hosts

FOLDER, FILE, FIFO = stat.S_IFDIR, stat.S_IFREG, stat.S_IFIFO

QUEUE, SEND, REMOTE, GROUP = b"qmailq", b"qmails", b"qmailr", b"qmail"


class Node:
    """A folder or special file: kind as in st_mode, mode its permissions, account its owner; size of a file if that is
    fixed; inside: what a folder must hold, by name."""

    __slots__ = ("account", "inside", "kind", "mode", "size")

    def __init__(
        self,
        account: bytes,
        mode: int,
        kind: int = FOLDER,
        size: int | None = None,
        inside: "dict[bytes, Node] | None" = None,
    ) -> None:
        self.account = account
        self.mode = mode
        self.kind = kind
        self.size = size
        self.inside = inside or {}


def _split(account: bytes, mode: int, split: int) -> Node:
    """The last one first: a queue whose making was interrupted has the right split, or none yet."""
    return Node(account, mode, inside={b"%d" % place: Node(account, mode) for place in reversed(range(split))})


def tree(split: int, split_todo: bool) -> Node:
    """The whole queue."""
    lock = {
        b"sendmutex": Node(SEND, 0o600, FILE),
        b"tcpto": Node(REMOTE, 0o644, FILE, TCPTO_SIZE),
        b"trigger": Node(SEND, 0o622, FIFO),
    }
    inside = {
        b"pid": Node(QUEUE, 0o700),
        b"intd": _split(QUEUE, 0o700, split if split_todo else 0),
        b"todo": _split(QUEUE, 0o750, split if split_todo else 0),
        b"bounce": Node(SEND, 0o700),
        b"mess": _split(QUEUE, 0o750, split),
        b"info": _split(SEND, 0o700, split),
        b"local": _split(SEND, 0o700, split),
        b"remote": _split(SEND, 0o700, split),
        b"last": Node(SEND, 0o700),
        b"lock": Node(QUEUE, 0o750, inside=lock),
    }
    return Node(QUEUE, 0o750, inside=inside)


def policies() -> Node:
    """What is beside the queue."""
    return Node(REMOTE, 0o700)


MADE, MENDED = 0, 1


class Owners:
    """Who owns what. For root: the accounts of qmail, and for those that do not exist the owner of the home. For all
    others: themselves."""

    __slots__ = ("_fixed", "_home", "gid")

    def __init__(self, home: bytes) -> None:
        """Raises OSError: there is no home."""
        status = os.stat(home)
        self._fixed = os.geteuid() != 0
        self._home = os.geteuid() if self._fixed else status.st_uid
        self.gid = os.getegid() if self._fixed else _found(ids.group, GROUP, status.st_gid)

    def uid(self, account: bytes) -> int:
        return self._home if self._fixed else _found(ids.user, account, self._home)


def _found(find: "Callable[[bytes], int]", name: bytes, otherwise: int) -> int:
    try:
        return find(name)
    except LookupError:
        return otherwise


class Mason:
    """Makes and mends. tell(MADE or MENDED, path, what) is called for each thing done, or to be done if `dry`;
    refuse(path, why) for each that cannot be mended. Paths begin with `queue`, or the name that is worked on."""

    __slots__ = ("_dry", "_owners", "_refuse", "_tell")

    def __init__(
        self,
        owners: Owners,
        dry: bool,
        tell: "Callable[[int, bytes, bytes], None]",
        refuse: "Callable[[bytes, bytes], None]",
    ) -> None:
        self._owners = owners
        self._dry = dry
        self._tell = tell
        self._refuse = refuse

    def work(self, home: bytes, node: Node, name: bytes = b"queue") -> None:
        """Make or mend HOME/queue, or what else has that name. Raises OSError, most often Failed, where the system
        fails."""
        base = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        before = os.umask(0)
        try:
            self._node(base, name, name, node)
        finally:
            os.umask(before)
            os.close(base)

    def _node(self, parent: int | None, name: bytes, path: bytes, node: Node) -> None:
        """parent is None where it does not exist, as nothing is made."""
        fd = -1
        try:
            if parent is not None:
                self._let_in(parent, name, path, node)
                fd = self._open(parent, name)
            if fd < 0:
                self._tell(MADE, path, _called(node))
                if not self._dry and parent is not None:
                    fd = self._make(parent, name, node)
            elif not self._mend(fd, path, node):
                return
            for each, inner in node.inside.items():
                self._node(fd if fd >= 0 else None, each, path + b"/" + each, inner)
        except Failed:
            raise
        except OSError as e:
            raise Failed(b"unable to make or mend " + path, e)
        finally:
            if fd >= 0:
                os.close(fd)

    def _let_in(self, parent: int, name: bytes, path: bytes, node: Node) -> None:
        """What is our own may be closed to us; root can open all."""
        if os.geteuid() == 0:
            return
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        closed = stat.S_IMODE(status.st_mode) & 0o700 < node.mode & 0o700
        if closed and not self._dry and status.st_uid == os.geteuid() and stat.S_IFMT(status.st_mode) == node.kind:
            os.chmod(name, node.mode, dir_fd=parent)
            self._tell(MENDED, path, b"mode %04o, was %04o" % (node.mode, stat.S_IMODE(status.st_mode)))

    def _open(self, parent: int, name: bytes) -> int:
        """-1 if it is not there. No link is followed: the folders may belong to others than who mends, root."""
        try:
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        except FileNotFoundError:
            return -1

    def _make(self, parent: int, name: bytes, node: Node) -> int:
        """What is made is open to its owner alone until the owner is right. The folder's owner may put something else
        in its place meanwhile: that is not given away."""
        if node.kind == FOLDER:
            os.mkdir(name, 0o700, dir_fd=parent)
        elif node.kind == FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
            try:
                os.write(fd, bytes(node.size or 0))
            finally:
                os.close(fd)
        fd = self._open(parent, name)
        try:
            status = os.fstat(fd)
            if not _fits(status, node) or status.st_uid != os.geteuid():
                raise FileExistsError(errno.EEXIST, "")
            owner = self._owners.uid(node.account), self._owners.gid
            if (status.st_uid, status.st_gid) != owner:
                os.fchown(fd, *owner)
            os.fchmod(fd, node.mode)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _mend(self, fd: int, path: bytes, node: Node) -> bool:
        """False if it is something else."""
        status = os.fstat(fd)
        if not _fits(status, node):
            self._refuse(path, b"is not " + _called(node))
            return False
        uid = self._owners.uid(node.account)
        if status.st_uid != uid and os.geteuid():
            self._refuse(path, b"belongs to uid %d" % status.st_uid)
            return True
        group = self._owners.gid if os.geteuid() == 0 else status.st_gid  # another of one's own groups will do
        if (status.st_uid, status.st_gid) != (uid, group):
            self._tell(MENDED, path, b"owner %d:%d, was %d:%d" % (uid, group, status.st_uid, status.st_gid))
            if not self._dry:
                os.fchown(fd, uid, group)
        mode = stat.S_IMODE(status.st_mode)
        if mode != node.mode:
            self._tell(MENDED, path, b"mode %04o, was %04o" % (node.mode, mode))
        if not self._dry and stat.S_IMODE(os.fstat(fd).st_mode) != node.mode:  # a new owner takes set-id bits away
            os.fchmod(fd, node.mode)
        if node.size is not None and status.st_size != node.size:
            self._tell(MENDED, path, b"size %d, was %d" % (node.size, status.st_size))
            if not self._dry:
                self._resize(fd, node.size)
        return True

    def _resize(self, fd: int, size: int) -> None:
        writable = os.open(b"/proc/self/fd/%d" % fd, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(writable, size)
        finally:
            os.close(writable)


def _fits(status: os.stat_result, node: Node) -> bool:
    """Whether it is of that kind, and has no second name, by which it might be something else's."""
    return stat.S_IFMT(status.st_mode) == node.kind and (node.kind == FOLDER or status.st_nlink == 1)


def _called(node: Node) -> bytes:
    return {FOLDER: b"a directory", FILE: b"a file", FIFO: b"a FIFO"}[node.kind]
