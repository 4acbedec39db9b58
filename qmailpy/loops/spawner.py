"""spawner - the loop of qmail-lspawn and qmail-rspawn: requests for deliveries on descriptor 0, a process for each, new
or not, and a report on descriptor 1 when the delivery has ended and nobody has its output any more.

capacity    how many deliveries at a time, of a control file
Crew        whom the loop has make them
Spawner     the loop
attach      the child's side of a delivery: its descriptors
"""

import os
import select
import stat
import time
from _collections_abc import Callable

from qmailpy.formats import spawning
from qmailpy.formats.spawning import DEFERRAL, FAILURE, Request
from qmailpy.loops import workers
from qmailpy.loops.workers import Worker
from qmailpy.unix import fds, processes, signals

BLOCK = 65536  # bytes
SHORTAGE_S = 10  # until memory is asked for again
SPARE = 16  # descriptors besides one for each delivery
ENDED = len(workers.ENDED) + 1  # bytes of a packet with an exit code
WIDEST = 65535  # slots that two bytes can tell

LONGEST_NAME = 99  # bytes of a message's path
DIGITS = b"0123456789/"

MEMORY = DEFERRAL + b"qmail-spawn out of memory. (#4.3.0)\n"
TOO_BIG = DEFERRAL + b"Internal error: delnum too big. (#4.3.5)\n"
IN_USE = DEFERRAL + b"Internal error: delnum in use. (#4.3.5)\n"
NONNUMERIC = FAILURE + b"Internal error: messid has nonnumerics. (#5.3.5)\n"
TOO_LONG = FAILURE + b"Internal error: messid too long. (#5.3.5)\n"
TOO_SHORT = FAILURE + b"Internal error: messid too short. (#5.3.5)\n"
NO_HOST = FAILURE + b"Sorry, address must include host name. (#5.1.3)\n"
NOT_OPENED = DEFERRAL + b"qmail-spawn unable to open message. (#4.3.0)\n"
NO_STATUS = DEFERRAL + b"qmail-spawn unable to fstat message. (#4.3.0)\n"
WRONG_TYPE = DEFERRAL + b"Sorry, message has wrong type. (#4.3.5)\n"
WRONG_OWNER = DEFERRAL + b"Sorry, message has wrong owner. (#4.3.5)\n"
NO_PIPE = DEFERRAL + b"qmail-spawn unable to create pipe. (#4.3.0)\n"
NO_FORK = DEFERRAL + b"qmail-spawn unable to fork. (#4.3.0)\n"


class Crew:
    """Those who make deliveries."""

    __slots__ = ()

    def fork(
        self, request: Request, message: int, output: int, sock: "workers.Socket | None", text: bytes | None
    ) -> int:
        """Fork for a request, with the descriptors of the message and for what is said about it; both are for the child
        to attach. sock: for its Seat; text: what another child would have been told, if that is known. Returns the pid,
        or raises OSError."""
        raise NotImplementedError

    def kind(self, request: Request, text: bytes) -> object | None:
        """What kind of deliveries a child can make, by what it has found for its first one; None: no other."""
        return None

    def known(self, request: Request) -> tuple[object, bytes] | None:
        """The kind of a delivery, and what to tell a child of this kind; None if that takes a new child."""
        return None


class Refused(Exception):
    """args[0]: the report of a delivery that is not begun."""


class Delivery:
    """One until it has ended and its output too. status: that of wait(2), None while it runs; reading: where its output
    comes from, -1 at its end."""

    __slots__ = ("output", "reading", "request", "status")

    def __init__(self, request: Request, reading: int) -> None:
        self.request = request
        self.reading = reading
        self.status: int | None = None
        self.output = bytearray()


def capacity(number: int | None) -> tuple[int, bool]:
    """Slots, and whether numbers have two bytes, for the number of a control file: as many as the originals have,
    unless it is larger. More than a byte can tell is what the big-concurrency patch is for."""
    number = number or 0
    wide = number > spawning.NARROW
    return min(max(number, spawning.SLOTS), WIDEST), wide


def check_name(name: bytes) -> None:
    """Whether that may be the path of a message: digits, and slashes between them. Raises Refused."""
    if name.strip(DIGITS) or name.startswith(b"/"):
        raise Refused(NONNUMERIC)
    if len(name) > LONGEST_NAME:
        raise Refused(TOO_LONG)
    if not name:
        raise Refused(TOO_SHORT)


