"""qmail-send among partners that a test plays: the spawners, qmail-clean and the log. Ours or the original."""

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from qmailpy.formats import spawning
from qmailpy.formats.spawning import Request, Requests
from qmailpy.stores import queue
from tests.helpers import BIN, PYTHON, eventually
from tests.queuehomes import QueueHome, inside, open_to_all, original

# Descriptors 0 to 6 from the numbers in argv, then the program: subprocess has words for 0, 1 and 2 only.
PLACE = """
import fcntl, os, sys
high = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 50) for word in sys.argv[1:8]]
for target, fd in enumerate(high):
    os.dup2(fd, target)
    os.close(fd)
os.execvp(sys.argv[8], sys.argv[8:])
"""

MOUNT = 'mount --bind "$0" "$1" && shift && exec "$@"'

Deliver = Callable[[int, Request], bytes | None]  # channel and request; the report, or None for none


def succeed(channel: int, request: Request) -> bytes | None:
    return b"Kdid_it\n"


def command(which: str, home: QueueHome) -> list[str | Path]:
    """The command line of qmail-send with home's queue and control files."""
    if which == "ours":
        return [BIN / "qmail-send"]
    argv = inside(home, [original("qmail-send")])
    open_to_all(home.path)  # for whoever has the queue now
    control = Path(argv[-1]).parent.parent / "control"
    return [*argv[:-1], "sh", "-c", MOUNT, home.path / "control", control, argv[-1]]


class Sending:
    """A running qmail-send, in `with`. Its partners live in a thread: deliver says what becomes of each request, clean
    what qmail-clean answers after it has done its work.

    lines: the log so far; requests: (channel, request) so far; asked: what qmail-clean has been asked."""

    def __init__(
        self,
        which: str,
        home: QueueHome,
        deliver: Deliver = succeed,
        clean: Callable[[bytes], bytes] | None = None,
        hello: tuple[bytes, bytes] = (b"x", b"x"),
        env: Mapping[str, str] | None = None,
        prefix: tuple[str | Path, ...] = (),
    ) -> None:
        self.home = home
        self.deliver = deliver
        self.clean = clean or self.remove
        self.text = b""
        self.requests: list[tuple[int, Request]] = []
        self.asked: list[bytes] = []
        self.hello = hello
        self.layout = queue.find_layout_of(os.fsencode(home.path))
        theirs, self._ours = [], []
        for target in range(7):
            reading, writing = os.pipe()
            end, other = (reading, writing) if target in (2, 4, 6) else (writing, reading)
            theirs.append(end)
            self._ours.append(other)
        for target, said in zip((2, 4), hello, strict=True):
            os.write(self._ours[target], said)
        argv = [PYTHON, "-c", PLACE, *map(str, theirs), *prefix, *command(which, home)]
        self.process = subprocess.Popen(
            argv, env={**home.env(), **(env or {})}, pass_fds=theirs, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for fd in theirs:
            os.close(fd)
        self._parsers = {1: Requests(len(hello[0]) > 1), 3: Requests(len(hello[1]) > 1)}
        self._unasked = b""
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    @property
    def lines(self) -> list[str]:
        return self.text.decode("latin-1").splitlines()

    def __enter__(self) -> "Sending":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._thread.join()
        for fd in self._ours:
            if fd >= 0:
                os.close(fd)

    def _play(self) -> None:
        """Until the log ends: nobody else has its other end."""
        while True:
            readable, _, _ = select.select([fd for fd in (self._ours[n] for n in (0, 1, 3, 5)) if fd >= 0], [], [], 20)
            for target in (1, 3, 5, 0):
                fd = self._ours[target]
                if fd not in readable:
                    continue
                block = os.read(fd, 65536)
                if target == 0:
                    if not block:
                        return
                    self.text += block
                elif not block:
                    os.close(fd)
                    self._ours[target] = -1
                elif target == 5:
                    self._answer(block)
                else:
                    for request in self._parsers[target].feed(block):
                        channel = target // 2
                        self.requests.append((channel, request))
                        text = self.deliver(channel, request)
                        if text is not None:
                            self.report(channel, request.number, text)

    def catch_up(self) -> str:
        """From deliver: the log, with what is in its pipe now."""
        while select.select([self._ours[0]], [], [], 0)[0] and (block := os.read(self._ours[0], 65536)):
            self.text += block
        return self.text.decode("latin-1")

    def report(self, channel: int, slot: int, text: bytes) -> None:
        self.say(channel, spawning.report(slot, text, len(self.hello[channel]) > 1))

    def say(self, channel: int, text: bytes) -> None:
        """Any bytes from a spawner."""
        try:
            os.write(self._ours[2 + 2 * channel], text)
        except OSError:  # it has ended
            pass

    def _answer(self, block: bytes) -> None:
        *complete, self._unasked = (self._unasked + block).split(b"\0")
        for request in complete:
            self.asked.append(request)
            answer = self.clean(request)
            try:
                os.write(self._ours[6], answer)
            except OSError:
                pass

    def remove(self, request: bytes) -> bytes:
        """What qmail-clean does."""
        word, _, number = request.decode().partition("/")
        assert word in ("todo", "foop"), request
        for path in (self.layout.todo(b"intd", int(number)), self._last(word, int(number))):
            (self.home.queue / path.decode()).unlink(missing_ok=True)
        return b"+"

    def _last(self, word: str, number: int) -> bytes:
        return self.layout.spread(b"mess", number) if word == "foop" else self.layout.todo(b"todo", number)

    def hang_up(self, target: int) -> None:
        """Close a partner's end of a descriptor of qmail-send's, from the thread or before anything happens there."""
        fd, self._ours[target] = self._ours[target], -1
        os.close(fd)

    def wait(self, text: str, count: int = 1) -> None:
        """Until the log has so many lines that begin so; how long that may take depends on their number."""
        limit_s = 20 + count / 20
        assert eventually(lambda: sum(line.startswith(text) for line in self.lines) >= count, limit_s), self.lines

    def wait_idle(self) -> None:
        """Until it sleeps: the original may miss a signal that comes just before."""
        state = Path(f"/proc/{self.process.pid}/stat")
        assert eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "S")

    def signal(self, name: str) -> None:
        self.process.send_signal(getattr(signal, f"SIG{name}"))

    def stop(self) -> list[str]:
        """TERM; the log. Fails if it does not end."""
        self.signal("TERM")
        assert self.process.wait(20) == 0
        self._thread.join(20)
        return self.lines
