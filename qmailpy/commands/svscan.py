"""NAME
    svscan - start and keep up all services of a directory

SYNOPSIS
    svscan [-sv] [-k SECONDS] [DIR]

DESCRIPTION
    svscan looks into DIR, the current directory unless named, at once and then every five seconds, and supervises
    each directory, or symbolic link to one, that it finds there, as supervise(8) does it for one. Names that begin
    with a dot are passed over. There is one svscan process, however many services there are.

        svscan /service

    If NAME has a subdirectory log, then NAME/log is a service too, and there is a pipe between both: what NAME
    writes to descriptor 1 is what NAME/log finds on descriptor 0. svscan keeps both ends of the pipe, so that neither
    loses a line when the other ends. The pipe holds 1 MB if svscan runs as root, 256 kB otherwise; then NAME waits for
    its log. If there is a file NAME/log/discard, NAME does not wait long: svscan throws away the older half of what
    is in the pipe, and says so.

    A service that is renamed stays what it is. If its directory or link is removed, it goes on; end it with

        rm /service/NAME; cd DIR/NAME; svc -dx . log

    When svscan is killed, services and their logs go on, and the next svscan takes them over; see supervise(8).

    On SIGTERM and SIGINT svscan stops everything in order and ends: first the services, by svc -dx; then each log,
    which sees the end of its input, once its service is down. What takes too long is killed, at once if the signal
    comes again. So svscan can be process 1 of a container, where it also waits for orphans.

    A service that ends within a second of its start is named on descriptor 2, with its last line where it is known:
    from NAME/log/main/current, or with -v. It is named again after 10 and 100 times, and so on.

OPTIONS
    -s           start a supervise(8), found along PATH, for each service and each log, instead of supervising them
                 in this process
    -v           view: services write to svscan what they would write to its descriptor 2, and to its descriptor 1 if
                 they have no log; svscan writes it to descriptor 1, each line behind the name of its service, in
                 colour on a terminal. Each service has a session of its own, so that an interrupt on the terminal
                 is svscan's alone. Services that are taken over are started anew
    -k SECONDS   at the end, kill services that are not down after SECONDS, 7 unless set, and logs that have read
                 nothing for twice as long; 0 for never

ENVIRONMENT
    NOTIFY_SOCKET   where systemd(1) wants to be told that all services have been started; services do not see it
    NO_COLOR        if set and not empty, -v uses no colours
    PATH            where -s looks for supervise

EXIT STATUS
    0      stopped by a signal, and everything is down
    100    wrong usage
    111    DIR is not accessible; or another supervise has some service, and goes on

SECURITY
    Services run with svscan's privileges until they give them up (setuidgid(8)). Who may write DIR or a service's
    directory owns what svscan runs as.

BUGS
    It runs at most 1000 services, as the original does.

    The original stops nothing on SIGTERM and ends alone. Here SIGHUP does that.

    What svscan itself says is lost while nobody reads its descriptor 2, or 1; how much is said afterwards.

    When svscan and NAME/log are both killed, nobody reads the pipe until the next svscan is there. A NAME that writes
    meanwhile gets SIGPIPE, and if it ends by that, what is in the pipe is lost. With -s, the log's supervise has the
    pipe too.

SEE ALSO
    supervise(8), svc(8), svstat(8), multilog(8), readproctitle(8), setuidgid(8), softlimit(8)
"""

import errno
import os
import select
import stat
import time

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import numbers, options
from qmailpy.formats.svstatus import UP
from qmailpy.formats.visible import visible
from qmailpy.loops.messages import Messages
from qmailpy.loops.supervise import FOREVER, Standard, Supervised, Supervisor
from qmailpy.loops.view import Screen, Tail
from qmailpy.stores import servicedir
from qmailpy.stores.safeio import Failed
from qmailpy.supervision.service import failure
from qmailpy.unix import fds, notify, signals

