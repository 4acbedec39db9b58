"""confine - a process that has all the descriptors it will ever need gives up everything else, for good.

    Jail        where it goes and as whom, prepared beforehand by a process that may
    close_in    no files, no programs, no processes, no sockets, no signals to others; reading and writing go on

What the system does not offer is left out: the rest holds all the same.
"""

import ctypes
import errno
import os
import resource
import struct

from qmailpy.unix import ids

# prctl(2)
SET_DUMPABLE, SET_SECCOMP, SET_NO_NEW_PRIVS = 4, 22, 38
MODE_FILTER = 2

# bpf(2), seccomp(2): the instructions that a list of allowed numbers takes
LOAD, JUMP_EQUAL, JUMP_NOT_BELOW, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, ARCHITECTURE_AT = 0, 4  # in struct seccomp_data
ALLOW, REFUSE = 0x7FFF0000, 0x00050001  # the latter with EPERM: a library that tries something goes on without
X32 = 0x40000000  # numbers from here on are the other ABI of x86_64

INSTRUCTION = struct.Struct("HBBI")
PROGRAM = struct.Struct("HP")

# Architecture: (AUDIT_ARCH of it, numbers of what may still be called). Memory, time, random numbers, the end, and
# reading, writing and ending what is open: read write readv writev close poll ppoll mmap mprotect munmap mremap brk
# madvise futex rt_sigaction rt_sigprocmask rt_sigreturn restart_syscall sched_yield rseq recvfrom sendto recvmsg
# sendmsg shutdown setsockopt getsockname getpeername getsockopt getpid gettid clock_gettime gettimeofday getrandom
# exit exit_group
ALLOWED = {
    "x86_64": (0xC000003E, (
        0, 1, 19, 20, 3, 7, 271, 9, 10, 11, 25, 12, 28, 202, 13, 14, 15, 219, 24, 334, 45, 44, 47, 46,
        48, 54, 51, 52, 55, 39, 186, 228, 96, 318, 60, 231,
    )),
    "aarch64": (0xC00000B7, (
        63, 64, 65, 66, 57, 73, 222, 226, 215, 216, 214, 233, 98, 134, 135, 139, 128, 124, 293, 207, 206, 212, 211,
        210, 208, 204, 205, 209, 172, 178, 113, 169, 278, 93, 94,
    )),
}  # fmt: skip

EMPTY_PARENTS = (b"/run", b"/tmp", b"/var/tmp")
NO_NAME = 65534  # the uid of nobody on most systems, where it has no name


class Jail:
    """uid, gid: whom to become, -1 to stay; folder: a descriptor of what will be the root, an empty folder that nobody
    can reach unless somebody wanted another; or -1."""

    __slots__ = ("folder", "gid", "uid")

    def __init__(self, account: bytes, group: int = 0, root: bytes = b"") -> None:
        """account: a name or number; group: of that number, if not the account's own; root: instead of an empty folder.
        Only root can take another's ids, or another root. Raises LookupError for a name that there is none of, but
        nobody need not have one; OSError for a root that cannot be."""
        self.uid = self.gid = self.folder = -1
        if os.geteuid() == 0:
            self.uid, own = _account(account)
            self.gid = group or own
            self.folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if root else _empty_folder()
        elif root:
            raise PermissionError(errno.EPERM, "")

    def enter(self) -> None:
        """Raises OSError if privileges cannot be dropped."""
        if self.folder >= 0:
            os.fchdir(self.folder)
            os.chroot(".")
            os.close(self.folder)
        if self.uid >= 0:
            ids.drop(self.uid, self.gid)


def _account(word: bytes) -> tuple[int, int]:
    import pwd

    try:
        entry = pwd.getpwuid(ids.user(word)) if word.isdigit() else pwd.getpwnam(os.fsdecode(word))
    except KeyError:
        if word.isdigit():
            return ids.user(word), ids.group(word)
        if word == b"nobody":
            return NO_NAME, NO_NAME
        raise
    return entry.pw_uid, entry.pw_gid


def _empty_folder() -> int:
    """A folder that has been removed: nothing can be made in it. -1 if there can be none."""
    for parent in EMPTY_PARENTS:
        path = parent + b"/empty." + os.urandom(8).hex().encode()
        try:
            os.mkdir(path, 0o700)
        except OSError:
            continue
        try:
            return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        finally:
            os.rmdir(path)
    return -1


class Cell:
    """The last doors, made ready while the libraries can still be asked for what they need."""

    __slots__ = ("_filter", "_prctl", "_program")

    def __init__(self) -> None:
        self._prctl = getattr(ctypes.CDLL(None), "prctl", None)
        machine = os.uname().machine
        architecture = ALLOWED.get(machine) if struct.calcsize("P") == 8 else None
        self._filter = ctypes.create_string_buffer(_filter(*architecture) if architecture else b"")
        self._program = PROGRAM.pack(len(self._filter) // INSTRUCTION.size, ctypes.addressof(self._filter))

    def hide(self) -> None:
        """Nobody but root may read this process's memory from now on, nor may a core file hold it."""
        self._call(SET_DUMPABLE, 0)
        _limit(resource.RLIMIT_CORE, 0)

    def close_in(self, descriptors: int, writes: bool = False) -> None:
        """No way out; hidden it is already. descriptors: 0 up to that number stay in use, and nothing can be opened;
        writes: one of them may be a file that grows, a log."""
        _limit(resource.RLIMIT_NOFILE, descriptors)  # not 0: poll(2) wants as many as it is given
        _limit(resource.RLIMIT_NPROC, 0)
        if not writes:
            _limit(resource.RLIMIT_FSIZE, 0)
        self._call(SET_NO_NEW_PRIVS, 1)
        if len(self._filter) > 1:
            self._call(SET_SECCOMP, MODE_FILTER, self._program)

    def _call(self, option: int, value: int, pointed: bytes | None = None) -> None:
        """Errors are for systems that lack the option."""
        if self._prctl is not None:
            none = ctypes.c_ulong(0)
            self._prctl(option, ctypes.c_ulong(value), pointed or none, none, none)


def _limit(limit: int, value: int) -> None:
    try:
        resource.setrlimit(limit, (value, value))
    except (OSError, ValueError):
        pass


def _filter(architecture: int, numbers: tuple[int, ...]) -> bytes:
    """A program for SECCOMP_MODE_FILTER that lets these system calls through."""
    count = len(numbers)
    checks = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 0, count + 2, architecture),  # to REFUSE
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_NOT_BELOW, count, 0, X32),
        *((JUMP_EQUAL, count - at, 0, number) for at, number in enumerate(numbers)),  # to ALLOW
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join([INSTRUCTION.pack(*check) for check in checks])