def attach(message: int, output: int) -> None:
    """In the child: have the message as descriptor 0, and output as 1 and 2."""
    signals.forget_handlers()
    fds.move(message, 0)
    fds.move(output, 1)
    fds.copy(1, 2)


class Spawner:
    """The working folder is where the messages are, all of which belong to owner. At least keep bytes of an output are
    for report(status, output), which makes a letter and a text of them."""

    def __init__(
        self,
        slots: int,
        wide: bool,
        owner: int,
        crew: Crew,
        report: Callable[[int, bytes], bytes],
        keep: int,
    ) -> None:
        """Does with fewer slots where the system gives fewer descriptors."""
        room = os.sysconf("SC_OPEN_MAX") - SPARE
        self._slots = max(1, min(slots, room)) if room > 0 else slots
        self._sockets = max(0, room - self._slots) if room > 0 else slots  # of children that may be used again
        self._wide = wide
        self._owner = owner
        self._crew = crew
        self._report = report
        self._keep = keep
        self._requests = spawning.Requests(wide)
        self._running: dict[int, Delivery] = {}  # by number
        self._by_pid: dict[int, Worker] = {}
        self._by_fd: dict[int, Delivery] = {}  # by where its output comes from
        self._by_socket: dict[int, Worker] = {}
        self._idle = workers.Idle()
        self._poll = select.poll()
        self._writes = True

    def run(self) -> None:
        """Until there are no more requests, and all deliveries have ended."""
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signals.ignore(signals.PIPE)
        signals.wake(waker)
        signals.catch(signals.CHLD, _nothing)
        signals.unblock(signals.CHLD)
        self._poll.register(woken, select.POLLIN)
        self._poll.register(0, select.POLLIN)
        self._write(spawning.hello(self._slots, self._wide))
        reading = True
        while reading or self._running:
            for fd, _ in self._poll.poll(workers.PATIENCE_S * 1000 if self._idle else None):
                if fd == woken:
                    self._reap(woken)
                elif fd in self._by_fd:
                    self._read(self._by_fd[fd])
                elif fd:
                    self._listen(self._by_socket[fd])
                elif not self._take():
                    reading = False
                    self._poll.unregister(0)
            for worker in self._idle.overdue():
                self._dismiss(worker)
        for worker in list(self._by_socket.values()):
            self._dismiss(worker)
        signals.wake(-1)
        for fd in (woken, waker):
            os.close(fd)

    def _write(self, text: bytes) -> None:
        """Whoever does not read reports any more has no use for the rest of them either."""
        if self._writes:
            try:
                fds.write_all(1, text)
            except OSError:
                self._writes = False

    def _take(self) -> bool:
        """Begin the deliveries that are asked for. False at the end of the requests."""
        try:
            block = os.read(0, BLOCK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not block:
            return False
        for request in self._requests.feed(block):
            try:
                self._begin(request)
            except Refused as e:
                self._write(spawning.report(request.number, e.args[0], self._wide))
            except MemoryError:
                self._write(spawning.report(request.number, MEMORY, self._wide))
        return True

    def _begin(self, request: Request) -> None:
        """Raises Refused."""
        if request.number >= self._slots:
            raise Refused(TOO_BIG)
        if request.number in self._running:
            raise Refused(IN_USE)
        check_name(request.message)
        if b"@" not in request.recipient:
            raise Refused(NO_HOST)
        message = self._open(request.message)
        try:
            try:
                reading, writing = os.pipe()
            except OSError:
                raise Refused(NO_PIPE)
            delivery = Delivery(request, reading)
            try:
                known = self._crew.known(request) if self._idle else None
                if known is None:
                    self._fork(delivery, message, writing, None)
                elif not self._hand(delivery, message, writing, *known):
                    self._fork(delivery, message, writing, known[1])
            except BaseException as e:
                os.close(reading)
                if not isinstance(e, OSError):
                    raise
                raise Refused(NO_FORK)
            finally:
                os.close(writing)
        finally:
            os.close(message)
        self._running[request.number] = self._by_fd[reading] = delivery
        self._poll.register(reading, select.POLLIN)

    def _hand(self, delivery: Delivery, message: int, output: int, kind: object, text: bytes) -> bool:
        """Give it to a child that waits for one of this kind; False if there is none."""
        worker = self._idle.take(kind) if len(text) <= workers.LONGEST else None
        if worker is None:
            return False
        if not worker.hand(text, message, output):  # it has just died, or is not as it should be
            worker.shut()
            return False
        worker.delivery = delivery
        return True

    def _fork(self, delivery: Delivery, message: int, output: int, text: bytes | None) -> None:
        """Raises OSError."""
        ours, theirs = workers.pair() if len(self._by_socket) < self._sockets else (None, None)
        try:
            pid = self._crew.fork(delivery.request, message, output, theirs, text)
        except BaseException:
            if ours is not None:
                ours.close()
            raise
        finally:
            if theirs is not None:
                theirs.close()
        worker = Worker(pid, delivery, ours)
        self._by_pid[pid] = worker
        if ours is not None:
            self._by_socket[ours.fileno()] = worker
            self._poll.register(ours.fileno(), select.POLLIN)

    def _open(self, name: bytes) -> int:
        """A message's descriptor. Raises Refused."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise Refused(NOT_OPENED)
        wrong = self._wrong(fd)
        if wrong:
            os.close(fd)
            raise Refused(wrong)
        return fd

    def _wrong(self, fd: int) -> bytes:
        try:
            status = os.fstat(fd)
        except OSError:
            return NO_STATUS
        if not stat.S_ISREG(status.st_mode):
            return WRONG_TYPE
        return b"" if status.st_uid == self._owner else WRONG_OWNER

    def _read(self, delivery: Delivery) -> None:
        room = max(0, self._keep - len(delivery.output))
        try:
            block = os.read(delivery.reading, min(room, BLOCK) or BLOCK)
            delivery.output += block[:room]
        except OSError:  # asked again
            return
        except MemoryError:
            time.sleep(SHORTAGE_S)
            return
        if block:
            return
        self._poll.unregister(delivery.reading)
        del self._by_fd[delivery.reading]
        os.close(delivery.reading)
        delivery.reading = -1
        self._settle(delivery)

    def _listen(self, worker: Worker) -> None:
        packet = worker.hear()
        if packet is not None and not self._understand(worker, packet):
            self._dismiss(worker)

    def _understand(self, worker: Worker, packet: bytes) -> bool:
        """False for a packet that nobody expects, or the end."""
        delivery = worker.delivery
        if delivery is None:
            return False
        if worker.kind is None:
            if packet.startswith(workers.FOUND):
                worker.kind = self._crew.kind(delivery.request, packet[len(workers.FOUND) :])
            return worker.kind is not None
        if len(packet) != ENDED or packet[:1] != workers.ENDED:
            return False
        worker.delivery = None
        self._idle.add(worker)
        delivery.status = packet[1] << 8
        self._settle(delivery)
        return True

    def _dismiss(self, worker: Worker) -> None:
        """Ask nothing more of it. What it has begun it may end. Only where no event of it can be left."""
        self._idle.remove(worker)
        if worker.sock is not None:
            worker.shut()
            self._poll.unregister(worker.sock)
            del self._by_socket[worker.sock.fileno()]
            worker.sock.close()
            worker.sock = None

    def _reap(self, woken: int) -> None:
        try:
            os.read(woken, 4096)
        except BlockingIOError:
            pass
        for pid, status in processes.ended():
            worker = self._by_pid.pop(pid, None)
            if worker is None:
                continue
            while worker.delivery is not None and (packet := worker.hear()):  # it may have ended that before it died
                if not self._understand(worker, packet):
                    break
            self._idle.remove(worker)
            worker.shut()
            delivery, worker.delivery = worker.delivery, None
            if delivery is not None:
                delivery.status = status
                self._settle(delivery)

    def _settle(self, delivery: Delivery) -> None:
        """Report it if it has ended, both ways."""
        if delivery.status is None or delivery.reading >= 0:
            return
        number = delivery.request.number
        del self._running[number]
        text = self._report(delivery.status, bytes(delivery.output))
        self._write(spawning.report(number, text, self._wide))


def _nothing(number: int, frame: object) -> None:
    """The signal's number in the pipe is all that is wanted of it."""
