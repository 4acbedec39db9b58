"""NAME
    qmail-queued - the queue service

SYNOPSIS
    qmail-queued [-c TOTAL] [-u EACH] [-t SECONDS]

DESCRIPTION
    qmail-queued puts messages into the queue for those who may not write there themselves. It takes the place of a
    set-uid qmail-queue. Whoever wants to queue something runs qmail-queue(8), or any program that does the same.

    It listens on the socket HOME/run/qmail-queued, to which everybody may connect. A connection is one message. The
    client passes two descriptors: the message, and the envelope as qmail-queue reads it. Files, pipes, sockets and
    /dev/null are taken, and anything else is a read error. A process of its own queues from them, with the client's
    uid, which the system tells, in the Received line, and answers with its pid, a code of qmail-queue's and perhaps a
    text. A client that hangs up before the message is queued has changed its mind: nothing is queued.

    qmail-queued is started by root, or by the owner of the queue. As root it makes the socket and then becomes
    whoever owns HOME/queue/mess, with that directory's group; if HOME/run belongs to that user, it makes the socket
    when it is that user already. The directory HOME/run is made if there is none. A second qmail-queued in the same
    home does not start. After SIGTERM messages that have begun are still queued.

OPTIONS
    -c TOTAL      messages at a time; more clients wait (default 400)
    -u EACH       messages at a time of one user; more are refused for now, with code 71 (default: a quarter of TOTAL,
                  five eighths for root and for qmail's own accounts, which are alias, qmaild, qmaill, qmailp, qmailq,
                  qmailr and qmails). All others together have half of TOTAL, or EACH if that is more
    -t SECONDS    how long one may take, from its connection on (default 86400, which is also the most)

ENVIRONMENT
    QMAILHOME    the home, /var/qmail if unset

EXIT STATUS
    100    wrong usage
    111    the system failed; the queue is not ours; another qmail-queued runs in this home

SECURITY
    The service reads what clients send and gives none of its own to them. A client that hangs costs a process for as
    long as -t says, at most EACH times; however many users do so, half of the places are left to qmail's own accounts
    and so to the mail that comes in. A process that does not end by itself two seconds after its time is over, or
    after its client has hung up, is killed; one that the system does not let die, as in a file system of a user's own,
    keeps its place. Neither message nor addresses are looked at. HOME/run must be writable for its owner alone, and
    that is root or the owner of the queue: otherwise somebody else could take the socket's place and read mail.

SEE ALSO
    qmail-queue(8), qmail-make-queue(8), supervise(8), unix(7)
"""

import _socket
import errno
import os
import select
import struct
import time

from qmailpy import chain, strerr
from qmailpy.chain import Env
from qmailpy.formats import numbers, options, report
from qmailpy.stores import injection, queue
from qmailpy.stores.home import home
from qmailpy.unix import fds, ids, local, processes, signals

PROGRAM = b"qmail-queued"
USAGE = b"qmail-queued [ -c total ] [ -u each ] [ -t seconds ]"

TOTAL = 400
EACH = 1, 4  # of TOTAL
OWN_EACH = 5, 8  # 250 as a rule: above the connections of an SMTP server and a submission server together
OTHERS = 1, 2  # for all who are not qmail's own: or a few of them could keep all places for a day
OWN = (b"alias", b"qmaild", b"qmaill", b"qmailp", b"qmailq", b"qmailr", b"qmails")
REQUEST_S = 60  # how long a client may take to send its descriptors
GRACE_S = 2  # to give up by itself, for a process whose client is gone or whose time is over
SERVED = 1000  # messages after which a process makes room for a new one
KNOWN_S = 10  # how long a process that has a message after the other goes without looking at the accounts anew
DONE, GOING = b".", b"x"  # what a process says at the end of a message
SPARE = 16  # processes that wait for a message, at most
UID = struct.Struct("I")
HANDED = struct.Struct("i")
SHORTAGE_MS = 1000  # pause after an accept or fork that failed, unless a child ends before


