"""mtasts - the MTA-STS policies that are kept: one file for each domain in HOME/mta-sts, which belongs to qmailr.
formats/mtasts says what is in it.

Without that folder there are none, and no domain is asked for one: a policy that is forgotten at once protects nobody.
A file is replaced as a whole: a kill leaves the old one or the new one. One that is broken is as if it were not there;
one that cannot be written is not kept."""

import os

from qmailpy.formats import mtasts
from qmailpy.formats.mtasts import Kept
from qmailpy.stores import safeio
from qmailpy.unix import fds

FOLDER = b"/mta-sts/"
LARGEST = 2 * mtasts.LARGEST  # bytes
MOST = 10000  # files
TEMPORARY = b".new."  # and the process number: no domain begins with a dot
STALE_S = 86400  # how old what a killed process has left must be

NAMES = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.")
LONGEST = 253


class Policies:
    """Of one home."""

    __slots__ = ("_folder",)

    def __init__(self, home: bytes) -> None:
        self._folder = home + FOLDER

    def are_kept(self) -> bool:
        return os.path.isdir(self._folder)

    def read(self, domain: bytes) -> Kept | None:
        """What is known of a domain, in lower case. Raises OSError where that cannot be read."""
        if not _fits(domain):
            return None
        try:
            fd = os.open(self._folder + domain, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return mtasts.decode(fds.read_all(fd, LARGEST))
        except mtasts.Malformed:
            return None
        finally:
            os.close(fd)

    def write(self, domain: bytes, kept: Kept, now: int) -> None:
        """Keep that of a domain, if it can be."""
        if not _fits(domain):
            return
        try:
            self._make_room(now)
            safeio.replace(self._folder + domain, self._folder + TEMPORARY + b"%d" % os.getpid(), [kept.encode()])
        except OSError:
            pass

    def _make_room(self, now: int) -> None:
        """For one more: what has not changed for the longest time goes. Raises OSError."""
        names = [os.fsencode(entry) for entry in os.listdir(self._folder)]
        ages = {name: self._changed(name) for name in names if len(names) >= MOST or name.startswith(TEMPORARY)}
        stale = [name for name in ages if name.startswith(TEMPORARY) and ages[name] < now - STALE_S]
        oldest = sorted((name for name in ages if name not in stale), key=lambda name: ages[name])
        for name in stale + oldest[: max(0, len(names) - MOST + 1)] if len(names) >= MOST else stale:
            try:
                os.unlink(self._folder + name)
            except OSError:  # another has done it
                pass

    def _changed(self, name: bytes) -> float:
        try:
            return os.stat(self._folder + name).st_mtime
        except OSError:
            return 0


def _fits(domain: bytes) -> bool:
    """Whether a domain can be a file's name."""
    return 0 < len(domain) <= LONGEST and NAMES.issuperset(domain) and not domain.startswith(b".")
