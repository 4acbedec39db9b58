"""vpopmail - logins to virtual domains, accounts that are added, and deliveries that count a quota.

Homes are in memory where there is room for them: what is measured is the programs.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qmailpy.formats import spawning
from tests.bench import load, processes, table
from tests.bench.chains import BIN, OPTIONS, Server, environment, tcpserver_chain, tcpserver_of
from tests.bench.home import HASH, MAILDIRS, PASSWORD, USER, message

if TYPE_CHECKING:
    from tests.bench.measures import Bench

MEMORY = Path("/dev/shm")
DOMAIN = "bench.example"
FEW, MANY = 10, 100_000  # accounts of a domain
ADDED = 10_000  # in one run
MESSAGES = 1000
SIZE = 2000
QUOTA = "1000000000S,1000000C"
CONNECTIONS = (1, 4)
MESSAGE = b"1/24"  # in queue/mess
DIRECT = "direct"  # its .qmail file says what vdelivermail does for the account plain
AT_ONCE = 10


class Virtual:
    """A home of a mail system and of virtual domains, of the account that serves mail."""

    def __init__(self, bench: "Bench", path: Path) -> None:
        self.path = path
        self.uid, self.gid = bench.home.uid, bench.home.gid
        self.env = environment(QMAILHOME=str(path), VPOPMAILHOME=str(path), VPOPMAIL_SYSLOG="-", VPOPMAIL_LOG="n")
        path.chmod(0o755)
        for name in "control", "users", "domains", "etc":
            (path / name).mkdir()
        (path / "control" / "me").write_text(f"{DOMAIN}\n")
        os.chown(path, self.uid, self.gid)
        os.chown(path / "domains", self.uid, self.gid)
        self.domain = path / "domains" / DOMAIN
        self.run("vadddomain", "-i", str(self.uid), "-g", str(self.gid), DOMAIN, "-", lines="secret\n")

    def run(self, *argv: str, lines: str = "") -> float:
        """Seconds that a command takes. Raises Trouble."""
        before = time.perf_counter()
        done = subprocess.run([BIN / argv[0], *argv[1:]], env=self.env, input=lines.encode(), capture_output=True,
                              check=False)  # fmt: skip
        taken = time.perf_counter() - before
        if done.returncode:
            raise load.Trouble(f"{argv[0]}: {(done.stderr or done.stdout).decode(errors='replace').strip()}")
        return taken

    def add(self, count: int) -> float:
        """Seconds for so many accounts in one run, with hashes that are there."""
        lines = "".join(f"u{number}@{DOMAIN}:{HASH}\n" for number in range(count))
        return self.run("vadduser", "-H", "-f", "-", lines=lines)

    def fill(self, count: int) -> None:
        """Accounts without folders, but for USER's, who has mail: vpasswd alone is what a login looks at."""
        text = "".join(f"u{number}:{HASH}:1:0:u{number}:{self.domain}/u{number}:NOQUOTA\n" for number in range(count))
        self.run("vadduser", "-H", "-f", "-", lines=f"{USER}@{DOMAIN}:{HASH}\n")
        vpasswd = self.domain / "vpasswd"
        lines = [*vpasswd.read_text().splitlines(True), *text.splitlines(True)]
        vpasswd.write_text("".join(sorted(lines, key=lambda line: line.partition(":")[0])))
        self.run("vmkpasswd", DOMAIN)
        new = self.domain / USER / "Maildir" / "new"
        for number in range(MAILDIRS["few"][0]):
            path = new / f"1500000000.{number}.{DOMAIN}"
            path.write_bytes(message(SIZE))
            os.utime(path, (1_500_000_000, 1_500_000_000 + number))
            os.chown(path, self.uid, self.gid)


