"""measures - what is measured, one function each; doc/BENCHMARKS.md says how to read the results."""

import _socket
import os
import signal
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from qmailpy import registry
from tests.bench import delivery, load, logs, processes, smtp, supervision, table, tls, vpopmail
from tests.bench.chains import BIN, Chain, Server, debian, environment
from tests.bench.home import MAILDIRS, PASSWORD, USER, Home, message

IDLE = 20  # sessions whose memory is measured
RULES = 100_000


class Bench(NamedTuple):
    home: Home
    chains: list[Chain]
    base: str | None  # the chain that ratios are to
    rounds: int
    seconds: float  # of a chain in a round


def _started(bench: Bench, maildir: str, stack: ExitStack, names: tuple[str, ...] | None = None) -> dict[str, Server]:
    """Those chains that start and serve what is there, warmed up by some sessions each."""
    servers = {}
    count, size, _ = MAILDIRS[maildir]
    for chain in bench.chains:
        if names is not None and chain.name not in names:
            continue
        try:
            server = stack.enter_context(chain.start(bench.home, bench.home.maildir(maildir)))
            if load.fetch(server.port, USER, PASSWORD) != (count, message(size).rstrip(b"\n")):
                raise load.Trouble("it serves something else than the Maildir")
            load.run(server.port, load.conversation(USER, PASSWORD), 1, 0.3)
            servers[chain.name] = server
        except (OSError, load.Trouble) as e:
            print(f"{chain.name} is left out: {e}", flush=True)
    return servers


def _compare(
    bench: Bench,
    measured: str,
    unit: str,
    maildir: str,
    retrieved: int = 0,
    levels: tuple[int, ...] = (1,),
    scale: float = 1.0,
    names: tuple[str, ...] | None = None,
) -> None:
    """Sessions per second, times scale, of all chains in turn."""
    requests = load.conversation(USER, PASSWORD, retrieved)
    with ExitStack() as stack:
        servers = _started(bench, maildir, stack, names)
        for connections in levels:
            spent = {name: [0.0, 0.0] for name in servers}  # seconds of CPU, sessions
            turns: dict[str, table.Turn] = {
                name: partial(_turn, server, requests, connections, bench.seconds, scale, spent[name])
                for name, server in servers.items()
            }
            values = table.alternate(turns, bench.rounds)
            costs = {name: f"{1000 * spent[name][0] / spent[name][1]:.2f} ms" for name in values}
            title = measured if len(levels) == 1 else f"{measured}, {connections} at a time"
            table.show(title, unit, values, bench.base, costs)


def _turn(
    server: Server,
    requests: load.Conversation,
    connections: int,
    seconds: float,
    scale: float,
    spent: list[float],
) -> float:
    before = processes.cpu(server.process.pid)
    try:
        done = load.run(server.port, requests, connections, seconds)
    except load.Trouble as e:
        ended = server.process.poll()  # negative: by that signal
        raise e if ended is None else load.Trouble(f"{e}; the server has ended with {ended}")
    spent[0] += processes.cpu(server.process.pid) - before
    spent[1] += done.sessions
    return done.rate * scale


def generator(bench: Bench) -> None:
    """What the client costs, and what it reaches with a server that does next to nothing."""
    replies = {b"": b"+OK <1.1@bench>\r\n", b"STAT": b"+OK 3 6000\r\n", b"QUIT": b"+OK \r\n"}
    replies |= dict.fromkeys((b"USER", b"PASS"), b"+OK \r\n")
    requests = load.conversation(USER, PASSWORD)
    for connections in (1, 4, 16):
        listening = _socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        responders = []
        for _ in range(connections):
            pid = os.fork()
            if not pid:
                try:
                    load.respond(listening, replies)
                finally:
                    os._exit(0)
            responders.append(pid)
        try:
            done = load.run(listening.getsockname()[1], requests, connections, bench.seconds)
        finally:
            listening.close()
            for pid in responders:
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
        measured = f"login, STAT, QUIT, {connections} at a time"
        cost = f"{1000 * done.cpu:.2f} ms in client"
        table.row((measured, "no real server", f"{done.rate:.0f} /s", "", "", cost))


def sessions(bench: Bench) -> None:
    """Login, STAT, QUIT."""
    _compare(bench, "login, STAT, QUIT", "/s", "few", levels=(1, 4, 16))


def messages(bench: Bench) -> None:
    """50 messages of 2 kB."""
    _compare(bench, "50 messages of 2 kB", "sessions/s", "messages", retrieved=50, levels=(1, 4))


def large(bench: Bench) -> None:
    """One message of 25 MB."""
    _compare(bench, "one message of 25 MB", "MB/s", "large", retrieved=1, scale=MAILDIRS["large"][1] / 1e6, names=WARM)


