"""NAME
    qmail-send - deliver mail messages from the queue

SYNOPSIS
    qmail-send

DESCRIPTION
    qmail-send handles the messages that qmail-queue has put into the queue. It has deliveries made by qmail-lspawn and
    qmail-rspawn, and files removed by qmail-clean. All four are started by qmail-start, which gives it

        0       the log, to be written
        1, 2    requests to qmail-lspawn, reports from it
        3, 4    the same of qmail-rspawn
        5, 6    requests to qmail-clean, answers from it

    A recipient who cannot be reached now is tried again later: at the squares of 0, 10, 20, 30 ... seconds of the
    message's age if local, of 0, 20, 40, 60 ... if remote, until the message is older than queuelifetime. Failures for
    ever are collected, and sent to the envelope sender in one bounce once nothing is left to do. If that bounces too,
    the postmaster hears of it; if that fails, nobody. A sender `owner-@host-@[]` becomes `owner-box=domain@host` for
    each recipient box@domain.

    A spawner that says with its first byte that it makes fewer deliveries at a time than concurrencylocal or
    concurrencyremote has its way. One that says it with two bytes is written to with two bytes for each number.

    New mail does not keep deliveries waiting, nor the other way round: qmail-send takes what has come in for some
    milliseconds at a time.

    What qmail-queuectl orders about a message is done before the next attempt. Why each recipient has been put off is
    noted in queue/last, if there is this folder.

    These signals are for the postmaster:

        ALRM    try all messages now
        HUP     read locals and virtualdomains anew, and no other file
        TERM    begin no more deliveries, wait for those that run, and exit

    If a spawner or qmail-clean is lost, qmail-send exits in the same way.

CONTROL FILES
    bouncefrom          box of the sender of bounces, default MAILER-DAEMON
    bounceformat        `report`: bounces are reports as of RFC 3464, in parts of which the first is for people
    bouncehost          host of the sender of bounces, default me
    bouncemaxbytes      how much of a message its bounce has; default all, as with 0. In a report the message is
                        whole or its header alone
    concurrencylocal    local deliveries at a time, default 10
    concurrencyremote   remote deliveries at a time, default 20
    doublebouncehost    host of whoever gets double bounces, default me
    doublebounceto      box of whoever gets double bounces, default postmaster. If its first line is empty, they are
                        discarded
    envnoathost         what follows the @ that an address lacks, default me
    locals              hosts that are local, default me
    me                  the name of this host
    percenthack         hosts for which box%host is box@host
    queuelifetime       seconds, default 604800: one week
    virtualdomains      lines host:prefix, .host:prefix, box@host:prefix, :prefix. box@host goes to the local address
                        prefix-box@host; with an empty prefix it is remote

ENVIRONMENT
    QMAILHOME     the home, /var/qmail if unset
    QMAILQUEUE    the program that queues bounces, instead of qmail-queue

EXIT STATUS
    0      after TERM, or the loss of another program
    111    it could not start: the log says why

SECURITY
    What a spawner says is not trusted beyond the delivery that it names. Log and bounces show nothing of it that could
    be taken for another line, or for another recipient.

BUGS
    While a bounce is given to the queue nothing else happens; so a QMAILQUEUE that hangs stops all mail.

SEE ALSO
    qmail-start(8), qmail-queuectl(8), qmail-queue(8), qmail-clean(8), qmail-lspawn(8), qmail-rspawn(8), qmail-qread(8)
"""

import os
import select
import time
from _collections_abc import Callable, Iterator

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import sendlog, spawning
from qmailpy.formats.spawning import Request
from qmailpy.loops.spawners import Cleaner, Log, Lost, Spawner
from qmailpy.mta import bounces
from qmailpy.mta.dispatch import CHANNELS, CONCURRENCY, Delivery, Dispatch, Job
from qmailpy.mta.rewriting import Rewriting
from qmailpy.mta.schedule import (
    LIFETIME,
    SLEEP_CLEANUP,
    SLEEP_FOREVER,
    SLEEP_FUZZ,
    SLEEP_HELP,
    SLEEP_SYSFAIL,
    SLEEP_TODO,
    Waiting,
)
from qmailpy.stores import lasterrors, orders, queue, sending
from qmailpy.stores.control import Control
from qmailpy.stores.home import home
from qmailpy.stores.injection import open_injection
from qmailpy.stores.sending import Arrival, Reading, Spool, Trouble
from qmailpy.unix import signals

UMASK = 0o077

LOG = 0
REQUESTS, REPORTS = (1, 3), (2, 4)
TO_CLEAN, FROM_CLEAN = 5, 6

