"""questions - a service that answers one question about a password per caller, by a process for each.

What may be tried when is decided by mta/throttle, who may ask by the caller of this. Here are the waiting, the forks,
and the clock, which is monotonic.

A question is read, then perhaps held, then answered by a process, or by none, when it would be held for too long.
Those of a known pair of address and account go first, and a quarter of the processes is theirs alone. Among the others
the addresses take turns, so that one with many questions does not keep away one that has a single one. In the pauses
of an account, a question of a fresh address, one without failures, goes before those of other addresses, and has places
that they cannot fill; but only one question of each such address does.
"""

import errno
import fcntl
import os
import select
import time
from _collections_abc import Callable

from qmailpy.formats import authd, fd3
from qmailpy.unix import fds, local, processes, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Protocol

    class Throttle(Protocol):
        """mta/throttle.py."""

        def names(self, address: bytes, account: bytes) -> "tuple[bytes, Hashable]": ...
        def fresh(self, address: bytes, now: float) -> bool: ...
        def known(self, address: bytes, account: bytes, now: float) -> bool: ...
        def wait(self, address: bytes, account: bytes, now: float) -> float | None: ...
        def begin(self, address: bytes, account: bytes, now: float) -> "list[tuple[object, Hashable]]": ...
        def end(
            self,
            begun: "list[tuple[object, Hashable]]",
            address: bytes,
            account: bytes,
            right: bool | None,
            now: float,
        ) -> None: ...


CALLERS = 1000  # at a time; further ones wait in the kernel
READING = 5.0  # seconds for a question to come
PATIENCE = 10.0  # seconds that a question is held, at most
HELD_ADDRESS = 200  # questions of one address that are held
HELD_ACCOUNT = 10  # of one account and one kind, while there is a pause between its attempts
ENDING = 5.0  # seconds for what runs at TERM
KILLED = 1.0  # seconds, at TERM, for what was killed to be gone
SHORTAGE = 1.0  # seconds without new callers when there is no descriptor or memory for one
BATCH = 64  # callers that are taken before anything else is looked at

KNOWN, FRESH, OTHER = range(3)  # kinds of questions: of a known pair, of an address without failures, all others

PACKET, REPORT = 3, 4  # descriptors of the process that looks at the password
ABOVE = 10  # and those that it has them as, before: anything that is none of these
REPORTED = 1024  # bytes of a report that are read

FOREVER = float("inf")


class Question:
    """From the call to the answer. until: when something has to have happened."""

    __slots__ = (
        "account",
        "address",
        "begun",
        "fd",
        "kind",
        "length",
        "name",
        "packet",
        "place",
        "report",
        "room",
        "size",
        "uid",
        "unread",
        "until",
    )

    def __init__(self, fd: int, uid: int, until: float) -> None:
        self.fd = fd  # -1: the caller has left
        self.uid = uid
        self.until = until
        self.room = bytearray(authd.LIMIT)
        self.length = 0
        self.address = self.account = b""
        self.place = b""  # what the address counts as
        self.name: Hashable = b""  # what the account counts as
        self.kind = OTHER
        self.packet = bytearray()
        self.size = 0  # of the packet
        self.unread = -1  # the pipe with the packet: it tells whether anybody has read that
        self.begun: list[tuple[object, Hashable]] = []
        self.report = -1


class Held:
    """Questions that wait: of each address in the order they came, and the addresses in turn."""

    __slots__ = ("addresses",)

    def __init__(self) -> None:
        self.addresses: dict[bytes, dict[Question, None]] = {}

    def add(self, question: Question) -> None:
        self.addresses.setdefault(question.place, {})[question] = None

    def remove(self, question: Question) -> bool:
        own = self.addresses.get(question.place, {})
        if question not in own:
            return False
        del own[question]
        if not own:
            del self.addresses[question.place]
        return True

    def next_turn(self, address: bytes) -> None:
        if address in self.addresses:
            self.addresses[address] = self.addresses.pop(address)

    def count(self, address: bytes) -> int:
        return len(self.addresses.get(address, ()))


