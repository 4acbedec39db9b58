"""NAME
    checkpassword-test - test a program with the checkpassword interface

SYNOPSIS
    checkpassword-test [-u USER] [-p FILE] [-n ROUNDS] PROGRAM [ARG...]

DESCRIPTION
    checkpassword-test runs PROGRAM, which is to have the interface of checkpassword(8), many times, with right and
    wrong passwords, with broken packets, with programs behind it that look at what they were given. It prints a
    table with a line for each property of the interface: what is expected, what was found, and a verdict.

    ok         it holds
    FAILED     it does not
    warning    it does not, but the interface leaves that open, and other programs get along with it
    skipped    it could not be looked at, for want of a user, of root, or of a right password that is accepted

    PROGRAM is run with the arguments ARG, and then those of the test:

        checkpassword-test -u max checkpassword
        checkpassword-test -u max -p secret.txt checkpassword-pam -s pop3 --

    The account's password is the first line of standard input, asked for without echo if that is a terminal.
    Without -u only what needs no account is tested.

OPTIONS
    -u USER      an account whose password PROGRAM accepts
    -p FILE      read the password from the first line of FILE
    -n ROUNDS    how often to measure the time of refusals; default 21

EXIT STATUS
    0      everything holds, except for warnings
    1      something failed
    100    wrong usage
    111    the test could not be made

SECURITY
    The password stands in no argument and in no variable. The wrong passwords that are tried are near the right
    one, and PROGRAM may log them; better take an account that was made for the test.

    Each refusal counts as a failed login where something counts those. An account that is locked after a few
    of them cannot be tested like this.

BUGS
    The programs behind PROGRAM are sh, cat and others, found along PATH by PROGRAM. The test needs /proc.

    Times are compared by their medians; on a busy machine a difference may be missed, or a warning be false. With
    a file of hashes of many kinds, times hold for the kind that USER has.

SEE ALSO
    checkpassword(8), checkpassword-flatfile(8), qmail-popup(8)
"""

import errno
import os
import time
from _collections_abc import Callable, Iterator  # collections.abc imports a megabyte with it

from qmailpy import strerr
from qmailpy.chain import DEFAULT_PATH, Env
from qmailpy.formats import fd3, numbers, options
from qmailpy.formats.visible import visible
from qmailpy.unix import fds, signals

PROGRAM = b"checkpassword-test"
USAGE = b"checkpassword-test [ -u user ] [ -p file ] [ -n rounds ] program [ arg ... ]"

TIMEOUT = 20.0  # seconds for one run
HOLD = 0.1  # seconds, besides twice its usual time, that a checker is watched while it should wait
ROUNDS = 21
LONGEST = 4096  # bytes of the password's line
WRITTEN = 1 << 20  # bytes of a run's output that are looked at

# Two medians differ if they are further apart than both of these and the middle halves do not overlap.
NOTICED = 0.001  # seconds
NOTICED_PART = 0.1  # of the smaller one

OK, FAILED, WARNING, SKIPPED = "ok", "FAILED", "warning", "skipped"

RUNS = "program runs"
NOTHING = "nothing"
CODE = 37  # exit code of the program behind the checker
STAMP = b"<1896.697170952@checkpassword.test>"
ADDED = (b"CHECKPASSWORD_TEST", b"any \xff = byte")  # to be inherited as it is
UNKNOWN = b"no-such-account"
GUESS = b"no-such-password"
NOT_RUNNABLE = b"/"

# What the program behind the checker tells of itself, in parts parted by a word that nobody else can print.
PROBE = (
    'echo "$0"; echo $$; readlink /proc/$$/cwd; ls -l /proc/$$/fd; '
    f'echo "$0"; cat /proc/$$/status; echo "$0"; cat /proc/$$/environ; exit {CODE}'
)
STATUS = [b"cat", b"/proc/self/status"]  # for the signals: a shell changes its own

# Sets of signals, as in /proc/PID/status
RESET = 1 << (signals.PIPE - 1) | 1 << (signals.XFSZ - 1)  # what Python ignores, and a spawn gives back
SHELLS = frozenset({b"OLDPWD", b"PWD", b"SHLVL", b"_"})  # a checker in sh cannot help changing these
INTERNAL = 3 << 31  # 32 and 33, which the C library keeps to itself; its posix_spawn leaves them ignored