TURN_S = 0.005  # what new mail, ends and garbage may each take of a turn: so long a report waits
GROUP = 16  # messages whose files are written before the first of them is synced: the disk then has less to do
GARBAGE = 100  # files of mess that are looked at in a turn

REMOVED = b"+"  # qmail-clean's answer
REPORT = b"report"  # in control/bounceformat
BOUNDARY = 12  # random bytes


class CannotStart(Exception):
    """args[0]: what the log says."""


class Settings:
    """The control files."""

    __slots__ = ("_control", "_me", "bouncefrom", "bouncehost", "concurrency", "envnoathost", "lifetime", "limit",
                 "percenthack", "postmaster", "report")  # fmt: skip

    def __init__(self, control: Control) -> None:
        """Raises OSError."""
        self._control = control
        self._me = control.me()
        local, remote = (control.number(name) for name in (b"concurrencylocal", b"concurrencyremote"))
        self.concurrency = (CONCURRENCY[0] if local is None else local, CONCURRENCY[1] if remote is None else remote)
        lifetime = control.number(b"queuelifetime")
        self.lifetime = LIFETIME if lifetime is None else lifetime
        self.envnoathost = self._host(b"envnoathost")
        bouncefrom = control.line(b"bouncefrom")
        self.bouncefrom = b"MAILER-DAEMON" if bouncefrom is None else bouncefrom
        self.bouncehost = self._host(b"bouncehost")
        box, host = control.line(b"doublebounceto"), self._host(b"doublebouncehost")
        self.postmaster = None if box == b"" else b"%s@%s" % (b"postmaster" if box is None else box, host)
        self.percenthack = control.lines(b"percenthack") or []
        self.limit = control.number(b"bouncemaxbytes") or 0
        self.report = control.line(b"bounceformat") == REPORT

    def _host(self, name: bytes) -> bytes:
        value = self._control.line(name)
        return value if value is not None else name if self._me is None else self._me

    def locals(self) -> list[bytes]:
        """Read anew. Raises OSError, LookupError: there is none, and no name of this host either."""
        lines = self._control.lines(b"locals")
        if lines is not None:
            return lines
        if self._me is None:
            raise LookupError
        return [self._me]

    def virtualdomains(self) -> list[bytes]:
        """Read anew. Raises OSError."""
        return self._control.lines(b"virtualdomains") or []

    def rewriting(self) -> Rewriting:
        """Raises OSError, LookupError."""
        return Rewriting(self.locals(), self.percenthack, self.virtualdomains(), self.envnoathost)


class Pass:
    """A list that is being read for its job."""

    __slots__ = ("job", "reading")

    def __init__(self, job: Job, reading: Reading) -> None:
        self.job = job
        self.reading = reading


class Failure:
    """A failure whose text could not be written yet."""

    __slots__ = ("delivery", "slot", "text")

    def __init__(self, slot: int, delivery: Delivery, text: bytes) -> None:
        self.slot = slot
        self.delivery = delivery
        self.text = text


