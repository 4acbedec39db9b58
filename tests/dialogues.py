"""Dialogues: what a client says and what the server answers, in files that run as engine and as commands.

A file of tests/dialogues/ has these lines; a trailing blank is written ␠, other bytes as in a Python string:

    # what the dialogue shows
    P: qmail-popup         the program: qmail-popup (with a checker and qmail-pop3d behind it), qmail-pop3d or
                           qmail-smtpd (tests/smtp.py)
    M: new/one A: 1\\n      a message: path and text; the first is the oldest. Without any, the Maildir is empty
    F: rcpthosts a.test    a control file of qmail-smtpd and its text, to which a LF is added
    E: RELAYCLIENT=        a variable of qmail-smtpd
    A: HOST CHECKER true   the arguments of qmail-smtpd; CHECKER knows the one account
    C: STAT                the client sends this line and CRLF
    c: STAT\\n              the client sends just this
    S: +OK 1 5             the server answers with this line and CRLF
    L: cur/one:2,          a file that lies in the Maildir afterwards; without any, that is not looked at
    Q: a@b c@d,e@f A: 1\\n  a message in the queue afterwards: sender, recipients, text behind the Received line

The server ends the connection behind the last S. Names of files that begin with classic, or smtp-classic, hold for the
C programs too. In the answers <PID.TIME@ and ok TIME qp PID stand for what differs from run to run. The one account is
max with the password secret.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qmailpy.formats import maildirname
from qmailpy.protocols import pop3
from tests.helpers import BIN, environment

FOLDER = Path(__file__).parent / "dialogues"
HOST = "mail.example"
NAME, PASSWORD = b"max", b"secret"
NOBODY = 65534
PATIENCE = 20  # seconds until a silent program is a failure


def unescape(text: str) -> bytes:
    return text.replace("␠", " ").encode("latin-1").decode("unicode_escape").encode("latin-1")


def anonymous(answer: bytes) -> bytes:
    """An answer without what differs from run to run."""
    return re.sub(rb"<\d+\.\d+@", b"<PID.TIME@", re.sub(rb"ok \d+ qp \d+", b"ok TIME qp PID", answer))


class Step:
    """Bytes of the client, and the lines of the file with the answers to them: (number, bytes)."""

    def __init__(self, sent: bytes) -> None:
        self.sent = sent
        self.answers: list[tuple[int, bytes]] = []


class Dialogue:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.program = ""
        self.messages: list[tuple[bytes, bytes]] = []
        self.steps = [Step(b"")]  # the first answers are the greeting
        self.left: list[bytes] = []
        self.files: dict[bytes, bytes] = {}
        self.variables: dict[str, str] = {}
        self.arguments: list[str] = []
        self.queued: list[tuple[bytes, list[bytes], bytes]] = []
        for number, row in enumerate(path.read_text().splitlines(), 1):
            kind, text = row[:2], row[3:]
            if kind == "P:":
                self.program = text
            elif kind == "M:":
                name, _, message = text.partition(" ")
                self.messages.append((unescape(name), unescape(message)))
            elif kind in ("C:", "c:"):
                self.steps.append(Step(unescape(text) + (b"\r\n" if kind == "C:" else b"")))
            elif kind == "S:":
                self.steps[-1].answers.append((number, unescape(text) + b"\r\n"))
            elif kind == "L:":
                self.left.append(unescape(text))
            elif kind == "F:":
                file, _, content = text.partition(" ")
                self.files[file.encode()] = unescape(content) + b"\n"
            elif kind == "E:":
                name, _, value = text.partition("=")
                self.variables[name] = value
            elif kind == "A:":
                self.arguments = text.split()
            elif kind == "Q:":
                words = [unescape(word) for word in (*text.split(" ", 2), "")]
                self.queued.append((words[0].removeprefix(b"<>"), words[1].split(b","), words[2]))
            elif row and not row.startswith("#"):
                pytest.fail(f"{path.name}:{number}: no such line: {row}")

    def compare(self, steps: Sequence[Step], answered: bytes) -> None:
        """Fail with the first line whose answer is another one."""
        for number, wanted in (answer for step in steps for answer in step.answers):
            if not answered.startswith(wanted):
                got = answered.split(b"\r\n", 1)[0]
                pytest.fail(f"{self.path.name}:{number}: wanted {wanted!r}, got {got!r}", pytrace=False)
            answered = answered[len(wanted) :]
        if answered:
            last = max((number for step in steps for number, _ in step.answers), default=0)
            pytest.fail(f"{self.path.name}:{last}: more came behind it: {answered!r}", pytrace=False)


def load(pattern: str = "[!s]*") -> list[Any]:
    """The dialogues whose names match, as parameters of a test: without a pattern, those of POP3."""
    return [pytest.param(Dialogue(path), id=path.stem) for path in sorted(FOLDER.glob(pattern + ".dialogue"))]


class Engine:
    """Both conversations, without descriptors: what qmail-popup, a checker and qmail-pop3d do with them."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.texts = [text for _, text in dialogue.messages]
        self.paths = [path for path, _ in dialogue.messages]
        self.before = pop3.Authorization() if dialogue.program == "qmail-popup" else None
        self.after = pop3.Transaction(self.paths, [len(text) for text in self.texts])
        self.answered = b"+OK <PID.TIME@%b>\r\n" % HOST.encode() if self.before else pop3.OKAY
        self.ended = False
        self.partial = b""

    def feed(self, data: bytes) -> None:
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            if not self.ended:
                self.answered += self._before(self.before, line) if self.before else self._after(line)

    def _before(self, session: pop3.Authorization, line: bytes) -> bytes:
        reply = session.line(bytearray(line))
        self.ended = session.ended
        if session.login is None:
            return reply
        self.before = None
        if (session.login.name, bytes(session.login.password)) == (NAME, PASSWORD):
            return reply + pop3.OKAY
        self.ended = True
        return reply + session.verdict(1)

    def _after(self, line: bytes) -> bytes:
        pieces, wanted = self.after.line(line)
        reply = b"".join(pieces)
        self.ended = self.after.ended
        if self.ended:
            return reply + pop3.OKAY
        if wanted is None:
            return reply
        body = pop3.Body(wanted.limit)
        return reply + pop3.OKAY + body.feed(self.texts[wanted.index]) + body.end()

    def left(self) -> list[bytes]:
        """The files that lie in the Maildir afterwards."""
        if not self.after.ended:
            return sorted(self.paths)
        kept = [path for index, path in enumerate(self.paths) if index not in self.after.deleted]
        return sorted(maildirname.seen(path) or path for path in kept)


