"""tell - qmail-send reads control/locals and control/virtualdomains again when it gets SIGHUP.

vpopmail's programs send that to whatever ps(1) shows with qmail-send in its line. Here it is sent to the process that
holds the lock of the queue, lock/sendmutex, whatever it is called: to no editor of a manual page, and to no other
home's."""

import os

from qmailpy.unix import fds, processes, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = b"/proc"
MUTEX = b"/queue/lock/sendmutex"  # below the home
LOCKS = b"/proc/locks"
LARGEST = 1 << 24  # bytes
COMMAND_LINE = 4096  # bytes that are looked at


def reread(home: bytes) -> int:
    """Have the qmail-send of a home, if it runs, read again; how many there were."""
    try:
        mutex = os.stat(home + MUTEX)
        holders = _holders(mutex.st_ino)
    except OSError:  # no queue, or no /proc
        return 0
    told = 0
    for pid in holders:
        begin = processes.started(pid)
        try:
            if begin and _has_open(pid, mutex):
                told += send(pid, begin, signals.HUP)
        except OSError:  # ended, or another's
            continue
    return told


def send(pid: int, begin: int, number: int) -> bool:
    """A signal to the process pid that started at begin; False if it has ended. Raises OSError."""
    pidfd = processes.watch(pid, begin)
    if pidfd < 0:
        return False
    try:
        signals.send_pidfd(pidfd, number)
    finally:
        os.close(pidfd)
    return True


def pids() -> "Iterator[int]":
    """All processes but this one; none without /proc."""
    try:
        names = os.listdir(PROC)
    except OSError:
        return
    for name in names:
        if name.isdigit() and int(name) != os.getpid():
            yield int(name)


def words(pid: int) -> list[bytes]:
    """The command line of a process; nothing if it has none, or has ended."""
    try:
        fd = os.open(b"%s/%d/cmdline" % (PROC, pid), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return fds.read_all(fd, COMMAND_LINE).rstrip(b"\0").split(b"\0")
    except OSError:
        return []
    finally:
        os.close(fd)


def _holders(inode: int) -> set[int]:
    """The processes that have flock(2) on a file with this number, here or elsewhere. Raises OSError."""
    fd = os.open(LOCKS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lines = [line.split() for line in fds.read_all(fd, LARGEST).split(b"\n")]
    finally:
        os.close(fd)
    # ID: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE START END, proc_locks(5)
    end = b":%d" % inode
    return {int(line[4]) for line in lines if line[1:2] == [b"FLOCK"] and line[5].endswith(end)}


def _has_open(pid: int, file: os.stat_result) -> bool:
    """Whether a process has a file open. Raises OSError."""
    folder = b"%s/%d/fd" % (PROC, pid)
    for name in os.listdir(folder):
        status = os.stat(folder + b"/" + name)
        if (status.st_dev, status.st_ino) == (file.st_dev, file.st_ino):
            return True
    return False