class Signals:
    """What has been asked for by signals. fd: readable when one has come."""

    __slots__ = ("exit", "fd", "hurry", "reread")

    def __init__(self) -> None:
        self.exit = self.hurry = self.reread = False
        self.fd, writing = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(writing, False)
        signals.ignore(signals.PIPE)
        signals.default(signals.CHLD)
        for number in (signals.TERM, signals.ALRM, signals.HUP):
            signals.catch(number, self._note)
        signals.wake(writing)

    def _note(self, number: int, frame: object) -> None:
        if number == signals.TERM:
            self.exit = True
        elif number == signals.ALRM:
            self.hurry = True
        else:
            self.reread = True

    def clear(self) -> None:
        """What has woken us has done so."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass


class Sender:
    """All that goes on, in turns. clock gives the seconds since 1970; each turn has one time."""

    def __init__(
        self,
        env: Env,
        log: Log,
        wanted: Signals,
        settings: Settings,
        rewriting: Rewriting,
        spool: Spool,
        spawners: "list[Spawner | None]",
        deliveries: Dispatch,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._env = env
        self._log = log
        self._signals = wanted
        self._settings = settings
        self._rewriting = rewriting
        self._spool = spool
        self._spawners = spawners
        self._dispatch = deliveries
        self._clock = clock
        self._now = int(clock())
        self._cleaner: Cleaner | None = Cleaner(TO_CLEAN, FROM_CLEAN)
        self._passes: list[Pass | None] = [None, None]
        self._ending: list[int] = []  # messages of which no list is left
        self._done = Waiting()  # the same, as far as is known: something has failed
        self._unknown = (Waiting(), Waiting())  # lists whose times could not be read
        self._stuck: list[Failure] = []
        self._stuck_due = 0
        self._todo: Iterator[int] | None = None  # while it is read
        self._todo_due = self._now
        self._arrivals: list[Arrival] = []
        self._syncing = False  # the first of them is synced already
        self._settling: set[int] = set()  # numbers of arrivals, and of those that qmail-clean has not removed yet
        self._trigger = -1
        self._garbage: Iterator[int] | None = None
        self._cleanup_due = self._now
        self._flushed = 0
        self._asked = 0  # by qmail-queuectl, last
        self._ask_due = self._now  # when a question is looked for, where the trigger does not tell
        self._unread = False  # there is one, and the queue could not be read since
        self._poll = select.poll()
        self._watched: dict[int, int] = {}

    def _warn(self, text: bytes) -> None:
        self._log.add(sendlog.warning(text))

    def _alert(self, text: bytes) -> None:
        self._log.add(sendlog.alert(text))

    # Turns

    def run(self) -> None:
        """Until nothing is left to do after TERM."""
        for channel, spawner in enumerate(self._spawners):
            if spawner is None:
                self._lose_spawner(channel)
        while not self._survey(self._question()) and not self._signals.exit:
            self._log.write()
            time.sleep(SLEEP_HELP)
        self._log.add(self._dispatch.status())
        self._open_trigger()
        while not self._may_end():
            self._turn()
        self._write_times()
        self._log.add(sendlog.EXITING)
        self._log.write()

    def _may_end(self) -> bool:
        if self._signals.exit:
            self._dispatch.exiting = True
        if not self._dispatch.exiting or not self._dispatch.may_end() or self._arrivals:
            return False
        return self._cleaner is None or not self._cleaner.asked

    def _turn(self) -> None:
        self._now = int(self._clock())
        timeout = self._timeout()
        self._watch()
        self._log.write()
        ready = {fd for fd, _ in self._poll.poll(timeout * 1000)}
        if self._signals.fd in ready:
            self._signals.clear()
        self._now = int(self._clock())
        self._obey_signals()
        for channel, spawner in enumerate(self._spawners):
            if spawner is not None and spawner.fd_in in ready:
                self._hear(channel, spawner)
        if self._stuck and self._stuck_due <= self._now:
            self._try_stuck()
        if self._cleaner is not None and self._cleaner.fd_in in ready:
            self._hear_cleaner(self._cleaner)
        self._take_in(self._trigger in ready)
        self._ask_in_between()
        self._work()
        self._end()
        self._collect_garbage()
        self._send()

    def _obey_signals(self) -> None:
        wanted = self._signals
        if wanted.exit:
            self._dispatch.exiting = True
        if wanted.hurry:
            wanted.hurry = False
            self._flushed = self._stuck_due = self._now
            for channel in self._dispatch.channels:
                channel.waiting.hurry(self._now)
        if wanted.reread:
            wanted.reread = False
            self._reread()

    def _reread(self) -> None:
        if not os.path.isdir(home(self._env)):
            self._alert(b"unable to reread controls: unable to switch to home directory")
            return
        try:
            locals_ = self._settings.locals()
        except (OSError, LookupError):
            self._alert(b"unable to reread control/locals")
            return
        try:
            self._rewriting.renew(locals_, self._settings.virtualdomains())
        except OSError:
            self._alert(b"unable to reread control/virtualdomains")

    def _timeout(self) -> int:
        """Seconds that this turn may wait."""
        if self._ending and self._may_ask():
            return 0
        wakeup = self._now + SLEEP_FOREVER
        if self._stuck:
            wakeup = min(wakeup, self._stuck_due)
        if not self._dispatch.exiting:
            if self._garbage is not None and self._may_ask():
                return 0
            wakeup = min(wakeup, self._next_due(wakeup))
        if self._unread or not self._may_scan():
            wakeup = min(wakeup, self._ask_due)
        if self._arrivals or wakeup <= self._now:
            return 0
        return wakeup - self._now + SLEEP_FUZZ

    def _next_due(self, wakeup: int) -> int:
        if self._todo is not None and self._may_ask():
            return self._now
        if self._may_scan():
            wakeup = min(wakeup, self._todo_due)
        for channel in CHANNELS:
            spawner = self._spawners[channel]
            if spawner is not None and spawner.has_room() and self._dispatch.free(channel):
                if self._passes[channel] is not None:
                    return self._now
                if self._dispatch.may_open():
                    wakeup = min(wakeup, self._dispatch.channels[channel].waiting.due(wakeup))
            wakeup = min(wakeup, self._unknown[channel].due(wakeup))
        return min(wakeup, self._done.due(wakeup), self._cleanup_due)

    def _watch(self) -> None:
        """Have poll tell what this turn waits for."""
        wanted: dict[int, int] = {self._signals.fd: select.POLLIN}
        for spawner in self._spawners:
            if spawner is not None:
                wanted[spawner.fd_in] = select.POLLIN
                if spawner.waiting:
                    wanted[spawner.fd_out] = select.POLLOUT
        if self._cleaner is not None and self._cleaner.asked:
            wanted[self._cleaner.fd_in] = select.POLLIN
        if self._trigger >= 0 and self._may_scan():
            wanted[self._trigger] = select.POLLIN
        if wanted != self._watched:
            for fd in self._watched.keys() - wanted.keys():
                self._poll.unregister(fd)
            for fd in wanted.keys() - self._watched.keys():
                self._poll.register(fd, wanted[fd])
            self._watched = wanted

    def _send(self) -> None:
        """To the other programs what this turn has made for them. Whatever may happen is in the log before it may."""
        self._log.write()
        for channel, spawner in enumerate(self._spawners):
            if spawner is not None and spawner.waiting:
                try:
                    spawner.send()
                except Lost:
                    self._lose_spawner(channel)
        if self._cleaner is not None:
            try:
                self._cleaner.send()
            except Lost:
                self._lose_cleaner()

    def _lose_spawner(self, channel: int) -> None:
        self._alert(b"oh no! lost spawn connection! dying...")
        self._spawners[channel] = None
        self._dispatch.channels[channel].alive = False
        self._dispatch.exiting = True

    def _lose_cleaner(self) -> None:
        """What has come in and is not removed from todo will be taken again."""
        self._alert(b"oh no! lost qmail-clean connection! dying...")
        self._cleaner = None
        for arrival in self._arrivals:
            arrival.close()
        self._arrivals.clear()
        self._syncing = False
        self._settling.clear()
        self._dispatch.exiting = True

    def _may_ask(self) -> bool:
        """Whether qmail-clean has room for a request."""
        return self._cleaner is not None and self._cleaner.has_room()

    def _write_times(self) -> None:
        for channel in CHANNELS:
            for when, number in sorted(self._dispatch.channels[channel].waiting):
                try:
                    self._spool.set_time(channel, number, self._spool.hurried_to(channel, number, when))
                except Trouble as e:
                    self._warn(e.args[0])

    # What is in the queue

    def _question(self) -> int:
        try:
            return orders.asked(self._spool.queue)
        except OSError:
            return self._asked

    def _ask(self) -> None:
        """If qmail-queuectl has a question, look at the queue; later, if it cannot be read: all else goes on."""
        question = self._question()
        self._unread = question != self._asked and not self._survey(question)
        self._ask_due = self._now + (SLEEP_HELP if self._unread else 1)

    def _survey(self, question: int) -> bool:
        """Look at all of the queue, and at what is ordered, and tell qmail-queuectl so. False if it cannot be read:
        then what is known of it stays."""
        lists = Waiting(), Waiting()
        done = Waiting()
        unknown: list[tuple[int, int]] = []
        jobs = self._dispatch.jobs()
        busy = {(job.channel, job.number) for job in jobs}

        def wait(channel: int, when: int, number: int) -> None:
            if number not in self._settling and (channel, number) not in busy:
                lists[channel].add(when, number)

        def not_known(channel: int, number: int) -> None:
            if number not in self._settling and (channel, number) not in busy:
                unknown.append((channel, number))

        def finish(number: int) -> None:
            if number not in self._settling:
                done.add(self._now, number)

        try:
            self._spool.survey(self._flushed, wait, finish, not_known)
        except queue.Unlisted as e:
            self._alert(b"unable to opendir %s, sleeping..." % e.name)
            return False
        for channel in CHANNELS:
            self._dispatch.channels[channel].waiting = lists[channel]
            self._unknown[channel].fill(())
        self._done = done
        self._ending.clear()
        for channel, number in unknown:
            self._not_known(channel, number)
        for job in jobs:
            self._look_at_orders(job)
        self._asked = question
        orders.answer(self._spool.queue, question)
        return True

    def _look_at_orders(self, job: Job) -> None:
        """Of a message with a pass, or deliveries of one. What is under way goes on, but no more of it begins; then the
        order is obeyed at once."""
        try:
            ordered = orders.of(self._spool.read_info(job.number)[2]) != orders.PLAIN
        except Trouble:
            return
        if ordered:
            job.retry = self._now
        self._note_hurry(job)
        current = self._passes[job.channel]
        if ordered and current is not None and current.job is job:
            self._close_pass(job.channel, current)

    def _note_hurry(self, job: Job) -> None:
        """Before the time of its list is changed: qmail-queuectl sets it for one message after the other, and its
        question comes behind the last of them."""
        if self._spool.hurried(job.channel, job.number, job.time):
            job.retry = self._now

    def _not_known(self, channel: int, number: int) -> None:
        self._warn(b"unable to stat %s; will try again later" % self._spool.recipients(channel, number))
        self._unknown[channel].add(self._now + SLEEP_SYSFAIL, number)

    def _look_again(self, channel: int) -> None:
        """At one list whose time could not be read."""
        number = self._unknown[channel].take(self._now)
        if number is None:
            return
        try:
            when = self._spool.time(channel, number)
        except OSError:
            self._not_known(channel, number)
            return
        if when is None:
            self._done.add(self._now, number)
        else:
            self._dispatch.channels[channel].waiting.add(when, number)

    # New mail

    def _open_trigger(self) -> None:
        if self._trigger >= 0:
            os.close(self._trigger)
        self._trigger = sending.open_trigger(self._spool.queue)

    def _may_scan(self) -> bool:
        """Whether todo may be read anew: what is still to be removed would be taken twice."""
        return self._todo is None and not self._settling and not self._dispatch.exiting

    def _take_in(self, pulled: bool) -> None:
        if self._may_scan() and (pulled or self._now >= self._todo_due):
            self._open_trigger()
            if not self._unread:
                self._ask()
            self._todo = self._spool.arrived()
            self._todo_due = self._now + SLEEP_TODO
        if self._todo is None and not self._arrivals:
            return
        end = time.monotonic() + TURN_S
        while self._take_one() and time.monotonic() < end:
            pass

    def _ask_in_between(self) -> None:
        """qmail-queuectl is not to wait for the end of a flood, nor for that of qmail-send: about once a second."""
        if self._now >= self._ask_due and (self._unread or not self._may_scan()):
            self._ask()

    def _take_one(self) -> bool:
        """One step; whether there is another."""
        if self._todo is not None and not self._syncing and self._may_ask() and not self._dispatch.exiting:
            try:
                number = next(self._todo, None)
            except queue.Unlisted as e:
                self._alert(b"unable to opendir %s, sleeping..." % e.name)
                self._todo_due = self._now + SLEEP_HELP
                number = None
            if number is None:
                self._todo = None
            elif number not in self._settling:
                self._prepare(number)
            if len(self._arrivals) < GROUP:
                return True
        if not self._arrivals:
            return False
        if not self._syncing:
            for arrival in self._arrivals:
                arrival.start()
        self._sync(self._arrivals.pop(0))
        self._syncing = bool(self._arrivals)
        return True

    def _prepare(self, number: int) -> None:
        lasterrors.forget(self._spool.queue, number)
        try:
            self._arrivals.append(self._spool.prepare(number, self._rewriting.rewrite, self._log.add))
        except Trouble as e:
            self._warn(e.args[0])
        else:
            self._settling.add(number)

    def _sync(self, arrival: Arrival) -> None:
        try:
            arrival.sync()
        except Trouble as e:
            self._warn(e.args[0])
            self._settling.discard(arrival.number)
            return
        if self._cleaner is not None:
            self._cleaner.ask(b"todo", arrival.number, tuple(arrival.channels))

    def _hear_cleaner(self, cleaner: Cleaner) -> None:
        try:
            heard = cleaner.hear()
        except Lost:
            self._lose_cleaner()
            return
        for answer, word, number, channels in heard:
            if answer != REMOVED:
                self._warn(b"qmail-clean unable to clean up %s/%d" % (word, number))
            if word == b"todo":
                self._settling.discard(number)
                if answer == REMOVED:
                    self._welcome(number, channels)

    def _welcome(self, number: int, channels: tuple[int, ...]) -> None:
        for channel in channels:
            self._dispatch.channels[channel].waiting.add(self._now, number)
        if not channels:
            self._ending.append(number)

    # Passes

    def _work(self) -> None:
        """Begin as many deliveries as may be, on the two channels by turns."""
        while self._begin(0) | self._begin(1):  # not `or`: both
            pass

    def _begin(self, channel: int) -> bool:
        """Begin the next delivery; False if there is none that may begin."""
        spawner = self._spawners[channel]
        while spawner is not None and spawner.has_room() and self._dispatch.free(channel):
            current = self._passes[channel] or self._open_pass(channel)
            if current is None:
                return False
            try:
                record = current.reading.next()
            except OSError:
                path = self._spool.recipients(channel, current.job.number)
                self._warn(b"trouble reading %s; will try again later" % path)
                self._close_pass(channel, current)
                continue
            if record is None:
                current.job.whole = True
                self._close_pass(channel, current)
                continue
            letter, position, recipient = record
            if letter == b"T":
                self._start(spawner, current.job, position, recipient)
                return True
            if letter != b"D":
                self._warn(b"unknown record type in %s!" % self._spool.recipients(channel, current.job.number))
                self._close_pass(channel, current)
        return False

    def _open_pass(self, channel: int) -> Pass | None:
        """The next one that is due; None if there is none. What is held waits for a word of qmail-queuectl's."""
        waiting = self._dispatch.channels[channel].waiting
        while self._dispatch.may_open():
            number = waiting.take(self._now)
            if number is None:
                return None
            reading = None
            try:
                reading = self._spool.open_list(channel, number)
                sender, birth, mode = self._spool.read_info(number)
            except Trouble as e:
                if reading is not None:
                    reading.close()
                self._warn(e.args[0])
                waiting.add(self._now + SLEEP_SYSFAIL, number)
                continue
            order = orders.of(mode)
            if order != orders.PLAIN:
                self._obey_order(channel, number, reading, order)
                continue
            job = self._dispatch.open(channel, number, sender, birth, self._now)
            job.time = reading.time
            self._passes[channel] = current = Pass(job, reading)
            return current
        return None

    def _close_pass(self, channel: int, current: Pass) -> None:
        current.reading.close()
        self._passes[channel] = None
        self._close(current.job)

    def _close(self, job: Job) -> None:
        if not self._dispatch.close(job):
            return
        if job.complete:
            self._list_done(job.channel, job.number)
            return
        self._note_hurry(job)
        self._dispatch.channels[job.channel].waiting.add(job.retry, job.number)
        try:
            self._spool.set_time(job.channel, job.number, job.retry)
        except Trouble:  # that of the exit is said
            pass

    def _list_done(self, channel: int, number: int) -> bool:
        """Whether the list could be removed; else it is tried again."""
        try:
            self._spool.remove_list(channel, number)
        except Trouble as e:
            self._warn(e.args[0])
            self._dispatch.channels[channel].waiting.add(self._now + SLEEP_SYSFAIL, number)
            return False
        other = self._spool.recipients(1 - channel, number)
        try:
            if not self._spool.exists(other):
                self._ending.append(number)
        except OSError:
            self._warn(b"unable to stat " + other)
            self._done.add(self._now, number)
        return True

    def _obey_order(self, channel: int, number: int, reading: Reading, order: int) -> None:
        """Instead of a pass. What is held waits for the next survey."""
        try:
            if order != orders.HELD:
                self._cancel(channel, number, reading, order == orders.DELETE)
        except OSError:
            path = self._spool.recipients(channel, number)
            self._warn(b"trouble reading %s; will try again later" % path)
            self._dispatch.channels[channel].waiting.add(self._now + SLEEP_SYSFAIL, number)
        finally:
            reading.close()

    def _cancel(self, channel: int, number: int, reading: Reading, silently: bool) -> None:
        """Finish all recipients of a list. Raises OSError if it cannot be read."""
        lines, entries, positions = [], [], []
        while record := reading.next():
            letter, position, recipient = record
            if letter == b"T":
                positions.append(position)
                lines.append(sendlog.ordered(b"delete" if silently else b"bounce", number, channel, recipient))
                entries.append(bounces.entry(self._rewriting.strip(recipient), bounces.ORDERED))
        if entries and not silently and not self._append_bounce(number, b"".join(entries)):
            self._dispatch.channels[channel].waiting.add(self._now + SLEEP_HELP, number)
            return
        self._log.add(b"".join(lines))
        if self._list_done(channel, number):
            return
        try:
            for position in positions:  # the sender is told of each once
                self._spool.mark(channel, number, position)
        except Trouble:  # then it is as it was
            pass

    # Deliveries

    def _start(self, spawner: Spawner, job: Job, position: int, recipient: bytes) -> None:
        slot, serial = self._dispatch.start(job, position, recipient)
        sender = spawning.envelope_sender(job.sender, recipient)
        spawner.ask(Request(slot, self._spool.message(job.number), sender, recipient))
        self._log.add(sendlog.start(serial, job.number, job.channel, recipient))
        self._log.add(self._dispatch.status())

    def _hear(self, channel: int, spawner: Spawner) -> None:
        try:
            reports = spawner.hear()
        except Lost:
            self._lose_spawner(channel)
            return
        for slot, report in reports:
            delivery = self._dispatch.reported(channel, slot)
            if delivery is None:
                self._warn(b"internal error: delivery report out of range")
            else:
                self._take_report(slot, delivery, report)

    def _take_report(self, slot: int, delivery: Delivery, report: bytes) -> None:
        letter, text = self._dispatch.verdict(delivery, report)
        if letter == spawning.SUCCESS:
            self._log.add(sendlog.result(delivery.serial, sendlog.SUCCESS, text))
            self._settle(slot, delivery, True)
        elif letter == spawning.FAILURE:
            self._log.add(sendlog.result(delivery.serial, sendlog.FAILURE, text))
            self._fail(Failure(slot, delivery, bounces.entry(self._rewriting.strip(delivery.recipient), text)))
        else:
            if letter == spawning.DEFERRAL:
                self._log.add(sendlog.result(delivery.serial, sendlog.DEFERRAL, text))
                name = sending.LISTS[delivery.job.channel]
                lasterrors.note(self._spool.queue, delivery.job.number, name, delivery.recipient, self._now, text)
            else:
                self._log.add(sendlog.mangled(delivery.serial))
            self._settle(slot, delivery, False)

    def _settle(self, slot: int, delivery: Delivery, done: bool) -> None:
        job = delivery.job
        if done:
            self._note_hurry(job)
            try:
                self._spool.mark(job.channel, job.number, delivery.position)
            except Trouble as e:
                self._warn(e.args[0])
        self._dispatch.settle(slot, delivery, done)
        self._close(job)
        self._log.add(self._dispatch.status())

    def _fail(self, failure: Failure) -> None:
        """First the text of a failure is safe, then its recipient is done. Until then its slot is taken."""
        if self._append_bounce(failure.delivery.job.number, failure.text):
            self._settle(failure.slot, failure.delivery, True)
        else:
            self._stuck.append(failure)
            self._stuck_due = self._now + SLEEP_HELP

    def _append_bounce(self, number: int, text: bytes) -> bool:
        try:
            self._spool.append_bounce(number, text)
        except OSError:
            self._alert(b"unable to append to bounce message; HELP! sleeping...")
            return False
        return True

    def _try_stuck(self) -> None:
        stuck, self._stuck = self._stuck, []
        for failure in stuck:
            self._fail(failure)

    # The end of a message

    def _end(self) -> None:
        for channel in CHANNELS:
            self._look_again(channel)
        limit = time.monotonic() + TURN_S
        while self._may_ask() and time.monotonic() < limit:
            if self._ending:
                self._finish(self._ending.pop(0), True)
                continue
            number = self._done.take(self._now)
            if number is None:
                return
            self._finish(number, False)

    def _finish(self, number: int, sure: bool) -> None:
        """sure: all lists are gone."""
        try:
            if not sure and self._spool.remaining(number):
                return
            if self._spool.has_bounce(number) and not self._bounce(number):
                return
        except Trouble as e:
            self._warn(e.args[0])
            self._done.add(self._now + SLEEP_SYSFAIL, number)
            return
        try:
            if not self._spool.remove_info(number):
                return
        except Trouble as e:
            self._log.add(sendlog.end(number))
            self._warn(e.args[0])
            self._done.add(self._now + SLEEP_SYSFAIL, number)
            return
        self._log.add(sendlog.end(number))
        lasterrors.forget(self._spool.queue, number)
        if self._cleaner is not None:
            self._cleaner.ask(b"foop", number)

    def _bounce(self, number: int) -> bool:
        """Tell the sender, or whoever is to be told; False if the message is gone. Raises Trouble."""
        if not self._spool.has_info(number):
            return False
        sender, birth, mode = self._spool.read_info(number)
        if orders.of(mode) != orders.DELETE:
            notice = self._notice(sender)
            if notice.recipient is None:
                self._log.add(sendlog.discarded(b"double" if notice.sender else b"triple", number))
            else:
                self._inject(number, notice, notice.recipient, birth)
        self._spool.remove_bounce(number)
        return True

    def _notice(self, sender: bytes) -> bounces.Notice:
        settings = self._settings
        return bounces.Notice(sender, settings.postmaster, settings.bouncefrom, settings.bouncehost)

    def _inject(self, number: int, notice: bounces.Notice, recipient: bytes, birth: int) -> None:
        """Raises Trouble."""
        self._log.write()

        def spawn(child: Callable[[], object]) -> int:
            return chain.spawn(child, self._env, "qmail-send")  # type: ignore[arg-type]  # it returns what become made

        try:
            injection = open_injection(home(self._env), self._env, spawn, Exec)
        except OSError:
            raise Trouble(b"unable to start qmail-queue, will try later")
        try:
            for block in self._bounce_text(number, notice, birth):
                injection.write(block)
        except OSError:
            injection.fail()
        if injection.close(notice.sender, [recipient]):
            raise Trouble(b"trouble injecting bounce message, will try later")
        self._log.add(sendlog.bounce(number, injection.qp))

    def _bounce_text(self, number: int, notice: bounces.Notice, birth: int) -> Iterator[bytes]:
        """Raises OSError at any step."""
        entries = self._spool.blocks(b"bounce/%d" % number)
        message = self._spool.blocks(self._spool.mess(number))
        limit = self._settings.limit
        if not self._settings.report:
            return notice.text(self._now, entries, message, limit)
        whole = not limit or self._spool.size(number) <= limit
        boundary = os.urandom(BOUNDARY).hex().encode()
        return notice.report(self._now, entries, message, birth, whole, boundary)

    # Garbage

    def _collect_garbage(self) -> None:
        """What qmail-queue has left and nobody will finish."""
        if self._dispatch.exiting or self._now < self._cleanup_due:
            return
        if self._garbage is None:
            self._garbage = self._spool.garbage(self._now)
        try:
            for _ in range(GARBAGE):
                if self._cleaner is None or not self._cleaner.has_room():
                    return
                number = next(self._garbage, None)
                if number is None:
                    self._garbage = None
                    self._cleanup_due = self._now + SLEEP_CLEANUP
                    return
                if number >= 0:
                    self._cleaner.ask(b"foop", number)
        except queue.Unlisted as e:
            self._alert(b"unable to opendir %s, sleeping..." % e.name)
            self._garbage = None
            self._cleanup_due = self._now + SLEEP_HELP


