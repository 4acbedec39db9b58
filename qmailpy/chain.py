"""chain - one program becomes the next: the only file that execs or calls a command's main.

A command's `main(argv, env)` returns an exit code, or an Exec that says which program comes next. `run` looks
that program up along PATH as execvp(3) does. If the file found is a launcher of this toolkit, the command's
main is called in the same process (a warm step), after everything that execve(2) would have done to the
process has been done; if it is anybody else's file, it is executed (a cold step). doc/CHAINING.md holds the
contract; tests/test_chain.py holds one test per line of it.

    run       trampoline: until an exit code is left
    attempt   the same for one who waits only to translate the status: no fork where the steps are warm
    spawn     the same in a forked child, for those who go on meanwhile
    preload   import, before the first fork, what the forked children will need
    start     what a launcher in bin/ calls

QMAILPY_COLD, set and not empty, turns warm steps off: every step is a real execve.
"""

import errno
import fcntl
import os
import sys
from _collections_abc import Callable  # collections.abc imports a megabyte with it

from qmailpy import registry, strerr
from qmailpy.unix import fds, signals

DEFAULT_PATH = b"/bin:/usr/bin"  # pathexec_run of the originals
COLD = b"QMAILPY_COLD"

# Errors of execve after which the search along PATH goes on, as in execvp(3) and pathexec_run.
SEARCH_ON = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR})

KEPT_FROM = 100  # attempt's copies of 1 and 2 lie above any number that a chain gives a meaning to

Env = dict[bytes, bytes]


class Exec:
    """The next program: argv and environment whole, as for execve.

    file is what is looked for, argv[0] unless named. If it cannot be run, `who: complaint unable to run FILE:
    reason` is said and the exit code is `code`; an empty `who` says nothing (popup, checkpassword).
    """

    __slots__ = ("argv", "code", "complaint", "env", "file", "who")

    def __init__(
        self,
        argv: list[bytes],
        env: Env,
        who: bytes = b"",
        file: bytes | None = None,
        complaint: bytes = b"fatal: ",
        code: int = strerr.LATER,
    ) -> None:
        self.argv = argv
        self.env = env
        self.who = who
        self.file = argv[0] if file is None else file
        self.complaint = complaint
        self.code = code


class _Toolkit:
    """Which files are this toolkit's own launchers: known by device and inode, never by name alone.

    Read once per process, so that a launcher which is replaced while a tcpserver runs (an upgrade) is no
    longer known to it and is executed: the new code runs at once, if slower, until the tcpserver restarts.
    """

    folder: str | None = None
    launchers: dict[tuple[int, int], str] | None = None


def _launchers() -> dict[tuple[int, int], str]:
    if _Toolkit.launchers is None:
        found = {}
        for name in registry.COMMANDS if _Toolkit.folder is not None else ():
            try:
                status = os.stat(f"{_Toolkit.folder}/{name}")
            except OSError:
                continue
            found[status.st_dev, status.st_ino] = name
        _Toolkit.launchers = found
    return _Toolkit.launchers


def _candidates(file: bytes, env: Env) -> list[bytes]:
    """The paths that execvp would try, in order; env is the environment of the program that calls it."""
    if b"/" in file:
        return [file]
    return [(folder or b".") + b"/" + file for folder in env.get(b"PATH", DEFAULT_PATH).split(b":")]


def _own(path: bytes, env: Env) -> str | None:
    """The command whose launcher is at path, if it is one of ours and may be executed; else None."""
    if env.get(COLD):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    name = _launchers().get((status.st_dev, status.st_ino))
    return name if name is not None and os.access(path, os.X_OK) else None


def _executable_environment(env: Env) -> Env:
    """env without the entries that os.execve refuses: a name that is empty or holds '='."""
    return {name: value for name, value in env.items() if name and b"=" not in name}


def _execute(path: bytes, step: Exec) -> OSError:
    """Become the program at path; returns only the reason why not."""
    try:
        os.execve(path, step.argv, _executable_environment(step.env))
    except OSError as e:
        return e
    except ValueError:  # an empty argv[0], or a NUL inside a word: neither comes from an exec
        return OSError(errno.EINVAL, "")


def _cannot_run(step: Exec, error: OSError) -> int:
    if step.who:
        strerr.say(b"%s: %sunable to run %s: %s\n" % (step.who, step.complaint, step.file, strerr.reason(error)))
    return step.code


