"""NAME
    multilog - write lines into logs that are rotated

SYNOPSIS
    multilog ACTION...

DESCRIPTION
    multilog reads lines from descriptor 0 and treats each of them as the ACTIONs say, in their order. A last
    line without a newline gets one. Every line begins selected.

    t           as the first ACTION: put a label with the time and a space before each line. The label is @
                and 24 hexadecimal digits (TAI64N); tai64nlocal(8) makes it readable
    -PATTERN    deselect the line, if it matches PATTERN
    +PATTERN    select the line, if it matches PATTERN
    e           if the line is selected, print the first 200 bytes of it on descriptor 2
    =FILE       if the line is selected, let FILE begin with the first 1000 bytes of it; newlines fill FILE up
                to 1001 bytes
    DIR         (begins with a dot or a slash) if the line is selected, append it to the log in DIR
    sSIZE       let each file of a DIR that is named later have SIZE bytes at most: 4096 to 16777215, 99999 if
                nothing is said
    nNUMBER     let each DIR that is named later have NUMBER files at most, with `current`: 2 or more, 10 if
                nothing is said
    !COMMAND    let each DIR that is named later have a processor, see below

    Other ACTIONs do nothing. Without any DIR the lines go nowhere.

    A PATTERN must match the whole line, with its label. A star in it skips to the first of the character that
    follows the star in PATTERN; at the end of PATTERN it matches the rest of the line. Any other character
    matches itself. So `+*: fatal: *` matches `c: fatal: y` but not `a: b: fatal: x`. Only the first 1000 bytes of
    a line are compared; the rest of the line goes where they go.

    DIR is created if it is missing, for its owner alone. In it are

    current       the file that is written now: mode 0644; 0744 after multilog has ended by SIGTERM or at the
                  end of its input
    @LABEL.s      a file that is complete and safely on disk, by the time of its completion
    @LABEL.u      a file that a crash has left
    lock          locked while multilog runs
    state, newstate, previous, processed
                  see below

    When `current` has SIZE bytes, or ends with a line less than 2000 bytes before that, it becomes @LABEL.s and a
    new one begins. Then the oldest files beyond NUMBER are removed.

    A processor gets each complete file before it becomes @LABEL.s. multilog runs `/bin/sh -c COMMAND` in DIR,
    where descriptor 0 is the file, 1 what becomes @LABEL.s in place of it, 4 what the last run has written on
    5, and 5 what the next run will read on 4. If COMMAND fails, it is run again after five seconds.

    On SIGALRM multilog completes all files `current` that are not empty. On SIGTERM it reads on to the end of the
    line at most, writes what it has, and ends.

    Where something goes wrong after the start, such as a full disk, multilog says so on descriptor 2, waits five
    seconds and tries again. The input waits meanwhile; nothing is lost, nothing is written twice.

    If descriptor 0 is a pipe, lines are taken out of it only when they are written. So if multilog is killed, even
    by SIGKILL, the next one, which reads the same pipe, finds all lines that are not in the log. It may
    write again those that were just being written. Only the beginning of a line, which waited for its end
    in memory, may be lost, and the end of a file in a crash of the whole machine.

EXIT STATUS
    0      the input has ended, or SIGTERM has come
    111    some DIR or FILE could not be opened at the start

SECURITY
    A DIR should belong to an account of its own, as in `setuidgid log multilog t ./main`. Lines may hold any bytes.

BUGS
    A processor that fails for ever keeps multilog from reading. `*` is no wildcard like that of a shell.

SEE ALSO
    svscan(8), supervise(8), tai64n(8), tai64nlocal(8), splogger(8), setuidgid(8)
"""

import os
import select
import time

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import tai64n
from qmailpy.stores.logdir import LogDir
from qmailpy.stores.safeio import Failed
from qmailpy.supervision.multilog import HEAD, LINES, REST_OF_LINE, Lines, Output, labelled, outputs
from qmailpy.unix import fds, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.unix.pipes import Window

PROGRAM = b"multilog"

