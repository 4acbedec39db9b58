"""chain - one program becomes the next: the only file that execs or calls a command's main.

A command's `main(argv, env)` returns an exit code, or an Exec that says which program comes next. `run` looks
that program up along PATH as execvp(3) does. If the file found is a launcher of this toolkit, the command's
main is called in the same process (a warm step), after everything that execve(2) would have done to the
process has been done; if it is anybody else's file, it is executed (a cold step). doc/CHAINING.md holds the
contract; tests/test_chain.py holds one test per line of it.

    run       trampoline: until an exit code is left
    attempt   the same for one who waits only to translate the status: no fork where the steps are warm
    spawn     the same in a forked child, for those who go on meanwhile
    serve     the same in a forked child that goes on with the next task
    preload   import, before the first fork, what the forked children will need
    start     what a launcher in bin/ calls

QMAILPY_COLD, set and not empty, turns warm steps off: every step is a real execve.
"""

import errno
import gc
import os
import sys
import time
from _collections_abc import Callable  # collections.abc imports a megabyte with it

from qmailpy import registry, strerr
from qmailpy.unix import fds, ids, signals

DEFAULT_PATH = b"/bin:/usr/bin"  # pathexec_run of the originals
COLD = b"QMAILPY_COLD"

# Errors of execve after which the search along PATH goes on, as in execvp(3) and pathexec_run.
SEARCH_ON = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR})
NOT_FOR_US = SEARCH_ON - {errno.ENOENT}  # of a file that is there; its interpreter is not, with ENOENT

REHEARSALS = 16  # Python changes the code of a function at its eighth call, and at later ones
REHEARSAL_S = 0.1  # for each command

LAUNCHER_SIZE = 4096  # bytes; a longer file is nobody's launcher
LOCALES = frozenset({b"C.UTF-8", b"C.utf8", b"UTF-8"})  # what Python sets LC_CTYPE to in place of C (PEP 538)

Env = dict[bytes, bytes]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.unix.stage import Stage


class Exec:
    """The next program: argv and environment whole, as for execve.

    file is what is looked for, argv[0] unless named. If it cannot be run, `who: complaint SHOWN: reason` is said,
    where shown is file unless named, and the exit code is `code`; an empty `who` says nothing (popup, checkpassword).
    absent is the exit code if there is nothing to execute of that name, `code` unless named: then trying again is in
    vain. A file that is there, and cannot be executed now, may want its interpreter, or the system memory.
    """

    __slots__ = ("absent", "argv", "code", "complaint", "env", "file", "shown", "who")

    def __init__(
        self,
        argv: list[bytes],
        env: Env,
        who: bytes = b"",
        file: bytes | None = None,
        complaint: bytes = b"fatal: unable to run",
        code: int = strerr.LATER,
        shown: bytes | None = None,
        absent: int | None = None,
    ) -> None:
        self.argv = argv
        self.env = env
        self.who = who
        self.file = argv[0] if file is None else file
        self.complaint = complaint
        self.code = code
        self.shown = self.file if shown is None else shown
        self.absent = absent


class _Toolkit:
    """Which files are this toolkit's own launchers, and what attempt keeps open. One per process.

    A launcher is known by device, inode and time of change, never by name alone: the numbers of a removed file
    are used again at once. They are read when the process starts, so that a launcher which is replaced while a
    tcpserver runs (an upgrade) is no longer known to it and is executed: the new code runs at once, if slower,
    until the tcpserver restarts.
    """

    folder: str | None = None
    launchers: dict[tuple[int, int, int], str | None] = {}  # noqa: RUF012  None: not read yet
    kept: tuple[int, ...] = ()


