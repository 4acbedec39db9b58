"""NAME
    svc - control services

SYNOPSIS
    svc [-udopchaitkxq12] [-w SECONDS] [DIR...]

DESCRIPTION
    svc sends the letters of its options, in their order and each once, to the supervise of each service directory
    DIR:

    -u    up: start the service if it is down, and again whenever it ends
    -d    down: if the service is up, send it TERM, then CONT; do not start it again
    -o    once: start the service if it is down; do not start it again
    -x    exit: supervise ends as soon as the service is down, or at its next end
    -p    pause: send the service STOP
    -c    continue: send it CONT
    -h    send it HUP
    -a    send it ALRM
    -i    send it INT
    -t    send it TERM
    -k    send it KILL
    -q    send it QUIT
    -1    send it USR1
    -2    send it USR2

    So `svc -du` stops a service and starts it again, and `svc -dx` ends it for good, with its supervise.

    svc works with the supervise of this toolkit and with the original, which ignores -q, -1 and -2. Each DIR is
    relative to the directory where svc was started. What cannot be done for a DIR is a warning; the others get
    their letters nevertheless.

WAITING
    svc does not wait for the effect, unless it is told to by -w. Then it ends when all services are as asked, or
    after SECONDS, a whole number; 0 is for ever. For each service that is not as asked by then it says what it is
    instead, such as `svc: warning: smtpd is not down after 5 seconds: up (pid 7) 12 seconds, want down`.

    What is waited for depends on the last of the letters u, o, d and x:

    u or o           the service is up; it is a new process if d, t, k, i or q is among the letters. What
                     runs once only may also have been up and have ended
    d                the service is down
    x                supervise has ended, which may take as long as the service does if there is no d before

    Without these letters:

    t, k, i or q     a new process is up
    others, none     the service is up or down as supervise is told to have it

    In any case supervise has read the letters first. A service is up when its run is running, even if that is about to
    fail; start, stop and finish are not the service.

EXIT STATUS
    0      done; without -w also if there were warnings
    100    wrong usage
    111    the current directory cannot be used; with -w, a DIR could not be controlled or is not as asked

BUGS
    supervise does not say when something changes: -w looks, thirty times a second.

    The original supervise reads no letters in the first second of a process, so that -w may take that long.

    With -w each DIR takes a descriptor: with more than a thousand, raise the limit of open files first.

    In daemontools-encore -w takes no argument, and stands for WINCH.

SEE ALSO
    supervise(8), svstat(8), svok(8), svscan(8), signal(7)
"""

import os
import select
import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import numbers, options
from qmailpy.formats.svstatus import DOWN, ONCE, UP
from qmailpy.stores import services
from qmailpy.stores.services import State
from qmailpy.unix import fds, signals

PROGRAM = b"svc"
USAGE = b"svc [ -udopchaitkxq12 ] [ -w seconds ] [ dir ... ]"
# The original's line, so without what is new.
LETTERS = (
    b"svc options: u up, d down, o once, x exit, p pause, c continue, h hup, a alarm, i interrupt, t term, k kill\n"
)

LOOK_MS = 33  # milliseconds from one look to the next

DECISIVE = b"uodx"  # the last of them says what -w waits for
ENDING = b"dtkiq"  # after these a process ends, if it does as usual
WANTS = {b"u": UP, b"o": ONCE}
RUN = (b"run", None)  # the scripts that count as the service; None: supervise does not say

# What a service is not, after what decides.
COMPLAINTS = {
    b"u": b" is not up",
    b"o": b" is not up",
    b"d": b" is not down",
    b"x": b" is still supervised",
    b"t": b" has no new process",
    b"": b" is not as wanted",
}


def decisive(letters: bytes) -> bytes:
    """The letter that says what -w waits for: u, o, d or x; t for a new process; b"" for what supervise wants."""
    for letter in reversed(letters):
        if letter in DECISIVE:
            return bytes((letter,))
    return b"t" if any(letter in ENDING for letter in letters) else b""


def done_by_end(letters: bytes) -> bool:
    """Whether the end of supervise is what is waited for. Of `xd` it may never read the d."""
    return b"x" in letters and decisive(letters) in b"xd"


def is_up(state: State) -> bool:
    """Whether the service itself runs, not start, stop or finish."""
    return state.status.pid != 0 and state.script in RUN


def as_asked(letters: bytes, before: State | None, now: State | None) -> bool:
    """Whether a service has become what letters ask for, after supervise has read them. before: its state when
    supervise had not; None if there was none. now: None if supervise has ended."""
    what = decisive(letters)
    if now is None:
        return done_by_end(letters)
    status = now.status
    if what == b"x":
        return False
    if what == b"d":
        return not status.pid and status.want == DOWN
    if what == b"":
        return not status.pid if status.want == DOWN else is_up(now) or status.want != UP
    changed = before is None or (before.status.pid, before.status.when) != (status.pid, status.when)
    if what in WANTS and not status.pid:  # it may have ended by now
        return status.want == ONCE and changed and before is not None and not is_up(before)
    if status.want != WANTS.get(what, status.want):
        return False
    return is_up(now) and (changed or not any(letter in ENDING for letter in letters))