STDIN = 0
BLOCK = 65536  # bytes: what a pipe holds on Linux
PAUSE = 5  # seconds
PRINTED = 200  # bytes of a line, e
STATE, NEWSTATE = 4, 5  # a processor's descriptors


def _pause(complaint: bytes, error: OSError | None) -> None:
    strerr.warn(PROGRAM, complaint, b", pausing", error=error)
    time.sleep(PAUSE)


def _process(command: bytes, directory: int, env: Env) -> int:
    """Run a processor to its end; as stores.logdir.Process."""

    def child() -> int | Exec:
        signals.forget_handlers()
        try:
            os.fchdir(directory)  # first: its descriptor may be one of those below
            fds.move(os.open(b"previous", os.O_RDONLY), 0)
            fds.move(os.open(b"processed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
            fds.move(os.open(b"state", os.O_RDONLY), STATE)
            fds.move(os.open(b"newstate", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), NEWSTATE)
        except OSError as e:
            return strerr.fail(strerr.LATER, PROGRAM, b"unable to run ", command, error=e)
        return Exec([b"sh", b"-c", command], env, who=PROGRAM, file=b"/bin/sh", shown=command)

    try:
        pid = chain.spawn(child, env, "multilog")
    except OSError as e:
        raise Failed(b"unable to fork for processor in", e)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except OSError as e:
        raise Failed(b"wait failed for processor in", e)


class _Printer:
    """The action e."""

    __slots__ = ()

    def write(self, lines: bytes) -> None:
        for line in lines.split(b"\n")[:-1]:
            strerr.say(line[:PRINTED] + b"...\n" if len(line) > PRINTED else line + b"\n")

    def close(self) -> None:
        pass


class _Status:
    """The action =. Nobody can see any line but the last."""

    __slots__ = ("fd", "name")

    def __init__(self, name: bytes) -> None:
        """Raises Failed."""
        self.name = name
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CREAT, 0o600))
        except OSError as e:
            raise Failed(b"unable to create " + name, e)
        try:
            self.fd = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as e:
            raise Failed(b"unable to write " + name, e)

    def write(self, lines: bytes) -> None:
        last = lines[lines.rfind(b"\n", 0, -1) + 1 : -1]
        contents = last[:HEAD].ljust(HEAD + 1, b"\n")
        while True:
            try:
                os.lseek(self.fd, 0, os.SEEK_SET)
            except OSError as e:
                _pause(b"unable to move to beginning of " + self.name, e)
                continue
            try:
                if os.write(self.fd, contents) == len(contents):
                    return
                _pause(b"unable to write " + self.name, None)
            except OSError as e:
                _pause(b"unable to write " + self.name, e)

    def close(self) -> None:
        os.close(self.fd)


