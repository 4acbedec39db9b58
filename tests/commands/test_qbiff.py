"""qbiff beside the original: which terminals hear of a message, and what. As root, with a utmp of its own."""

import os
import pty
import subprocess
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.formats.test_utmp import record
from tests.helpers import BIN, environment, run
from tests.queuehomes import nobody
from tests.submissions import Done, everybodys

both = pytest.mark.parametrize("which", everybodys("qbiff"))

MESSAGE = b"Received: x\nSubject: hello\n\nfirst line\nsecond\n"
SHOWN = b"\r\n\a*** TO <joe-x> FROM <a@b>\r\n    hello//first line/second/\r\n"
SETTINGS = {"USER": "joe", "LOCAL": "joe-x", "SENDER": "a@b"}
MOUNT = 'mount --bind "$0" /var/run/utmp && exec "$@"'


class Terminal:
    """One that its owner has told to be asked."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.name = os.ttyname(self.slave).removeprefix("/dev/")
        os.fchmod(self.slave, 0o700)

    def shown(self) -> bytes:
        try:
            return os.read(self.master, 65536)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    nobody()
    terminal = Terminal()
    yield terminal
    terminal.close()


def tell(which: str, folder: Path, utmp: bytes, message: bytes = MESSAGE, **changes: str | None) -> Done:
    made = not Path("/var/run/utmp").exists()
    if made:
        Path("/var/run/utmp").touch()
    (folder / "utmp").write_bytes(utmp)
    settings = {**SETTINGS, **changes}
    env = environment(**{name: value for name, value in settings.items() if value is not None})
    try:
        return run(["unshare", "-m", "sh", "-c", MOUNT, folder / "utmp", which], message, env)
    finally:
        if made:
            Path("/var/run/utmp").unlink()


@both
def test_a_terminal_of_the_user_is_told(terminal: Terminal, tmp_path: Path, which: str) -> None:
    other = record(7, b"pts/99999", b"joe") + record(7, terminal.name.encode(), b"mary")
    done = tell(which, tmp_path, other + record(7, terminal.name.encode(), b"joe"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert terminal.shown() == SHOWN


@both
def test_nobody_else_is(terminal: Terminal, tmp_path: Path, which: str) -> None:
    name = terminal.name.encode()
    utmp = record(7, name, b"joe")
    for change in ("USER", "LOCAL", "SENDER"):
        assert tell(which, tmp_path, utmp, MESSAGE, **{change: None}).returncode == 0
    assert tell(which, tmp_path, utmp, USER="jo").returncode == 0
    assert tell(which, tmp_path, utmp, USER="j" * 33).returncode == 0
    assert tell(which, tmp_path, record(8, name, b"joe")).returncode == 0
    assert tell(which, tmp_path, record(7, b"/dev/" + name, b"joe")).returncode == 0
    assert tell(which, tmp_path, record(7, b"../dev/" + name, b"joe")).returncode == 0
    assert tell(which, tmp_path, record(7, b"", b"joe")).returncode == 0
    os.fchmod(terminal.slave, 0o620)
    assert tell(which, tmp_path, utmp).returncode == 0
    os.fchmod(terminal.slave, 0o720)
    os.fchown(terminal.slave, nobody()[0], -1)
    assert tell(which, tmp_path, utmp).returncode == 0
    assert terminal.shown() == b""


@both
def test_a_terminal_is_told_nothing_but_text(terminal: Terminal, tmp_path: Path, which: str) -> None:
    message = b"Subject: \033[2J\r\n\xff\x9b1\n\tmore\nsubject : two\n\n" + bytes(range(256))
    tell(which, tmp_path, record(7, terminal.name.encode(), b"joe"), message, SENDER="\033\u00e4\x7f")
    shown = terminal.shown()
    first = b"\r\n\a*** TO <joe-x> FROM <____>\r\n"
    assert shown.startswith(first)
    assert len(shown) == len(first) + 78 + 2
    assert shown.endswith(b"\r\n")
    assert shown[len(first) : -2].translate(None, bytes(range(32, 127))) == b""


@both
@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n",
        b"Subject:",
        b"Subject: x\nno field\n",
        b"text only\n",
        b"From me\nsubject:y\n\nz",
        b"Subject: a\n b\n\n\n",
    ],
)
def test_any_message_is_shown_as_by_the_original(
    terminal: Terminal, tmp_path: Path, which: str, message: bytes
) -> None:
    wanted = {
        b"": b"",
        b"\n": b"/",
        b"Subject:": b"",
        b"Subject: x\nno field\n": b"x//no field/",
        b"text only\n": b"/text only/",
        b"From me\nsubject:y\n\nz": b"y//z/",
        b"Subject: a\n b\n\n\n": b"a/ b///",
    }[message]
    tell(which, tmp_path, record(7, terminal.name.encode(), b"joe"), message)
    assert terminal.shown() == b"\r\n\a*** TO <joe-x> FROM <a@b>\r\n    " + wanted + b"\r\n"


def test_without_a_utmp_nobody_is_told() -> None:
    done = run([BIN / "qbiff"], MESSAGE, environment(**SETTINGS))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_header_of_any_size_is_no_reason_to_deliver_anew(tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(b"Subject: x\n" + b"a:b\n" * 3_000_000)
    with (tmp_path / "message").open("rb") as message:
        argv = ["sh", "-c", 'ulimit -v 120000; exec "$0"', str(BIN / "qbiff")]
        done = subprocess.run(argv, stdin=message, capture_output=True, env=environment(**SETTINGS))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