PROGRAM = b"svscan"
USAGE = b"svscan [ -sv ] [ -k seconds ] [ dir ]"
LETTERS = b"svk:"

LOG = b"/log"

SERVICES = 1000  # at most, as in the original
SCAN = 5  # seconds from one look into DIR to the next
SOON = 1.1  # seconds; a process waits for its start for less
RELIEF = 1  # seconds from one look at a pipe whose service may not wait to the next
KILL = 7  # seconds that services have to stop
TURN = 0.1  # seconds from one look at what has stopped to the next


class Integrated:
    """A service, or a log, that this process supervises itself."""

    def __init__(self, scanner: "Scanner", entry: "Entry", part: bytes, standard: Standard) -> None:
        self._scanner = scanner
        self._entry = entry
        self._part = part  # LOG, or b"" for the service itself
        self._standard = standard
        self._warn = scanner.messages.warn
        self.refused = False  # another had the directory at the last look
        self.supervised: Supervised | None = None
        self.tail: Tail | None = None

    def start(self) -> None:
        """Unless it is there. A directory that another supervise has, or that is broken, is tried again."""
        if self.supervised is not None:
            return
        try:
            standard = self._descriptors()
        except OSError as e:
            self._warn(b"unable to create pipe for ", self.name(), error=e)
            return
        try:
            place = servicedir.Place(self.name(), b"." + self._part, self._entry.folder)
            self.supervised = self._scanner.supervisor.add(place, standard, self._report, self._over)
        except Failed as e:
            # It may be a process that an svscan before this one has forked, and that is not yet what it is to be.
            if e.errno == errno.EAGAIN and not self.refused:
                self._scanner.look_again_soon()
            else:
                self._warn(e.complaint, error=e)
            self.refused = e.errno == errno.EAGAIN
            return
        self.refused = False
        if self.supervised.taken_over and self.tail is not None:  # it writes to an svscan that is no more
            self.send(b"t")

    def _descriptors(self) -> Standard:
        """What its processes get; with -v, everything that would go elsewhere comes here. Raises OSError."""
        if self._scanner.screen is None:
            return self._standard
        if self.tail is None:
            self.tail = Tail(self._scanner.screen, self.name())
            self._scanner.supervisor.watch(self.tail.reading, self.tail.ready)
        others = {1, 2} - {target for _, target in self._standard}
        return (*self._standard, *((self.tail.writing, target) for target in others))

    def _report(self, supervised: Supervised) -> None:
        line = (self.tail.last if self.tail is not None else b"") or supervised.place.last_line()
        text = failure(supervised.place.name, supervised.service, supervised.early, visible(line))
        self._warn(text)

    def _over(self) -> None:
        self.supervised = None

    def name(self) -> bytes:
        return self._entry.name + self._part

    def running(self) -> bool:
        return self.supervised is not None

    def starting(self) -> bool:
        return self.supervised is not None and self.supervised.service.pending != b""

    def send(self, letters: bytes) -> bool:
        """Whether it is there to obey."""
        if self.supervised is None:
            return False
        self._scanner.supervisor.command(self.supervised, letters)
        return True

    def rename(self) -> None:
        """The directory has another name now."""
        if self.supervised is not None:
            self.supervised.place.name = self.name()

    def release(self) -> None:
        if self.tail is not None:
            self._scanner.supervisor.unwatch(self.tail.reading)
            self.tail.close()