Row = tuple[str, str, str, str]  # check, expected, found, verdict
Rows = Iterator[Row]
Status = dict[str, list[str]]  # /proc/PID/status, split into words
Action = tuple[int, int, int] | tuple[int, int] | tuple[int, int, str, int, int]  # of posix_spawn
Feed = Callable[[int, bytes, int], bool]
Three = Callable[[int], Action]


class Run:
    """How a run of the checker went.

    code: its exit code, minus the signal that killed it, or None if it did not end. seen: what PROBE printed, None
    if that did not run. out, err: all else on 1 and 2. links: what 0, 1 and 2 are. taken: bytes read from 0.
    waited: whether it was still waiting when all but the end of the packet had been written.
    """

    __slots__ = ("code", "err", "links", "out", "pid", "seconds", "seen", "taken", "waited")

    def __init__(self, pid: int, code: int | None, seconds: float, waited: bool, files: list[int]) -> None:
        self.pid = pid
        self.code = code
        self.seconds = seconds
        self.waited = waited
        self.out, self.err = (os.pread(fd, WRITTEN, 0) for fd in files[1:])
        self.links = [os.readlink(f"/proc/self/fd/{fd}") for fd in files]
        self.taken = os.lseek(files[0], 0, os.SEEK_CUR)
        self.seen: bytes | None = None

    def found(self) -> str:
        if self.seen is not None:
            return RUNS
        if self.code is None:
            return f"no end within {TIMEOUT:.0f} s"
        return f"exit {self.code}" if self.code >= 0 else f"killed by signal {-self.code}"


class Checker:
    """The program under test; out, err: all that it has written itself, but for what it said on 2 of trouble."""

    def __init__(self, path: bytes, argv: list[bytes], env: Env) -> None:
        self.path = path
        self.argv = argv
        self.env = {**env, b"USER": b"nobody-yet", b"SHELL": b"/nonexistent", ADDED[0]: ADDED[1]}
        self.mark = os.urandom(16).hex().encode()
        self.out = self.err = b""

    def login(self, packet: bytes, feed: Feed | None = None, three: Three | None = None) -> Run:
        """Run the checker with PROBE behind it."""
        run = self.run(packet, [b"sh", b"-c", PROBE.encode(), self.mark], feed, three)
        own, found, seen = run.out.partition(self.mark + b"\n")
        if found:
            run.seen = seen
        self.out += own
        if run.code not in (fd3.MISUSE, strerr.LATER):  # those may well be complained about
            self.err += run.err
        return run

    def run(self, packet: bytes, program: list[bytes], feed: Feed | None = None, three: Three | None = None) -> Run:
        """Run the checker with any program behind it. feed writes the packet; three gives it descriptor 3."""
        files = [_high(os.memfd_create(f"checkpassword-test-{fd}")) for fd in range(3)]
        reading, writing = map(_high, os.pipe())
        os.pwrite(files[0], b"not for the checker\n", 0)
        actions: list[Action] = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(files)]
        actions.append((three or pipe)(reading))
        started = time.perf_counter()
        try:
            pid = os.posix_spawn(
                self.path,
                self.argv + program,
                self.env,
                file_actions=actions,
                setsigdef=[signals.PIPE, signals.XFSZ],
            )
            os.close(reading)
            waited = (feed or at_once)(writing, packet, pid)
            os.close(writing)
            code = _end(pid)
            return Run(pid, code, time.perf_counter() - started, waited, files)
        finally:
            for fd in files:
                os.close(fd)


# Ways to write a packet. They return whether the checker was still waiting for more.


def at_once(writing: int, packet: bytes, pid: int) -> bool:
    try:
        fds.write_all(writing, packet)
    except BrokenPipeError:  # it need not read more than 513 bytes
        return False
    return True


def slowly(writing: int, packet: bytes, pid: int) -> bool:
    """Byte by byte, each when the one before has been read."""
    return all(at_once(writing, packet[at : at + 1], pid) and _drained(writing, pid) for at in range(len(packet)))


def held(seconds: float) -> Feed:
    """All of it, and no end of file until the checker has been watched for so long."""
    return lambda writing, packet, pid: (
        at_once(writing, packet, pid) and _drained(writing, pid) and not _ended(pid, seconds)
    )


# What is on descriptor 3, as a spawn's action.


def pipe(reading: int) -> Action:
    return os.POSIX_SPAWN_DUP2, reading, 3