def _mark(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _know_launchers() -> None:
    for name in registry.COMMANDS:
        try:
            _Toolkit.launchers[_mark(os.stat(f"{_Toolkit.folder}/{name}"))] = None
        except OSError:
            continue


def _command(path: bytes) -> str:
    """The command that the launcher at path starts, by its last line; "" if the file is none, though in our folder.

    Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        text = os.read(fd, LAUNCHER_SIZE)
    finally:
        os.close(fd)
    last = text.splitlines()[-1:]
    for name in registry.COMMANDS:
        if last == [b'start("%s", here)' % name.encode()]:
            return name
    return ""


def _candidates(file: bytes, env: Env) -> list[bytes]:
    """The paths that execvp would try, in order; env is the environment of the program that calls it."""
    if b"/" in file:
        return [file]
    return [(folder or b".") + b"/" + file for folder in env.get(b"PATH", DEFAULT_PATH).split(b":")]


def _own(path: bytes, status: os.stat_result, env: Env) -> str:
    """The command whose launcher is at path, if it is one of ours and may be executed; else ""."""
    mark = _mark(status)
    if mark not in _Toolkit.launchers or env.get(COLD) or not os.access(path, os.X_OK):
        return ""
    name = _Toolkit.launchers[mark]
    if name is None:
        try:
            name = _Toolkit.launchers[mark] = _command(path)
        except OSError:  # Python could not read it either
            return ""
    return name


def _execute(path: bytes, step: Exec) -> OSError:
    """Become the program at path; returns only the reason why not."""
    try:
        os.execve(path, step.argv, step.env)
    except OSError as e:
        return e


def _cannot_run(step: Exec, error: OSError, absent: bool) -> int:
    if step.who:
        strerr.say(b"%s: %s %s: %s\n" % (step.who, step.complaint, step.shown, strerr.reason(error)))
    return step.absent if absent and step.absent is not None else step.code


def _checked(result: "int | Exec") -> "int | Exec":
    """What a main may return. What execve cannot carry does not get into a warm step either.

    Raises TypeError and the like for what is neither an exit code nor made of bytes.
    """
    if not isinstance(result, Exec):
        return result & 255
    words = b"".join((result.file, *result.argv, *result.env, *result.env.values()))
    if b"\0" in words or not result.argv[0]:  # Python's execve refuses an empty argv[0]
        return _cannot_run(result, OSError(errno.EINVAL, ""), absent=not result.file)
    if b"" in result.env or b"=" in b"".join(result.env):
        result.env = {name: value for name, value in result.env.items() if name and b"=" not in name}
    return result


def _shed() -> None:
    """What execve takes from a process: signal handlers, descriptors marked close-on-exec, other saved ids."""
    signals.forget_handlers()
    fds.close_on_exec(_Toolkit.kept)
    ids.forget_saved()


def _bug(name: str, error: BaseException) -> int:
    """Report an exception nobody expected, in one line: type and place. Its text may hold a password.

    A lack of memory is nobody's bug: a limit does that (softlimit -m).
    """
    if isinstance(error, MemoryError):
        return strerr.fail(strerr.LATER, name.encode(), b"out of memory")
    place = b"?"
    trace = error.__traceback__
    while trace is not None:
        place = b"%s:%d" % (os.path.basename(os.fsencode(trace.tb_frame.f_code.co_filename)), trace.tb_lineno)
        trace = trace.tb_next
    reason = b" (%s)" % strerr.reason(error) if isinstance(error, OSError) else b""
    text = type(error).__name__.encode() + b" at " + place + reason
    return strerr.fail(strerr.LATER, name.encode(), b"bug: ", text)


def _call(name: str, argv: list[bytes], env: Env) -> "int | Exec":
    """The command's main; an exception ends this one program, in both modes alike, with 111."""
    module = "qmailpy.commands." + registry.COMMANDS[name].module
    try:
        __import__(module)
        return _checked(sys.modules[module].main(argv, env.copy()))
    except BaseException as e:
        return _bug(name, e)


def _follow(step: "int | Exec", env: Env, waiting: bool) -> int:
    """The trampoline. Returns a wait status if somebody waits (attempt), else an exit code."""
    while isinstance(step, Exec):
        problem = OSError(errno.ENOENT, "")
        absent = True
        for path in _candidates(step.file, env):
            try:
                name = _own(path, os.stat(path), env)
            except OSError as e:
                error = e  # execve would have met the same
                absent = absent and not strerr.error_temp(e)
            else:
                if name:
                    _shed()
                    env = step.env
                    step = _call(name, step.argv, env)
                    break
                if waiting:
                    return _wait_for(step, env)
                error = _execute(path, step)
                absent = absent and error.errno in NOT_FOR_US
            if error.errno != errno.ENOENT:
                problem = error
            if error.errno not in SEARCH_ON:
                step = _cannot_run(step, error, absent)
                break
        else:
            step = _cannot_run(step, problem, absent)
    return step << 8 if waiting else step


def run(step: "int | Exec", env: Env) -> int:
    """Follow step until an exit code is left. env is the environment of the program that returned step."""
    return _follow(_checked(step), env, waiting=False)


def attempt(step: Exec, env: Env, keep: tuple[int, ...] = ()) -> int:
    """Run step for a caller who only waits to translate its status; returns it as waitpid(2) gives it.

    Warm steps run in this process: afterwards it may have another uid, cwd and umask, its handlers, timers and
    close-on-exec descriptors are gone but for those in keep, and only 1 and 2 are what they were. So the caller may
    report and end, nothing else, unless serves_again is true of the step. A foreign program, or the first step that
    goes cold, gets a process of its own.

    Raises OSError if there can be no process for that one.
    """
    try:
        copies = {fd: fds.set_aside(fd) for fd in (1, 2)}
    except OSError:  # no room for them
        return _wait_for(step, env)
    before = _Toolkit.kept  # not empty in an attempt within an attempt
    _Toolkit.kept = (*before, *keep, *(copy for copy in copies.values() if copy is not None))
    signals.stop_timers()  # a new process has none
    try:
        return _follow(_checked(step), env, waiting=True)
    finally:
        signals.stop_timers()
        signals.forget_handlers()
        _Toolkit.kept = before
        for fd, copy in copies.items():
            fds.put_back(fd, copy)


def spawn(child: Callable[[], int | Exec], env: Env, who: str) -> int:
    """Fork; the child calls child() for its exit code or Exec, and follows that. Returns the pid.

    env is the environment it starts with; who names it in a bug report.
    """
    pid = os.fork()
    if pid == 0:
        _run_and_exit(child, env, who)
    return pid


def serve(
    child: Callable[[], int | Exec],
    then: "Callable[[int], Callable[[], int | Exec] | int]",
    env: Env,
    who: str,
    kept: int,
) -> int:
    """As spawn; but when an exit code is left, then(code) says what the same process does next, with all that programs
    have left but handlers, timers, umask and the descriptors that exec closes. An exit code ends it.

    kept: a descriptor that warm steps leave open. For programs that change nothing else, or to what it may stay.
    """
    pid = os.fork()
    if pid == 0:
        umask = os.umask(0)
        os.umask(umask)
        _run_and_exit(lambda: _serve(child, then, env, who, kept, umask), env, who)
    return pid


def _serve(
    child: Callable[[], int | Exec],
    then: "Callable[[int], Callable[[], int | Exec] | int]",
    env: Env,
    who: str,
    kept: int,
    umask: int,
) -> int:
    _Toolkit.kept = (kept,)
    task: Callable[[], int | Exec] | int = child
    while not isinstance(task, int):
        try:
            code = run(task(), env)
        except BaseException as e:
            code = _bug(who, e)
        signals.stop_timers()
        signals.forget_handlers()
        os.umask(umask)
        task = then(code)
    return task


def _run_and_exit(first: Callable[[], int | Exec], env: Env, who: str) -> None:
    """Never returns.

    Nothing here makes cycles, and what one program leaves is little and soon gone with the process: collecting
    would cost a session with many messages a fifth of its time.
    """
    gc.disable()
    code = strerr.LATER
    try:
        _Toolkit.kept = ()
        code = run(first(), env)
    except BaseException as e:
        code = _bug(who, e)
    finally:
        os._exit(code)


def _wait_for(step: Exec, env: Env) -> int:
    """For attempt, in a process of its own: it makes the same search again, and need not wait."""
    return os.waitpid(spawn(lambda: step, env, os.fsdecode(step.who) or "attempt"), 0)[1]


def command_of(word: bytes, env: Env) -> str:
    """The command that word would start, if the first file of its name along PATH is a launcher of ours; else ""."""
    for path in _candidates(word, env):
        try:
            return _own(path, os.stat(path), env)
        except (OSError, ValueError):
            continue
    return ""


def can_run(word: bytes, env: Env) -> bool:
    """Whether there is a file to execute for word, as far as this process may see."""
    return any(os.access(path, os.X_OK) and not os.path.isdir(path) for path in _candidates(word, env))


def serves_again(argv: list[bytes], env: Env) -> bool:
    """Whether the program of argv is a command of ours, imported by preload, that leaves a process as it has found it
    but for 0, 1, signals and the folder, so that it can be called there once more. Its module says so by a function of
    this name."""
    name = command_of(argv[0], env)
    module = sys.modules.get("qmailpy.commands." + registry.COMMANDS[name].module) if name else None
    asked = getattr(module, "serves_again", None)
    return asked is not None and asked(argv)


def load(word: bytes, env: Env) -> bool:
    """Whether word would start a command of this toolkit. It is imported then, so that a process which forks for it
    again and again has to do that once."""
    name = command_of(word, env)
    if name:
        try:
            __import__("qmailpy.commands." + registry.COMMANDS[name].module)
        except ImportError:  # it will be said by the step that needs it
            pass
    return name != ""


def preload(argv: list[bytes], env: Env) -> None:
    """Import the commands of this toolkit that stand in argv, and set what is in memory aside from collection.

    For long-lived programs that fork: the children then import nothing, and share these pages. A command's module
    may have a function prepare(), for what each of its processes would otherwise have to do first, and another one,
    rehearse(stage, word, env): it does on a stage (unix/stage) what the command does in a process of its own, word
    being what it is called here, as far as that leaves nothing behind.
    """
    from qmailpy.unix import forking

    plays: list[Callable[[Stage], object]] = []
    for word in argv:
        name = command_of(word, env)
        if name:
            module = "qmailpy.commands." + registry.COMMANDS[name].module
            try:
                __import__(module)
            except ImportError:  # it will be said by the step that needs it
                continue
            prepare = getattr(sys.modules[module], "prepare", None)
            if prepare is not None:
                prepare()
            of = getattr(sys.modules[module], "rehearse", None)
            if of is not None:
                plays.append(_play(of, word, env))
    if plays:
        rehearse(plays)
    forking.hand_down_code()
    gc.collect()
    gc.freeze()
    gc.enable()  # whoever forks lives long


def _play(of: "Callable[[Stage, bytes, Env], object]", word: bytes, env: Env) -> "Callable[[Stage], object]":
    return lambda stage: of(stage, word, env)


def rehearse(plays: "list[Callable[[Stage], object]]") -> None:
    """Play each as often as Python needs to adapt to it."""
    from qmailpy.unix import stage as stages

    for play in plays:
        try:
            with stages.Stage() as stage:
                end = time.monotonic() + REHEARSAL_S
                for _ in range(REHEARSALS):
                    play(stage)
                    if time.monotonic() > end:  # such as a name service that is far away
                        break
        except Exception:  # it was a rehearsal: whoever meets that in earnest says so, and the server goes on
            pass


def _environment() -> Env:
    """The environment as it was at exec. Python puts another LC_CTYPE in place of none, or of C: taken out again."""
    env = dict(os.environb)
    if env.get(b"LC_CTYPE") in LOCALES:
        try:
            with open("/proc/self/environ", "rb") as f:
                _, found, rest = (b"\0" + f.read()).partition(b"\0LC_CTYPE=")
        except OSError:
            return env
        if found:
            env[b"LC_CTYPE"] = rest.partition(b"\0")[0]
        else:
            del env[b"LC_CTYPE"]
    return env


def start(name: str, folder: str) -> None:
    """Run the command name as a process of its own; folder is where the launchers are. Never returns."""
    _Toolkit.folder = folder
    _know_launchers()
    signals.undo_python()
    fds.remember()
    env = _environment()
    _run_and_exit(lambda: _call(name, [os.fsencode(word) for word in sys.argv], env), env, name)
