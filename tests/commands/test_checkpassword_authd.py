"""checkpassword-authd: a checker like any other, but that it stays who it is."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.accounts import SystemAccounts, login, system_accounts
from tests.authd import FLATFILE, Authd, unprivileged
from tests.helpers import BIN, environment, run
from tests.servers import TIMEOUT, Word

__all__ = ["system_accounts"]

OURS = str(BIN / "checkpassword-authd")
RIGHT = b"max\0secret\0stamp\0"
ROOT = os.geteuid() == 0
root_only = pytest.mark.skipif(not ROOT, reason="only root can be several users: run the tests as root")
NOBODY = unprivileged() if ROOT else []
UNCOUNTED = ["-a", "0", "-n", "0"]


@pytest.fixture(scope="module")
def service() -> Iterator[Authd]:
    with Authd([*(["-u", "65534"] if ROOT else []), *UNCOUNTED, FLATFILE]) as running:
        yield running


@pytest.fixture(params=["warm", "cold"])
def env(request: pytest.FixtureRequest, service: Authd) -> dict[str, str]:
    return {**service.env, "QMAILPY_COLD": "1"} if request.param == "cold" else service.env


def test_the_right_password_runs_the_program_as_who_we_are(env: dict[str, str]) -> None:
    env = {**env, "USER": "qmaild", "HOME": "/where/it/was", "KEPT": "k e p t"}
    probe = ["sh", "-c", 'echo "$USER $HOME ${SHELL-none} $KEPT"; id -u; pwd; ls /proc/$$/fd']
    result = login([OURS, *probe], RIGHT, env, NOBODY)
    lines = result.stdout.decode().split("\n")
    assert lines[:2] == ["max /where/it/was none k e p t", "65534" if ROOT else str(os.geteuid())]
    assert lines[2:] == [os.getcwd(), "0", "1", "2", ""]
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize(
    "packet", [b"max\0secreT\0", b"max\0\0", b"eve\0secret\0", b"\0\0", b"\xff\n:\0secret\0", RIGHT.ljust(513, b"x")]
)
def test_a_wrong_password_is_1_in_silence(packet: bytes, env: dict[str, str]) -> None:
    result = login([OURS, "echo", "in"], packet, env, NOBODY)
    assert (result.returncode, result.stdout, result.stderr) == (1, b"", b"")


def test_the_exit_code_is_that_of_the_program(env: dict[str, str]) -> None:
    assert login([OURS, "sh", "-c", "exit 37"], RIGHT, env, NOBODY).returncode == 37
    assert login([OURS, "no-such-program"], RIGHT, env, NOBODY).returncode == 111


@pytest.mark.parametrize("words", [[], ["-s", "x"], ["-u"], ["-Z", "true"], ["-u", "no-such-user", "true"]])
def test_misuse_is_2(words: list[str], service: Authd) -> None:
    assert login([OURS, *words], RIGHT, service.env).returncode == 2


@pytest.mark.parametrize("packet", [b"", b"max", b"max\0", b"max\0secret"])
def test_a_malformed_packet_is_2(packet: bytes, service: Authd) -> None:
    assert login([OURS, "true"], packet, service.env, NOBODY).returncode == 2


def test_no_descriptor_3_is_111(service: Authd) -> None:
    assert run(["sh", "-c", f"exec {OURS} true 3<&-"], env=service.env).returncode == 111


def test_the_address_is_handed_on(service: Authd) -> None:
    login([OURS, "true"], b"max\0wrong\0", {**service.env, "TCPREMOTEIP": "2001:db8::7"}, NOBODY)
    service.log.line("qmail-authd: refused 2001:db8::7 max")


@root_only
def test_the_tester_of_checkers_finds_nothing_but_that_it_stays_who_it_is(service: Authd) -> None:
    result = run(
        [*NOBODY, BIN / "checkpassword-test", "-u", "max", "-n", "3", OURS], b"secret\n", service.env, timeout=60
    )
    table = [line for line in result.stdout.decode().splitlines()[1:] if line]
    failed = [line.split()[0] for line in table if line.endswith("FAILED")]
    assert failed == ["HOME", "SHELL"], result.stdout.decode()
    counts = {word: int(count) for count, word in (part.split() for part in table[-1].split(", "))}
    # On a busy machine one more wrong password may take its time: a warning.
    assert counts["ok"] + counts.get("warning", 0) + counts.get("warnings", 0) == 46, table[-1]


# Services that are not there, or not the right ones


def test_without_a_service_the_answer_is_later(tmp_path: Path) -> None:
    result = login([OURS, "true"], RIGHT, environment(QMAILHOME=str(tmp_path)))
    assert result.returncode == 111
    assert result.stderr == (
        b"checkpassword-authd: fatal: unable to ask %s/run/qmail-authd: file does not exist\n" % bytes(tmp_path)
    )


@root_only
def test_a_service_that_may_not_be_asked_says_nothing() -> None:
    with Authd(["-u", "1,2", FLATFILE]) as other:
        result = login([OURS, "true"], RIGHT, other.env, NOBODY)
        assert result.returncode == 111
        assert result.stderr == b"checkpassword-authd: fatal: no answer from %s\n" % bytes(other.socket)
        other.log.line("qmail-authd: warning: uid 65534 may not ask")


@root_only
def test_an_impostor_is_told_nothing(service: Authd) -> None:
    with Authd(["-u", "65534", *UNCOUNTED, "sh", "-c", 'cat <&3 >/dev/null; exec "$@"', "sh"]) as other:
        os.chown(other.home, 1, 1)
        other.process.terminate()
        other.process.wait(TIMEOUT)
        os.chown(other.socket.parent, 1, 1)
        (other.socket.parent / "qmail-authd.lock").unlink()
        other.argv = [*unprivileged(1), *other.argv]
        other.log.writing = os.dup(2)
        other.process = other.start()
        result = login([OURS, "true"], RIGHT, other.env, NOBODY)
        assert result.returncode == 111
        words = b"checkpassword-authd: fatal: %s is a service of uid 1: see -u\n"
        assert result.stderr == words % bytes(other.socket)
        assert login([OURS, "-u", "daemon", "true"], RIGHT, other.env, NOBODY).returncode == 0
        assert login([OURS, "-u", "root", "true"], RIGHT, other.env, NOBODY).returncode == 111


@pytest.mark.parametrize("said", [b"", b"4:Kmax", b"1:K,", b"4:Kmax,x", b"HTTP/1.1 200 OK\r\n", b"9" * 5000])
def test_what_is_no_answer_is_later(said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a short name
        server.bind("s")
        server.listen()
        thread = threading.Thread(target=say, args=(server, said))
        thread.start()
        result = login([OURS, "-s", "s", "true"], RIGHT)
        thread.join()
    assert (result.returncode, result.stderr) == (111, b"checkpassword-authd: fatal: no answer from s\n")


def say(server: socket.socket, said: bytes) -> None:
    caller, _ = server.accept()
    with caller:
        caller.recv(4096)
        caller.sendall(said)
        caller.shutdown(socket.SHUT_WR)
        try:
            caller.recv(4096)
        except OSError:
            pass


def test_an_answer_may_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)
        server.bind("s")
        server.listen()

        def pieces() -> None:
            caller, _ = server.accept()
            with caller:
                assert struct.unpack("iII", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1] >= 0
                caller.recv(4096)
                for byte in b"4:Kmax,":
                    caller.sendall(bytes([byte]))

        thread = threading.Thread(target=pieces)
        thread.start()
        result = login([OURS, "-s", "s", "sh", "-c", "echo $USER"], RIGHT)
        thread.join()
    assert result.stdout == b"max\n"


# The chain of a server that is nobody


@pytest.mark.parametrize("cold", ["", "1"], ids=["warm", "cold"])
def test_an_unprivileged_popup_checks_accounts_of_the_system(system_accounts: SystemAccounts, cold: str) -> None:
    with Authd(["-u", "nobody", "checkpassword"], prefix=system_accounts.prefix) as service:
        env = {**service.env, "TCPREMOTEIP": "192.0.2.1", "QMAILPY_COLD": cold}

        def session(password: str, *program: str) -> bytes:
            popup: list[Word] = [*NOBODY, BIN / "qmail-popup", "mail.example", OURS, *program]
            return run(popup, f"USER q-right\r\nPASS {password}\r\n".encode(), env).stdout

        shown = session("secret", "env")
        assert b"\nUSER=q-right\n" in shown
        assert b"\nHOME=" not in shown
        assert b"uid=65534(nobody) gid=65534(nogroup)" in session("secret", "id")
        assert session("wrong", "id").endswith(b"-ERR authorization failed\r\n")
        service.log.line("qmail-authd: refused 192.0.2.1 q-right")
