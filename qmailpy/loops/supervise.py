"""supervise - keep services running: one process for as many of them as there are.

What is decided is in supervision/service.py, what is on disk in the places that the caller opens. Here are the waiting,
the forks, and the clock: monotonic, so that a clock that is set back stops nothing.

A service is not started twice within a second, as in the original, which sleeps for that second. Here it is the new
process that sleeps, before it becomes the script: commands are obeyed and ends are seen at once. And there always is a
process that has the service's descriptors: if supervise alone is killed, nothing is lost that is in a pipe.
"""

import os
import select
import time
from _collections_abc import Callable

from qmailpy.formats.svstatus import DOWN, ONCE, UP, Child, Status
from qmailpy.loops.messages import Messages
from qmailpy.supervision.service import ANNOUNCED, FINISH, KILLED, RUN, START, Service
from qmailpy.unix import fds, processes, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Place(Protocol):
        """A service directory that is this process's: stores/servicedir.py."""

        name: bytes
        folder: int
        control: int

        def open_ok(self) -> None: ...
        def close(self) -> None: ...
        def leave(self, lock: bool) -> None: ...
        def normally_down(self) -> bool: ...
        def has(self, script: bytes) -> bool: ...
        def take_commands(self) -> bytes: ...
        def write_status(self, status: Status) -> None: ...
        def read_status(self) -> Status | None: ...
        def write_child(self, child: Child) -> None: ...
        def read_child(self) -> Child | None: ...
        def forget_child(self) -> None: ...
        def last_line(self) -> bytes: ...


BETWEEN_STARTS = 1.0  # seconds, from one start of a service to the next
NO_FORK = 60.0  # seconds to wait after a fork has failed
NOTIFYING = 8  # processes that may tell of one service at a time
WITHOUT_PIDFD = 1.0  # seconds from one look at a process that is not our child to the next

FOREVER = float("inf")

# What the processes of a service get as 0, 1 and 2 in place of ours: (our descriptor, which of them).
Standard = tuple[tuple[int, int], ...]


class Supervised:
    """A service in the care of a Supervisor.

    taken_over: what runs was started by a supervise before this one, and does not have `standard`; when: of the last
    change, in nanoseconds since 1970; early: how many times in a row it has ended within the second of its start. The
    rest is as in Supervisor.add.
    """

    __slots__ = (
        "_begin",
        "_gate",
        "_pidfd",
        "_retry",
        "_ticks",
        "_waiting",
        "early",
        "over",
        "place",
        "report",
        "service",
        "standard",
        "taken_over",
        "when",
    )

    def __init__(
        self,
        place: "Place",
        service: Service,
        standard: Standard,
        report: "Callable[[Supervised], None]",
        over: Callable[[], None],
    ) -> None:
        self.place = place
        self.service = service
        self.standard = standard
        self.report = report
        self.over = over
        self.taken_over = False
        self.when = time.time_ns()
        self.early = 0
        self._begin = -FOREVER  # monotonic: when it was started
        self._gate = -FOREVER  # when it may be started again
        self._retry = -FOREVER  # when another fork may succeed
        self._pidfd = -1  # of a process that is not our child
        self._ticks = 0  # the same, where there are no pidfds: when it started
        self._waiting = 0  # the pid of a process that will be the pending script, in time