class Separate:
    """The same with a supervise of its own, which need not be this toolkit's."""

    def __init__(self, scanner: "Scanner", entry: "Entry", part: bytes, standard: Standard) -> None:
        self._scanner = scanner
        self._entry = entry
        self._part = part
        self._standard = standard
        self._warn = scanner.messages.warn
        self.refused = False  # never: it is the other supervise's to say
        self.pid = 0

    def start(self) -> None:
        """Unless it is there, or one that an svscan before this one has started."""
        if self.running():
            return
        try:
            self.pid = self._scanner.supervisor.fork(self._child)
        except OSError as e:
            self._warn(b"unable to fork for ", self.name(), error=e)

    def _child(self) -> int | Exec:
        for fd, target in self._standard:
            fds.copy(fd, target)
        name = self._entry.name
        path = name
        if self._part:  # the original starts the log's supervise in the directory of the service
            try:
                os.chdir(name)
            except OSError as e:
                self._warn(b"unable to switch to ", name, error=e)
                return strerr.LATER
            path = b"log"
        complaint = b"warning: unable to start supervise"
        return Exec([b"supervise", path], self._scanner.env, who=PROGRAM, complaint=complaint, shown=self.name())

    def name(self) -> bytes:
        return self._entry.name + self._part

    def running(self) -> bool:
        return self.pid != 0 or self._write(b"ok", b"")

    def starting(self) -> bool:
        """It is down for a moment: its supervise, told to exit now, would not start it again, as the original would."""
        status = servicedir.read_status(self._entry.folder, b"." + self._part)
        return status is not None and status.pid == 0 and status.want == UP

    def send(self, letters: bytes) -> bool:
        """Whether it is there to obey."""
        return self._write(b"control", letters)

    def rename(self) -> None:
        """What it says has the name that it was started with."""

    def _write(self, fifo: bytes, letters: bytes) -> bool:
        """Whether anybody reads it: not before supervise is there, and not after."""
        try:
            path = b".%s/supervise/%s" % (self._part, fifo)
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._entry.folder)
        except OSError:
            return False
        try:
            fds.write_all(fd, letters)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def release(self) -> None:
        pass


Keeper = Integrated | Separate


class Stop:
    """How far the end of a service and its log has come."""

    __slots__ = ("log_due", "log_letters", "told", "unread")

    def __init__(self) -> None:
        self.told = False  # whether the service has been told
        self.unread = -1  # by the log, at the last look; -1 before the log has been told
        self.log_due = 0.0  # monotonic: when a log that reads nothing more is told with more emphasis
        self.log_letters = b"x"


class Entry:
    """A directory below DIR. folder: a descriptor of it, wherever it is moved to; pipe: both ends, for reading and
    writing, between main and log."""

    __slots__ = ("active", "folder", "full", "identity", "log", "main", "name", "pipe", "stop")

    def __init__(self, name: bytes, identity: tuple[int, int], folder: int) -> None:
        self.name = name
        self.identity = identity
        self.folder = folder
        self.active = True
        self.full = False  # whether the pipe was full when it was last looked at
        self.pipe: tuple[int, int] | None = None
        self.main: Keeper
        self.log: Keeper | None = None
        self.stop = Stop()

    def keepers(self) -> list[Keeper]:
        return [self.main] if self.log is None else [self.main, self.log]

    def unread(self) -> int:
        """Bytes that the log has not read yet."""
        try:
            return fds.unread(self.pipe[0]) if self.pipe is not None else 0
        except OSError:
            return 0

    def close_writing(self) -> None:
        """Let the log see the end of what the service has written."""
        if self.pipe is not None and self.pipe[1] >= 0:
            os.close(self.pipe[1])
            self.pipe = self.pipe[0], -1

    def close(self) -> None:
        self.close_writing()
        if self.pipe is not None:
            os.close(self.pipe[0])
        os.close(self.folder)
        for keeper in self.keepers():
            keeper.release()


