"""delivery - how fast messages leave the queue, into a Maildir or to another host, and what a long queue costs.

Beside ours: C, the home that QMAIL_HOME names, with the programs in its bin; its control files are put aside, and
nothing may be in its queue. postfix: Debian's, with a configuration and a spool of its own.
"""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests import postfix
from tests.bench import load, smtp, table
from tests.bench.chains import BIN, debian, environment, tcpserver_of
from tests.bench.home import QMAIL, USER, message
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.bench.measures import Bench

MESSAGES = 1000
SIZE = 2000
QUEUED = 20_000
RECIPIENTS = 10_000
END_S = 300
CONNECTIONS = 4

HOST = "bench.example"
LOCAL, REMOTE = f"{USER}@{HOST}".encode(), b"someone@elsewhere.example"

POSTFIX = f"""\
mydestination = {HOST}
home_mailbox = Maildir/
default_destination_concurrency_limit = 20
relayhost = [127.0.0.1]:%d
"""
HELD = "smtpd_client_restrictions = check_client_access static:HOLD\n"
SMTP_SINK = "/usr/sbin/smtp-sink"


class System(NamedTuple):
    """A mail system. port: of its SMTP server; deliver: let its deliveries begin, hold: end them; queued: how many
    messages wait; clear: empty its queue."""

    port: int
    deliver: Callable[[], None]
    hold: Callable[[], None]
    queued: Callable[[], int]
    clear: Callable[[], None]


class Qmail:
    """A home of qmail, ours or the originals', and its qmail-start."""

    def __init__(self, path: Path, programs: Path, env: dict[str, str]) -> None:
        self.path = path
        self.queue = path / "queue"
        self.programs = programs
        self.env = env
        self.log = path / "bench.log"
        self.sender: subprocess.Popen[bytes] | None = None

    def control(self, **files: str) -> None:
        for name, text in files.items():
            (self.path / "control" / name).write_text(text + "\n")

    def deliver(self) -> None:
        with self.log.open("wb") as log:
            self.sender = subprocess.Popen(
                [self.programs / "qmail-start", "./Maildir/"], env=self.env, stdin=subprocess.DEVNULL, stdout=log,
                cwd="/",
            )  # fmt: skip

    def hold(self) -> None:
        if self.sender is not None:
            self.sender.send_signal(signal.SIGTERM)
            self.sender.wait(END_S)
            self.sender = None

    def queued(self) -> int:
        return len(smtp.files(self.queue / "mess"))

    def clear(self) -> None:
        smtp.remove(
            *(self.queue / name for name in ("todo", "intd", "mess", "pid", "info", "local", "remote", "bounce"))
        )

    def status_s(self, started: float) -> float:
        """Seconds from started until qmail-send has written its first status."""
        while b"status:" not in self.log.read_bytes():
            if time.monotonic() > started + END_S:
                raise load.Trouble("qmail-send says nothing")
            time.sleep(0.002)
        return time.monotonic() - started


def _controls(system: Qmail, sink: int) -> None:
    system.control(me=HOST, locals=HOST, smtproutes=f":127.0.0.1:{sink}", concurrencylocal="10", concurrencyremote="20")


def _ours(bench: "Bench", stack: ExitStack, sink: int) -> tuple[Qmail, System]:
    path = smtp.folder(bench.home, "ours")
    (path / "control").mkdir()
    system = Qmail(path, BIN, environment(QMAILHOME=str(path)))
    _controls(system, sink)
    if subprocess.run([BIN / "qmail-make-queue"], env=system.env, stdout=subprocess.DEVNULL, check=False).returncode:
        raise load.Trouble("no queue")
    smtp.start_queued(path, system.env, stack)
    ids = [*smtp.ids_of(QMAIL["qmaild"])]
    argv = [str(BIN / "tcpserver"), *smtp.OPTIONS, *ids, "127.0.0.1", "0", "qmail-smtpd"]
    server = stack.enter_context(tcpserver_of(argv, bench.home, {**system.env, "RELAYCLIENT": ""}))
    stack.callback(system.hold)
    return system, System(server.port, system.deliver, system.hold, system.queued, system.clear)


