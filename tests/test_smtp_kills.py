"""kill -9 at random of whatever has a part in taking mail, under load: what was answered with 250 is in the queue, and
nothing is there in part."""

import base64
import os
import random
import signal
import socket
import threading
from pathlib import Path

from tests.helpers import eventually
from tests.mailsystem import HOST, PASSWORD, USER, MailSystem, children, started

MESSAGES = 600
MOST_ATTEMPTS = 20 * MESSAGES
CLIENTS = 4
KILLS = 60  # then the rest comes in undisturbed
PAUSE_S = 0.1  # between two of them
RETRY_S = 0.05  # before a client tries again
PARTS = ("smtpd", "submission", "qmail-queued", "authd")

LOGIN = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())


class Cut(Exception):
    """The connection has ended, or the answer is not what was hoped for."""


class Session:
    """One connection of a client that reads each reply before it goes on."""

    def __init__(self, port: int) -> None:
        """Raises Cut, and OSError."""
        self.connection = socket.create_connection(("127.0.0.1", port), 20)
        self.file = self.connection.makefile("rb")
        self.expect(b"220")

    def expect(self, code: bytes) -> None:
        while (line := self.file.readline())[3:4] == b"-":
            pass
        if line[:3] != code or not line.endswith(b"\n"):
            raise Cut

    def say(self, data: bytes, code: bytes) -> None:
        self.connection.sendall(data)
        self.expect(code)

    def close(self) -> None:
        self.file.close()
        self.connection.close()


def message(number: int) -> bytes:
    """Each of its own length, from some bytes to more than a block; its number stands at both ends."""
    line = b"line of message %d" % number
    return b"\r\n".join([b"Subject: %d" % number, b"", *[line] * (number * 37 % 5000), b"end of %d" % number, b""])


class Sender:
    """Clients that send messages until each was acknowledged or has failed often enough."""

    def __init__(self, system: MailSystem) -> None:
        self.system = system
        self.waiting = list(range(MESSAGES))
        self.acknowledged: list[int] = []
        self.attempts = 0
        self.lock = threading.Lock()
        self.pause = threading.Event()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(CLIENTS)]

    def work(self) -> None:
        while True:
            with self.lock:
                if not self.waiting or self.attempts == MOST_ATTEMPTS:
                    return
                number = self.waiting.pop()
                self.attempts += 1
            try:
                self.send(number)
            except (Cut, OSError):
                with self.lock:
                    self.waiting.insert(0, number)
                self.pause.wait(RETRY_S)  # a service is down for a second

    def send(self, number: int) -> None:
        """Every other one by submission, with a login. Raises Cut, and OSError."""
        session = Session(self.system.ports["submission" if number % 2 else "smtpd"])
        try:
            session.say(b"EHLO client.example\r\n", b"250")
            if number % 2:
                session.say(b"AUTH PLAIN " + LOGIN + b"\r\n", b"235")
            session.say(b"MAIL FROM:<%d@elsewhere.example>\r\n" % number, b"250")
            session.say(b"RCPT TO:<%d@%s>\r\n" % (number, HOST.encode()), b"250")
            session.say(b"DATA\r\n", b"354")
            session.say(message(number) + b".\r\n", b"250")
            with self.lock:
                self.acknowledged.append(number)
        finally:
            session.close()


def kill_something(system: MailSystem, choice: random.Random) -> bool:
    """One process: a service, or, more often, one that serves a connection, queues or checks."""
    pid = system.process(choice.choice(PARTS))
    victims = [victim for child in children(pid) for victim in (child, *children(child))]
    if not victims or choice.random() < 0.1:
        victims = [pid]
    victim = choice.choice(victims)
    if not victim:
        return False
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def test_what_was_acknowledged_is_in_the_queue_whole_whoever_is_killed() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    choice = random.Random(seed)
    with started() as system:
        sender = Sender(system)
        kills = 0
        for thread in sender.threads:
            thread.start()
        while any(thread.is_alive() for thread in sender.threads):
            if kills < KILLS:
                kills += kill_something(system, choice)
            sender.pause.wait(PAUSE_S)
        assert sorted(sender.acknowledged) == list(range(MESSAGES))
        assert eventually(system.is_up)
        assert eventually(lambda: all(children(system.process(part)) == [] for part in ("smtpd", "submission")))
        found = system.messages()
        print(kills, "kills", sender.attempts, "attempts", len(found), "messages")
        assert kills > KILLS // 3
        assert sender.attempts > MESSAGES
        for queued in found:
            number = int(queued.sender.partition(b"@")[0])
            assert queued.recipients == [b"%d@%s" % (number, HOST.encode())]
            assert queued.text.endswith(b"\n" + message(number).replace(b"\r\n", b"\n"))
        assert {int(queued.sender.partition(b"@")[0]) for queued in found} == set(range(MESSAGES))
        assert eventually(lambda: is_legal(system.queue))


def is_legal(queue: Path) -> bool:
    """Whether each file of an envelope has its message. One that is alone in mess, or in pid, is garbage in a day."""
    messages = {path.name for path in (queue / "mess").glob("*/*")}
    return all((path.name in messages) for name in ("todo", "intd") for path in (queue / name).iterdir())