def closed(reading: int) -> Action:
    return os.POSIX_SPAWN_CLOSE, 3


def unreadable(reading: int) -> Action:
    return os.POSIX_SPAWN_OPEN, 3, "/", os.O_RDONLY, 0


def _high(fd: int) -> int:
    """fd moved out of the way of 0 to 3."""
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    finally:
        os.close(fd)


def _drained(writing: int, pid: int) -> bool:
    """Wait until the pipe is empty; False if the process ends, or takes too long, before."""
    import fcntl
    import termios

    limit = time.monotonic() + TIMEOUT
    while any(fcntl.ioctl(writing, termios.FIONREAD, b"\0\0\0\0")):
        if time.monotonic() > limit or _ended(pid, 0.001):
            return False
    return True


def _ended(pid: int, seconds: float) -> bool:
    """Whether pid, a child, ends within so many seconds."""
    import select

    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def _end(pid: int) -> int | None:
    """The exit code, minus a signal, or None if it had to be killed."""
    late = not _ended(pid, TIMEOUT)
    if late:
        import signal

        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return None if late else os.waitstatus_to_exitcode(status)


def judge(run: Run, code: int) -> str:
    """Whether run ended with code, without the program behind the checker."""
    if run.seen is None and run.code == code:
        return OK
    # Other codes for a refusal are in use; but 0, misuse and trouble are not refusals.
    other = run.code is not None and run.code > 0 and run.code not in (fd3.MISUSE, strerr.LATER)
    return WARNING if run.seen is None and code == fd3.REFUSED and other else FAILED


def ends(check: str, run: Run, code: int) -> Row:
    return check, f"exit {code}", run.found(), judge(run, code)


def runs(check: str, run: Run) -> Row:
    return check, RUNS, run.found(), OK if run.seen is not None else FAILED


def text(data: bytes) -> str:
    return visible(data).decode()


# The packets. Everywhere n is the name, p the right password.

WRONG: dict[str, Callable[[bytes, bytes], tuple[bytes, bytes]]] = {
    "first byte of the password wrong": lambda n, p: (n, bytes((p[0] % 255 + 1,)) + p[1:]),
    "last byte of the password wrong": lambda n, p: (n, p[:-1] + bytes((p[-1] % 255 + 1,))),
    "last byte of the password missing": lambda n, p: (n, p[:-1]),
    "one byte behind the password": lambda n, p: (n, p + b"x"),
    "empty password": lambda n, p: (n, b""),
    "unknown name": lambda n, p: (UNKNOWN, p),
    "empty name": lambda n, p: (b"", p),
}
CUT: dict[str, Callable[[bytes, bytes], bytes]] = {
    "packet empty": lambda n, p: b"",
    "packet ends in the name": lambda n, p: n,
    "packet ends behind the name": lambda n, p: n + b"\0",
    "packet ends in the password": lambda n, p: n + b"\0" + p,
}
LONG: dict[str, Callable[[bytes, bytes], bytes]] = {
    "packet of 513 bytes": lambda n, p: (n + b"\0" + p + b"\0").ljust(513, b"x"),
    "packet of 5000 bytes": lambda n, p: (n + b"\0" + p + b"\0").ljust(5000, b"x"),
}
COMPLETE: dict[str, Callable[[bytes, bytes], bytes]] = {
    "packet ends behind the password": lambda n, p: n + b"\0" + p + b"\0",
    "packet ends in the third string": lambda n, p: n + b"\0" + p + b"\0" + STAMP,
    "packet with a fourth string": lambda n, p: n + b"\0" + p + b"\0" + STAMP + b"\0more\0",
    "packet of 512 bytes": lambda n, p: (n + b"\0" + p + b"\0").ljust(512, b"x"),
}


def packet(name: bytes, password: bytes) -> bytes:
    return b"\0".join((name, password, STAMP, b""))