def _bug(name: str, error: BaseException) -> int:
    """Report an exception nobody expected, in one line: type and place. Its text may hold a password."""
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
        result: int | Exec = sys.modules[module].main(argv, env)
        return result
    except BaseException as e:
        return _bug(name, e)


def _follow(step: "int | Exec", env: Env, waiting: bool, kept: tuple[int, ...]) -> int:
    """The trampoline. Returns a wait status if somebody waits (attempt), else an exit code."""
    while isinstance(step, Exec):
        problem = OSError(errno.ENOENT, "")
        for path in _candidates(step.file, env):
            name = _own(path, env)
            if name is not None:
                fds.close_on_exec(kept)
                signals.forget_handlers()
                env = step.env
                step = _call(name, step.argv, env)
                break
            if waiting:
                if not os.path.exists(path):
                    continue
                return os.waitpid(_spawn_step(step, env), 0)[1]
            error = _execute(path, step)
            if error.errno != errno.ENOENT:
                problem = error
            if error.errno not in SEARCH_ON:
                return _cannot_run(step, error)
        else:
            code = _cannot_run(step, problem)
            return (code & 255) << 8 if waiting else code
    return (step & 255) << 8 if waiting else step


def run(step: "int | Exec", env: Env) -> int:
    """Follow step until an exit code is left. env is the environment of the program that returned step."""
    return _follow(step, env, waiting=False, kept=())


def attempt(step: Exec, env: Env) -> int:
    """Run step for a caller who only waits to translate its status; returns it as waitpid(2) gives it.

    Warm steps run in this process: afterwards it may have another uid, cwd and umask, and only 1 and 2 are
    what they were. So the caller may report and end, nothing else. A foreign program, or the first step that
    goes cold, gets a process of its own.
    """
    kept = tuple(_keep(fd) for fd in (1, 2))
    status = _follow(step, env, waiting=True, kept=kept)
    for fd, copy in zip((1, 2), kept, strict=True):
        if copy >= 0:
            os.dup2(copy, fd)
            os.close(copy)
    return status


def _keep(fd: int) -> int:
    """A close-on-exec copy of fd with a high number; -1 if fd is closed."""
    for lowest in (KEPT_FROM, 10):  # a small limit on descriptors leaves no room up there
        try:
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError:
            continue
    return -1


def spawn(child: Callable[[], int | Exec], env: Env, who: str) -> int:
    """Fork; the child calls child() for its exit code or Exec, and follows that. Returns the pid.

    env is the environment it starts with; who names it in a bug report.
    """
    pid = os.fork()
    if pid:
        return pid
    code = strerr.LATER
    try:
        code = run(child(), env)
    except BaseException as e:
        code = _bug(who, e)
    finally:
        os._exit(code & 255)


def _spawn_step(step: Exec, env: Env) -> int:
    """For attempt: the child makes the same search again, and need not wait."""
    return spawn(lambda: step, env, "attempt")


def preload(argv: list[bytes], env: Env) -> None:
    """Import the commands of this toolkit that stand in argv, and set what is in memory aside from collection.

    For long-lived programs that fork: the children then import nothing, and share these pages. A command's module
    may have a function prepare(), for what each of its processes would otherwise have to do first.
    """
    import gc

    if env.get(COLD):
        return
    _launchers()
    for word in argv:
        command = registry.COMMANDS.get(os.fsdecode(os.path.basename(word)))
        if command is not None:
            module = "qmailpy.commands." + command.module
            try:
                __import__(module)
            except ImportError:  # it will be said by the step that needs it
                continue
            prepare = getattr(sys.modules[module], "prepare", None)
            if prepare is not None:
                prepare()
    gc.collect()
    gc.freeze()


def _environment() -> Env:
    """The environment as it was at exec. Python adds LC_CTYPE to an empty locale (PEP 538): taken out again."""
    env = dict(os.environb)
    if env.get(b"LC_CTYPE") == b"C.UTF-8":
        try:
            with open("/proc/self/environ", "rb") as f:
                if b"\0LC_CTYPE=" not in b"\0" + f.read():
                    del env[b"LC_CTYPE"]
        except OSError:
            pass
    return env


def start(name: str, folder: str) -> None:
    """Run the command name as a process of its own; folder is where the launchers are. Never returns."""
    _Toolkit.folder = folder
    signals.undo_python()
    fds.remember()
    env = _environment()
    os._exit(run(_call(name, [os.fsencode(word) for word in sys.argv], env), env) & 255)