def _original(bench: "Bench", stack: ExitStack, sink: int) -> tuple[Qmail, System]:
    path, tcpserver = Path(os.environ["QMAIL_HOME"]), debian("tcpserver")
    if tcpserver is None:
        raise load.Trouble("ucspi-tcp is missing")
    environ = environment()
    system = Qmail(path, path / "bin", {**environ, "PATH": f"{path}/bin:{environ['PATH']}"})
    if system.queued():
        raise load.Trouble(f"{system.queue} is not empty")
    aside = smtp.folder(bench.home, "aside") / "control"
    shutil.copytree(path / "control", aside)
    stack.callback(shutil.copytree, aside, path / "control")
    stack.callback(shutil.rmtree, path / "control")
    for file in (path / "control").iterdir():
        file.unlink()
    _controls(system, sink)
    ids = smtp.ids_of(pwd.getpwnam("nobody").pw_uid)
    argv = [tcpserver, *smtp.OPTIONS, *ids, "127.0.0.1", "0", f"{path}/bin/qmail-smtpd"]
    server = stack.enter_context(tcpserver_of(argv, bench.home, environment(RELAYCLIENT="")))
    stack.callback(system.log.unlink, missing_ok=True)
    stack.callback(system.clear)
    stack.callback(system.hold)
    return system, System(server.port, system.deliver, system.hold, system.queued, system.clear)


class _Postfix:
    """Holding and letting go are done by postsuper: messages come into its hold queue if it began with held."""

    def __init__(self, bench: "Bench", stack: ExitStack, sink: int, held: bool) -> None:
        port = free_port()
        settings = POSTFIX % sink + (HELD if held else "")
        try:
            self.running = stack.enter_context(postfix.Postfix(smtp.folder(bench.home, "postfix"), settings, port))
        except postfix.Trouble as e:
            raise load.Trouble(str(e))
        smtp.wait_for(port)
        self.system = System(port, self.deliver, lambda: None, self.queued, self.clear)

    def deliver(self) -> None:
        conf = ["-c", str(self.running.configuration)]
        for words in (["postsuper", *conf, "-H", "ALL"], ["postqueue", *conf, "-f"]):
            subprocess.run(words, env=self.running.env, capture_output=True, check=False)

    def queued(self) -> int:
        return sum(len(self.running.files(name)) for name in ("hold", "incoming", "active", "deferred", "maildrop"))

    def clear(self) -> None:
        for name in ("hold", "incoming", "active", "deferred", "maildrop"):
            self.running.empty(name)


def _systems(bench: "Bench", stack: ExitStack, sink: int, held: bool) -> dict[str, System]:
    """Those that can run here; a line is printed for each that cannot."""
    makers: dict[str, Callable[[], System]] = {"ours": lambda: _ours(bench, stack, sink)[1]}
    if os.environ.get("QMAIL_HOME"):
        makers["C"] = lambda: _original(bench, stack, sink)[1]
    else:
        print("C is left out: QMAIL_HOME names no home of the originals", flush=True)
    if postfix.is_there():
        makers["postfix"] = lambda: _Postfix(bench, stack, sink, held).system
    else:
        print("postfix is left out: apt-get install postfix", flush=True)
    systems = {}
    for name, make in makers.items():
        try:
            systems[name] = make()
            systems[name].clear()
        except (OSError, load.Trouble) as e:
            print(f"{name} is left out: {e}", flush=True)
    return systems