def lock(fd: int) -> None:
    """For as long as this process lives. Raises CannotStart."""
    try:
        sending.lock(fd)
    except BlockingIOError:
        raise CannotStart(b"qmail-send is already running")
    except OSError:
        raise CannotStart(b"unable to open mutex")


def greet(settings: Settings) -> "tuple[Dispatch, list[Spawner | None]]":
    """Wait for what the spawners say first. Raises CannotStart."""
    slots = []
    spawners: list[Spawner | None] = []
    for channel in CHANNELS:
        try:
            said = os.read(REPORTS[channel], 2)
        except OSError:
            said = b""
        if not said:
            raise CannotStart(b"hath the daemon spawn no fire?")
        most, wide = spawning.slots(said)
        slots.append(min(settings.concurrency[channel], most))
        try:
            spawners.append(Spawner(REQUESTS[channel], REPORTS[channel], wide))
        except OSError:
            spawners.append(None)
    return Dispatch((slots[0], slots[1]), settings.lifetime), spawners


def begin(env: Env, log: Log) -> Sender:
    """Raises CannotStart."""
    place = home(env)
    if not os.path.isdir(place):
        raise CannotStart(b"unable to switch to home directory")
    try:
        settings = Settings(Control(place))
        rewriting = settings.rewriting()
    except (OSError, LookupError):
        raise CannotStart(b"unable to read controls")
    try:
        fd = queue.open_queue(place)
        layout = queue.find_layout(fd)
    except (OSError, queue.Trouble):
        raise CannotStart(b"unable to switch to queue directory")
    if not layout.split:
        raise CannotStart(b"unable to switch to queue directory")
    wanted = Signals()
    os.umask(UMASK)
    lock(fd)
    deliveries, spawners = greet(settings)
    return Sender(env, log, wanted, settings, rewriting, Spool(fd, layout), spawners, deliveries)


def fill_descriptors() -> None:
    """Have something on 0 to 6: what is opened later must not take the place of a pipe that is missing."""
    while (fd := os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)) <= FROM_CLEAN:
        pass
    os.close(fd)


def main(argv: list[bytes], env: Env) -> int:
    fill_descriptors()
    log = Log(LOG)
    try:
        sender = begin(env, log)
    except CannotStart as e:
        log.add(sendlog.alert(b"cannot start: " + e.args[0]))
        log.write()
        return strerr.LATER
    sender.run()
    return 0
