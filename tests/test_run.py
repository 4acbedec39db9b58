"""`make run`, behind its set-up: a first run, a second one, and what goes wrong."""

import os
import poplib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import PYTHON, ROOT, environment, eventually, needs, run
from tests.smtpsink import FAIR, sink


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of what runs, in a folder that any user may enter."""
    with tempfile.TemporaryDirectory(prefix="qmailpy-run-") as top:
        os.chmod(top, 0o755)
        for folder in ("bin", "qmailpy", "tools"):
            shutil.copytree(ROOT / folder, Path(top, folder), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(top)


@contextmanager
def running(checkout: Path, port: str = "0", **ports: str) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """The server, and the words of the line that it prints for the reader."""
    argv = [PYTHON, str(checkout / "tools" / "run.py")]
    ports = {"PORT": port, "PORT_SMTP": "0", "PORT_SUBMISSION": "0", "PORT_POP3S": "0", **ports}
    env = environment(PYTHONDONTWRITEBYTECODE="1", **ports)
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


@pytest.mark.parametrize(
    ("variable", "service", "advice"),
    [
        ("PORT", "pop3d", "run: no POP3 on port {}, see above; another one: PORT=2110 make run"),
        ("PORT_POP3S", "pop3sd", "run: no POP3S on port {}, see above; another one: PORT_POP3S=2995 make run"),
        ("PORT_SMTP", "smtpd", "run: no SMTP on port {}, see above; another one: PORT_SMTP=2025 make run"),
        ("PORT_SUBMISSION", "submission",
         "run: no submission on port {}, see above; another one: PORT_SUBMISSION=2587 make run"),
    ],
)  # fmt: skip
def test_a_port_that_is_taken_is_said_with_the_way_out(
    checkout: Path, variable: str, service: str, advice: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running(checkout, **{variable: port}) as (server, _):
            _, err = server.communicate(timeout=30)
    assert f"svscan: warning: {service} ended at once, with exit code 111, and is started again every second" in err
    assert "; last line: tcpserver: fatal: unable to bind: address already used" in err
    assert err.splitlines()[-1] == advice.format(port)
    assert server.returncode == 111


def test_lines_of_a_service_stand_behind_its_name(checkout: Path) -> None:
    with running(checkout) as (server, words):
        login(words).quit()
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        assert next(line for line in lines if " end " in line).startswith("pop3d      | tcpserver: end ")


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


def test_a_home_that_had_no_domain_keeps_its_account_and_mail_and_may_be_moved(checkout: Path) -> None:
    home = checkout / "var" / "home"
    new = home / "sample" / "Maildir" / "new"
    for folder in (new, new.parent / "cur", new.parent / "tmp", home / "users"):
        folder.mkdir(parents=True)
    (new / "1.M1.localhost").write_bytes(b"Subject: kept\n\n")
    (home / "users" / "assign").write_text(f"=sample:x:1:1:{home}:::\n.\n")
    (home / "password").write_text("as-before\n")
    if os.geteuid() == 0:
        for path in (home / "sample", *(home / "sample").rglob("*")):
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    with running(checkout) as (_, words):
        assert words[2] == "sample@localhost:as-before"
        assert login(words).stat()[0] == 1
    moved = checkout / "moved"
    moved.mkdir()
    for path in checkout.iterdir():
        if path != moved:
            path.rename(moved / path.name)
    with running(moved) as (server, words):
        session = login(["", "", words[2].replace("@localhost:", ":"), words[3]])  # localhost is the default domain
        assert session.retr(1)[1][0] == b"Subject: kept"
        session.quit()
        shell(printed(server)[0])
        assert eventually(lambda: len(list(moved.glob("var/home/vpopmail/domains/*/sample/Maildir/new/*,S=*"))) == 1)


def test_nobody_else_may_read_the_password(checkout: Path) -> None:
    with running(checkout):
        home = checkout / "var" / "home"
        files = home / "password", home / "vpopmail" / "domains" / "mail.localhost" / "vpasswd"
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def printed(server: "subprocess.Popen[str]") -> list[str]:
    """The three commands below that line: to the account, to others, and what is in the queue."""
    assert server.stdout is not None
    lines = []
    while (line := server.stdout.readline()) != "Ctrl-C stops the services.\n":
        assert line, "it has ended"
        lines.append(line)
    indented = "".join(line.removeprefix("    ") for line in lines if line.startswith("    "))
    sending, _, looking = indented.partition("QMAILHOME=")
    _, account, others = sending.split("printf ")
    return [f"printf {account}", f"printf {others}", f"QMAILHOME={looking}"]


def shell(command: str, code: int = 0) -> str:
    done = run(["sh", "-c", command])
    assert done.returncode == code, done.stderr
    return done.stdout.decode()


def test_mail_to_the_account_can_be_read_at_once_and_other_mail_waits_with_a_reason(checkout: Path) -> None:
    needs("curl")
    with running(checkout) as (server, words):
        account, others, listed = printed(server)
        assert shell(account) == shell(others) == ""

        def count() -> int:
            session = login(words)
            try:
                return int(session.stat()[0])
            finally:
                session.quit()

        assert eventually(lambda: count() == 4)
        session = login(words)
        assert b"Subject: hello" in session.retr(4)[1]
        session.quit()
        assert eventually(lambda: " max@example.org: Held: no smart host is set." in shell(listed))
        text = b"".join(path.read_bytes() for path in (checkout / "var/home/queue/mess").glob("*/*"))
        assert b"  by localhost with ESMTPA; " in text
    with running(checkout) as (server, _):
        assert shell(printed(server)[2]).count("max@example.org") == 1


def test_the_certificate_that_is_printed_is_that_of_all_ports(checkout: Path) -> None:
    needs("curl")
    with running(checkout) as (server, _):
        assert server.stdout is not None
        lines = list(iter(server.stdout.readline, "Ctrl-C stops the services.\n"))
        pop3s = next(line for line in lines if "pop3s://" in line)
        check = next(line for line in lines if "mkcert -c" in line)
        assert b"Subject: Welcome" in shell(f"{pop3s.strip()} -sS").encode()
        assert "names: localhost 127.0.0.1 ::1\n" in shell(check)
        certificate = pop3s.split("--cacert ")[1].split()[0]
        send = next(line for line in lines if "smtp://127.0.0.1" in line).strip()
        tls = send.replace("127.0.0.1", "localhost").replace("-T -", f"-T - --ssl-reqd --cacert {certificate}")
        assert shell(f"printf 'Subject: tls\\r\\n\\r\\n' | {tls}") == ""


def test_mail_to_others_goes_to_the_smart_host(checkout: Path) -> None:
    needs("curl")
    with sink(FAIR) as server, running(checkout, SMARTHOST=f"127.0.0.1:{server.port}") as (run_py, _):
        _, others, listed = printed(run_py)
        shell(others)
        assert eventually(lambda: any(session.ended for session in server.sessions))
        assert b"RCPT TO:<max@example.org>\r\n" in server.sessions[-1].lines
        assert eventually(lambda: shell(listed) == "")


def test_mail_to_others_takes_the_right_password(checkout: Path) -> None:
    needs("curl")
    with running(checkout) as (server, words):
        account, others, listed = printed(server)
        password = words[2].partition(":")[2]
        shell(others.replace(f":{password}", ":wrong"), 67)  # login denied
        shell(others.partition("\\\n")[0], 55)  # no login at all
        for another in ("max@example.org", "max@localhost"):
            shell(account.replace("sample@localhost", another), 55)
        assert shell(listed) == ""


def test_mail_is_taken_and_kept_by_one_user_who_is_not_root(checkout: Path) -> None:
    needs("curl")
    with running(checkout) as (server, _):
        shell(printed(server)[1])
        queue = checkout / "var" / "home" / "queue"
        assert eventually(lambda: list(queue.glob("remote/*/*")) != [])
        assert {path.stat().st_uid for path in queue.rglob("*")} == {queue.stat().st_uid}
        assert queue.stat().st_uid != 0