class Watched:
    """A service that has been told something and is looked at until it has done so.

    control: the descriptor to which letters were written, open until it has; ended: its supervise has ended meanwhile,
    even if there is another one by now; before: its state while all letters were unread."""

    __slots__ = ("before", "control", "directory", "ended", "letters", "taken")

    def __init__(self, directory: bytes, control: int, letters: bytes, before: State | None) -> None:
        self.directory = directory
        self.control = control
        self.letters = letters
        self.before = before
        self.taken = self.ended = False

    def is_as_asked(self, start: int) -> bool:
        """Look; raises Lost."""
        if self.ended:
            return as_asked(self.letters, self.before, None)
        if not self.taken:
            state = _state(self.directory, start)  # before the letters are counted: so it is from before they were read
            unread = services.unread(self.control)
            if unread and unread >= len(self.letters):
                self.before = state
            self.taken = not unread
        try:
            now = services.look(self.directory, start)
        except services.Unknown as e:
            return e.absent and as_asked(self.letters, self.before, None)
        return self.taken and as_asked(self.letters, self.before, now)

    def complaint(self, start: int, seconds: int) -> bytes:
        """What is not as asked, and what is instead; raises Lost."""
        try:
            found = services.look(self.directory, start).describe(time.time_ns())
        except services.Unknown as e:
            found = e.text
        what = COMPLAINTS[decisive(self.letters)]
        unread = b"" if self.taken else b", letters not read"
        return b"%s%s after %d seconds: %s%s" % (self.directory, what, seconds, found, unread)


def _state(directory: bytes, start: int) -> State | None:
    try:
        return services.look(directory, start)
    except services.Unknown:
        return None


def _send(directory: bytes, letters: bytes) -> int | None:
    """Write letters to the supervise of directory, which is the current one. Returns the descriptor, still open; None
    after a warning."""
    try:
        control = services.open_write(services.CONTROL)
    except OSError as e:
        if e.errno == services.NOT_RUNNING:
            strerr.warn(PROGRAM, b"unable to control ", directory, b": supervise not running")
        else:
            strerr.warn(PROGRAM, b"unable to control ", directory, error=e)
        return None
    try:
        os.set_blocking(control, True)
        fds.write_all(control, letters)
    except OSError as e:
        strerr.warn(PROGRAM, b"error writing commands to ", directory, error=e)
        os.close(control)
        return None
    return control


def _tell(directory: bytes, start: int, letters: bytes, waiting: bool) -> Watched | None:
    """Send letters to one service. Returns it if it is to be waited for; None after a warning, or if nobody waits.
    Raises Lost."""
    before = _state(directory, start) if waiting else None
    try:
        with services.Inside(directory, start):
            control = _send(directory, letters)
    except OSError as e:
        strerr.warn(PROGRAM, b"unable to chdir to ", directory, error=e)
        return None
    if control is None:
        return None
    if not waiting:
        os.close(control)
        return None
    return Watched(directory, control, letters, before)


def _wait(watched: list[Watched], start: int, seconds: int) -> list[Watched]:
    """Until all are as asked, or so many seconds, if any; returns those that are not. Raises Lost."""
    limit = time.monotonic() + seconds
    poll = select.poll()
    for each in watched:
        if done_by_end(each.letters):
            poll.register(each.control, 0)  # POLLERR comes when supervise has ended: nobody reads the FIFO then
    while True:
        left = []
        for each in watched:
            if each.is_as_asked(start):
                if done_by_end(each.letters) and not each.ended:
                    poll.unregister(each.control)
                os.close(each.control)
            else:
                left.append(each)
        watched = left
        if not watched or (seconds and time.monotonic() >= limit):
            return watched
        ended = [fd for fd, _ in poll.poll(LOOK_MS)]
        for each in watched:
            if each.control in ended:
                each.ended = True
                poll.unregister(each.control)


def _all(directories: list[bytes], start: int, letters: bytes, seconds: int | None) -> int:
    """seconds: None to wait for nothing. Returns the exit code; raises Lost."""
    told = [_tell(each, start, letters, seconds is not None) for each in directories]
    if seconds is None:
        return 0
    late = _wait([each for each in told if each is not None], start, seconds)
    for each in late:
        strerr.warn(PROGRAM, each.complaint(start, seconds))
        os.close(each.control)
    return strerr.LATER if late or None in told else 0


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    fds.fill_standard()  # a warning must not go to a supervise
    try:
        given, directories = options.parse(argv, b"udopchaitkxq12w:")
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        strerr.say(LETTERS)
        return strerr.NEVER
    letters = b"".join(dict.fromkeys(letter for letter, _ in given if letter != b"w"))
    seconds = None
    for word in [word for letter, word in given if letter == b"w"]:
        seconds, length = numbers.scan(word)
        if not word or length < len(word):
            return strerr.usage(PROGRAM, USAGE)
    try:
        start = services.open_start()
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to open current directory", error=e)
    try:
        return _all(directories, start, letters, seconds)
    except services.Lost as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to set directory", error=e.error)
    finally:
        os.close(start)