@contextmanager
def _virtual(bench: "Bench") -> Iterator[Virtual]:
    folder = tempfile.mkdtemp(prefix="bench.", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
    try:
        yield Virtual(bench, Path(folder))
    finally:
        shutil.rmtree(folder)


def vlogins(bench: "Bench") -> None:
    """Login, STAT, QUIT with vchkpw, in a domain of 10 and one of 100,000 accounts, beside checkpassword."""
    with ExitStack() as stack:
        plain, checker = (
            ("checkpassword", "checkpassword") if bench.home.system else ("flatfile", "checkpassword-flatfile")
        )
        start = tcpserver_chain(str(BIN / "tcpserver"), "qmail-popup", checker, "qmail-pop3d")
        servers: dict[str, tuple[Server, str]] = {
            plain: (stack.enter_context(start(bench.home, bench.home.maildir("few"))), USER)
        }
        for count in FEW, MANY:
            virtual = stack.enter_context(_virtual(bench))
            virtual.fill(count)
            words = ["qmail-popup", "bench.example", "vchkpw", "qmail-pop3d", "Maildir"]
            server = stack.enter_context(
                tcpserver_of([str(BIN / "tcpserver"), *OPTIONS, *words], bench.home, virtual.env)
            )
            servers[f"vchkpw, {count:,}"] = server, f"{USER}@{DOMAIN}"
        for name, (server, user) in servers.items():
            if load.fetch(server.port, user, PASSWORD)[0] != MAILDIRS["few"][0]:
                raise load.Trouble(f"{name} serves something else than the Maildir")
        for connections in CONNECTIONS:
            spent = {name: [0.0, 0.0] for name in servers}
            turns: dict[str, table.Turn] = {
                name: partial(_logins, server, user, connections, bench.seconds, spent[name])
                for name, (server, user) in servers.items()
            }
            values = table.alternate(turns, bench.rounds)
            costs = {name: f"{1000 * spent[name][0] / spent[name][1]:.2f} ms" for name in values}
            title = f"vchkpw: login, STAT, QUIT, {connections} at a time"
            table.show(title, "/s", values, plain, costs)


def _logins(server: Server, user: str, connections: int, seconds: float, spent: list[float]) -> float:
    before = processes.cpu(server.process.pid)
    done = load.run(server.port, load.conversation(user, PASSWORD), connections, seconds)
    spent[0] += processes.cpu(server.process.pid) - before
    spent[1] += done.sessions
    return done.rate


def vaccounts(bench: "Bench") -> None:
    """10,000 accounts in one run of vadduser; one more in a domain of 10 and of 100,000."""
    seconds = {}
    for count in ADDED // 2, ADDED:
        with _virtual(bench) as virtual:
            seconds[f"{count:,} accounts"] = [virtual.add(count)]
    table.show("vadduser -f, without hashing", "s", seconds, None)
    with ExitStack() as stack:
        turns: dict[str, table.Turn] = {}
        for count in FEW, MANY:
            virtual = stack.enter_context(_virtual(bench))
            virtual.fill(count)
            turns[f"{count:,} accounts"] = partial(_one_more, virtual, iter(range(MANY)))
        table.show("vadduser of one, to a domain of", "s", table.alternate(turns, bench.rounds), f"{FEW:,} accounts")


def _one_more(virtual: Virtual, numbers: Iterator[int]) -> float:
    return virtual.run("vadduser", "-e", HASH, f"more{next(numbers)}@{DOMAIN}")


def vdeliver(bench: "Bench") -> None:
    """1,000 messages of 2 kB by qmail-lspawn, ten at a time, into a Maildir with a quota, and into one without: by
    vdelivermail, or by a line of a .qmail file."""
    with _virtual(bench) as virtual:
        virtual.run("qmail-make-queue")
        mess = virtual.path / "queue" / "mess"
        (mess / MESSAGE.decode()).write_bytes(message(SIZE))
        os.chown(mess / MESSAGE.decode(), mess.stat().st_uid, mess.stat().st_gid)
        virtual.run("vadduser", "-H", "-f", "-", lines=f"plain@{DOMAIN}:{HASH}\nlimited@{DOMAIN}:{HASH}::{QUOTA}\n")
        virtual.run("valias", "-i", "./plain/Maildir/", f"{DIRECT}@{DOMAIN}")
        users = {"no vdelivermail": DIRECT, "no quota": "plain", "quota": "limited"}
        turns: dict[str, table.Turn] = {name: partial(_deliveries, virtual, user) for name, user in users.items()}
        table.show("vdelivermail: 2 kB into a Maildir", "/s", table.alternate(turns, bench.rounds), "no quota")


def _deliveries(virtual: Virtual, user: str) -> float:
    """Per second. Raises Trouble."""
    maildir = virtual.domain / "plain" / "Maildir" if user == DIRECT else virtual.domain / user / "Maildir"
    for path in ((maildir / "new").iterdir(), maildir.glob("maildirsize")):
        for file in path:
            file.unlink()
    recipient = f"{DOMAIN}-{user}@{DOMAIN}".encode()
    spawner = subprocess.Popen([BIN / "qmail-lspawn", "./Maildir/"], env=virtual.env, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, bufsize=0)  # fmt: skip
    assert spawner.stdin is not None and spawner.stdout is not None
    with spawner, spawner.stdin as requests, spawner.stdout as answers:
        answers.read(1)  # how many slots there are
        reports = spawning.Reports(False)
        before, asked, told = time.perf_counter(), 0, 0
        free = list(range(AT_ONCE))
        while told < MESSAGES:
            while free and asked < MESSAGES:
                requests.write(
                    spawning.Request(free.pop(), MESSAGE, b"sender@elsewhere.example", recipient).encode(False)
                )
                asked += 1
            block = answers.read(65536)
            if not block:
                raise load.Trouble("qmail-lspawn has ended")
            for number, text in reports.feed(block):
                if not text.startswith(b"K"):
                    raise load.Trouble(f"{user}: {text.decode(errors='replace')}")
                told += 1
                free.append(number)
        taken = time.perf_counter() - before
    if len(os.listdir(maildir / "new")) != MESSAGES:
        raise load.Trouble(f"{user}: not all messages are there")
    return MESSAGES / taken
