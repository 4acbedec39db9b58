"""qmail-popup on pipes and sockets: the packet for the checker, what becomes of its exit code, the bytes behind the
login, and hostile clients. Single sessions are in tests/dialogues.

Where QMAIL_BIN names the C program, it has to pass what is its own too.
"""

import base64
import contextlib
import hashlib
import os
import re
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.accounts import sha512
from tests.dialogues import HOST, NOBODY, PASSWORD, Home, Talk, anonymous, chain, home
from tests.helpers import BIN, ROOT
from tests.pop3_original import originals
from tests.ucspitls import TlsTalk, certificate

__all__ = ["certificate", "home"]

POPUP = BIN / "qmail-popup"
PROGRAMS = [str(POPUP), *originals("qmail-popup")]
everybodys = pytest.mark.parametrize("popup", PROGRAMS)
GREETING = b"+OK <PID.TIME@mail.example>\r\n"
LOGIN = b"USER max\r\nPASS secret\r\n"
MUCH = 2000  # kB that a session may grow by, whatever its client does
KINDS = ["pipe", "socket"]
AS_STARTED: dict[str, Any] = {"user": None, "group": None, "extra_groups": None}  # root where the tests run as root

# qmail-popup with another timeout
IMPATIENT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from qmailpy.commands import qmail_popup
qmail_popup.TIMEOUT = 0.1
os._exit(qmail_popup.main([b"qmail-popup", b"mail.example", b"false"], {}))
"""


def checker(code: str) -> list[str]:
    """A checker that is nobody's of this toolkit."""
    return ["sh", "-c", code]


def answer(home: Home, popup: str | Path, subprogram: list[str], input: bytes) -> bytes:
    """All that a client sees; popup must end with 1."""
    done = home.run([popup, HOST, *subprogram], input)
    assert done.returncode == 1
    return anonymous(done.stdout)


# Start


@everybodys
@pytest.mark.parametrize("words", [[], [HOST]])
def test_without_a_subprogram_it_says_its_usage_to_the_client(popup: str, words: list[str], home: Home) -> None:
    done = home.run([popup, *words], b"QUIT\r\n")
    assert (done.stdout, done.stderr) == (b"-ERR usage: popup hostname subprogram\r\n", b"")
    assert done.returncode == 1


@everybodys
def test_the_greeting_tells_process_time_and_host(popup: str, home: Home) -> None:
    before = int(time.time())
    with Talk(home, [popup, b"a host\xff", "false"]) as talk:
        match = re.fullmatch(rb"\+OK <(\d+)\.(\d+)@a host\xff>\r\n", talk.line())
        assert match is not None
        assert int(match[1]) == talk.process.pid
        assert before <= int(match[2]) <= time.time()


# The checker


CLASSIC = [
    (b"USER max\r\nPASS secret\r\n", b"max\0secret\0"),
    (b"USER a b \nUSER  c  d \nPASS  e  f \r\r\n", b"c  d \0e  f \r\0"),
    (b"user \xff\x80\r\npass \x01\t\r\n", b"\xff\x80\0\x01\t\0"),
    (b"APOP max 0123456789abcdef0123456789abcdef\r\n", b"max\x000123456789abcdef0123456789abcdef\0"),
    (b"APOP max  b \r\n", b"max\0 b \0"),
    (b"APOP x \r\n", b"x\0\0"),
    (b"USER max\0more\nPASS secret\0more\r\n", b"max\0secret\0"),
]
MODERN = [
    (b"AUTH PLAIN AG1heABzZWNyZXQ=\r\n", b"max\0secret\0"),
    (b"AUTH PLAIN AG1heAA=\r\n", b"max\0\0"),
    (b"AUTH LOGIN\r\nbWF4\r\nc2VjcmV0\r\n", b"max\0secret\0"),
    (b"AUTH LOGIN bWF4\r\n=\r\nAUTH LOGIN bWF4\r\nc2VjcmV0\r\n", b"max\0secret\0"),
]


@pytest.mark.parametrize(
    ("popup", "sent", "fields"),
    [(popup, *case) for popup in PROGRAMS for case in CLASSIC] + [(str(POPUP), *case) for case in MODERN],
)
def test_the_packet_on_descriptor_3(popup: str, sent: bytes, fields: bytes, home: Home) -> None:
    with Talk(home, [popup, HOST, *checker("cat <&3 >packet")]) as talk:
        greeting = talk.line()
        talk.send(sent)
        talk.rest()
        assert talk.end() == (1, b"")
    assert (home.path / "packet").read_bytes() == fields + greeting[4:-2] + b"\0"


