"""throttle - whether a password may be tried now, by the failures of its address and of its account. Pure.

Times are seconds of a clock that never goes back, and the caller's. Failures are counted with a half-life: so many
seconds later they weigh half. While an address or an account has less than its free ones, so many passwords as are
left may be tried at the same time. Above that one at a time, and after each failure there is a pause: of a second,
then twice that, and so on up to a longest one, which for an account is so short that whoever waits is served.

A pair of address and account that has been right within the last month answers for itself alone: its failures count
for the pair, and those of others not for it. So nobody can shut out the true owner of an account from where he usually
is, neither from elsewhere nor from the same address with other names; a client with an old password stops itself only.
An account's own owner who comes from a new place while others try his account waits with them; who serves should serve
addresses that are fresh, without failures of their own, before others. That keeps him from waiting behind those who
guess on and on, and not behind as many again who have not failed yet: those can keep him out as long as they go on.

What is not tried is not counted. A right password takes nothing back from address and account: who has an account of
his own would have free attempts at others by it, and the owner who logs in all day would clear the way for strangers.
"""

from _collections_abc import Hashable

from qmailpy.formats import addresses

SIZE = 10000  # records of each kind; what weighs least gives way
SPARED = 9 * SIZE // 10  # of them remain then
NEGLIGIBLE = 0.5  # failures

LONGEST_ADDRESS = 600.0  # seconds between two attempts, at last
LONGEST_ACCOUNT = 8.0
LONGEST_PAIR = 8.0  # or who has a new password would be refused while his old program tries
FREE_PAIR = 5
REMEMBERED = 30 * 86400.0  # seconds that a pair stays known after it was right
PLACES = 100  # known pairs of one account: who has many addresses must not make those of others forgotten


class Record:
    """failures: as of `at`, when there was the last; after: no attempt before; running: attempts now."""

    __slots__ = ("after", "at", "failures", "running")

    def __init__(self, now: float) -> None:
        self.failures = 0.0
        self.at = now
        self.after = now
        self.running = 0


class Table:
    """The records of one kind: address, account, or pair."""

    __slots__ = ("_free", "_half_life", "_longest", "_most", "records")

    def __init__(self, free: int, longest: float, half_life: float) -> None:
        """free: 0 for no limit at all."""
        self._free = free
        self._longest = longest
        self._half_life = half_life
        self._most = free + 1.0  # failures; more than the longest pause needs would only make the way back longer
        while self._pause(self._most) < longest:
            self._most += 1
        self.records: dict[Hashable, Record] = {}

    def _weight(self, record: Record, now: float) -> float:
        return float(record.failures * 0.5 ** (max(0.0, now - record.at) / self._half_life))

    def _left(self, failures: float) -> int:
        """How many are free still. Rounded: the first failure has lost a little by the time of the last."""
        return self._free - int(failures + 0.5)

    def _pause(self, failures: float) -> float:
        """Seconds after a failure, with that one among failures."""
        if self._left(failures) > 0:
            return 0.0
        return float(min(self._longest, 2.0 ** max(0.0, min(failures - self._free, 64.0))))

    def wait(self, key: Hashable, now: float) -> float | None:
        """Seconds before an attempt; 0 for at once, None for when an attempt that runs has ended."""
        record = self.records.get(key)
        if record is None or not self._free:
            return 0.0
        if not record.running:
            return max(0.0, record.after - now)
        failures = self._weight(record, now)
        left = self._left(failures)
        if record.running < left:
            return 0.0
        return None if left > 1 else self._pause(failures + 1)  # more or less: it may be right

    def fresh(self, key: Hashable, now: float) -> bool:
        record = self.records.get(key)
        return record is None or (not record.running and self._weight(record, now) < NEGLIGIBLE)

    def begin(self, key: Hashable, now: float) -> None:
        record = self.records.get(key)
        if record is None:
            if len(self.records) >= SIZE:
                self._make_room(now)
            record = self.records[key] = Record(now)
        record.running += 1

    def end(self, key: Hashable, failed: bool, now: float) -> None:
        record = self.records[key]
        record.running -= 1
        if failed:
            record.failures = min(self._most, self._weight(record, now) + 1)
            record.at = now
            record.after = now + self._pause(record.failures)
        elif not record.running and self._weight(record, now) < NEGLIGIBLE:
            del self.records[key]

    def forgive(self, key: Hashable) -> None:
        """Forget the failures."""
        record = self.records.get(key)
        if record is not None:
            record.failures = 0.0
            record.after = record.at
            if not record.running:
                del self.records[key]

    def _make_room(self, now: float) -> None:
        """Forget what weighs least; never what runs."""
        still = [key for key, record in self.records.items() if not record.running]
        still.sort(key=lambda key: self._weight(self.records[key], now))
        for key in still[: len(self.records) - SPARED]:
            del self.records[key]