class Service:
    """The loop. The caller has these to say how its world is:

    allowed(fd, uid, gid)   whether this caller may ask
    spawn(child)            fork, end the child as child() says, return the pid; OSError if it cannot
    become(address)         what a child becomes, a chain.Exec, with the packet on 3 and the report on 4
    judge(status, report)   (YES, user), (NO, b"") or (LATER, why) of a process that has ended; user b"": as asked
    told(letter, address, account, why)   a question has got another answer than YES
    """

    def __init__(
        self,
        listening: local.Listening,
        throttle: "Throttle",
        limit: int,
        timeout_s: float,
        allowed: Callable[[int, int, int], bool],
        spawn: Callable[[Callable[[], object]], int],
        become: Callable[[bytes], object],
        judge: Callable[[int, bytes], tuple[bytes, bytes]],
        told: Callable[[bytes, bytes, bytes, bytes], None],
    ) -> None:
        self._listening = listening
        self._throttle = throttle
        self._limit = limit
        self._timeout_s = timeout_s
        self._allowed = allowed
        self._spawn = spawn
        self._become = become
        self._judge = judge
        self._told = told
        # Each in the order of `until`, as each has the same time to go.
        self._reading: dict[Question, None] = {}
        self._waiting: dict[Question, None] = {}
        self._running: dict[int, Question] = {}  # by pid
        self._dying: dict[int, Question] = {}  # killed: nobody waits for their answer
        self._first, self._others = Held(), Held()
        self._accounts: dict[tuple[Hashable, int], int] = {}  # how many are held of one and a kind
        self._fresh: set[bytes] = set()  # addresses of which a fresh question is held
        self._callers: dict[int, Question] = {}  # by descriptor
        self._again = FOREVER  # when something that is held may go on
        self._closed_until = 0.0  # for new callers
        self._ending = FOREVER
        self._limits = fds.widen()
        self._poll = select.poll()
        self._woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._woken, select.POLLIN)
        self._accepting = False
        signals.wake(waker)
        signals.ignore(signals.PIPE)  # a log that nobody reads is no reason to end
        for number in (signals.CHLD, signals.TERM):
            signals.catch(number, _nothing)
            signals.unblock(number)

    def run(self) -> None:
        """Answer until SIGTERM; then what runs is given some seconds, and what is held is answered at once."""
        while self._ending == FOREVER or self._running or self._dying:
            now = time.monotonic()
            if now >= self._ending + KILLED:
                return
            self._accept_or_not(now)
            called = False
            for fd, event in self._poll.poll(self._timeout(now)):
                if fd == self._woken:
                    self._wake()
                elif fd == self._listening.fd:
                    called = True
                elif fd in self._callers:
                    self._look_at(self._callers[fd], event)
            if called and self._accepting:  # last: a new caller may have the number of one who has just left
                self._accept()
            now = time.monotonic()
            self._start_held(now)
            self._expire(now)

    def _timeout(self, now: float) -> int | None:
        until = min(self._again, self._ending)
        if self._dying and self._ending < FOREVER:
            until = self._ending + KILLED
        for questions in (self._reading, self._waiting, self._running.values()):
            first = next(iter(questions), None)
            if first is not None:
                until = min(until, first.until)
        if self._closed_until > now:
            until = min(until, self._closed_until)
        return None if until == FOREVER else max(0, int((until - now) * 1000) + 1)

    def _accept_or_not(self, now: float) -> None:
        accepting = self._ending == FOREVER and len(self._callers) < CALLERS and now >= self._closed_until
        if accepting != self._accepting:
            self._accepting = accepting
            if accepting:
                self._poll.register(self._listening.fd, select.POLLIN)
            elif self._listening.fd >= 0:
                self._poll.unregister(self._listening.fd)

    def _wake(self) -> None:
        numbers = os.read(self._woken, 4096)
        if signals.CHLD in numbers:
            self._reap()
        if signals.TERM in numbers and self._ending == FOREVER:
            self._end()

    def _end(self) -> None:
        now = time.monotonic()
        self._ending = now + ENDING
        self._accept_or_not(now)
        self._listening.close()
        for question in list(self._reading):
            self._leave(question)
        for question in list(self._waiting):
            self._answer(question, authd.LATER, why=b"ending")
        for question in self._running.values():
            question.until = min(question.until, self._ending)

    def _accept(self) -> None:
        for _ in range(BATCH):
            if len(self._callers) >= CALLERS:
                return
            try:
                fd = self._listening.accept()
            except OSError as e:
                if e.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._closed_until = time.monotonic() + SHORTAGE
                return
            self._called(fd)

    def _called(self, fd: int) -> None:
        try:
            uid, gid = local.peer(fd)
            allowed = self._allowed(fd, uid, gid)
        except OSError:
            allowed = False
        if not allowed:
            os.close(fd)
            return
        question = Question(fd, uid, time.monotonic() + READING)
        self._callers[fd] = question
        self._reading[question] = None
        self._poll.register(fd, select.POLLIN)
        self._read(question)  # most have asked by now

    def _look_at(self, question: Question, event: int) -> None:
        if question in self._reading:
            self._read(question)
        elif event & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            self._leave(question)

    def _read(self, question: Question) -> None:
        try:
            with memoryview(question.room) as room:
                got = os.readv(question.fd, [room[question.length :]])
        except BlockingIOError:
            return
        except OSError:
            got = 0
        question.length += got
        data = question.room[: question.length]
        try:
            found = authd.parse(data) if got else None
        except authd.Malformed:
            found, got = None, 0
        finally:
            fd3.wipe(data)
        if found is not None:
            fd3.wipe(question.room)
            self._asked(question, found)
        elif not got:
            self._leave(question)

    def _asked(self, question: Question, found: tuple[bytes, bytes, bytearray]) -> None:
        address, question.account, question.packet = found
        question.address = address or b"uid:%d" % question.uid
        del self._reading[question]
        self._poll.modify(question.fd, 0)  # still tells of a caller who leaves
        now = time.monotonic()
        question.until = now + PATIENCE
        question.place, question.name = self._throttle.names(question.address, question.account)
        if self._throttle.known(question.address, question.account, now):
            question.kind = KNOWN
        elif question.place not in self._fresh and self._throttle.fresh(question.address, now):
            question.kind = FRESH
        held = self._first if question.kind == KNOWN else self._others
        key = question.name, question.kind
        wait = self._throttle.wait(question.address, question.account, now)
        paused = wait is not None and wait > 0
        if (
            held.count(question.place) >= HELD_ADDRESS
            or (paused and self._accounts.get(key, 0) >= HELD_ACCOUNT)
            or (wait or 0) > PATIENCE
        ):
            self._answer(question, authd.LATER, why=b"throttled")
            return
        held.add(question)
        self._waiting[question] = None
        self._accounts[key] = self._accounts.get(key, 0) + 1
        if question.kind == FRESH:
            self._fresh.add(question.place)
        self._start_held(now)

    def _release(self, question: Question) -> None:
        """It is held no more."""
        if self._first.remove(question) or self._others.remove(question):
            del self._waiting[question]
            key = question.name, question.kind
            self._accounts[key] -= 1
            if not self._accounts[key]:
                del self._accounts[key]
            if question.kind == FRESH:
                self._fresh.discard(question.place)
                self._again = 0.0  # those that wait behind it may go on

    def _start_held(self, now: float) -> None:
        self._again = FOREVER
        self._start_some(self._first, self._limit, now)
        self._start_some(self._others, self._limit - self._limit // 4, now)

    def _start_some(self, held: Held, limit: int, now: float) -> None:
        some = True
        while some:
            some = False
            for address in list(held.addresses):
                if len(self._running) + len(self._dying) >= limit:
                    return
                question = self._first_free(list(held.addresses.get(address, ())), now)
                if question is not None:
                    held.next_turn(address)
                    self._release(question)
                    self._start(question, now)
                    some = True

    def _first_free(self, questions: list[Question], now: float) -> Question | None:
        for question in questions:
            if question.kind == OTHER and (question.name, FRESH) in self._accounts:
                continue
            wait = self._throttle.wait(question.address, question.account, now)
            if wait == 0:
                return question
            if wait is not None:
                if now + wait > question.until:
                    self._answer(question, authd.LATER, why=b"throttled")
                else:
                    self._again = min(self._again, now + wait)
        return None

    def _start(self, question: Question, now: float) -> None:
        question.until = now + self._timeout_s
        question.begun = self._throttle.begin(question.address, question.account, now)
        try:
            pid = self._fork(question)
        except OSError:
            self._throttle.end(question.begun, question.address, question.account, None, now)
            self._answer(question, authd.LATER, why=b"unable to fork")
            return
        self._running[pid] = question

    def _fork(self, question: Question) -> int:
        """A process with the packet in a pipe, which holds it whole (PIPE_BUF), and a pipe for its report."""
        opened: list[int] = []
        try:
            reading, writing = os.pipe()
            opened.append(reading)
            question.size = len(question.packet)
            try:
                os.write(writing, question.packet)
            finally:
                fd3.wipe(question.packet)
                os.close(writing)
            question.report, report = os.pipe()
            opened.append(report)
            address = question.address if not question.address.startswith(b"uid:") else b""
            mask = signals.hold()
            try:
                pid = self._spawn(lambda: self._child(mask, reading, report, address))
            except OSError:
                os.close(question.report)
                raise
            finally:
                signals.release(mask)
            question.unread = reading
            opened.remove(reading)
            return pid
        finally:
            for fd in opened:
                os.close(fd)

    def _child(self, mask: set[int], reading: int, report: int, address: bytes) -> object:
        signals.forget_handlers()
        signals.release(mask)
        os.setsid()
        fds.narrow(self._limits)
        signals.default(signals.PIPE)
        for other in self._callers.values():  # this process is to know one password only, and that from its pipe
            fd3.wipe(other.room)
            fd3.wipe(other.packet)
        for other in (*self._running.values(), *self._dying.values()):
            os.close(other.unread)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE) for fd in (reading, report)]
        fds.copy(high[0], PACKET)
        fds.copy(high[1], REPORT)
        return self._become(address)

    def _reap(self) -> None:
        for pid, status in processes.ended():
            late = self._dying.pop(pid, None)
            question = late or self._running.pop(pid, None)
            if question is not None:
                self._ended(question, status, killed=late is not None)

    def _ended(self, question: Question, status: int, killed: bool) -> None:
        os.set_blocking(question.report, False)  # others may have it still, and never end
        try:
            report = os.read(question.report, REPORTED)
        except OSError:
            report = b""
        os.close(question.report)
        untouched = fds.unread(question.unread) == question.size
        os.close(question.unread)
        letter, text = self._judge(status, report)
        if letter == authd.YES and untouched:  # it would let everybody in
            letter, text = authd.LATER, b"does not read descriptor 3"
        if killed:
            letter = authd.LATER
        right = {authd.YES: True, authd.NO: False}.get(letter)
        now = time.monotonic()
        self._throttle.end(question.begun, question.address, question.account, right, now)
        if killed:
            return
        if letter == authd.YES:
            self._answer(question, letter, text or question.account)
        else:
            self._answer(question, letter, why=text)

    def _expire(self, now: float) -> None:
        for question in _late(self._reading, now):
            self._leave(question)
        for question in _late(self._waiting, now):
            self._answer(question, authd.LATER, why=b"held for too long")
        for pid, question in list(self._running.items()):
            if question.until > now and self._ending > now:
                break
            _kill(pid)
            self._dying[pid] = self._running.pop(pid)
            self._answer(question, authd.LATER, why=b"timed out")

    def _answer(self, question: Question, letter: bytes, user: bytes = b"", why: bytes = b"") -> None:
        if letter != authd.YES:
            self._told(letter, question.address, question.account, why)
        if question.fd >= 0:
            try:
                local.send(question.fd, authd.build_answer(letter, user))
            except OSError:  # the caller has left
                pass
        self._leave(question)

    def _leave(self, question: Question) -> None:
        """Nobody is to be answered any more. What runs goes on, and counts."""
        self._reading.pop(question, None)
        self._release(question)
        fd3.wipe(question.room)
        fd3.wipe(question.packet)
        if question.fd >= 0:
            self._poll.unregister(question.fd)
            del self._callers[question.fd]
            os.close(question.fd)
            question.fd = -1


def _late(questions: dict[Question, None], now: float) -> list[Question]:
    late = []
    for question in questions:
        if question.until > now:
            break
        late.append(question)
    return late


def _kill(pid: int) -> None:
    """A process and what it has started; it has a session of its own, and nobody has waited for it yet."""
    kill = signals.number("KILL")
    for send in (os.killpg, os.kill):
        try:
            send(pid, kill)
        except OSError:  # not ours any more: it has become a user whom we may not kill
            continue


def _nothing(number: int, frame: object) -> None:
    """The signal's number in the pipe is all that is wanted of it."""