def accepted(checker: Checker, name: bytes, password: bytes) -> Rows:
    """The right password, and what it gives to the program behind the checker."""
    run = checker.login(packet(name, password))
    yield runs("right password", run)
    if run.seen is None:
        yield "what the program is given", "right password accepted", run.found(), SKIPPED
        return
    yield "exit code", str(CODE), str(run.code), OK if run.code == CODE else FAILED
    parts = run.seen.split(checker.mark + b"\n")
    if len(parts) != 3:
        yield "what the program is given", "sh, cat, readlink, /proc", "incomplete", FAILED
        return
    yield from inherited(run, parts[0].decode("utf-8", "surrogateescape").split("\n"))
    status = _status(parts[1])
    cwd = parts[0].split(b"\n")[1]
    uid = int(status["Uid"][0])
    entry = _passwd(name)
    system = entry if entry is not None and entry.pw_uid == uid else None
    yield from environment(checker, dict(_pairs(parts[2])), name, password, cwd, system)
    yield from ids(status, entry)
    umask = _own_status()["Umask"][0]
    yield "umask", umask, status["Umask"][0], OK if status["Umask"][0] == umask else WARNING
    yield from dispositions(checker.run(packet(name, password), STATUS))


def inherited(run: Run, lines: list[str]) -> Rows:
    """Process and descriptors; lines: pid, cwd, and those of ls -l."""
    same = lines[0] == str(run.pid)
    yield "process", "the checker's own", "the checker's own" if same else "another one", OK if same else FAILED
    links = dict(_link(line) for line in lines[2:] if " -> " in line)
    for number, link in enumerate(run.links):
        found = links.pop(str(number), "closed")
        verdict = OK if found == link else FAILED
        yield f"descriptor {number}", "unchanged", "unchanged" if found == link else found, verdict
    yield (
        "input behind the packet",
        "unread",
        f"{run.taken} bytes read" if run.taken else "unread",
        (FAILED if run.taken else OK),
    )
    found = links.pop("3", "closed")
    yield "descriptor 3", "closed", found, OK if found == "closed" else FAILED
    own = {str(fd) for fd in range(4, 1024) if _inheritable(fd)}
    left = ", ".join(f"{number}: {link}" for number, link in links.items() if number not in own)
    yield "other descriptors", "none left open", left or "none left open", FAILED if left else OK


def environment(checker: Checker, env: Env, name: bytes, password: bytes, cwd: bytes, system) -> Rows:  # type: ignore[no-untyped-def]
    """USER, HOME, SHELL, and nothing else. system: the passwd entry that the login has become, if it is one."""
    user = env.get(b"USER", b"")
    part = user == name.split(b"@")[0] and user != b""
    yield "USER", text(name), text(user), OK if user == name else WARNING if part else FAILED
    home = env.get(b"HOME", b"")
    there = home != b"" and os.path.realpath(home) == cwd
    yield "HOME", text(cwd), text(home), OK if there else FAILED
    if system is not None:
        wanted = os.fsencode(system.pw_dir)
        yield "working directory", text(wanted), text(cwd), OK if os.path.realpath(wanted) == cwd else WARNING
    shell = env.get(b"SHELL", b"")
    if system is not None:
        wanted = os.fsencode(system.pw_shell)
        verdict = OK if shell == wanted else WARNING if shell != checker.env[b"SHELL"] else FAILED
        yield "SHELL", text(wanted), text(shell), verdict
    else:
        set_ = b"SHELL" in env and shell != checker.env[b"SHELL"]
        yield "SHELL", "set", text(shell) if set_ else "not set", OK if set_ else FAILED
    given = {n: v for n, v in checker.env.items() if n not in (b"USER", b"HOME", b"SHELL")}
    lost = sorted(n for n, v in given.items() if env.get(n) != v)
    excused = SHELLS.issuperset(lost)
    added = sorted(n for n in env if n not in checker.env and n != b"HOME")
    found = ["lost or changed: " + text(b" ".join(lost))] if lost else []
    found += ["added: " + text(b" ".join(added))] if added else []
    verdict = FAILED if lost and not excused else WARNING if lost or added else OK
    yield "other variables", "unchanged", "; ".join(found) or "unchanged", verdict
    shown = any(password in value for n, value in env.items() if checker.env.get(n) != value)
    yield "password in the environment", "no", "yes" if shown else "no", FAILED if shown and password != name else OK


