"""maildir - a Maildir as qmail-pop3d reads it, in the current directory.

tmp/ holds what is being written, new/ what no reader has seen, cur/ the rest. A message is named once, in new/,
and renamed once, to cur/NAME:2,FLAGS; nothing here ever writes into a message. Source: maildir(5).
"""

import os

from qmailpy.formats import maildirname

STALE = 129600  # seconds since last access after which a file in tmp/ is nobody's any more, maildir(5): 36 hours

Found = tuple[float, int, bytes]  # whole seconds of mtime, size in bytes, path from the Maildir


def make(path: bytes) -> None:
    """A new Maildir at path, for its owner alone; raises OSError with filename set. Source: maildirmake(1)."""
    os.mkdir(path, 0o700)
    for folder in (b"tmp", b"new", b"cur"):
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
    qmail-pop3d. Raises OSError if one of them cannot be listed; an entry that cannot be examined is left out.

    A message of this very second is left for the next session: one more could still arrive before it.
    """
    found: list[Found] = []
    for folder in (b"new", b"cur"):
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[:1] == b".":
                    continue
                try:
                    status = entry.stat()
                except OSError:
                    continue
                mtime = status[8]  # whole seconds; st_mtime is a float
                if mtime < now:
                    found.append((mtime, status[6], entry.path))
    found = _in_heap_order(found)
    return [path for _, _, path in found], [size for _, size, _ in found]


def _in_heap_order(found: list[Found]) -> list[Found]:
    """Sorted by time; messages of one second stand as they leave the heap of qmail-pop3d (prioq), so that message
    numbers are the same under both. Where all times differ, that is plain sorting."""
    if len({item[0] for item in found}) == len(found):
        return sorted(found)
    heap: list[Found] = []
    for item in found:
        at = len(heap)
        heap.append(item)
        while at and heap[(at - 1) // 2][0] > item[0]:
            heap[at] = heap[(at - 1) // 2]
            at = (at - 1) // 2
        heap[at] = item
    ordered = []
    for last in range(len(heap) - 1, -1, -1):
        ordered.append(heap[0])
        item = heap[last]
        time = item[0]
        at, child = 0, 2
        while child <= last:
            if heap[child - 1][0] <= heap[child][0]:
                child -= 1
            if time <= heap[child][0]:
                break
            heap[at] = heap[child]
            at = child
            child = at + at + 2
        heap[at] = item
    return ordered


def see(path: bytes) -> None:
    """Move a message from new/ to cur/, as a reader does who has shown it; one in cur/ stays. Raises OSError."""
    target = maildirname.seen(path)
    if target is not None:
        os.rename(path, target)