@everybodys
def test_the_checker_has_four_descriptors_the_environment_and_sigpipe(popup: str, home: Home) -> None:
    code = 'ls /proc/self/fd >fds; grep SigIgn /proc/self/status >signals; echo "$SOME" "$0" "$@" >words; exit 1'
    argv = [popup, HOST, *checker(code), "one", "two three"]
    done = home.run(argv, LOGIN, env=home.environment(SOME="thing"))
    assert anonymous(done.stdout) == GREETING + b"+OK \r\n-ERR authorization failed\r\n"
    assert (home.path / "fds").read_text().split() == ["0", "1", "2", "3", "4"]  # 4 is that of ls
    assert int((home.path / "signals").read_text().split()[1], 16) & 1 << 12 == 0
    assert (home.path / "words").read_text() == "thing one two three\n"


@everybodys
@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("exit 0", b""),
        ("echo +OK welcome; exit 0", b"+OK welcome\n"),
        *((f"exit {code}", b"-ERR authorization failed\r\n") for code in (1, 2, 3, 111, 255)),
        ("kill -9 $$", b"-ERR aack, child crashed\r\n"),
        ("kill -15 $$", b"-ERR aack, child crashed\r\n"),
    ],
)
def test_what_the_client_hears_when_the_checker_has_ended(popup: str, code: str, reply: bytes, home: Home) -> None:
    code = "cat <&3 >/dev/null; " + code  # the original would find a broken pipe otherwise
    assert answer(home, popup, checker(code), LOGIN) == GREETING + b"+OK \r\n" + reply


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("exit 0", b""),
        ("exit 1", b"-ERR [AUTH] authorization failed\r\n"),
        ("exit 2", b"-ERR [SYS/PERM] authorization failed\r\n"),
        ("exit 3", b"-ERR [AUTH] authorization failed\r\n"),
        ("exit 111", b"-ERR [SYS/TEMP] authorization failed\r\n"),
        ("kill -9 $$", b"-ERR [SYS/PERM] aack, child crashed\r\n"),
    ],
)
@pytest.mark.parametrize("asked", [b"CAPA\r\n", b"AUTH\r\n"])
def test_who_has_asked_for_capabilities_hears_a_response_code(
    code: str, reply: bytes, asked: bytes, home: Home
) -> None:
    last = answer(home, POPUP, checker(code), asked + LOGIN).rpartition(b".\r\n")[2]
    assert last == b"+OK \r\n" + reply


@everybodys
@pytest.mark.parametrize("subprogram", ["missing", "./accounts", "/"])
def test_a_checker_that_cannot_be_run_fails_to_authorize(popup: str, subprogram: str, home: Home) -> None:
    done = home.run([popup, HOST, subprogram], LOGIN)
    wanted = [b"-ERR authorization failed\r\n"]
    if popup != str(POPUP):
        wanted.append(b"-ERR unable to write pipe\r\n")  # where its child has ended first
    assert anonymous(done.stdout) in [GREETING + b"+OK \r\n" + last for last in wanted]
    assert done.returncode == 1
    if popup == str(POPUP):
        assert done.stderr.startswith(b"qmail-popup: warning: unable to run %b: " % subprogram.encode())


def test_a_checker_that_never_reads_does_not_matter(home: Home) -> None:
    for code in ("exit 1", "exec 3<&-; exit 1", "exec 0<&- 3<&-; exit 1"):
        assert answer(home, POPUP, checker(code), LOGIN).endswith(b"-ERR authorization failed\r\n")


def test_a_login_too_long_for_any_checker_is_refused_without_one(home: Home) -> None:
    subprogram = checker("touch ran; exit 0")
    for length in (480, 512, 5000):
        sent = b"USER max\r\nPASS " + b"x" * length + b"\r\n"
        assert answer(home, POPUP, subprogram, sent) == GREETING + b"+OK \r\n-ERR authorization failed\r\n"
    assert not (home.path / "ran").exists()


@everybodys
def test_what_the_checker_complains_about_goes_to_the_log(popup: str, home: Home) -> None:
    done = home.run([popup, HOST, *checker("cat <&3 >&2; exit 1")], b"USER max\r\nPASS secret\r\n")
    assert done.stderr.startswith(b"max\0secret\0<")
    assert b"secret" not in done.stdout