def _inject(port: int, recipient: bytes, messages: int = MESSAGES) -> None:
    """By SMTP, in several connections at once, ten messages in each session."""
    requests = smtp.conversation(10, SIZE, recipient)
    children = []
    for _ in range(CONNECTIONS):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                buffer = bytearray(load.BUFFER)
                for _ in range(messages // CONNECTIONS // 10):
                    smtp.session(port, buffer, requests)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    if sum(os.waitpid(pid, 0)[1] for pid in children):
        raise load.Trouble("it did not take all messages")


def _until(done: Callable[[], bool]) -> None:
    """To look takes a long folder from those who write into it: it gets a twentieth of the time."""
    limit = time.monotonic() + END_S
    while (before := time.monotonic()) < limit:
        if done():
            return
        time.sleep(max(0.005, 20 * (time.monotonic() - before)))
    raise load.Trouble(f"not through after {END_S} s")


class _Maildir:
    """The account's Maildir, where all that is local ends."""

    def __init__(self, bench: "Bench") -> None:
        self.new = bench.home.path / "Maildir" / "new"
        for folder in (self.new.parent, self.new, self.new.parent / "tmp", self.new.parent / "cur"):
            folder.mkdir(mode=0o700, exist_ok=True)
            os.chown(folder, bench.home.uid, bench.home.gid)
        for name in (".qmail-default", ".forward"):
            (bench.home.path / name).unlink(missing_ok=True)
        (bench.home.path / ".qmail-default").write_text("./Maildir/\n")
        os.chown(bench.home.path / ".qmail-default", bench.home.uid, bench.home.gid)

    def count(self) -> int:
        return len(os.listdir(self.new))

    def empty(self) -> None:
        smtp.remove(self.new)


def _delivered(system: System, maildir: _Maildir) -> float:
    """Messages per second, from the first injection to the last file."""
    maildir.empty()
    system.clear()
    os.sync()
    system.deliver()
    time.sleep(1)  # all is started, and it is not what is measured
    before = time.monotonic()
    _inject(system.port, LOCAL)
    _until(lambda: maildir.count() >= MESSAGES)
    taken = time.monotonic() - before
    system.hold()
    return MESSAGES / taken


def _drained(system: System, maildir: _Maildir) -> float:
    """Messages per second, from the first file to the last, of a queue that was there before."""
    maildir.empty()
    system.clear()
    _inject(system.port, LOCAL)
    os.sync()
    system.deliver()
    _until(lambda: maildir.count() >= 1)
    before, first = time.monotonic(), maildir.count()
    _until(lambda: maildir.count() >= MESSAGES)
    taken = time.monotonic() - before
    system.hold()
    return (MESSAGES - first) / taken


def _sent(system: System) -> float:
    """Messages per second, from the first injection until the queue is empty."""
    system.clear()
    os.sync()
    system.deliver()
    time.sleep(1)
    before = time.monotonic()
    _inject(system.port, REMOTE)
    _until(lambda: not system.queued())
    taken = time.monotonic() - before
    system.hold()
    return MESSAGES / taken


def _sink(stack: ExitStack) -> int:
    """postfix's smtp-sink; its port, 9 if there is none."""
    if not Path(SMTP_SINK).exists():
        print("no sink: apt-get install postfix", flush=True)
        return 9
    port = free_port()
    sink = subprocess.Popen([SMTP_SINK, "-u", "nobody", f"127.0.0.1:{port}", "1000"], stdin=subprocess.DEVNULL)
    stack.callback(sink.wait)
    stack.callback(sink.terminate)
    smtp.wait_for(port)
    return port


def _compared(bench: "Bench", measured: str, held: bool, turn: Callable[[System], float]) -> None:
    with ExitStack() as stack:
        systems = _systems(bench, stack, _sink(stack), held)
        turns: dict[str, table.Turn] = {name: partial(turn, system) for name, system in systems.items()}
        values = table.alternate(turns, min(bench.rounds, 5))
        table.show(measured, "/s", values, "C" if "C" in values else "postfix")


def _is_root() -> bool:
    if os.getuid() == 0:
        return True
    print("deliveries are left out: they take root", flush=True)
    return False


def deliver(bench: "Bench") -> None:
    """1,000 messages of 2 kB by SMTP into a Maildir; and a queue of 1,000 that are there before."""
    if _is_root():
        maildir = _Maildir(bench)
        _compared(bench, "2 kB, by SMTP into a Maildir", False, lambda system: _delivered(system, maildir))
        _compared(bench, "2 kB, from the queue into a Maildir", True, lambda system: _drained(system, maildir))


def relay(bench: "Bench") -> None:
    """1,000 messages of 2 kB by SMTP to another host, smtp-sink of postfix."""
    if _is_root():
        _compared(bench, "2 kB, by SMTP to another host", False, _sent)


def recipients(bench: "Bench") -> None:
    """One message to 10,000 mailboxes."""
    if not _is_root():
        return
    maildir = _Maildir(bench)

    def turn(system: System) -> float:
        maildir.empty()
        system.clear()
        os.sync()
        system.deliver()
        time.sleep(1)
        before = time.monotonic()
        rcpts = [b"%s-%d@%s" % (USER.encode(), number, HOST.encode()) for number in range(RECIPIENTS)]
        smtp.session(system.port, bytearray(load.BUFFER), smtp.one_to(rcpts, SIZE))
        _until(lambda: maildir.count() >= RECIPIENTS)
        taken = time.monotonic() - before
        system.hold()
        return RECIPIENTS / taken

    with ExitStack() as stack:
        systems = _systems(bench, stack, 9, False)
        systems.pop("postfix", None)  # it knows no extensions unless told, and delivers one mailbox at a time
        turns: dict[str, table.Turn] = {name: partial(turn, system) for name, system in systems.items()}
        table.show("one message to 10,000 mailboxes", "/s", table.alternate(turns, 1), "C")


def _fill(system: Qmail, messages: int, owners: tuple[int, int]) -> None:
    """Messages that qmail-send has preprocessed, to another host, with their next attempt in an hour. owners: uids of
    qmailq and qmails."""
    now = time.time()
    split = len(os.listdir(system.queue / "mess"))
    for number in range(messages):
        draft = system.queue / "pid" / str(number)
        draft.write_bytes(b"Received: (qmail 1 invoked by uid 1); 1 Jan 2026 00:00:00 -0000\n" + message(SIZE))
        name = str(draft.stat().st_ino)
        place = f"{int(name) % split}/{name}"
        draft.rename(system.queue / "mess" / place)
        os.chown(system.queue / "mess" / place, owners[0], -1)
        for folder, text in (("info", b"Fsender@%s\0" % HOST.encode()), ("remote", b"T%s\0" % REMOTE)):
            path = system.queue / folder / place
            path.write_bytes(text)
            os.chown(path, owners[1], -1)
            path.chmod(0o600)
        os.utime(system.queue / "info" / place, (now, now - 1000))
        os.utime(system.queue / "remote" / place, (now + 3600, now + 3600))


def _memory(pid: int) -> int:
    """Bytes of a process that are its own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def longqueue(bench: "Bench") -> None:
    """20,000 messages that wait: from the start of qmail-send to its first status, and its memory."""
    if not _is_root():
        return
    with ExitStack() as stack:
        makers = {"ours": _ours}
        if os.environ.get("QMAIL_HOME"):
            makers["C"] = _original
        seconds: dict[str, list[float]] = {}
        each: dict[str, list[float]] = {}
        for name, make in makers.items():
            try:
                system = make(bench, stack, 9)[0]
                found: list[tuple[float, int]] = []
                for messages in (0, QUEUED):
                    stat = os.stat
                    owners = stat(system.queue / "mess").st_uid, stat(system.queue / "info").st_uid
                    _fill(system, messages, owners)
                    os.sync()
                    started = time.monotonic()
                    system.deliver()
                    taken = system.status_s(started)
                    assert system.sender is not None
                    found.append((taken, _memory(system.sender.pid)))
                    system.hold()
                system.clear()
            except (OSError, load.Trouble) as e:
                print(f"{name} is left out: {e}", flush=True)
                continue
            seconds[name] = [1000 * (found[1][0] - found[0][0])]
            each[name] = [(found[1][1] - found[0][1]) / QUEUED]
        table.show("20,000 messages taken up at start", "ms", seconds, "C")
        table.show("memory of qmail-send for one of these", "bytes", each, "C")