def ids(status: Status, entry) -> Rows:  # type: ignore[no-untyped-def]
    """uid, gid and groups; entry: the passwd entry of that name, if there is one."""
    if os.geteuid() != 0:
        for check, own in (("user", os.geteuid()), ("group", os.getegid())):
            same = set(status[check[0].upper() + "id"])
            yield check, str(own), " ".join(sorted(same)), OK if same == {str(own)} else FAILED
        yield "other groups", "none", "not run by root", SKIPPED
        return
    uids, gids = set(status["Uid"]), set(status["Gid"])
    became = entry is not None and uids == {str(entry.pw_uid)}
    for check, found, wanted in (
        ("user", uids, entry.pw_uid if entry else None),
        ("group", gids, entry.pw_gid if became else None),
    ):
        # A checker with accounts of its own may give them any ids; but not root's, and not several.
        verdict = OK if found == {str(wanted)} else FAILED if len(found) > 1 or found == {"0"} else WARNING
        if wanted is None and verdict == WARNING:
            verdict = OK
        yield check, "not root" if wanted is None else str(wanted), " ".join(sorted(found)), verdict
    others = set(status["Groups"]) - gids
    verdict = FAILED if "0" in others else WARNING if others else OK
    yield "other groups", "none", " ".join(sorted(others)) or "none", verdict


def dispositions(run: Run) -> Rows:
    """What the program behind the checker does with signals."""
    status = _status(run.out)
    own = _own_status()
    if "SigIgn" not in status:
        yield "signals", "as before", run.found(), SKIPPED
        return
    ignored, blocked = (int(status[field][0], 16) & ~INTERNAL for field in ("SigIgn", "SigBlk"))
    before = int(own["SigIgn"][0], 16) & ~RESET & ~INTERNAL, int(own["SigBlk"][0], 16)
    pipe = ignored & 1 << (signals.PIPE - 1)
    yield "SIGPIPE", "default", "ignored" if pipe else "default", FAILED if pipe else OK
    changed = (ignored & ~(1 << (signals.PIPE - 1)), blocked) != before
    found = f"ignored {ignored:x}, blocked {blocked:x}"
    yield "other signals", "as before", found if changed else "as before", WARNING if changed else OK


def packets(checker: Checker, name: bytes, password: bytes, right: bool) -> Rows:
    """What is refused, what is misuse, what is complete. right: whether the password is known to be the right one."""
    for check, wrong in WRONG.items():
        pair = wrong(name, password)
        if (right and pair != (name, password)) or check == "unknown name":
            yield ends(check, checker.login(packet(*pair)), fd3.REFUSED)
    for check, cut in CUT.items():
        yield ends(check, checker.login(cut(name, password)), fd3.MISUSE)
    for check, long in LONG.items():
        yield ends(check, checker.login(long(name, password)), fd3.REFUSED)
    yield ends("no program", checker.run(packet(name, password), []), fd3.MISUSE)
    yield ends("descriptor 3 closed", checker.login(b"", three=closed), strerr.LATER)
    yield ends("descriptor 3 not readable", checker.login(b"", three=unreadable), strerr.LATER)
    if not right:
        return
    for check, complete in COMPLETE.items():
        yield runs(check, checker.login(complete(name, password)))
    yield runs("packet byte by byte", checker.login(packet(name, password), slowly))
    usual = checker.login(packet(name, password)).seconds
    run = checker.login(packet(name, password), held(HOLD + 2 * usual))
    found = "waits" if run.waited else run.found() + " before"
    yield "end of file behind the third NUL", "waits", found, OK if run.waited else FAILED
    for check, program in (("program missing", b"no-such-program"), ("program not executable", NOT_RUNNABLE)):
        yield ends(check, checker.run(packet(name, password), [program]), strerr.LATER)
    run = checker.run(packet(name, GUESS), [b"no-such-program"])
    yield ends("program missing, wrong password", run, fd3.REFUSED)


def written(checker: Checker, password: bytes | None) -> Rows:
    """What all those runs have written."""
    for number, data, verdict in ((1, checker.out, FAILED), (2, checker.err, WARNING)):
        first = text(data.split(b"\n")[0])
        yield f"written to descriptor {number}", NOTHING, first or NOTHING, verdict if data else OK
    if password is not None:
        shown = password in checker.out + checker.err
        yield "password in what is written", "no", "yes" if shown else "no", FAILED if shown else OK


