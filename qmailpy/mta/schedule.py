"""schedule - when a message is tried again, when it has been tried for too long, and which one is next. Pure.

Attempts come at the squares of 0, 10, 20, 30 ... seconds of a message's age to local recipients, and of 0, 20, 40 ...
to remote ones, as far as there is time for them: what has been late does not make the next one late. Times are in
seconds since 1970, and so is a message's birth.
"""

import _heapq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SKIP = (10, 20)  # of the local and the remote channel
LIFETIME = 604800  # seconds; control/queuelifetime

SLEEP_TODO = 1500  # seconds after which todo is looked at, even if nobody has said that there is something
SLEEP_FUZZ = 1  # more than needs be, for every wait
SLEEP_FOREVER = 86400  # the longest wait
SLEEP_CLEANUP = 76431  # between two searches for garbage
SLEEP_SYSFAIL = 123  # after an error of the system
SLEEP_HELP = 10  # after one that must not be

LARGEST_AGE = 0xFFFFFFFF  # whose square root the original finds

NUMBER_BITS = 64  # of an inode
NUMBER = (1 << NUMBER_BITS) - 1


def square_root(x: int) -> int:
    """The largest integer whose square is not above x, which is 0 or more; that of LARGEST_AGE at most."""
    return int(min(x, LARGEST_AGE) ** 0.5)  # exact below 2 ** 52


def next_retry(birth: int, now: int, channel: int) -> int:
    """When the attempt after that of now comes."""
    n = square_root(max(now - birth, 0)) + SKIP[channel]
    return birth + n * n


def is_dying(birth: int, now: int, lifetime: int) -> bool:
    """Whether the attempt of now is the last one."""
    return now > birth + lifetime


class Waiting:
    """Messages, each with the time at which it is due. The earliest comes first; those of the same time in the order
    of their numbers.

    Each is one integer, time and number side by side: 50 bytes, of hundreds for a tuple or an object.
    """

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[int] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: int, number: int) -> None:
        _heapq.heappush(self._heap, when << NUMBER_BITS | number)

    def due(self, otherwise: int) -> int:
        """When the first one is due; otherwise if there is none."""
        return self._heap[0] >> NUMBER_BITS if self._heap else otherwise

    def take(self, now: int) -> int | None:
        """The number of the first one, which then waits no more, if it is due by now."""
        if not self._heap or self._heap[0] >> NUMBER_BITS > now:
            return None
        return _heapq.heappop(self._heap) & NUMBER

    def hurry(self, now: int) -> None:
        """All are due now."""
        self.fill((now, entry & NUMBER) for entry in self._heap)

    def fill(self, entries: "Iterable[tuple[int, int]]") -> None:
        """(when, number) of these and of no others."""
        self._heap = [when << NUMBER_BITS | number for when, number in entries]
        _heapq.heapify(self._heap)

    def __iter__(self) -> "Iterator[tuple[int, int]]":
        """(when, number) of each, in any order."""
        for entry in self._heap:
            yield entry >> NUMBER_BITS, entry & NUMBER