class Scanner:
    """svscan, in the directory that it scans."""

    def __init__(self, env: Env, separate: bool, screen: Screen | None, kill_after: float) -> None:
        self.messages = Messages(PROGRAM)
        self._warn = self.messages.warn
        self.env = {name: value for name, value in env.items() if name != b"NOTIFY_SOCKET"}
        self.screen = screen
        self._address = env.get(b"NOTIFY_SOCKET", b"")
        self._keeper = Separate if separate else Integrated
        self._kill_after = kill_after
        self._kill_at = 0.0  # monotonic; 0 before the end
        self._stop_began = 0.0
        self._next_scan = 0.0
        self._entries: list[Entry] = []
        self.supervisor = Supervisor(
            Messages(b"supervise"),
            spawn=lambda child: chain.spawn(child, self.env, "svscan"),  # type: ignore[arg-type]
            become=self._become,
            reaped=self._reaped,
            caught=self._stop,
            listen=tuple(number for number in (signals.TERM, signals.INT) if not signals.is_ignored(number)),
            session=screen is not None,
        )

    def _become(self, argv: list[bytes], shown: bytes) -> Exec:
        return Exec(argv, self.env, who=b"supervise", complaint=b"fatal: unable to start", shown=shown)

    def run(self) -> int:
        """Until a signal, and everything is down."""
        next_relief = 0.0
        told = False
        while True:
            now = time.monotonic()
            if self._kill_at:
                if self._stopped(now):
                    return self._left()
                until = now + TURN
            else:
                if now >= self._next_scan:
                    self._next_scan = now + SCAN
                    self._scan()
                until = self._next_scan
                if any(entry.pipe and servicedir.may_discard(entry.folder) for entry in self._entries):
                    if now >= next_relief:
                        self._relieve()
                        next_relief = now + RELIEF
                    until = min(until, next_relief)
                if not told:
                    told = True
                    self._tell(b"READY=1")
            self.supervisor.step(until)

    def look_again_soon(self) -> None:
        self._next_scan = min(self._next_scan, time.monotonic() + SOON)

    def _tell(self, message: bytes) -> None:
        if self._address:
            try:
                notify.tell(self._address, message)
            except OSError as e:
                self._warn(b"unable to write to ", self._address, error=e)

    # Looking around

    def _scan(self) -> None:
        for entry in self._entries:
            entry.active = False
        try:
            names = sorted(os.listdir(b"."))
        except OSError as e:
            self._warn(b"unable to read directory", error=e)
            return
        for name in names:
            if not name.startswith(b"."):
                self._look(name)
        for entry in self._entries.copy():
            if not entry.active and not any(keeper.running() for keeper in entry.keepers()):
                entry.close()
                self._entries.remove(entry)

    def _look(self, name: bytes) -> None:
        try:
            status = os.stat(name)
        except OSError as e:
            self._warn(b"unable to stat ", name, error=e)
            return
        if not stat.S_ISDIR(status.st_mode):
            return
        identity = status.st_dev, status.st_ino
        entry = next((entry for entry in self._entries if entry.identity == identity), None)
        if entry is None:
            entry = self._new(name, identity)
            if entry is None:
                return
            self._entries.append(entry)
        if entry.name != name:
            entry.name = name
            for keeper in entry.keepers():
                keeper.rename()
        entry.active = True
        for keeper in entry.keepers():
            keeper.start()

    def _new(self, name: bytes, identity: tuple[int, int]) -> Entry | None:
        """A service that has not been here before; None, said why, if it cannot be one now."""
        if len(self._entries) >= SERVICES:
            self._warn(b"unable to start ", name, b": running too many services")
            return None
        try:
            folder = servicedir.open_folder(name)
        except OSError as e:
            self._warn(b"unable to switch to ", name, error=e)
            return None
        entry = Entry(name, identity, folder)
        try:
            os.stat(b"log", dir_fd=folder)
        except FileNotFoundError:
            entry.main = self._keeper(self, entry, b"", ())
            return entry
        except OSError as e:
            os.close(folder)
            self._warn(b"unable to stat ", name, b"/log", error=e)
            return None
        try:
            entry.pipe = reading, writing = servicedir.open_log_pipe(folder)
        except OSError as e:
            os.close(folder)
            self._warn(b"unable to create pipe for ", name, error=e)
            return None
        entry.main = self._keeper(self, entry, b"", ((writing, 1),))
        entry.log = self._keeper(self, entry, LOG, ((reading, 0),))
        return entry

    # Pipes that are full

    def _relieve(self) -> None:
        """A pipe that is full twice in a row is not being read."""
        for entry in self._entries:
            if entry.pipe is None or not servicedir.may_discard(entry.folder):
                continue
            poll = select.poll()
            poll.register(entry.pipe[1], select.POLLOUT)
            full = not poll.poll(0)
            if full and entry.full:
                try:
                    lost = servicedir.relieve(entry.folder)
                except OSError as e:
                    self._warn(b"unable to read the pipe of ", entry.name, error=e)
                else:
                    if lost:
                        self._warn(entry.name, b"/log does not read: %d bytes thrown away" % lost)
                full = False
            entry.full = full

    def _reaped(self, pid: int) -> None:
        for entry in self._entries:
            for keeper in entry.keepers():
                if isinstance(keeper, Separate) and keeper.pid == pid:
                    keeper.pid = 0

    # The end

    def _stop(self, number: int) -> None:
        """A signal: begin to stop; a second one: hurry."""
        now = time.monotonic()
        if self._kill_at:
            self._kill_at = now
            for entry in self._entries:
                entry.stop.log_due = min(entry.stop.log_due, now)
            return
        self._kill_at = now + self._kill_after
        self._stop_began = now
        self._tell(b"STOPPING=1")

    def _stopped(self, now: float) -> bool:
        """Whether all is down; does what is due for that."""
        down = True
        for entry in self._entries:
            for keeper in entry.keepers():
                if keeper.refused and now < self._stop_began + SOON:
                    keeper.start()
                    down = False
            if entry.main.running():
                down = False
                if not entry.stop.told:
                    entry.stop.told = entry.main.send(b"dx")
                elif now >= self._kill_at:
                    entry.main.send(b"k")
            elif entry.log is not None and entry.log.running():
                down = False
                self._stop_log(entry, entry.log, now)
        return down

    def _stop_log(self, entry: Entry, log: Keeper, now: float) -> None:
        """A log that has read to the end of its input has written everything, and ends: it has time while it reads, and
        -k's seconds when it does not. What it has left is said."""
        stop, unread = entry.stop, entry.unread()
        if stop.unread < 0:
            if log.starting() and now < self._kill_at:
                return
            entry.close_writing()
            if not log.send(stop.log_letters):  # its supervise is not ready to hear yet: the next turn tries again
                return
        elif stop.unread == unread:
            if now >= stop.log_due:
                stop.log_letters += b"k" if b"d" in stop.log_letters else b"d"
                log.send(stop.log_letters[-1:])
                stop.log_due = now + self._kill_after
            return
        stop.unread = unread
        stop.log_due = now + self._kill_after

    def _left(self) -> int:
        """What to end with: not everything is down if another supervise has it, and not everything is written if a log
        has not read it."""
        for entry in self._entries:
            unread = entry.unread()
            if unread:
                self._warn(entry.name, b"/log has not read %d bytes: they are lost" % unread)
        refused = [keeper for entry in self._entries for keeper in entry.keepers() if keeper.refused]
        for keeper in refused:
            self._warn(b"unable to stop ", keeper.name(), b": another supervise has it")
        return strerr.LATER if refused else 0


def main(argv: list[bytes], env: Env) -> int:
    try:
        chosen, rest = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        return strerr.usage(PROGRAM, USAGE)
    given = dict(chosen)
    seconds, digits = numbers.scan(given.get(b"k", b"%d" % KILL))
    if len(rest) > 1 or not digits or digits < len(given.get(b"k", b"")):
        return strerr.usage(PROGRAM, USAGE)
    fds.fill_standard()
    try:
        if rest:
            os.chdir(rest[0])
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to chdir to ", rest[0], error=e)
    return Scanner(env, b"s" in given, Screen(PROGRAM, 1, env) if b"v" in given else None, seconds or FOREVER).run()