def times(checker: Checker, name: bytes, rounds: int) -> Rows:
    """Whether the time of a refusal tells if the name exists. Runs alternate, so that a busy machine slows both."""
    known: list[float] = []
    unknown: list[float] = []
    for _ in range(rounds):
        known.append(checker.login(packet(name, GUESS)).seconds)
        unknown.append(checker.login(packet(UNKNOWN, GUESS)).seconds)
    (a1, a, a3), (b1, b, b3) = _quartiles(known), _quartiles(unknown)
    apart = abs(a - b) > max(NOTICED, NOTICED_PART * min(a, b)) and (a3 < b1 or b3 < a1)
    verdict = WARNING if apart else OK
    yield "time to refuse an unknown name", f"{a * 1e3:.1f} ms, as a known one", f"{b * 1e3:.1f} ms", verdict


def _quartiles(seconds: list[float]) -> tuple[float, float, float]:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return ordered[last // 4], ordered[last // 2], ordered[last - last // 4]


def _link(line: str) -> tuple[str, str]:
    """(descriptor, what it is) of a line of ls -l."""
    before, _, link = line.partition(" -> ")
    return before.rsplit(" ", 1)[1], link


def _status(data: bytes) -> Status:
    return {field: words.split() for field, _, words in (line.partition(":") for line in data.decode().split("\n"))}


def _own_status() -> Status:
    with open("/proc/self/status", "rb") as f:
        return _status(f.read())


def _pairs(environ: bytes) -> Iterator[tuple[bytes, bytes]]:
    for entry in environ.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals:
            yield name, value


def _passwd(name: bytes):  # type: ignore[no-untyped-def]
    import pwd

    try:
        return pwd.getpwnam(os.fsdecode(name))
    except KeyError:
        return None


def _inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def table(rows: Rows) -> int:
    """Print the rows as they come, and how many there were of each verdict; the exit code."""
    counts = dict.fromkeys((OK, FAILED, WARNING, SKIPPED), 0)
    _print("check", "expected", "found", "")
    for row in rows:
        _print(*row)
        counts[row[3]] += 1
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    fds.write_all(1, b"\n%s\n" % summary.encode())
    return 1 if counts[FAILED] else 0


def _print(check: str, expected: str, found: str, verdict: str) -> None:
    line = f"{check:<34} {expected:<24} {found:<24} {verdict}".rstrip()
    fds.write_all(1, line.encode("utf-8", "backslashreplace") + b"\n")


def every(checker: Checker, name: bytes | None, password: bytes, rounds: int) -> Rows:
    """All the rows, in an order in which a reader learns the most important first."""
    right = False
    if name is None:
        yield "what needs an account", "an account", "no -u", SKIPPED
    else:
        for row in accepted(checker, name, password):
            right = right or row[:3] == ("right password", RUNS, RUNS)
            yield row
    yield from packets(checker, name or UNKNOWN, password, right)
    if name is not None and right:
        yield from times(checker, name, rounds)
    yield from written(checker, password if name is not None else None)


def read_password(file: bytes | None) -> bytes:
    """The first line of file, or of standard input, from a terminal without echo. Raises OSError."""
    if file is None and os.isatty(0):
        import getpass

        try:
            return os.fsencode(getpass.getpass("Password: "))
        except EOFError:
            return b""
    fd = 0 if file is None else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fds.read_all(fd, LONGEST).partition(b"\n")[0]
    finally:
        if fd:
            os.close(fd)


def find(program: bytes, env: Env) -> bytes:
    """Where program is, as execvp(3) finds it. Raises OSError."""
    folders = [b""] if b"/" in program else env.get(b"PATH", DEFAULT_PATH).split(b":")
    paths = [path for folder in folders if os.path.isfile(path := os.path.join(folder, program))]
    for path in paths:
        if os.access(path, os.X_OK):
            return path
    raise OSError(errno.EACCES if paths else errno.ENOENT, "")


def main(argv: list[bytes], env: Env) -> int:
    try:
        found, words = options.parse(argv, b"u:p:n:")
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    given = dict(found)
    name = given.get(b"u")
    rounds = numbers.scan(given.get(b"n", b"%d" % ROUNDS))[0]
    if not words or name == b"" or rounds == 0 or (name is None and b"p" in given):
        return strerr.usage(PROGRAM, USAGE)
    signals.ignore(signals.PIPE)
    try:
        password = GUESS if name is None else read_password(given.get(b"p"))
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to read the password", error=e)
    if not password:
        return strerr.fail(strerr.NEVER, PROGRAM, b"an empty password is never right")
    try:
        checker = Checker(find(words[0], env), words, env)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to run ", words[0], error=e)
    try:
        return table(every(checker, name, password, rounds))
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to go on testing ", words[0], error=e)