class Limits:
    __slots__ = ("each", "others", "own", "seconds", "total")

    def __init__(self, given: list[tuple[bytes, bytes]]) -> None:
        """Raises ValueError: not a number, or 0."""
        values = {b"c": TOTAL, b"t": queue.DEATH}
        for letter, text in given:
            values[letter], length = numbers.scan(text)
            if length != len(text) or not values[letter]:
                raise ValueError
        self.total = values[b"c"]
        self.each, self.own = (values.get(b"u", max(1, self.total * part // whole)) for part, whole in (EACH, OWN_EACH))
        self.others = max(self.each, self.total * OTHERS[0] // OTHERS[1])
        self.seconds = min(values[b"t"], queue.DEATH)


def _own_accounts() -> frozenset[int]:
    """uids of root and of qmail's accounts, as far as they exist."""
    found = {0}
    for name in OWN:
        try:
            found.add(ids.user(name))
        except LookupError:
            continue
    return frozenset(found)


def _nothing(number: int, frame: object) -> None:
    """SIGCHLD only has to wake the poll."""


class Worker:
    """A process that queues one message after the other. uid: whose it has now, None if it waits for one; connection:
    that client's; expires: when it has to be done, None for one that is killed."""

    __slots__ = ("connection", "expires", "link", "pid", "served", "uid")

    def __init__(self, pid: int, link: "_socket.socket") -> None:
        self.pid = pid
        self.link = link
        self.uid: int | None = None
        self.connection = -1
        self.expires: float | None = None
        self.served = 0


class Service:
    """The listening socket, and the workers. Each has a link to this process, over which it is handed a connection, and
    says when it is done with it."""

    def __init__(self, place: bytes, env: Env, limits: Limits, listening: local.Listening) -> None:
        self.place = place
        self.env = env
        self.limits = limits
        self.listening = listening
        self.workers: dict[int, Worker] = {}  # by pid
        self.links: dict[int, Worker] = {}  # by descriptor
        self.clients: dict[int, Worker] = {}  # by descriptor, until it has hung up
        self.waiting: list[Worker] = []
        self.own = _own_accounts()
        self.counts: dict[int, int] = {}  # uid: messages now
        self.poll = select.poll()
        self.woken, self.waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Until a signal ends the process."""
        queue.prepare()
        chain.preload([], self.env)
        fds.widen()
        signals.ignore(signals.PIPE)
        signals.wake(self.waker)
        signals.catch(signals.CHLD, _nothing)
        signals.unblock(signals.CHLD)
        self.poll.register(self.woken, select.POLLIN)
        pause = False
        while True:
            listens = not pause and sum(self.counts.values()) < self.limits.total
            self.poll.register(self.listening.fd, select.POLLIN if listens else 0)
            ready = {fd for fd, _ in self.poll.poll(self.pause_ms(SHORTAGE_MS if pause else None))}
            pause = False
            self.hear(ready)
            self.end_overdue(ready)
            if self.woken in ready:
                self.reap()
            if listens and self.listening.fd in ready:
                pause = not self.accept()

    def pause_ms(self, most: int | None) -> int | None:
        """Until a process is overdue, at most so long."""
        ends = [worker.expires for worker in self.links.values() if worker.expires is not None]
        if not ends:
            return most
        first = max(0, int((min(ends) - time.monotonic()) * 1000) + 1)
        return first if most is None else min(first, most)

    def end_overdue(self, ready: set[int]) -> None:
        """Give those whose clients have hung up a last time, and kill those whose time is over. An alarm of their own
        is not enough: it can be taken away from a process that reads what somebody else has opened."""
        now = time.monotonic()
        for fd in ready & self.clients.keys():
            worker = self.clients.pop(fd)
            self.poll.unregister(fd)
            if worker.expires is not None:
                worker.expires = min(worker.expires, now + GRACE_S)
        for worker in self.links.values():
            if worker.expires is not None and worker.expires <= now:
                worker.expires = None
                if worker.pid in self.workers:  # nobody has waited for it: the number is its own
                    os.kill(worker.pid, signals.KILL)
                injection.reply(worker.connection, worker.pid, report.TIMEOUT)

    def reap(self) -> None:
        try:
            os.read(self.woken, 4096)
        except BlockingIOError:
            pass
        for pid, _ in processes.ended():
            worker = self.workers.pop(pid, None)  # None: a child from before exec
            if worker is not None:
                self.free(worker)
                self.dismiss(worker)

    def hear(self, ready: set[int]) -> None:
        """Workers are done, or are going, or have ended, which reap will see."""
        for fd in ready & self.links.keys():
            worker = self.links[fd]
            try:
                said = worker.link.recv(1)
            except OSError:
                said = b""
            self.free(worker)
            if said != DONE or worker.served >= SERVED or len(self.waiting) >= SPARE:
                self.dismiss(worker)
            else:
                self.waiting.append(worker)

    def free(self, worker: Worker) -> None:
        if worker.uid is not None:
            self.counts[worker.uid] -= 1
            if not self.counts[worker.uid]:
                del self.counts[worker.uid]
            worker.uid = worker.expires = None
            if self.clients.pop(worker.connection, None) is not None:
                self.poll.unregister(worker.connection)
            os.close(worker.connection)
            worker.connection = -1

    def dismiss(self, worker: Worker) -> None:
        """A worker whose link ends goes."""
        if self.links.pop(worker.link.fileno(), None) is not None:
            self.poll.unregister(worker.link.fileno())
            worker.link.close()
        if worker in self.waiting:
            self.waiting.remove(worker)

    def accept(self) -> bool:
        """Take a connection. False if the system is short of something."""
        try:
            connection = self.listening.accept()
        except OSError as e:
            return e.errno in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR)
        kept = False
        try:
            uid, _ = local.peer(connection)
            if not self.waiting or self.is_full(uid):  # a client may be faster than poll
                self.hear({fd for fd, _ in self.poll.poll(0)})
            if self.is_full(uid):
                injection.reply(connection, 0, report.DEFERRED)
            else:
                self.assign(connection, uid)
                kept = True
        except OSError:  # no process: the client is told so by the end of the connection
            return False
        finally:
            if not kept:
                os.close(connection)
        return True

    def is_full(self, uid: int) -> bool:
        """Whether this user has all the places that he may have now."""
        count = self.counts.get(uid, 0)
        if uid in self.own:
            return count >= self.limits.own
        others = sum(number for each, number in self.counts.items() if each not in self.own)
        return count >= self.limits.each or others >= self.limits.others

    def assign(self, connection: int, uid: int) -> None:
        """Raises OSError."""
        while True:
            spare = bool(self.waiting)
            worker = self.waiting.pop() if spare else self.hire()
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, HANDED.pack(connection))
            try:
                worker.link.sendmsg([UID.pack(uid)], [rights])
                break
            except OSError:
                self.dismiss(worker)
                if not spare:  # else it was killed while it waited
                    raise
        worker.uid = uid
        worker.connection = connection
        worker.expires = time.monotonic() + self.limits.seconds + GRACE_S
        worker.served += 1
        self.clients[connection] = worker
        self.poll.register(connection, select.POLLRDHUP)
        self.counts[uid] = self.counts.get(uid, 0) + 1

    def hire(self) -> Worker:
        """A new worker. Raises OSError."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            pid = chain.spawn(lambda: self.work(theirs), self.env, "qmail-queued")
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = self.workers[pid] = self.links[ours.fileno()] = Worker(pid, ours)
        self.poll.register(ours.fileno(), select.POLLIN)
        return worker

    def work(self, link: "_socket.socket") -> int:
        """In a process of its own: until the link ends, or a message has gone so wrong that a new process is better."""
        signals.forget_handlers()
        fds.close_others(0, 1, 2, link.fileno())
        whose, known, since = -1, queue.Known(), time.monotonic()
        while True:
            try:
                text, passed, _, _ = link.recvmsg(UID.size, _socket.CMSG_SPACE(HANDED.size), _socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:  # the service has ended without having heard our last word
                return 0
            if not text:
                return 0
            (uid,) = UID.unpack(text)
            (connection,) = HANDED.unpack(passed[0][2])
            now = time.monotonic()
            if uid != whose or now - since > KNOWN_S:
                whose, known, since = uid, queue.Known(), now
            try:
                code = self.serve(connection, uid, known)
                said = DONE if code in (report.QUEUED, report.READ_ERROR) else GOING
                _tell(link, said)  # first: who has an answer may come again at once
                if code >= 0:
                    injection.reply(connection, os.getpid(), code)
            finally:
                os.close(connection)
            if said == GOING:
                return 0

    def serve(self, connection: int, uid: int, known: queue.Known) -> int:
        """One message; returns the code that is the answer, -1 for none."""
        held: tuple[int, ...] = ()

        def act() -> int:
            nonlocal held
            os.set_blocking(connection, True)
            held = message, addresses = injection.receive(connection)
            signals.alarm(self.limits.seconds)
            queue.enqueue(self.place, uid, os.getpid(), message, addresses, connection, known)
            return report.QUEUED

        try:
            return queue.code_of(act, min(REQUEST_S, self.limits.seconds))
        except (OSError, ValueError):  # no request
            return -1
        finally:
            for fd in held:
                os.close(fd)


def _tell(link: "_socket.socket", said: bytes) -> None:
    try:
        link.send(said)
    except OSError:  # the service has ended meanwhile
        pass


def _make_run(place: bytes) -> None:
    """Raises OSError."""
    before = os.umask(0)
    try:
        os.mkdir(place + b"/run", 0o755)
    except FileExistsError:
        pass
    finally:
        os.umask(before)


def _to_become(place: bytes) -> tuple[int, int] | None:
    """Whom root becomes; None if this process is the owner of the queue. Raises OSError."""
    status = os.stat(place + b"/queue/mess")
    if os.geteuid() and os.geteuid() != status.st_uid:
        raise OSError(errno.EPERM, "")
    return queue.to_become(place)


def _is_of(path: bytes, uid: int) -> bool:
    try:
        return os.stat(path, follow_symlinks=False).st_uid == uid
    except OSError:
        return False


def _open(place: bytes) -> local.Listening | int:
    """The socket; or the exit code of a failure."""
    doing, what = become = b"become the owner of", place + b"/queue/mess"
    try:
        owner = _to_become(place)
        if owner is not None and _is_of(place + b"/run", owner[0]):  # as root we would follow what links are there
            ids.drop(*owner)
            owner = None
        doing, what = b"make", place + b"/run"
        _make_run(place)
        what = place + b"/" + injection.SOCKET
        listening = local.Listening(what, 0o666)
        doing, what = become
        if owner is not None:
            ids.drop(*owner)
    except OSError as e:
        if isinstance(e.filename, bytes) and what.endswith(injection.SOCKET):
            doing = e.filename
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to ", doing, b" ", what, error=e)
    return listening


def main(argv: list[bytes], env: Env) -> int:
    try:
        given, words = options.parse(argv, b"c:u:t:")
        limits = Limits(given)
    except (options.OptionError, ValueError):
        return strerr.usage(PROGRAM, USAGE)
    if words:
        return strerr.usage(PROGRAM, USAGE)
    place = home(env)
    listening = _open(place)
    if isinstance(listening, int):
        return listening
    Service(place, env, limits, listening).run()
    return 0
