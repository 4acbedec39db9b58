"""supervision - restarts, stops and memory of those that keep services up; and the loaders in front of services.

A service is a shell that writes its pid to a FIFO and becomes sleep. Times are the supervisor's, the shell's start and
the control program's.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import load, processes, table
from tests.bench.chains import BIN, OPTIONS, SYSTEM_PATH, Server, debian, environment, tcpserver_of

if TYPE_CHECKING:
    from tests.bench.measures import Bench

SETTLED_S = 1.1  # seconds; a younger service is not started again, and the original does not read its control
PATIENCE_S = 20  # seconds for whatever is waited for
COUNTS = (1, 10, 100)  # services whose supervisors are weighed


class Supervisor(NamedTuple):
    """argv, and down and up, are command lines in front of the folder, and of a service; pid reads its
    supervise/status."""

    argv: list[str]
    path: str
    down: list[str]
    up: list[str]
    pid: Callable[[bytes], int]


def _pid(status: bytes) -> int:
    return int.from_bytes(status[12:16], "little")


def _s6_pid(status: bytes) -> int:
    return int.from_bytes(status[24:32], "big")


def _supervisors(first: str = "") -> dict[str, Supervisor]:
    """Those that are here; a sentence for each that is not. first comes before all else on our PATH. The original svc
    controls all that understand it."""
    svscan, svc, s6_svscan, s6_svc = map(debian, ("svscan", "svc", "s6-svscan", "s6-svc"))
    control = svc or str(BIN / "svc")
    path = f"{first}:{environment()['PATH']}" if first else environment()["PATH"]
    ours = Supervisor([str(BIN / "svscan")], path, [control, "-d"], [control, "-u"], _pid)
    found = {"ours": ours, "ours -s": ours._replace(argv=[*ours.argv, "-s"])}
    if svscan and svc:
        found["C"] = ours._replace(argv=[svscan], path=SYSTEM_PATH)
    else:
        print("C is left out: apt-get install daemontools", flush=True)
    if s6_svscan and s6_svc:
        found["s6"] = Supervisor([s6_svscan], SYSTEM_PATH, [s6_svc, "-d"], [s6_svc, "-u"], _s6_pid)
    else:
        print("s6 is left out: apt-get install s6", flush=True)
    return found


class Scan:
    """A supervisor at work on count services in folder. `with` ends it, and them."""

    def __init__(self, supervisor: Supervisor, folder: Path, count: int) -> None:
        self.supervisor = supervisor
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        fifo = folder / ".started"
        os.mkfifo(fifo)
        self._started = os.open(fifo, os.O_RDWR)
        for number in range(count):
            run = folder / f"{number:03}" / "run"
            run.parent.mkdir()
            run.write_text(f"#!/bin/sh\necho $$ >'{fifo}'\nexec sleep 100000\n")
            run.chmod(0o755)
        self.process = subprocess.Popen(
            [*supervisor.argv, str(folder)],
            env=environment(PATH=supervisor.path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.services: list[int] = []
        try:
            while len(self.services) < count:
                self.services.append(self._next())
        except load.Trouble:
            self.__exit__()
            raise

    def _next(self) -> int:
        """Wait for a service to start; its pid. Raises Trouble."""
        line = b""
        poll = select.poll()
        poll.register(self._started, select.POLLIN)
        while not line.endswith(b"\n"):
            if not poll.poll(1000 * PATIENCE_S):
                raise load.Trouble(f"no start within {PATIENCE_S} s")
            line += os.read(self._started, 1)
        self._since = time.monotonic()
        return int(line)

    def _settle(self) -> None:
        time.sleep(max(0, self._since + SETTLED_S - time.monotonic()))

    def _status(self) -> int:
        return self.supervisor.pid((self._folder / "000" / "supervise" / "status").read_bytes())

    def restart(self) -> float:
        """Milliseconds from the death of the service to its next start."""
        self._settle()
        begin = time.perf_counter()
        os.kill(self.services[0], signal.SIGKILL)
        self.services[0] = self._next()
        return 1000 * (time.perf_counter() - begin)

    def down(self) -> float:
        """Milliseconds from the start of svc -d to a status that says so."""
        self._settle()
        service = str(self._folder / "000")
        begin = time.perf_counter()
        pid = os.posix_spawn(self.supervisor.down[0], [*self.supervisor.down, service], os.environ)
        while self._status():
            if time.perf_counter() > begin + PATIENCE_S:
                raise load.Trouble(f"not down after {PATIENCE_S} s")
            time.sleep(0.0001)
        milliseconds = 1000 * (time.perf_counter() - begin)
        os.waitpid(pid, 0)
        subprocess.run([*self.supervisor.up, service], check=True)
        self.services[0] = self._next()
        return milliseconds

    def memory(self) -> float:
        """MB (PSS) of all processes but the services."""
        self._settle()
        return sum(map(processes.pss_of, set(processes.family(self.process.pid)) - set(self.services))) / 1e6

    def __enter__(self) -> "Scan":
        return self

    def __exit__(self, *_: object) -> None:
        """Stopped first, so that none starts another again."""
        members = processes.family(self.process.pid)
        for number in signal.SIGSTOP, signal.SIGKILL:
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.process.wait()
        os.close(self._started)


def _compare(bench: "Bench", measured: str, turn: Callable[[Scan], float]) -> None:
    with ExitStack() as stack:
        turns: dict[str, table.Turn] = {}
        for name, supervisor in _supervisors().items():
            try:
                scan = stack.enter_context(Scan(supervisor, bench.home.work / f"services.{name}", 1))
            except (OSError, load.Trouble) as e:
                print(f"{name} is left out: {e}", flush=True)
            else:
                turns[name] = partial(turn, scan)
        table.show(measured, "ms", table.alternate(turns, 3 * bench.rounds), "C")


def restart(bench: "Bench") -> None:
    """kill -9 of a service that is older than a second, until it runs again."""
    _compare(bench, "from death to restart", Scan.restart)


def down(bench: "Bench") -> None:
    """svc -d, or s6-svc -d, until supervise/status says that the service is down."""
    _compare(bench, "from svc -d to down", Scan.down)


def supervisors(bench: "Bench") -> None:
    """What supervises many services weighs. Its interpreter is a copy, so as to share nothing with the one that runs
    the benchmark."""
    own = bench.home.work / "interpreter"
    own.mkdir(exist_ok=True)
    shutil.copy(os.path.realpath(sys.executable), own / "python3")
    for count in COUNTS:
        values = {}
        for name, supervisor in _supervisors(str(own)).items():
            try:
                with Scan(supervisor, bench.home.work / "services", count) as scan:
                    values[name] = [scan.memory()]
            except (OSError, load.Trouble) as e:
                print(f"{name} is left out: {e}", flush=True)
        table.show(f"supervisors (PSS), services: {count}", "MB", values, "C")


def loaders(bench: "Bench") -> None:
    """Connections through envdir and setuidgid. Behind them svok, the cheapest program that both have: ours is
    a warm step. And true, the cheapest of all, which is a real exec for both."""
    if os.getuid():
        print("no loaders: setuidgid takes root", flush=True)
        return
    original = debian("tcpserver")
    if original is None or debian("envdir") is None:
        print("C is left out: apt-get install ucspi-tcp daemontools", flush=True)
        original = None
    folder = bench.home.work / "env"
    folder.mkdir(exist_ok=True)
    for number in range(5):
        (folder / f"NAME{number}").write_text(f"value {number}\n")
    for program in (["svok", "/"], ["true"]):
        words = [*OPTIONS, "envdir", str(folder), "setuidgid", "nobody", *program]
        chains = {"ours": ([str(BIN / "tcpserver"), *words], environment())}
        if original is not None:
            chains["C"] = [original, *words], environment(PATH=SYSTEM_PATH)
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(tcpserver_of(argv, bench.home, env)) for name, (argv, env) in chains.items()
            }
            for connections in (1, 4):
                spent = {name: [0.0, 0.0] for name in servers}  # seconds of CPU, connections
                turns: dict[str, table.Turn] = {
                    name: partial(_connections, server, connections, bench.seconds, spent[name])
                    for name, server in servers.items()
                }
                values = table.alternate(turns, bench.rounds)
                costs = {name: f"{1000 * spent[name][0] / spent[name][1]:.2f} ms" for name in values}
                title = f"envdir, setuidgid, {program[0]}, {connections} at a time"
                table.show(title, "/s", values, "C", costs)


def _connections(server: Server, connections: int, seconds: float, spent: list[float]) -> float:
    """Per second."""
    before = processes.cpu(server.process.pid)
    done = load.run(server.port, [], connections, seconds, load.silent)
    spent[0] += processes.cpu(server.process.pid) - before
    spent[1] += done.sessions
    return done.rate
