"""processes - a process that is not our child: whether it is still the one we mean, and a descriptor that tells its
end. A pid alone is soon somebody else's. And labels of our own."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class _Labels:
    """How many this process has given away. One per process."""

    pid = 0
    given = 0


def label() -> bytes:
    """What nothing else on this machine is called now: the pid, and from the second one of a process on PID_2, PID_3
    and so on."""
    pid = os.getpid()
    _Labels.pid, _Labels.given = pid, _Labels.given + 1 if pid == _Labels.pid else 1
    return b"%d" % pid if _Labels.given == 1 else b"%d_%d" % (pid, _Labels.given)


def ended() -> "Iterator[tuple[int, int]]":
    """Pid and wait status of each child that has ended, until there is none."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def stat_fields(pid: int | str) -> list[bytes]:
    """The fields of /proc/PID/stat behind the name, proc(5)'s field 3 first; pid may be "self". Raises OSError."""
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).rpartition(b")")[2].split()
    finally:
        os.close(fd)


def started(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if it has ended, also if nobody has waited for it yet."""
    try:
        fields = stat_fields(pid)
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def boot() -> bytes:
    """A word that is another one after each boot, and in each pid namespace; `unknown` where nothing can tell."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
        try:
            identity = os.read(fd, 64).strip()
        finally:
            os.close(fd)
        return identity + b"/" + os.readlink(b"/proc/self/ns/pid")
    except OSError:
        return b"unknown"


def watch(pid: int, begin: int) -> int:
    """A descriptor that is readable once the process has ended, for the process pid that started at begin; -1 if it
    has ended already. Raises OSError where the system has no pidfd_open(2), before Linux 5.3."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if started(pid) == begin:  # asked once the descriptor is there: from now on it stands for this process
        return fd
    os.close(fd)
    return -1