class Known:
    """Pairs that were right. Accounts, and the addresses of each, stand in the order of their last right passwords."""

    __slots__ = ("_accounts", "_size")

    def __init__(self) -> None:
        self._accounts: dict[int, dict[bytes, float]] = {}  # name, place: until when
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def until(self, place: bytes, name: int) -> float:
        """When the pair will be forgotten; 0 if it is not known."""
        return self._accounts.get(name, {}).get(place, 0.0)

    def add(self, place: bytes, name: int, until: float) -> None:
        places = self._accounts.pop(name, {})
        self._accounts[name] = places
        if places.pop(place, None) is not None:
            self._size -= 1
        if len(places) >= PLACES:
            self._forget_one(name)
        elif self._size >= SIZE:
            self._forget_one(next(iter(self._accounts)))
        places[place] = until
        self._size += 1

    def _forget_one(self, name: int) -> None:
        places = self._accounts[name]
        del places[next(iter(places))]
        self._size -= 1
        if not places:
            del self._accounts[name]


class Throttle:
    """wait, then begin, then end with what begin gave. Address and account are as they came."""

    __slots__ = ("_accounts", "_addresses", "_known", "_pairs", "_trusted")

    def __init__(self, free_address: int, free_account: int, half_life: float, trusted: tuple[bytes, ...] = ()) -> None:
        """trusted: addresses that stand for many clients, such as a webmail's. Neither they nor pairs with them are
        counted: of somebody who guesses there, an account's own pauses are to hold."""
        self._addresses = Table(free_address, LONGEST_ADDRESS, half_life)
        self._accounts = Table(free_account, LONGEST_ACCOUNT, half_life)
        self._pairs = Table(FREE_PAIR if free_address or free_account else 0, LONGEST_PAIR, half_life)
        self._known = Known()
        self._trusted = frozenset(map(network, trusted))

    def names(self, address: bytes, account: bytes) -> tuple[bytes, int]:
        """What they are counted as: two with the same are one."""
        return network(address), _folded(account)

    def known(self, address: bytes, account: bytes, now: float) -> bool:
        """Whether this address has been right about this account within the last month."""
        place = network(address)
        return place not in self._trusted and self._known.until(place, _folded(account)) > now

    def fresh(self, address: bytes, now: float) -> bool:
        """Whether this address has no failure that weighs anything, and no attempt runs from it."""
        return self._addresses.fresh(network(address), now)

    def wait(self, address: bytes, account: bytes, now: float) -> float | None:
        """Seconds before this password may be tried: 0 for at once, None for when another has been."""
        waits = [table.wait(key, now) for table, key in self._keys(address, account, now)]
        longest = max([wait or 0.0 for wait in waits], default=0.0)
        return None if longest == 0.0 and None in waits else longest

    def begin(self, address: bytes, account: bytes, now: float) -> "list[tuple[Table, Hashable]]":
        keys = self._keys(address, account, now)
        for table, key in keys:
            table.begin(key, now)
        return keys

    def end(
        self, begun: "list[tuple[Table, Hashable]]", address: bytes, account: bytes, right: bool | None, now: float
    ) -> None:
        """right: None if nobody knows."""
        for table, key in begun:
            table.end(key, right is False, now)
        place = network(address)
        if right and place not in self._trusted:
            name = _folded(account)
            self._pairs.forgive(_pair(place, name))
            self._known.add(place, name, now + REMEMBERED)

    def _keys(self, address: bytes, account: bytes, now: float) -> "list[tuple[Table, Hashable]]":
        """What an attempt counts for."""
        place, name = network(address), _folded(account)
        if place in self._trusted:
            return [(self._accounts, name)]
        if self._known.until(place, name) > now:
            return [(self._pairs, _pair(place, name))]
        return [(self._addresses, place), (self._accounts, name)]


def network(address: bytes) -> bytes:
    """What counts as one address: an IPv4 address, also one mapped into IPv6; 64 bits of an IPv6 address; else the
    word itself."""
    packed = addresses.parse_ipv4(address)
    if packed is None:
        packed = addresses.parse_ipv6(address.partition(b"%")[0])
        packed = None if packed is None else addresses.unmap(packed)
    return address if packed is None else packed[:8]


def _folded(account: bytes) -> int:
    """Many checkers take Max, and max with a blank, for max. A number, as names may be long."""
    return hash(account.strip().lower())


def _pair(place: bytes, name: int) -> int:
    return hash((place, name))