WORDS = st.tuples(
    st.sampled_from(["USER", "PASS", "pass", "APOP", "NOOP", "QUIT", "STAT", "USERS", ""]),
    st.sampled_from(["", " ", " max", "  max x ", " \t", "\tx", " a\0b", "\0", " \xff"]),
    st.sampled_from(["\r\n", "\n", "\r\r\n", ""]),
)
SESSIONS = st.lists(WORDS.map("".join).map(lambda text: text.encode("latin-1")), max_size=8).map(b"".join)

if originals("qmail-popup"):

    @pytest.mark.parametrize("original", originals("qmail-popup"))
    @settings(max_examples=100)
    @given(sent=SESSIONS)
    def test_any_session_is_that_of_the_original(sent: bytes, original: str) -> None:
        subprogram = checker("tr '\\0' '|' <&3; exit 1")
        with tempfile.TemporaryDirectory(prefix="qmailpy-pop3-") as folder:
            home = Home(Path(folder))
            assert answer(home, POPUP, subprogram, sent) == answer(home, original, subprogram, sent)


# The login, and what comes behind it


def links() -> dict[str, tuple[list[Any], dict[str, str]]]:
    """Chains of this toolkit, warm and cold, and with foreign links."""
    warm = chain()
    foreign_checker = [POPUP, HOST, "sh", "-c", 'cat <&3 >/dev/null; exec 3<&-; exec "$@"', "sh", *warm[3:]]
    found = {
        "warm": (warm, {}),
        "cold": (warm, {"QMAILPY_COLD": "1"}),
        "foreign checker": (foreign_checker, {}),
        "qmail-pop3d behind sh": ([*warm[:3], "sh", "-c", 'exec "$@"', "sh", *warm[3:]], {}),
    }
    for original in originals("qmail-pop3d"):
        found["foreign qmail-pop3d"] = (chain(pop3d=original), {})
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("link", links())
def test_commands_sent_ahead_of_the_login_reach_qmail_pop3d(link: str, kind: str, home: Home) -> None:
    home.message(b"new/a", b"x\n")
    argv, changes = links()[link]
    sent = LOGIN + b"STAT\r\nRETR 1\r\nQUIT\r\n"
    wanted = GREETING + b"+OK \r\n" * 2 + b"+OK 1 2\r\n+OK \r\nx\r\n\r\n.\r\n+OK \r\n"
    env = home.environment(**changes)
    if kind == "pipe":
        done = home.run(argv, sent, env=env)
        assert (anonymous(done.stdout), done.stderr, done.returncode) == (wanted, b"", 1)
    else:
        with Talk(home, argv, env=env) as talk:
            talk.send(sent)
            assert anonymous(talk.rest()) == wanted
            assert talk.end() == (1, b"")
    assert home.files() == [b"cur/a:2,"]


@pytest.mark.parametrize("ahead", [b"CAPA\r\nAUTH PLAIN AG1heABzZWNyZXQ=\r\n", b"AUTH LOGIN\r\nbWF4\r\nc2VjcmV0\r\n"])
def test_commands_sent_ahead_of_auth_reach_qmail_pop3d(ahead: bytes, home: Home) -> None:
    with Talk(home, chain()) as talk:
        talk.send(ahead + b"STAT\r\nQUIT\r\n")
        assert talk.rest().endswith(b"\r\n+OK \r\n+OK 0 0\r\n+OK \r\n")


@pytest.mark.parametrize("sent", [b"USER max\r\nPASS wrong\r\nSTAT\r\nQUIT\r\n", b"QUIT\r\nQUIT\r\n"])
def test_the_last_reply_is_followed_by_the_end_and_not_by_a_reset(sent: bytes, home: Home) -> None:
    # A connection that is closed with bytes unread is reset, and a reset may overtake the reply.
    with Talk(home, chain(), tcp=True) as talk:
        talk.send(sent)
        assert talk.rest().splitlines()[-1] in (b"-ERR authorization failed", b"+OK ")


@everybodys
def test_the_exit_code_of_a_good_session_is_1_too(popup: str, home: Home) -> None:
    done = home.run(chain(popup), LOGIN)
    assert (anonymous(done.stdout), done.stderr) == (GREETING + b"+OK \r\n" * 2, b"")
    assert done.returncode == 1


SECRET = bytes(33 + number * 7 % 90 for number in range(200))
RESPONSE = base64.b64encode(b"\0max\0" + SECRET)