class Home:
    """A folder with a Maildir that belongs to somebody who is not root, and a file for checkpassword-flatfile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.maildir = path / "Maildir"
        root = os.geteuid() == 0
        self.who: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}
        for folder in (self.maildir, *(self.maildir / name for name in ("tmp", "new", "cur"))):
            folder.mkdir()
            self.own(folder)
        self.accounts = path / "accounts"
        self.accounts.write_bytes(b"%b:{PLAIN}%b::::%b\n" % (NAME, PASSWORD, bytes(path)))
        self.own(self.accounts)
        self.own(path)
        self.old = int(time.time()) - 100000  # seconds; each message is one later

    def own(self, path: Path | bytes) -> None:
        if self.who:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def message(self, name: bytes, text: bytes, mtime: int | None = None) -> Path:
        """A new file at name from the Maildir."""
        path = os.path.join(bytes(self.maildir), name)
        with open(path, "wb") as f:
            f.write(text)
        self.own(path)
        self.date(path, mtime)
        return Path(os.fsdecode(path))

    def date(self, path: Path | bytes, mtime: int | None = None) -> None:
        self.old += 1
        when = self.old if mtime is None else mtime
        os.utime(path, (when, when))

    def files(self) -> list[bytes]:
        """What lies in new/ and cur/."""
        folder = bytes(self.maildir)
        return sorted(at + b"/" + name for at in (b"new", b"cur") for name in os.listdir(folder + b"/" + at))

    def environment(self, **changes: str) -> dict[str, str]:
        return environment(CHECKPASSWORD_FILE=str(self.accounts), **changes)

    def run(self, argv: Sequence[str | bytes | Path], input: bytes = b"", **how: Any) -> Any:
        """Run a command to its end, in this home as its user; input comes through a pipe."""
        how = {"env": self.environment(), "timeout": PATIENCE, "cwd": self.path, **self.who, **how}
        return subprocess.run(argv, input=input, capture_output=True, **how)

    def pop3d(self, input: bytes, program: str | Path = BIN / "qmail-pop3d") -> bytes:
        """What qmail-pop3d says; it must end well."""
        done = self.run([program, "Maildir"], input)
        assert (done.returncode, done.stderr) == (0, b"")
        answer: bytes = done.stdout
        return answer


@pytest.fixture
def home() -> Iterator[Home]:
    path = Path(tempfile.mkdtemp(prefix="qmailpy-pop3-"))  # tmp_path is closed to other users
    try:
        yield Home(path)
    finally:
        shutil.rmtree(path)


class Talk:
    """A program with a socket on descriptors 0 and 1; ahead is what it finds there at its start."""

    def __init__(
        self, home: Home, argv: Sequence[str | bytes | Path], ahead: bytes = b"", tcp: bool = False, **how: Any
    ) -> None:
        self.socket, theirs = tcp_pair() if tcp else socket.socketpair()
        self.socket.settimeout(PATIENCE)
        self.send(ahead)
        how = {"env": home.environment(), "cwd": home.path, "stderr": subprocess.PIPE, **home.who, **how}
        with theirs:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(argv, **{"stdin": theirs, "stdout": theirs, **how})

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        """One line of the answer, with its end."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self.socket.recv(1)
            if not byte:
                return line
            line += byte
        return line

    def take(self, size: int) -> bytes:
        """So many bytes, or fewer if the server ends the connection."""
        parts = []
        while size > 0 and (part := self.socket.recv(min(size, 65536))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def rest(self) -> bytes:
        """All that comes until the server ends the connection."""
        parts = []
        while part := self.socket.recv(65536):
            parts.append(part)
        return b"".join(parts)

    def end(self) -> tuple[int, bytes]:
        """(exit code, what was said on descriptor 2) when the program has ended by itself."""
        assert self.process.stderr is not None
        code = self.process.wait(PATIENCE)
        return code, self.process.stderr.read()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    return ours, theirs


def chain(popup: str | Path = BIN / "qmail-popup", pop3d: str | Path = BIN / "qmail-pop3d") -> list[str | Path]:
    return [popup, HOST, BIN / "checkpassword-flatfile", pop3d, "Maildir"]
