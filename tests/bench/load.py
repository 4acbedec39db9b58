"""load - the client side: how many sessions a POP3 server serves in a given time.

One forked process per connection, with a blocking socket and a conversation that was made of bytes beforehand. A
session is: connect, greeting, each request after the reply to the one before, and the server's end of the
connection. A worker counts whole sessions and the time they took; it starts no session after the deadline.
"""

import _socket
import gc
import os
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

LINE = b"\r\n"  # what a reply of one line ends with
TEXT = b"\r\n.\r\n"  # and one of several lines

BUFFER = 1 << 18  # bytes
PATIENCE = 30  # seconds behind the deadline after which a worker is stuck

Conversation = list[tuple[bytes, bytes]]  # request, and the end of its reply


class Trouble(Exception):
    """A server did not do what it should; the text says what it did."""


class Load(NamedTuple):
    rate: float  # sessions per second
    sessions: int
    cpu: float  # seconds that the workers needed per session


def conversation(user: str, password: str, retrieved: int = 0) -> Conversation:
    """Login, STAT, RETR 1 to retrieved, QUIT."""
    retrievals = [(b"RETR %d\r\n" % number, TEXT) for number in range(1, retrieved + 1)]
    return [*login(user, password), *retrievals, (b"QUIT\r\n", LINE)]


def login(user: str, password: str) -> Conversation:
    """Up to STAT."""
    return [(b"USER %s\r\n" % user.encode(), LINE), (b"PASS %s\r\n" % password.encode(), LINE), (b"STAT\r\n", LINE)]


def connect(port: int) -> "_socket.socket":
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return sock


def expect(sock: "_socket.socket", buffer: bytearray, end: bytes) -> int:
    """Read one reply; returns its length. Raises Trouble if it is not a good one."""
    total = got = sock.recv_into(buffer)
    if buffer[:3] != b"+OK" or not got:
        raise Trouble(bytes(buffer[: min(got, 200)]).decode("ascii", "replace").strip() or "end of file")
    tail = buffer[max(0, got - len(TEXT)) : got]
    while not tail.endswith(end):
        got = sock.recv_into(buffer)
        if not got:
            raise Trouble("end of file within a reply")
        total += got
        tail = (tail + buffer[max(0, got - len(TEXT)) : got])[-len(TEXT) :]
    return total


def say(sock: "_socket.socket", buffer: bytearray, requests: Conversation) -> None:
    """Greeting, requests, replies."""
    expect(sock, buffer, LINE)
    for request, end in requests:
        sock.send(request)
        expect(sock, buffer, end)


def fetch(port: int, user: str, password: str) -> tuple[int, bytes]:
    """How many messages STAT tells of, and message 1 as it is on disk, but without newlines at its end: the
    originals send one more."""
    sock = connect(port)
    buffer = bytearray(BUFFER)
    say(sock, buffer, login(user, password)[:-1])
    sock.send(b"STAT\r\n")
    stat = sock.recv(4096).split()
    sock.send(b"RETR 1\r\n")
    text = bytearray()
    while not text.endswith(TEXT):
        piece = sock.recv(BUFFER)
        if not piece:
            raise Trouble("end of file within a message")
        text += piece
    sock.send(b"QUIT\r\n")
    expect(sock, buffer, LINE)
    sock.close()
    body = bytes(text[: -len(TEXT)]).partition(LINE)[2]
    return int(stat[1]), body.replace(b"\r\n..", b"\r\n.").replace(LINE, b"\n").rstrip(b"\n")


def session(port: int, buffer: bytearray, requests: Conversation) -> None:
    sock = connect(port)
    say(sock, buffer, requests)
    if sock.recv_into(buffer):
        raise Trouble("more after the reply to QUIT")
    sock.close()


def silent(port: int, buffer: bytearray, requests: Conversation) -> None:
    """A session with a server that says nothing and ends the connection."""
    sock = connect(port)
    if sock.recv_into(buffer):
        raise Trouble(bytes(buffer[:200]).decode("ascii", "replace").strip())
    sock.close()


Session = Callable[[int, bytearray, Conversation], None]


def _work(port: int, requests: Conversation, seconds: float, one: Session) -> bytes:
    """The life of a worker: sessions, seconds and seconds of CPU, as text."""
    gc.disable()
    buffer = bytearray(BUFFER)
    count, cpu, start = 0, time.process_time(), time.monotonic()
    end = start + seconds
    while True:
        one(port, buffer, requests)
        count += 1
        now = time.monotonic()
        if now >= end:
            return b"%d %f %f\n" % (count, now - start, time.process_time() - cpu)


def run(port: int, requests: Conversation, connections: int, seconds: float, one: Session = session) -> Load:
    """Keep connections busy for so many seconds, each with one session after the other. Raises Trouble."""
    results, report = os.pipe()
    gate, opener = os.pipe()
    workers = []
    for _ in range(connections):
        pid = os.fork()
        if pid:
            workers.append(pid)
            continue
        try:
            signal.alarm(int(seconds) + PATIENCE)
            os.close(opener)
            os.read(gate, 1)
            text = _work(port, requests, seconds, one)
        except (OSError, Trouble) as e:
            text = b"! %s\n" % str(e).replace("\n", " ").encode()
        finally:
            os.write(report, text)
            os._exit(0)
    for fd in (report, gate, opener):  # the last one starts them all
        os.close(fd)
    with open(results) as lines:
        reports = lines.read().splitlines()
    for pid in workers:
        os.waitpid(pid, 0)
    bad = [line for line in reports if line.startswith("!")]
    if bad or len(reports) < connections:
        raise Trouble(bad[0][2:] if bad else f"no reply for {PATIENCE} seconds")
    done = [(int(count), float(wall), float(cpu)) for count, wall, cpu in map(str.split, reports)]
    sessions = sum(count for count, _, _ in done)
    return Load(sum(count / wall for count, wall, _ in done), sessions, sum(cpu for _, _, cpu in done) / sessions)


def respond(listening: "_socket.socket", replies: dict[bytes, bytes]) -> None:
    """A server that does next to nothing, to see what the client can do: one connection at a time, for ever."""
    while True:
        fd, _ = listening._accept()  # type: ignore[attr-defined]  # what socket.accept calls
        sock = _socket.socket(fileno=fd)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        sock.send(replies[b""])
        while request := sock.recv(4096):
            sock.send(replies[request[:4]])
            if request[:4] == b"QUIT":
                break
        sock.close()
