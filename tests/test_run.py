"""`make run`, behind its set-up: a first run, a second one, and what goes wrong."""

import os
import poplib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import PYTHON, ROOT, environment, needs, run


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of what runs, in a folder that any user may enter."""
    with tempfile.TemporaryDirectory(prefix="qmailpy-run-") as top:
        os.chmod(top, 0o755)
        for folder in ("bin", "qmailpy", "tools"):
            shutil.copytree(ROOT / folder, Path(top, folder), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(top)


@contextmanager
def running(checkout: Path, port: str = "0") -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """The server, and the words of the line that it prints for the reader."""
    argv = [PYTHON, str(checkout / "tools" / "run.py")]
    env = environment(PORT=port, PYTHONDONTWRITEBYTECODE="1")
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            words: list[str] = []
            while "curl" not in words:
                line = server.stdout.readline()
                if not line:
                    break
                words = line.split()
            yield server, words
        finally:
            server.terminate()


def login(words: list[str]) -> poplib.POP3:
    user, _, password = words[2].partition(":")
    host = words[3].split("/")[2]
    session = poplib.POP3(host.split(":")[0], int(host.split(":")[1]), timeout=20)
    session.user(user)
    session.pass_(password)
    return session


def test_the_line_that_is_printed_reads_the_mail(checkout: Path) -> None:
    needs("curl")
    with running(checkout) as (_, words):
        done = run([*words[:2], *words[2:], "--silent", "--show-error", "--max-time", "20"])
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"\r\nSubject: Welcome to qmailpy\r\n" in done.stdout


def test_a_second_run_keeps_the_account_and_what_was_deleted(checkout: Path) -> None:
    with running(checkout) as (_, first):
        session = login(first)
        assert session.stat()[0] == 3
        session.dele(1)
        session.quit()
    with running(checkout) as (_, second):
        assert second[2] == first[2]
        assert login(second).stat()[0] == 2


def test_an_interrupt_stops_it_in_good_order(checkout: Path) -> None:
    with running(checkout) as (server, words):
        server.send_signal(signal.SIGINT)
        out, _ = server.communicate(timeout=20)
        assert (server.returncode, out.strip().splitlines()[-1]) == (0, "stopped")
        address = words[3].split("/")[2].split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address[0], int(address[1])))


def test_a_port_that_is_taken_is_said_with_the_way_out(checkout: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, running(checkout, str(taken.getsockname()[1])) as (server, _):
        _, err = server.communicate(timeout=30)
        said, advice = err.splitlines()[0], err.splitlines()[-1]
        assert said.startswith(
            "svscan: warning: pop3d ended at once, with exit code 111, and is started again every second"
        )
        assert said.endswith("; last line: tcpserver: fatal: unable to bind: address already used")
        assert advice.endswith("another one: PORT=2110 make run")
        assert server.returncode == 111


def test_lines_of_a_service_stand_behind_its_name(checkout: Path) -> None:
    with running(checkout) as (server, words):
        login(words).quit()
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        assert next(line for line in lines if " end " in line).startswith("pop3d | tcpserver: end ")


def test_after_a_kill_the_next_run_serves_again(checkout: Path) -> None:
    with running(checkout) as (server, first):
        (svscan,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        status = checkout / "var" / "home" / "service" / "pop3d" / "supervise" / "status"
        before = status.read_bytes()[12:16]
        os.kill(int(svscan), signal.SIGKILL)
        server.wait(20)
    with running(checkout) as (_, second):
        assert login(second).stat()[0] == 3
    assert first[2] == second[2]
    assert before != bytes(4)


def test_nobody_else_may_read_the_password(checkout: Path) -> None:
    with running(checkout):
        home = checkout / "var" / "home"
        assert {(home / name).stat().st_mode & 0o777 for name in ("password", "users/flatfile")} == {0o600}