@pytest.mark.parametrize("link", ["warm", "cold"])
@pytest.mark.parametrize(
    "sent",
    [
        b"USER max\r\nPASS " + SECRET,
        b"AUTH PLAIN " + RESPONSE,
        b"AUTH PLAIN\r\n" + RESPONSE,
        b"AUTH LOGIN\r\nbWF4\r\n" + base64.b64encode(SECRET),
    ],
    ids=["PASS", "PLAIN", "PLAIN-later", "LOGIN"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_password_is_in_no_memory_behind_the_login(kind: str, link: str, sent: bytes, home: Home) -> None:
    home.accounts.write_bytes(b"max:%b::::%b\n" % (sha512(SECRET).encode(), bytes(home.path)))
    argv, changes = links()[link]
    reading, writing = os.pipe()
    how: dict[str, Any] = {"stdin": reading} if kind == "pipe" else {}
    with Talk(home, argv, env=home.environment(**changes), **how) as talk:
        os.close(reading)
        talk.send(sent + b"\r\nSTAT\r\n") if kind == "socket" else os.write(writing, sent + b"\r\nSTAT\r\n")
        while talk.line() != b"+OK 0 0\r\n":
            pass
        for pid in family(talk.process.pid):
            assert memory(pid, b"checkpassword-flatfile")  # in argv: it would be found
            for secret in (SECRET, RESPONSE, base64.b64encode(SECRET)):
                assert not memory(pid, secret[16:28])  # of memory that was freed the first bytes are overwritten
    os.close(writing)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def memory(pid: int, wanted: bytes) -> list[bytes]:
    """Where wanted stands in the memory of a process: the mappings."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", 0) as f:
        for row in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
            span, access = row.split()[:2]
            start, end = (int(edge, 16) for edge in span.split(b"-"))
            if access.startswith(b"rw") and b"[v" not in row:
                f.seek(start)
                if wanted in f.read(end - start):
                    found.append(row)
    return found


@pytest.mark.parametrize("link", ["warm", "cold"])
def test_the_session_runs_as_the_owner_of_the_accounts_and_its_files(link: str, home: Home) -> None:
    home.message(b"new/a", b"x").chmod(0o600)
    argv, changes = links()[link]
    with Talk(home, argv, env=home.environment(**changes), **AS_STARTED) as talk:
        talk.send(LOGIN + b"RETR 1\r\nQUIT\r\n")
        assert anonymous(talk.rest()) == GREETING + b"+OK \r\n" * 3 + b"x\r\n\r\n.\r\n+OK \r\n"
        assert talk.end() == (1, b"")
    assert home.files() == [b"cur/a:2,"]


def test_a_program_behind_the_checker_has_the_descriptors_and_ids_of_a_login(home: Home) -> None:
    show = ["sh", "-c", "exec >shown; ls /proc/self/fd; id -u; id -g; pwd"]
    home.run([POPUP, HOST, str(BIN / "checkpassword-flatfile"), *show], LOGIN, **AS_STARTED)
    uid, gid = (NOBODY, NOBODY) if home.who else (os.getuid(), os.getgid())
    shown = (home.path / "shown").read_text().split("\n")
    assert shown == ["0", "1", "2", "3", str(uid), str(gid), str(home.path), ""]  # 3 is that of ls


@pytest.mark.parametrize("link", ["warm", "cold"])
def test_apop_is_answered_with_the_timestamp_of_the_greeting(link: str, home: Home) -> None:
    argv, changes = links()[link]
    with Talk(home, argv, env=home.environment(**changes)) as talk:
        stamp = talk.line()[4:-2]
        talk.send(b"APOP max %b\r\nQUIT\r\n" % hashlib.md5(stamp + PASSWORD).hexdigest().encode())
        assert talk.rest() == b"+OK \r\n" * 2


@everybodys
def test_too_few_descriptors_for_a_pipe_are_said_to_the_client(popup: str, home: Home) -> None:
    done = home.run(["sh", "-c", 'ulimit -n 4; exec "$@"', "sh", popup, HOST, "false"], LOGIN)
    assert anonymous(done.stdout) == GREETING + b"+OK \r\n-ERR unable to open pipe\r\n"
    assert done.returncode == 1


# Hostile clients


def test_a_line_without_end_needs_no_memory(home: Home) -> None:
    with Talk(home, [POPUP, HOST, "false"]) as talk:
        talk.send(b"NOOP\r\n")
        talk.line(), talk.line()
        status = Path(f"/proc/{talk.process.pid}/status")
        before = peak(status)
        talk.send(b"USER " + b"x" * 1_000_000)
        talk.send(b"\r\nNOOP\r\n")
        assert talk.line() + talk.line() == b"-ERR line too long\r\n+OK \r\n"
        assert peak(status) < before + MUCH


def peak(status: Path) -> int:
    """kB that a process has had in memory at most."""
    match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert match is not None
    return int(match[1])


def test_a_line_of_the_longest_allowed_response_is_read(home: Home) -> None:
    response = b"A" * 12287 + b"="
    with Talk(home, [POPUP, HOST, "false"]) as talk:
        talk.send(b"AUTH PLAIN\r\n" + response + b"\nAUTH PLAIN\r\n" + response + b"A\n")
        replies = [talk.line() for _ in range(5)]
    assert replies[1:] == [b"+ \r\n", b"-ERR malformed response\r\n", b"+ \r\n", b"-ERR line too long\r\n"]


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_commands_in_one_go_are_answered_in_order(kind: str, home: Home) -> None:
    sent = b"NOOP\r\nSTAT\r\n" * 5000 + LOGIN + b"NOOP\r\n" * 10000 + b"QUIT\r\n"
    wanted = GREETING + b"+OK \r\n-ERR authorization first\r\n" * 5000 + b"+OK \r\n" * (2 + 10000 + 1)
    if kind == "pipe":
        assert anonymous(home.run(chain(), sent).stdout) == wanted
        return
    with Talk(home, chain()) as talk:
        sender = threading.Thread(target=talk.send, args=(sent,))
        sender.start()
        assert anonymous(talk.rest()) == wanted
        sender.join()


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_may_leave_at_any_byte(kind: str, home: Home) -> None:
    session = LOGIN + b"DELE 1\r\nQUIT\n"
    home.message(b"new/a", b"x")
    for length in range(0, len(session), 1 if kind == "pipe" else 5):
        if kind == "pipe":
            done = home.run(chain(), session[:length])
            assert (done.stderr, done.returncode) == (b"", 1)
        else:
            with Talk(home, chain()) as talk:
                talk.send(session[:length])
                talk.socket.close()
                assert talk.end() == (1, b"")
        assert home.files() == [b"new/a"]


@pytest.mark.parametrize("sent", [b"", b"USER ma", b"USER max\r\nPA", b"AUTH LOGIN\r\n"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_client_is_dropped(kind: str, sent: bytes, home: Home) -> None:
    reading, writing = os.pipe()
    how: dict[str, Any] = {"stdin": reading} if kind == "pipe" else {}
    try:
        os.write(writing, sent)
        with Talk(home, ["python3", "-c", IMPATIENT, ROOT], sent if kind == "socket" else b"", **how) as talk:
            assert anonymous(talk.line()) == GREETING
            talk.rest()
            assert talk.end() == (1, b"")
    finally:
        os.close(reading)
        os.close(writing)


def test_a_client_that_never_reads_is_dropped(home: Home) -> None:
    with Talk(home, ["python3", "-c", IMPATIENT, ROOT]) as talk:
        talk.socket.settimeout(None)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                talk.socket.send(b"CAPA\r\n" * 10000)
        assert talk.end() == (1, b"")


@pytest.mark.parametrize("closed", [0, 1, 2, 3])
def test_a_closed_descriptor_is_no_reason_to_hang_or_to_complain(closed: int, home: Home) -> None:
    argv = ["sh", "-c", f'exec {closed}>&-; exec "$@"', "sh", *chain()]
    done = home.run(argv, LOGIN + b"STAT\r\nQUIT\r\n")
    assert done.returncode == 1
    assert done.stderr == b""
    if closed > 1:
        assert anonymous(done.stdout) == GREETING + b"+OK \r\n" * 2 + b"+OK 0 0\r\n+OK \r\n"


def test_what_descriptors_3_and_5_were_before_does_not_matter(home: Home) -> None:
    argv = ["sh", "-c", 'exec 3<accounts 5<accounts; exec "$@"', "sh", *chain()]
    done = home.run(argv, LOGIN + b"QUIT\r\n")
    assert (anonymous(done.stdout), done.stderr) == (GREETING + b"+OK \r\n" * 3, b"")


def test_a_fork_that_fails_is_said_to_the_client_and_the_log(home: Home) -> None:
    """Not beside the original: whether it may fork depends on what else the user runs."""
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)); "
    limit += "os.execvp(sys.argv[1], sys.argv[1:])"
    done = home.run(["python3", "-c", limit, POPUP, HOST, *checker("exit 0")], LOGIN)
    assert anonymous(done.stdout) == GREETING + b"+OK \r\n-ERR unable to fork\r\n"
    assert done.stderr == b"qmail-popup: warning: unable to fork: temporary failure\n"


# STLS

SHOW = "env | grep ^SSL >env; ls /proc/self/fd >fds; cat <&3 >packet; exec 3<&-; "


NO_UCSPI_TLS = b"qmail-popup: warning: unable to start TLS: SSLCTLFD does not speak UCSPI-TLS\n"


def capabilities(talk: Talk) -> set[bytes]:
    talk.send(b"CAPA\r\n")
    assert talk.line() == b"+OK \r\n"
    found = set()
    while (line := talk.line()) != b".\r\n":
        found.add(line.split()[0])
    return found


def asked(talk: Talk, line: bytes) -> bytes:
    talk.send(line + b"\r\n")
    return talk.line()


def begin(talk: TlsTalk) -> None:
    assert asked(talk, b"STLS") == b"+OK starting TLS negotiation\r\n"
    assert talk.secure().startswith("TLSv1.")


@pytest.mark.parametrize("cold", ["", "1"])
@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("pipes", [False, True])
def test_behind_stls_a_login_and_the_mail_are_under_tls(
    pipes: bool, stays: bool, cold: str, home: Home, certificate: Path
) -> None:
    home.message(b"new/a", b"x\n")
    with TlsTalk(home, chain(), certificate, pipes, stays, variables={"QMAILPY_COLD": cold}) as talk:
        assert talk.line().startswith(b"+OK <")
        assert capabilities(talk) >= {b"STLS", b"TOP", b"PIPELINING"}
        begin(talk)
        assert capabilities(talk) >= {b"USER", b"SASL"}
        talk.send(LOGIN + b"STAT\r\nRETR 1\r\nQUIT\r\n")
        assert talk.rest() == b"+OK \r\n" * 2 + b"+OK 1 2\r\n+OK \r\nx\r\n\r\n.\r\n+OK \r\n"
        assert talk.end() == (1, b"")
        assert talk.joined() == b"Y"


def test_what_can_be_said_changes_with_tls(home: Home, certificate: Path) -> None:
    with TlsTalk(home, chain(), certificate) as talk:
        talk.line()
        assert not capabilities(talk) & {b"USER", b"SASL"}
        for line in (b"USER max", b"PASS secret", b"AUTH", b"AUTH PLAIN AG1heABzZWNyZXQ=", b"AUTH LOGIN"):
            assert asked(talk, line) == b"-ERR TLS required but not negotiated\r\n"
        assert asked(talk, b"STLS now") == b"-ERR syntax error\r\n"
        assert asked(talk, b"noop") == b"+OK \r\n"
        begin(talk)
        assert b"STLS" not in capabilities(talk)
        assert asked(talk, b"STLS") == b"-ERR STLS not available\r\n"
        talk.send(b"AUTH PLAIN AG1heABzZWNyZXQ=\r\nQUIT\r\n")
        assert talk.rest() == b"+OK \r\n" * 2


def test_stls_makes_it_forget_the_name_and_keep_the_timestamp(home: Home, certificate: Path) -> None:
    argv: list[str | Path] = [POPUP, HOST, *checker(SHOW + "exit 1")]
    changes = {"ALLOW_INSECURE_AUTH": "1", "SSL_CLIENT_S_DN": "/CN=root"}
    with TlsTalk(home, argv, certificate, variables=changes) as talk:
        greeting = talk.line()
        assert asked(talk, b"AUTH").startswith(b"+OK")
        for _ in range(3):
            talk.line()
        assert asked(talk, b"USER max") == b"+OK \r\n"
        begin(talk)
        assert asked(talk, b"PASS secret") == b"-ERR USER first\r\n"
        talk.send(LOGIN)
        assert talk.rest() == b"+OK \r\n-ERR authorization failed\r\n"  # no code: nobody has asked for any
        assert talk.end() == (1, b"")
    assert (home.path / "packet").read_bytes() == b"max\0secret\0" + greeting[4:-2] + b"\0"
    names = [line.partition("=")[0] for line in (home.path / "env").read_text().splitlines()]
    assert sorted(names) == ["SSL_CIPHER", "SSL_PROTOCOL"]
    assert (home.path / "fds").read_text().split() == ["0", "1", "2", "3", "4"]


INJECTED = [
    b"USER evil\r\n",
    b"USER evil\r\nPASS x\r\n",
    b"QUIT\r\n",
    b"CAPA\r\n",
    b"USER evil",
    b"\x16\x03\x01\0\5evil!",
]


@pytest.mark.parametrize("injected", INJECTED)
def test_what_is_sent_ahead_of_tls_is_thrown_away(injected: bytes, home: Home, certificate: Path) -> None:
    """CVE-2011-0411: it would be taken for the client's own words, under TLS."""
    with TlsTalk(home, chain(), certificate) as talk:
        talk.line()
        talk.send(b"STLS\r\n" + injected)
        assert talk.line() == b"+OK starting TLS negotiation\r\n"
        talk.secure()
        assert asked(talk, b"PASS secret") == b"-ERR USER first\r\n"
        talk.send(LOGIN + b"QUIT\r\n")
        assert talk.rest() == b"+OK \r\n" * 3


@pytest.mark.parametrize("injected", INJECTED)
def test_what_is_sent_ahead_byte_by_byte_is_thrown_away_or_breaks_the_handshake(
    injected: bytes, home: Home, certificate: Path
) -> None:
    with TlsTalk(home, chain(), certificate) as talk:
        talk.line()
        for byte in b"STLS\r\n" + injected:
            with contextlib.suppress(OSError):
                talk.send(bytes((byte,)))
        assert talk.line() == b"+OK starting TLS negotiation\r\n"
        try:
            talk.secure()
        except OSError:  # what came behind our reply was for the TLS process, which takes it for no handshake
            assert talk.end() == (1, b"")
            return
        assert asked(talk, b"PASS secret") == b"-ERR USER first\r\n"


def test_from_this_host_a_password_may_come_without_tls(home: Home, certificate: Path) -> None:
    argv: list[str | Path] = [POPUP, HOST, *checker(SHOW + "exit 1")]
    for changes in ({"TCPREMOTEIP": "127.0.0.1"}, {"TCPREMOTEIP": "::1"}, {"ALLOW_INSECURE_AUTH": "1"}):
        with TlsTalk(home, argv, certificate, variables=changes) as talk:
            talk.line()
            assert capabilities(talk) >= {b"STLS", b"USER", b"SASL"}
            talk.send(LOGIN)
            assert talk.rest() == b"+OK \r\n-ERR [AUTH] authorization failed\r\n"
            assert talk.joined() == b""
        assert (home.path / "env").read_text() == ""
        assert (home.path / "fds").read_text().split() == ["0", "1", "2", "3", "4"]


def test_apop_shows_no_password_and_may_come_without_tls(home: Home, certificate: Path) -> None:
    with TlsTalk(home, [POPUP, HOST, *checker("cat <&3 >packet; exit 1")], certificate) as talk:
        talk.line()
        assert asked(talk, b"APOP max 0123") == b"-ERR authorization failed\r\n"


def test_with_a_hyphen_there_is_no_stls(home: Home, certificate: Path) -> None:
    with TlsTalk(home, chain(), certificate, variables={"UCSPITLS": "-"}) as talk:
        talk.line()
        assert talk.joined() == b""  # at once
        assert asked(talk, b"STLS") == b"-ERR authorization first\r\n"
        found = capabilities(talk)
        assert b"STLS" not in found
        assert b"USER" in found
        talk.send(LOGIN + b"QUIT\r\n")
        assert talk.rest() == b"+OK \r\n" * 3


@pytest.mark.parametrize("ip", ["127.0.0.1", "192.0.2.7"])
@pytest.mark.parametrize("offered", [False, True])
def test_with_an_exclamation_mark_nobody_logs_in_without_tls(
    offered: bool, ip: str, home: Home, certificate: Path
) -> None:
    changes = {"UCSPITLS": "!", "TCPREMOTEIP": ip, "ALLOW_INSECURE_AUTH": "1"}
    how: dict[str, Any] = {"variables": changes} if offered else {"env": home.environment(**changes)}
    with TlsTalk(home, chain(), certificate, gone=not offered, **how) as talk:
        talk.line()
        for line in (b"USER max", b"PASS secret", b"AUTH PLAIN AG1heABzZWNyZXQ=", b"APOP max 01"):
            assert asked(talk, line) == b"-ERR TLS required but not negotiated\r\n"
        if offered:
            begin(talk)
            talk.send(LOGIN + b"QUIT\r\n")
            assert talk.rest() == b"+OK \r\n" * 3


@pytest.mark.parametrize("changes", [{"PROTO": "SSL"}, {"SSL_PROTOCOL": "TLSv1.3"}, {"SSL": "1"}])
def test_a_connection_that_began_with_tls_needs_no_more(changes: dict[str, str], home: Home, certificate: Path) -> None:
    with Talk(home, chain(), env=home.environment(UCSPITLS="!", TCPREMOTEIP="192.0.2.7", **changes)) as talk:
        talk.send(b"STLS\r\n" + LOGIN + b"QUIT\r\n")
        assert talk.rest().endswith(b">\r\n-ERR authorization first\r\n+OK \r\n+OK \r\n+OK \r\n")
    with TlsTalk(home, chain(), certificate, variables=changes) as talk:  # where TLS is offered there is none yet
        talk.line()
        assert asked(talk, b"USER max") == b"-ERR TLS required but not negotiated\r\n"


def test_a_connection_that_began_with_tls_by_ucspi_ssl_needs_no_more(home: Home) -> None:
    """It names descriptors all the same, of which the control socket alone is open."""
    control, other = socket.socketpair()
    with control, other:
        named = {"SSLCTLFD": str(other.fileno()), "SSLREADFD": "900", "SSLWRITEFD": "901"}
        env = home.environment(UCSPITLS="!", TCPREMOTEIP="192.0.2.7", PROTO="TCP", **named)
        with Talk(home, chain(), env=env, pass_fds={other.fileno()}) as talk:
            talk.send(b"STLS\r\n" + LOGIN + b"QUIT\r\n")
            assert talk.rest().endswith(b">\r\n-ERR authorization first\r\n+OK \r\n+OK \r\n+OK \r\n")


@pytest.mark.parametrize("number", ["", "x", "-1", "2", "999", "99999999999"])
def test_an_offer_that_cannot_be_used_is_said_and_none(number: str, home: Home, certificate: Path) -> None:
    with TlsTalk(home, chain(), certificate, variables={"SSLCTLFD": number}) as talk:
        talk.line()
        assert asked(talk, b"STLS") == b"-ERR authorization first\r\n"
        assert asked(talk, b"USER max") == b"-ERR TLS required but not negotiated\r\n"
        talk.send(b"QUIT\r\n")
        code, log = talk.end()
        assert code == 1
        assert re.fullmatch(rb"qmail-popup: warning: unable to use SSLCTLFD: [a-z ]+\n", log)


def test_where_nobody_is_left_who_has_the_key_stls_is_refused_in_clear(home: Home, certificate: Path) -> None:
    with TlsTalk(home, chain(), certificate, gone=True) as talk:
        talk.line()
        assert asked(talk, b"STLS") == b"-ERR STLS not available\r\n"
        assert b"STLS" not in capabilities(talk)
        talk.send(b"QUIT\r\n")
        assert talk.end() == (1, b"qmail-popup: warning: unable to start TLS: nobody is left on SSLCTLFD\n")


def test_a_handshake_that_fails_ends_the_session_without_a_word(home: Home, certificate: Path) -> None:
    with TlsTalk(home, chain(), certificate) as talk:
        talk.line()
        assert asked(talk, b"STLS") == b"+OK starting TLS negotiation\r\n"
        talk.send(LOGIN * 10)
        with contextlib.suppress(ConnectionResetError):
            assert b"-ERR" not in talk.rest()
        assert talk.end() == (1, b"")


@pytest.mark.parametrize(
    ("answer", "log"),
    [
        (b"nonsense\0\0", NO_UCSPI_TLS),
        (b"SSL_CIPHER=" + b"x" * 140000, NO_UCSPI_TLS),
        (b"SSL_CIPHER=x\0", b""),
        (None, b""),
    ],
)
def test_a_tls_process_that_does_not_keep_to_the_interface_ends_the_session(
    answer: bytes | None, log: bytes, home: Home, certificate: Path
) -> None:
    with TlsTalk(home, chain(), certificate, answer=answer) as talk:
        talk.line()
        asked(talk, b"STLS")
        talk.secure()
        with contextlib.suppress(OSError):
            talk.send(LOGIN)
            assert talk.rest() == b""
        assert talk.end() == (1, log)


def test_a_tls_process_that_says_nothing_is_not_waited_for_without_end(home: Home, certificate: Path) -> None:
    code = IMPATIENT.replace("qmail_popup.TIMEOUT", "from qmailpy.loops import starttls; starttls.HANDSHAKE_S")
    code = code.replace('b"false"], {}', 'b"false"], dict(os.environb)')
    with TlsTalk(home, [sys.executable, "-c", code, ROOT], certificate, answer=None, stays=True) as talk:
        talk.line()
        asked(talk, b"STLS")
        assert talk.end() == (1, b"qmail-popup: warning: unable to start TLS: timed out\n")
