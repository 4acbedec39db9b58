"""service - what is to be done for a service: a state machine over supervise's control bytes and ended processes. Pure.

At most one of the service's scripts runs at a time:

         u, o           exit 0         ended            wanted
    down -------> start --------> run --------> finish --------> run, and so on
                    | else                         | else
                    v           ended              v
                  down  <----------------------- stop

A script that is missing is passed over; of run's the attempt is made, and fails where everybody sees it. Without run,
a start that succeeded is all (daemontools-encore). Whoever drives the machine starts `pending` when its time has come.
"""

from _collections_abc import Callable

from qmailpy.formats.svstatus import DOWN, ONCE, UP

START, RUN, FINISH, STOP = b"start", b"run", b"finish", b"stop"

# Control byte -> the signal that it stands for. q, 1, 2 and w are daemontools-encore's.
SIGNALS = {
    b"h": "HUP", b"a": "ALRM", b"i": "INT", b"t": "TERM", b"k": "KILL", b"p": "STOP", b"c": "CONT",
    b"q": "QUIT", b"1": "USR1", b"2": "USR2", b"w": "WINCH",
}  # fmt: skip
WANTS = {b"u": UP, b"d": DOWN, b"o": ONCE}
PAUSES = {b"p": True, b"c": False}
SETTLING = b"udox"  # bytes after which something else may have to run
ANNOUNCED = b"udopcx"  # bytes after which supervise/status is written again

KILLED = -1  # finish's first argument after a death by a signal, as with runit


class Service:
    """has(script) says whether the directory has an executable file of that name; of run, whether it has any.

    want: UP, DOWN or ONCE, by which nothing is started again; pid: 0 if nothing runs; script: what runs, or ran last;
    pending: what is to be started, b"" for nothing; begun: start has been passed; dirty: stop has still to run.
    """

    __slots__ = ("begun", "code", "dirty", "exiting", "has", "paused", "pending", "pid", "script", "signal", "want")

    def __init__(self, want: bytes, has: Callable[[bytes], bool]) -> None:
        self.want = want
        self.has = has
        self.pid = 0
        self.paused = False
        self.script = self.pending = b""
        self.begun = self.dirty = self.exiting = False
        self.code = self.signal = 0  # how run ended: exit code or KILLED, and the signal or 0
        if want == UP:
            self._begin()

    def over(self) -> bool:
        """Whether supervise has nothing left to do, and ends."""
        return self.exiting and not self.pid and not self.pending

    def started(self, script: bytes, pid: int) -> None:
        """script runs as pid: pending does, or one that a supervise before this one has started."""
        self.script = script
        self.pid = pid
        self.pending = b""
        self.paused = False
        if script in (RUN, FINISH):
            self.begun = self.dirty = True
        elif script == STOP:
            self.dirty = False

    def command(self, byte: bytes) -> list[str]:
        """Obey one byte of supervise/control; returns the signals to send to pid, in order. Unknown bytes: nothing."""
        signals = [SIGNALS[byte]] if byte in SIGNALS else []
        self.paused = PAUSES.get(byte, self.paused)
        if byte == b"d":
            self.paused = False
            if self.script in (START, RUN):
                signals = ["TERM", "CONT"]
        self.want = WANTS.get(byte, self.want)
        self.exiting |= byte == b"x"
        if self.pid:
            return signals
        if byte in SETTLING:
            self._settle(wanted=self.want == UP or byte == b"o")
        return []

    def ended(self, code: int, signal: int) -> None:
        """The process has ended: with an exit code, or KILLED and a signal."""
        self.pid = 0
        self.paused = False
        if self.script == START:
            self.begun = self.dirty = code == 0
            if code:  # of no use to try again: encore's "failed"
                self.want = DOWN
            self._settle(wanted=self.want != DOWN)
            return
        if self.script == RUN:
            self.code, self.signal = code, signal
            if self.has(FINISH):
                self.pending = FINISH
                return
        self._settle(wanted=self.want == UP)

    def finish_arguments(self) -> list[bytes]:
        """What finish is told of run: its exit code or -1, and the signal that ended it or 0."""
        return [b"%d" % self.code, b"%d" % self.signal]

    def _settle(self, wanted: bool) -> None:
        """Nothing runs: what is next?"""
        self.pending = b""
        if wanted and not self.exiting:
            self._begin()
            return
        self.begun = False
        self.dirty = self.dirty and self.has(STOP)
        if self.dirty:
            self.pending = STOP

    def _begin(self) -> None:
        if not self.begun and self.has(START):
            self.pending = START
        elif self.begun and self.script == START and not self.has(RUN):
            self.want = ONCE
            self.begun = False
        else:
            self.pending = RUN


def failure(name: bytes, service: Service, early: int, last_line: bytes) -> bytes:
    """What to say of a service that cannot be kept running: early is loops.supervise's, last_line its log's or b""."""
    if service.script == START:
        text = b"%s/start has failed, %s stays down" % (name, name)
    else:
        end = b"with exit code %d" % service.code if service.code != KILLED else b"by signal %d" % service.signal
        times = b"" if early == 1 else b", %d times in a row" % early
        text = b"%s ended at once, %s%s, and is started again every second" % (name, end, times)
    return text + (b"; last line: " + last_line if last_line else b"")