class Supervisor:
    """The loop. The caller has these to say how its world is:

    spawn(child)         fork, end the child as child() says, return the pid; OSError if it cannot
    become(argv, shown)  what a child becomes, a chain.Exec; shown is the script's name in messages
    reaped(pid)          a child that no service knows has ended
    caught(number)       a signal of those in `listen` has come
    """

    def __init__(
        self,
        messages: Messages,
        spawn: Callable[[Callable[[], object]], int],
        become: Callable[[list[bytes], bytes], object],
        reaped: Callable[[int], None],
        caught: Callable[[int], None],
        listen: tuple[int, ...] = (),
        session: bool = False,
    ) -> None:
        self._messages = messages
        self._spawn = spawn
        self._become = become
        self._reaped = reaped
        self._caught = caught
        self._session = session
        self._boot = processes.boot()
        self._services: list[Supervised] = []
        self._by_pid: dict[int, Supervised] = {}
        self._notifying: dict[int, Supervised] = {}
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._limits = fds.widen()
        signals.ignore(signals.PIPE)
        woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(woken, lambda: self._wake(woken))
        signals.wake(self._waker)
        for number in (signals.CHLD, *listen):
            signals.catch(number, _nothing)
            signals.unblock(number)

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call ready() whenever fd can be read, or is at its end."""
        self._handlers[fd] = ready
        self._poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        del self._handlers[fd]
        self._poll.unregister(fd)

    def fork(self, child: Callable[[], object]) -> int:
        """spawn, for a child that is to find signals and limits as this process has found them. Raises OSError."""
        mask = signals.hold()

        def alone() -> object:
            signals.forget_handlers()
            signals.default(signals.PIPE)
            signals.release(mask)
            if self._session:
                os.setsid()
            step = child()
            fds.narrow(self._limits)  # at last: what is open may be more than the limit lets anybody open
            return step

        try:
            return self._spawn(alone)
        finally:
            signals.release(mask)

    def add(
        self, place: "Place", standard: Standard, report: Callable[[Supervised], None], over: Callable[[], None]
    ) -> Supervised:
        """Take a service into care: start it unless it is normally down, or go on with one that a supervise has left
        running. place is the Supervisor's from now on, and closed if this raises Failed.

        report(supervised) is called when the service cannot be kept running: it is `early`, or its start has failed;
        over() when it is down and its supervise is to end, and place is closed.
        """
        pidfd = -1
        try:
            want = DOWN if place.normally_down() else UP
            supervised = Supervised(place, Service(want, place.has), standard, report, over)
            pidfd = self._take_over(supervised)
            self._announce(supervised)
            place.open_ok()
        except BaseException:
            place.close()
            if pidfd >= 0:
                os.close(pidfd)
            raise
        self._services.append(supervised)
        self.watch(place.control, lambda: self.command(supervised, place.take_commands()))
        if supervised.service.pid:
            self._by_pid[supervised.service.pid] = supervised
            if pidfd >= 0:
                self.watch(pidfd, lambda: self._ended(supervised, KILLED, 0))
        self._go_on(supervised)
        return supervised

    def _take_over(self, supervised: Supervised) -> int:
        """Find the process that a supervise before this one has left running, if any, and what was wanted then: a crash
        of supervise alone must not undo what the administrator has said. Returns the pidfd or -1."""
        place, service = supervised.place, supervised.service
        child, status = place.read_child(), place.read_status()
        if child is None or child.boot != self._boot:
            return -1
        if status is not None and status.want in (UP, DOWN, ONCE):
            service = supervised.service = Service(status.want, place.has)
        if not child.started or processes.started(child.pid) != child.started:
            return -1
        try:
            pidfd = processes.watch(child.pid, child.started)
        except OSError:
            supervised._ticks = child.started
        else:
            if pidfd < 0:
                return -1
            supervised._pidfd = pidfd
        service.started(child.script, child.pid)
        supervised.taken_over = True
        if status is not None and status.pid == child.pid:
            supervised.when = status.when
            service.paused = status.paused
        return supervised._pidfd

    def command(self, supervised: Supervised, letters: bytes) -> None:
        """Obey bytes of supervise/control, in order."""
        service = supervised.service
        self._go_on(supervised)  # what waited may be running by now
        for at in range(len(letters)):
            byte, pending = letters[at : at + 1], service.pending
            for name in service.command(byte):
                self._signal(supervised, signals.number(name))
            if service.pending != pending:
                self._dismiss(supervised)
            if byte in ANNOUNCED:
                self._announce(supervised)
            self._go_on(supervised)
            if service.over():
                return

    def step(self, until: float) -> None:
        """Wait for what happens next, at most until that monotonic time, and handle it."""
        now = time.monotonic()
        for supervised in self._services:
            if supervised.service.pending:
                until = min(until, _due(supervised))
            elif supervised._ticks:
                until = min(until, now + WITHOUT_PIDFD)
        timeout = None if until == FOREVER else max(0, int((until - now) * 1000) + 1)
        for fd, _ in self._poll.poll(timeout):
            handler = self._handlers.get(fd)  # None: gone by what was handled before it
            if handler is not None:
                handler()
        for supervised in self._services.copy():
            if supervised._ticks and processes.started(supervised.service.pid) != supervised._ticks:
                self._ended(supervised, KILLED, 0)
            elif supervised.service.pending:
                self._go_on(supervised)

    def _wake(self, woken: int) -> None:
        numbers = os.read(woken, 4096)
        if signals.CHLD in numbers:
            self._reap()
        for number in numbers:
            if number != signals.CHLD:
                self._caught(number)

    def _reap(self) -> None:
        for pid, status in processes.ended():
            supervised = self._by_pid.get(pid)
            if self._notifying.pop(pid, None) is not None:
                continue
            if supervised is None:
                self._reaped(pid)
            elif pid == supervised._waiting:  # somebody has killed it: another one waits
                del self._by_pid[pid]
                supervised._waiting = 0
                self._go_on(supervised)
            elif os.WIFSIGNALED(status):
                self._ended(supervised, KILLED, os.WTERMSIG(status))
            else:
                self._ended(supervised, os.WEXITSTATUS(status), 0)

    def _go_on(self, supervised: Supervised) -> None:
        """Start what is pending, if its time has come."""
        service = supervised.service
        while service.pending:
            if not supervised._waiting and not self._fork_for(supervised, service.pending):
                return
            if time.monotonic() < _due(supervised):
                return
            self._started(supervised, service.pending)
        if service.over():
            self._announce(supervised)
            supervised.place.forget_child()
            self.unwatch(supervised.place.control)
            supervised.place.close()
            self._services.remove(supervised)
            supervised.over()

    def _fork_for(self, supervised: Supervised, script: bytes) -> bool:
        """Have a process that becomes script when its time has come. False: there can be none for a while."""
        if time.monotonic() < supervised._retry:
            return False
        try:
            supervised._waiting = self.fork(lambda: self._child(supervised, script))
        except OSError as e:
            self._messages.warn(b"unable to fork for ", supervised.place.name, b", sleeping 60 seconds", error=e)
            supervised._retry = time.monotonic() + NO_FORK
            self._announce(supervised)
            return False
        self._by_pid[supervised._waiting] = supervised
        return True

    def _started(self, supervised: Supervised, script: bytes) -> None:
        """The process that waits for its time need not wait any more."""
        if script == RUN and _power_of_ten(supervised.early):
            supervised.report(supervised)
        pid, supervised._waiting = supervised._waiting, 0
        supervised.service.started(script, pid)
        supervised._begin = time.monotonic()
        if script in (START, RUN):
            supervised._gate = supervised._begin + BETWEEN_STARTS
        self._changed(supervised, b"start", script, 0, pid)

    def _dismiss(self, supervised: Supervised) -> None:
        """What waits to be started is not wanted any more."""
        pid, supervised._waiting = supervised._waiting, 0
        if pid:
            del self._by_pid[pid]
            os.kill(pid, signals.KILL)

    def _child(self, supervised: Supervised, script: bytes) -> object:
        place = supervised.place
        delay = _due(supervised) - time.monotonic()
        if delay > 0:
            for each in self._services:
                each.place.leave(lock=each is not supervised)
            select.poll().poll(int(delay * 1000) + 1)
        os.fchdir(place.folder)
        pid = os.getpid()
        try:
            place.write_child(Child(script, pid, processes.started(pid), self._boot))
        except OSError as e:  # no reason not to start it
            self._messages.warn(b"unable to write ", place.name, b"/supervise/child", error=e)
        for fd, target in supervised.standard:
            fds.copy(fd, target)
        arguments = supervised.service.finish_arguments() if script == FINISH else []
        return self._become([b"./" + script, *arguments], b"%s/%s" % (place.name, script))

    def _ended(self, supervised: Supervised, code: int, signal: int) -> None:
        service = supervised.service
        pid, script = service.pid, service.script
        del self._by_pid[pid]
        if supervised._pidfd >= 0:
            self.unwatch(supervised._pidfd)
            os.close(supervised._pidfd)
        supervised._pidfd, supervised._ticks, supervised.taken_over = -1, 0, False
        if script in (START, RUN):
            early = time.monotonic() < supervised._begin + BETWEEN_STARTS and service.want != DOWN
            supervised.early = supervised.early + 1 if early else 0
        service.ended(code, signal)
        killed = code == KILLED
        self._changed(supervised, b"killed" if killed else b"exit", script, signal if killed else code, pid)
        if script == START and code:
            supervised.report(supervised)
        self._go_on(supervised)

    def _changed(self, supervised: Supervised, what: bytes, script: bytes, code: int, pid: int) -> None:
        """The pid of a service is another one: write it down, and tell notify of it."""
        supervised.when = time.time_ns()
        if not supervised.service.pending or _due(supervised) > time.monotonic():
            self._announce(supervised)  # else the next script is up at once: nobody may take the service for down
        if not supervised.place.has(b"notify"):
            return

        def child() -> object:
            os.fchdir(supervised.place.folder)
            argv = [b"./notify", script, what, b"%d" % pid, b"%d" % code]
            return self._become(argv, supervised.place.name + b"/notify")

        if list(self._notifying.values()).count(supervised) >= NOTIFYING:
            self._messages.warn(supervised.place.name, b"/notify does not end: not told of ", script, b" ", what)
            return
        try:
            self._notifying[self.fork(child)] = supervised
        except OSError as e:
            self._messages.warn(b"unable to fork for ", supervised.place.name, b"/notify", error=e)

    def _announce(self, supervised: Supervised) -> None:
        service = supervised.service
        try:
            supervised.place.write_status(Status(supervised.when, service.pid, service.paused, service.want))
        except OSError as e:
            complaint: bytes = getattr(e, "complaint", b"unable to write status")
            self._messages.warn(complaint, error=e)

    def _signal(self, supervised: Supervised, number: int) -> None:
        try:
            if supervised._pidfd >= 0:
                signals.send_pidfd(supervised._pidfd, number)
            elif not supervised._ticks or processes.started(supervised.service.pid) == supervised._ticks:
                os.kill(supervised.service.pid, number)
        except OSError:  # it has ended, or is not ours to signal: as in the original
            pass


def _due(supervised: Supervised) -> float:
    """Monotonic: when what is pending may be started."""
    service = supervised.service
    first = service.pending == START or (service.pending == RUN and service.script != START)
    return max(supervised._retry, supervised._gate) if first else supervised._retry


def _power_of_ten(count: int) -> bool:
    return count in (1, 10, 100, 1000) or (count > 1000 and count % 10000 == 0)


def _nothing(number: int, frame: object) -> None:
    """The signal's number in the pipe is all that is wanted of it."""