def maildir(bench: Bench) -> None:
    """Login, STAT, QUIT on 10,000 messages."""
    for name, text in (("distinct", "each its own time"), ("equal", "10 times in all")):
        _compare(bench, f"opening 10,000 messages, {text}", "/s", name, names=WARM)


WARM = ("ours", "ours, flatfile", "C", "Dovecot", "Dovecot, reused")


def memory(bench: Bench) -> None:
    """PSS of an idle session after login and STAT, over all its processes."""
    buffer = bytearray(load.BUFFER)
    values = {}
    with ExitStack() as stack:
        for name, server in _started(bench, "few", stack).items():
            alone = processes.pss(server.process.pid)
            clients = []
            for _ in range(IDLE):
                clients.append(load.connect(server.port))
                load.say(clients[-1], buffer, load.login(USER, PASSWORD))
            values[name] = [(processes.pss(server.process.pid) - alone) / IDLE / 1e6]
            for client in clients:
                client.send(b"QUIT\r\n")
                while client.recv_into(buffer):
                    pass
                client.close()
    table.show("memory (PSS) of an idle session", "MB", values, bench.base)


# What commands with a peer or without a usage message are started with: nobody listens on port 1, nothing is scanned.
ARGUMENTS = {
    "svscan": ["/nonexistent"],
    **{name: ["127.0.0.1", "1"] for name in ("mconnect", "tcpcat", "sslconnect", "sslcat")},
    "https@": ["127.0.0.1", "", "1"],
    **{name: ["127.0.0.1"] for name in ("date@", "finger@", "http@", "who@")},
}


def _run(argv: list[str], stdin: str = os.devnull) -> tuple[float, int]:
    """Seconds until the command has ended, and its exit code. subprocess with a timeout would ask in ever longer
    steps whether it has, and a step of 8 ms is more than what is measured here."""
    files: list[tuple[int, int, str, int, int]] = [(os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0)]
    files += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    begin = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, environment(), file_actions=files)
    status = os.waitpid(pid, 0)[1]
    return time.perf_counter() - begin, os.waitstatus_to_exitcode(status)


def _milliseconds(argv: list[str]) -> float:
    return 1000 * _run(argv)[0]


def start(bench: Bench) -> None:
    """A command by itself, from exec to exit: with no arguments, which most answer with their usage."""
    python = "python3 -IS -c pass"
    turns: dict[str, table.Turn] = {python: partial(_milliseconds, [sys.executable, "-IS", "-c", "pass"])}
    true = debian("true")
    if true is not None:
        turns["true, in C"] = partial(_milliseconds, [true])
    for name in registry.COMMANDS:
        path = BIN / name
        if path.exists():
            turns[name] = partial(_milliseconds, [str(path), *ARGUMENTS.get(name, [])])
    table.show("cold start", "ms", table.alternate(turns, 4 * bench.rounds), python)


def rules(bench: Bench) -> None:
    """tcprules on 100,000 lines; both results must be the same file."""
    source = bench.home.work / "rules"
    with open(source, "w") as lines:
        for number in range(RULES):
            address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            lines.write(f'{address}:allow,RELAYCLIENT="",RBLSMTPD=""\n' if number % 3 else f"{address}:deny\n")
    programs = {"ours": str(BIN / "tcprules"), "C": debian("tcprules")}
    turns: dict[str, table.Turn] = {}
    for name, program in programs.items():
        if program is None:
            print("C is left out: apt-get install ucspi-tcp", flush=True)
        else:
            turns[name] = partial(_compile, program, source, bench.home.work / f"rules.{name}")
    values = table.alternate(turns, bench.rounds)
    table.show("compiling 100,000 rules", "s", values, "C")
    made = [(bench.home.work / f"rules.{name}").read_bytes() for name in values]
    if len(made) == 2:
        print("The two rule files", "are the same." if made[0] == made[1] else "DIFFER.", flush=True)


def _compile(program: str, source: Path, target: Path) -> float:
    """Seconds. Raises Trouble."""
    seconds, code = _run([program, str(target), f"{target}.tmp"], str(source))
    if code:
        raise load.Trouble(f"exit code {code}")
    return seconds


SUPERVISION = (supervision.restart, supervision.down, supervision.supervisors, supervision.loaders)

POP3 = (generator, sessions, messages, large, maildir, memory)

DELIVERY = (delivery.deliver, delivery.relay, delivery.recipients, delivery.longqueue)
TLS = (tls.handshakes, tls.largetls, tls.tlsmemory)
VIRTUAL = (vpopmail.vlogins, vpopmail.vaccounts, vpopmail.vdeliver)
MAIL = (smtp.mail, smtp.largemail, *DELIVERY)
MEASURES = (*POP3, *TLS, *MAIL, *VIRTUAL, start, rules, logs.logs, *SUPERVISION)
