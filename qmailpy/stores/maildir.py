"""maildir - a Maildir as qmail-pop3d reads it, in the current directory.

tmp/ holds what is being written, new/ what no reader has seen, cur/ the rest. A message is named once, in new/,
and renamed once, to cur/NAME:2,FLAGS; nothing here ever writes into a message. Source: maildir(5).
"""

import os
import stat

from qmailpy.formats import maildirname

FOLDERS = (b"tmp", b"new", b"cur")
STALE = 129600  # seconds since last access after which a file in tmp/ is nobody's any more, maildir(5): 36 hours
DOT = ord(".")
AT_ONCE = 250  # files whose status is in memory at a time


def make(path: bytes) -> None:
    """A new Maildir at path, for its owner alone; raises OSError with filename set. Source: maildirmake(1)."""
    os.mkdir(path, 0o700)
    for folder in FOLDERS:
        os.mkdir(path + b"/" + folder, 0o700)


def clean(now: int) -> None:
    """Remove stale files from tmp/. now: seconds since the epoch. Never fails."""
    try:
        with os.scandir(b"tmp") as entries:
            for entry in entries:
                try:
                    if not entry.name.startswith(b".") and now > entry.stat().st_atime + STALE:
                        os.unlink(entry.path)
                except OSError:
                    continue
    except OSError:
        pass


def scan(now: int) -> tuple[list[bytes], list[int]]:
    """(paths, sizes in bytes) of the messages of new/ and cur/ that are older than the second now, in the order of
    qmail-pop3d. Raises OSError if one of them cannot be listed (and may leave the process in the other); an entry that
    cannot be examined is left out.

    A message of this very second is left for the next session: one more could still arrive before it.
    """
    paths: list[bytes] = []
    sizes: list[int] = []
    times: list[float] = []
    here = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in (b"new/", b"cur/"):
            os.chdir(folder)  # one component to look up for each file, not two
            names = [name for name in os.listdir(b".") if name[0] != DOT]
            for start in range(0, len(names), AT_ONCE):
                some, statuses = _examine(names[start : start + AT_ONCE], now)
                paths += [folder + name for name in some]
                sizes += [status[stat.ST_SIZE] for status in statuses]
                times += [status[stat.ST_MTIME] for status in statuses]
            os.fchdir(here)
    finally:
        os.close(here)
    order = _order(times)
    return [paths[index] for index in order], [sizes[index] for index in order]


def _examine(names: list[bytes], now: int) -> tuple[list[bytes], list[os.stat_result]]:
    """Those names that are files older than the second now, and what stat(2) says of them."""
    try:
        statuses = list(map(os.stat, names))
    except OSError:
        known = [(name, status) for name in names if (status := _status(name)) is not None]
        names, statuses = [name for name, _ in known], [status for _, status in known]
    if max([status[stat.ST_MTIME] for status in statuses], default=0) < now:
        return names, statuses
    old = [index for index, status in enumerate(statuses) if status[stat.ST_MTIME] < now]
    return [names[index] for index in old], [statuses[index] for index in old]


def _status(name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name)
    except OSError:
        return None


def _order(times: list[float]) -> list[int]:
    """Indices by time, in whole seconds; those of one time as they leave the heap of qmail-pop3d (prioq), so that
    messages have the same numbers under both. Where all times differ, that is plain sorting."""
    if len(set(times)) == len(times):
        return sorted(range(len(times)), key=times.__getitem__)
    heap: list[float] = []
    indices: list[int] = []
    for index, time in enumerate(times):
        at = index
        heap.append(time)
        indices.append(index)
        while at and heap[(at - 1) // 2] > time:
            heap[at] = heap[(at - 1) // 2]
            indices[at] = indices[(at - 1) // 2]
            at = (at - 1) // 2
        heap[at] = time
        indices[at] = index
    order = []
    for last in range(len(heap) - 1, -1, -1):
        order.append(indices[0])
        time = heap[last]
        at, child = 0, 2
        while child <= last:
            least = heap[child]
            if heap[child - 1] <= least:
                child -= 1
                least = heap[child]
            if time <= least:
                break
            heap[at] = least
            indices[at] = indices[child]
            at = child
            child = at + at + 2
        heap[at] = time
        indices[at] = indices[last]
    return order


def see(path: bytes) -> None:
    """Move a message from new/ to cur/, as a reader does who has shown it; one in cur/ stays. Raises OSError."""
    target = maildirname.seen(path)
    if target is not None:
        os.rename(path, target)