class _Multilog:
    """A running script. Used in `with`, which ends it cleanly."""

    def __init__(self, words: list[bytes], env: Env) -> None:
        self.labelled = labelled(words)
        self.lines = Lines(self.labelled)
        self.script = outputs(words)
        self.env = env
        self.sinks: dict[Output, _Printer | _Status | LogDir] = {}
        self.logs: list[LogDir] = []
        self.continued: list[LogDir] = []  # where the line goes whose head was written
        self.one_by_one = [output.kind for output in self.script].count(b"e") > 1  # to print in the right order
        self.stop = False
        self.paused = False  # since the last look into the window
        self.window: Window | None = None
        self.waiting = select.poll()
        self.signals, self.wake = os.pipe()

    def __enter__(self) -> "_Multilog":
        os.set_blocking(self.wake, False)
        signals.wake(self.wake)
        for number in (signals.TERM, signals.ALRM):
            signals.catch(number, _noted)
            signals.unblock(number)
        self.waiting.register(STDIN, select.POLLIN)
        self.waiting.register(self.signals, select.POLLIN)
        return self

    def __exit__(self, *error: object) -> None:
        for sink in self.sinks.values():
            sink.close()
        if self.window is not None:
            self.window.close()
        signals.forget_handlers()
        os.close(self.signals)
        os.close(self.wake)

    def open(self) -> None:
        """Raises Failed."""
        for output in self.script:
            if output.kind == b"=":
                self.sinks[output] = _Status(output.name)
        for output in self.script:
            if output.kind == b"e":
                self.sinks[output] = _Printer()
            elif output.kind == b"/":
                log = LogDir(output.name, output.size, output.number, output.processor, self.process, self.pause)
                self.sinks[output] = log
                self.logs.append(log)
        try:
            from qmailpy.unix.pipes import Window

            self.window = Window(STDIN)
        except (ImportError, OSError):
            pass

    def pause(self, complaint: bytes, error: OSError | None) -> None:
        self.paused = True
        _pause(complaint, error)

    def process(self, command: bytes, directory: int) -> int:
        return _process(command, directory, self.env)

    def run(self) -> None:
        """Until the input ends or SIGTERM comes."""
        while not (self.stop and not self.lines.within()):
            ready = [fd for fd, _ in self.waiting.poll()]
            if self.signals in ready:
                self._obey(os.read(self.signals, 256))
            elif not self._pass_on():
                break
        self._handle(self.lines.end())

    def _obey(self, numbers: bytes) -> None:
        if signals.TERM in numbers:
            self.stop = True
        if signals.ALRM in numbers:
            for log in self.logs:
                if log.bytes:
                    log.rotate()

    def _pass_on(self) -> bool:
        """Handle what waits. False: the input has ended."""
        try:
            data = self._read()
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:  # as at its end
            return False
        if not data:
            return False
        label = tai64n.label(time.time_ns()) + b" " if self.labelled else b""
        events, used = self.lines.feed(data, label, self.window is not None)
        self._handle(events)
        if self.window is not None and (not self.paused or self._is_still_there(data[:used])):
            self.window.take(used)
        self.paused = False
        return True

    def _is_still_there(self, data: bytes) -> bool:
        """Whether what was written is still what waits: svscan may have thrown lines away meanwhile (log/discard)."""
        try:
            return self.window is not None and self.window.look(len(data)) == data
        except OSError:
            return False

    def _read(self) -> bytes:
        """What waits, but no more than the rest of a line if this is to end. Raises OSError."""
        if self.window is not None:
            try:
                data = self.window.look(BLOCK)
                return data[: data.find(b"\n") + 1] or data if self.stop else data
            except BlockingIOError:
                raise
            except OSError:  # a system without it
                self.window.close()
                self.window = None
        return os.read(STDIN, 1 if self.stop else BLOCK)

    def _handle(self, events: list[tuple[int, bytes]]) -> None:
        for kind, text in events:
            if kind == REST_OF_LINE:
                for log in self.continued:
                    log.write(text)
            elif kind != LINES:
                self._begin(text)
            elif self.one_by_one:
                for line in text.split(b"\n")[:-1]:
                    self._write(line + b"\n")
            else:
                self._write(text)

    def _write(self, lines: bytes) -> None:
        choose = None
        chosen = b""
        for output, sink in self.sinks.items():
            if output.choose is not choose:
                choose = output.choose
                chosen = choose(lines)
            if chosen:
                sink.write(chosen)

    def _begin(self, text: bytes) -> None:
        """A line too long to wait for its end."""
        head = text[:HEAD] + b"\n"
        self.continued = []
        for output, sink in self.sinks.items():
            if output.choose(head):
                if isinstance(sink, LogDir):
                    sink.write(text)
                    self.continued.append(sink)
                else:
                    sink.write(head)


def _noted(number: int, frame: object) -> None:
    """A signal is read from the pipe that it wakes."""


def main(argv: list[bytes], env: Env) -> int | Exec:
    os.umask(0o022)
    try:
        os.close(os.open(b".", os.O_RDONLY))
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to switch to current directory", error=e)
    try:
        fds.fill_standard()  # a closed 0 has ended, and is no pipe of ours
    except OSError:  # no /dev/null in a chroot
        pass
    with _Multilog(argv[1:], env) as multilog:
        try:
            multilog.open()
        except Failed as e:
            return strerr.fail(strerr.LATER, PROGRAM, e.complaint, error=e)
        multilog.run()
    return 0
