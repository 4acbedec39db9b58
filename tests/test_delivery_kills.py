"""kill -9 at random of whatever has a part in delivering mail, under load: every message is delivered or bounced, and a
second time only if a delivery was under way of which nobody has heard the end."""

import os
import random
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import BIN, PYTHON, ROOT, eventually, needs, run
from tests.mailsystem import children
from tests.queuehomes import ME, QueueHome, nobody
from tests.servers import TIMEOUT, public_folder, reachable_python
from tests.smtpsink import FAIR, sink

KILLS = 1000
BUSY = 15  # messages that are in the queue at least, while there are kills
SERVICES = 0.1  # of them hit one of the four; the others a delivery
START = "qmail-start"

INJECT = """
import os, sys
sys.path.insert(0, {root!r})
from qmailpy.stores import injection
home = os.fsencode(sys.argv[1])
for line in sys.stdin.buffer:
    sender, recipient = line.split()
    mail = injection.open_injection(home, {{}}, None, None)
    mail.write(b"Subject: x\\n\\n" + recipient + b"\\n")
    said = mail.close(sender, [recipient])
    assert not said, said
"""

STARTING = re.compile(rb"starting delivery (\d+): msg \d+ to (?:local|remote) (\S+)")


class System:
    """A home that one user owns, who runs the tests, or nobody; and its qmail-start, begun anew when it has ended."""

    def __init__(self, folder: Path, port: int) -> None:
        self.home = QueueHome(folder / "home")
        self.box = folder / "box"
        self.log = folder / "log"
        self.log.touch()
        self.home.control(smtproutes=f":127.0.0.1:{port}", concurrencylocal="5", concurrencyremote="5")
        for name in ("Maildir/new", "Maildir/tmp", "Maildir/cur"):
            (self.box / name).mkdir(parents=True)
        for name in (".qmail", ".qmail-default"):
            (self.box / name).write_text("./Maildir/\n")
        for name in ("users", "alias"):
            (self.home.path / name).mkdir()
        self.prefix: list[str] = []
        ids = os.getuid(), os.getgid()
        if ids[0] == 0:
            ids = nobody()
            self.prefix = [needs("setpriv"), f"--reuid={ids[0]}", f"--regid={ids[1]}", "--clear-groups"]
        lines = f"=box:box:{ids[0]}:{ids[1]}:{self.box}:::\n+box-:box:{ids[0]}:{ids[1]}:{self.box}:-::\n.\n"
        (self.home.path / "users" / "assign").write_text(lines)
        self.env = {**self.home.env(), **reachable_python()}
        assert run([BIN / "qmail-newu"], env=self.env).returncode == 0
        if self.prefix:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, *ids)
        self.process: subprocess.Popen[bytes] | None = None

    def keep_up(self) -> int:
        """Begin it, unless it runs and nobody has heard of its end; its pid."""
        if self.process is None or self.process.poll() is not None:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [*self.prefix, BIN / START, "./Maildir/"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env=self.env,
                )  # fmt: skip
        return self.process.pid

    def injector(self) -> "subprocess.Popen[bytes]":
        """A process of the same user that puts messages into the queue, one for each line `SENDER RECIPIENT`."""
        code = INJECT.format(root=str(ROOT))
        argv = [*self.prefix, PYTHON, "-uc", code, str(self.home.path)]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, env=self.env, bufsize=0)

    def delivered(self) -> "Counter[bytes]":
        """How often there is a message to each address."""
        texts = (path.read_bytes() for path in (self.box / "Maildir" / "new").iterdir())
        return Counter(re.findall(rb"^Delivered-To: (\S+)", b"\n".join(texts), re.MULTILINE))

    def attempts(self) -> "Counter[bytes]":
        """How many deliveries to each address have begun."""
        return Counter(address for _, address in STARTING.findall(self.log.read_bytes()))

    def waiting(self) -> int:
        """How many messages are in the queue. What is in mess alone is garbage, for 36 hours."""
        queue = self.home.queue
        return len(os.listdir(queue / "todo")) + sum(len(os.listdir(place)) for place in (queue / "info").iterdir())

    def hurry(self) -> None:
        """What was put off is tried now. Before qmail-send hears signals it would be killed by this one."""
        if self.process is not None and self.process.poll() is None and self.log.read_bytes().endswith(b"\n"):
            caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{self.process.pid}/status").read_text())
            if caught and int(caught[1], 16) & 1 << signal.SIGALRM - 1:
                self.process.send_signal(signal.SIGALRM)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(TIMEOUT)


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


def family(pid: int) -> list[int]:
    """pid and all below it."""
    found = [pid]
    for parent in found:
        found += children(parent)
    return found


def kill_something(system: System, choice: random.Random) -> bool:
    """One of the four, or a delivery, if there is one."""
    pid = system.keep_up()
    services = children(pid)
    victims = [delivery for service in services for delivery in family(service)[1:]]
    if choice.random() < SERVICES and len(services) == 3:  # all is up
        victims = [pid, *services]
    if not victims:
        return False
    victim = choice.choice(victims)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def pair(number: int) -> tuple[str, str]:
    """Sender and recipient of a message: local, remote, or to nobody, so that it bounces to the sender."""
    return (
        (f"from@{ME}", f"box-{number}@{ME}"),
        (f"from@{ME}", f"{number}@elsewhere.example"),
        (f"box-bounce-{number}@{ME}", f"none-{number}@{ME}"),
    )[number % 3]


def test_every_message_is_delivered_or_bounced_whoever_is_killed(folder: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    choice = random.Random(seed)
    with sink(FAIR) as server:
        system = System(folder, server.port)
        injector = system.injector()
        assert injector.stdin is not None
        kills = messages = 0
        while kills < KILLS:
            if system.waiting() < BUSY:
                injector.stdin.write("".join(f"{' '.join(pair(messages + more))}\n" for more in range(BUSY)).encode())
                messages += BUSY
            if kill_something(system, choice):
                kills += 1
                system.hurry()
        injector.stdin.close()
        assert injector.wait(TIMEOUT) == 0

        def empty() -> bool:
            system.keep_up()
            system.hurry()
            return not system.waiting()

        assert eventually(empty, 60), system.log.read_text()[-4000:]
        system.stop()
        commands = [line for session in server.sessions if session.ended for line in session.lines]
    sent = Counter(line.partition(b"<")[2].partition(b">")[0] for line in commands if line.startswith(b"RCPT"))
    arrived, attempts = system.delivered() + sent, system.attempts()
    pairs = [pair(number) for number in range(messages)]
    wanted = {(sender if recipient.startswith("none-") else recipient).encode() for sender, recipient in pairs}
    too_many = sum(arrived.values()) - len(wanted)
    print(f"{kills} kills, {messages} messages, {sum(attempts.values())} attempts, {too_many} too many")
    assert set(arrived) == wanted
    assert [address for address in wanted if arrived[address] > attempts[address]] == []
    assert too_many <= kills
