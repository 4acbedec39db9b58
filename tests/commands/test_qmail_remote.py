"""qmail-remote against servers that behave and others, beside the C program where QMAIL_BIN names it."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.commands import qmail_remote
from qmailpy.formats.resolvconf import Resolver
from qmailpy.formats.smtproutes import Route
from qmailpy.protocols.smtp_client import Conversation, Mail
from qmailpy.stores import resolver
from tests import dnsserver
from tests.commands.netstringd import in_home, programs
from tests.helpers import BIN, environment
from tests.queuehomes import make_queue
from tests.servers import TIMEOUT
from tests.smtpsink import FAIR, OLD, Say, Session, sink

OURS = str(BIN / "qmail-remote")
MESSAGE = b"Subject: hello\n\nhello\n.\n..\n.dot\nbye\n"
WIRE = b"Subject: hello\r\n\r\nhello\r\n..\r\n...\r\n..dot\r\nbye\r\n"
ENVELOPE = ("there.example", "me@here.example", "you@there.example")


@pytest.fixture(
    params=programs("qmail-remote"), ids=lambda path: "ours" if Path(path).parent == BIN else "the original"
)
def remote(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Place:
    """A home, from which mail goes out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "control").mkdir(parents=True)
        self.control(me="here.example")

    def control(self, **files: str | None) -> None:
        for name, text in files.items():
            if text is None:
                (self.path / "control" / name).unlink()
            else:
                (self.path / "control" / name).write_text(text + "\n")

    def send(
        self, program: str, *words: str | bytes, message: bytes = MESSAGE, env: dict[str, str] | None = None
    ) -> list[bytes]:
        """The reports, for the message as a file."""
        file = self.path / "message"
        file.write_bytes(message)
        with open(file, "rb") as input_:
            done = subprocess.run(
                [*with_queue(program, self.path), *(words or ENVELOPE)], stdin=input_, capture_output=True,
                env=environment(QMAILHOME=str(self.path), **(env or {})), timeout=60, check=False,
            )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert not done.stdout or done.stdout.endswith(b"\0")
        return done.stdout.split(b"\0")[:-1]


def with_queue(program: str, home: Path) -> list[str | bytes | Path]:
    """in_home, for the original with the home's queue too, if it has one."""
    argv = list(in_home(program, home))
    if program == OURS or not (home / "queue").exists():
        return argv
    mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    return ["unshare", "-m", "sh", "-c", mount, "sh", home / "queue", Path(program).parent.parent / "queue", *argv]


@pytest.fixture
def at(tmp_path: Path) -> Place:
    return Place(tmp_path / "home")


def test_a_message_arrives(remote: str, at: Place) -> None:
    with sink() as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(remote) == [b"r", b"K127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 ok 1795 qp 23\n"]
        (session,) = server.sessions
    assert (session.message, session.ended) == (WIRE, True)
    assert [line.split()[0] for line in session.lines] == [
        b"EHLO" if remote == OURS else b"HELO", b"MAIL", b"RCPT", b"DATA", b"QUIT",
    ]  # fmt: skip


def test_an_old_server_gets_the_same_from_both(remote: str, at: Place) -> None:
    with sink(OLD) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}", helohost="helo.example ")
        at.send(remote, "there.example", "", "you@there.example", "a b@there.example", "no host", '"x"@y@z')
        (session,) = server.sessions
    lines = [line for line in session.lines if not line.startswith(b"EHLO")]
    assert lines == [
        b"HELO helo.example\r\n",
        b"MAIL FROM:<>\r\n",
        b"RCPT TO:<you@there.example>\r\n",
        b'RCPT TO:<"a b"@there.example>\r\n',
        b"RCPT TO:<no host>\r\n",
        b'RCPT TO:<"\\"x\\"@y"@z>\r\n',
        b"DATA\r\n",
        b"QUIT\r\n",
    ]
    assert session.message == WIRE


# What a server says in place of the fair answer, and the reports.
SAID = b"Remote host said: "
BEHAVIOURS: dict[str, tuple[dict[str, Say], list[bytes]]] = {
    "421 greeting": (
        {"greeting": b"421 busy\r\n"}, [b"ZConnected to 127.0.0.1 but greeting failed.\n" + SAID + b"421 busy\n"]
    ),
    "554 greeting of lines": (
        {"greeting": b"554-go\r\n554 away\r\n"},
        [b"ZConnected to 127.0.0.1 but greeting failed.\n" + SAID + b"554-go\n554 away\n"],
    ),
    "long greeting": (
        {"greeting": b"220-welcome\r\n" * 1000 + b"220 hello\r\n"},
        [b"r", b"K127.0.0.1 accepted message.\n" + SAID + b"250 2.0.0 ok 1795 qp 23\n"],
    ),
    "hangs up": ({"greeting": None}, [b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"]),
    "hangs up in greeting": (
        {"greeting": lambda session: session.connection.sendall(b"22")},
        [b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"],
    ),
    "name refused": (
        {"HELO": b"550 who?\r\n"}, [b"ZConnected to 127.0.0.1 but my name was rejected.\n" + SAID + b"550 who?\n"]
    ),
    "sender refused": (
        {"MAIL": b"550 5.7.1 no\r\n"},
        [b"DConnected to 127.0.0.1 but sender was rejected.\n" + SAID + b"550 5.7.1 no\n"],
    ),
    "sender refused for now": (
        {"MAIL": b"450 4.7.1 no\r\n"},
        [b"ZConnected to 127.0.0.1 but sender was rejected.\n" + SAID + b"450 4.7.1 no\n"],
    ),
    "recipient refused": (
        {"RCPT": b"550-no\r\n550 one\r\n"},
        [b"h127.0.0.1 does not like recipient.\n" + SAID + b"550-no\n550 one\n", b"DGiving up on 127.0.0.1.\n"],
    ),
    "recipient refused for now": (
        {"RCPT": b"451 greylisted\r\n"},
        [b"s127.0.0.1 does not like recipient.\n" + SAID + b"451 greylisted\n", b"DGiving up on 127.0.0.1.\n"],
    ),
    "recipient elsewhere": (
        {"RCPT": b"251 will forward\r\n"},
        [b"r", b"K127.0.0.1 accepted message.\n" + SAID + b"250 2.0.0 ok 1795 qp 23\n"],
    ),
    "hangs up on recipient": ({"RCPT": None}, [b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"]),
    "data refused": (
        {"DATA": b"554 no\r\n"}, [b"r", b"D127.0.0.1 failed on DATA command.\n" + SAID + b"554 no\n"]
    ),
    "data refused for now": (
        {"DATA": b"451 no\r\n"}, [b"r", b"Z127.0.0.1 failed on DATA command.\n" + SAID + b"451 no\n"]
    ),
    "message refused": (
        {"message": b"554 spam\r\n"}, [b"r", b"D127.0.0.1 failed after I sent the message.\n" + SAID + b"554 spam\n"]
    ),
    "message refused for now": (
        {"message": b"452 full\0\r\n"},
        [b"r", b"Z127.0.0.1 failed after I sent the message.\n" + SAID + b"452 full?\n"],
    ),
    "hangs up behind the dot": (
        {"message": None}, [b"r", b"ZConnected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n"]
    ),
    "hangs up in the last reply": (
        {"message": lambda session: session.connection.sendall(b"250 o")},
        [b"r", b"ZConnected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n"],
    ),
    "long reply": (
        {"message": b"250-" + b"x" * 6000 + b"\r\n250 ok\r\n"},
        [b"r", b"K127.0.0.1 accepted message.\n" + SAID + b"250-" + b"x" * 4996],
    ),
    "reply without CR": (
        {"message": b"250 ok\n"}, [b"r", b"K127.0.0.1 accepted message.\n" + SAID + b"250 ok\n"]
    ),
    "short reply": ({"message": b"250\r\n"}, [b"r", b"K127.0.0.1 accepted message.\n" + SAID + b"250\n"]),
}  # fmt: skip


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_what_a_server_says_is_reported(remote: str, at: Place, behaviour: str) -> None:
    changes, reports = BEHAVIOURS[behaviour]
    with sink({**OLD, **changes}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(remote) == reports


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_the_same_goes_for_a_server_with_extensions(at: Place, behaviour: str) -> None:
    changes, reports = BEHAVIOURS[behaviour]
    if "HELO" in changes:
        changes = {**changes, "EHLO": changes["HELO"]}
    with sink({**FAIR, **changes}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(OURS) == reports


def test_each_recipient_has_a_report(remote: str, at: Place) -> None:
    def judged(session: Session) -> bytes:
        line = session.lines[-1]
        return b"550 no\r\n" if b"no@" in line else b"450 later\r\n" if b"later@" in line else b"250 ok\r\n"

    for script in (OLD, FAIR):
        with sink({**script, "RCPT": judged}) as server:
            at.control(smtproutes=f":127.0.0.1:{server.port}")
            reports = at.send(remote, "there.example", "me@x", "no@x", "yes@x", "later@x", "yes2@x")
        assert [report[:1] for report in reports] == [b"h", b"r", b"s", b"r", b"K"]


def test_a_message_without_final_newline_is_not_sent(remote: str, at: Place) -> None:
    for message in (b"x", b"Subject: x\n\nhello\nbye", b"x\n" * 100_000 + b"."):
        with sink() as server:
            at.control(smtproutes=f":127.0.0.1:{server.port}")
            assert at.send(remote, message=message) == [
                b"r", b"DSMTP cannot transfer messages with partial final lines. (#5.6.2)\n"
            ]  # fmt: skip
            assert not server.sessions[0].ended


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b""),
        (b"\n", b"\r\n"),
        (b"x\r\ny\r\n", b"x\r\ny\r\n"),
        (b"x\ry\n", b"x\r\ny\r\n"),
        (b"x\r", b"x\r\n"),
        (b"\xc3\xa9" + b"x" * 5000 + b"\n", b"\xc3\xa9" + b"x" * 5000 + b"\r\n"),
        (b".\n" * 100_000, b"..\r\n" * 100_000),
    ],
)
def test_a_message_is_the_same_on_the_wire(remote: str, at: Place, message: bytes, wire: bytes) -> None:
    with sink() as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(remote, message=message)[-1][:1] == b"K"
        assert server.sessions[0].message == wire


def test_no_message_is_read_as_two(at: Place) -> None:
    """The original leaves the dot behind a bare CR alone, and so ends the message there."""
    with sink() as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(OURS, message=b"x\r.\r\nMAIL FROM:<evil@x>\n\r\r.\ry\n")[-1][:1] == b"K"
        (session,) = server.sessions
    assert session.message == b"x\r\n..\r\nMAIL FROM:<evil@x>\r\n\r\n\r\n..\r\ny\r\n"


def test_a_message_begins_where_the_descriptor_stands(at: Place) -> None:
    (at.path / "message").write_bytes(b"not this\n" + MESSAGE)
    with sink({**FAIR, "EHLO": b"250-x\r\n250 SIZE\r\n"}) as server, open(at.path / "message", "rb") as message:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        os.lseek(message.fileno(), 9, os.SEEK_SET)
        subprocess.run([OURS, *ENVELOPE], stdin=message, env=environment(QMAILHOME=str(at.path)), check=True)
        (session,) = server.sessions
    assert session.message == WIRE
    assert b"MAIL FROM:<me@here.example> SIZE=%d\r\n" % (len(MESSAGE) + MESSAGE.count(b"\n")) in session.lines


def test_a_message_may_come_from_a_pipe(remote: str, at: Place) -> None:
    with sink() as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        done = subprocess.run(
            [*in_home(remote, at.path), *ENVELOPE], input=b"line\n" * 100_000, capture_output=True,
            env=environment(QMAILHOME=str(at.path)), timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout.startswith(b"r\0K")
        assert server.sessions[0].message == b"line\r\n" * 100_000
        assert not any(b"SIZE" in line for line in server.sessions[0].lines)


def test_size_and_eight_bits_of_a_long_message_are_told(at: Place) -> None:
    message = b"x" * 99 + b"\n"
    for end, words in ((b"\n", b""), (b"\xff\n", b" BODY=8BITMIME")):
        text = message * 10_000 + end
        with sink() as server:
            at.control(smtproutes=f":127.0.0.1:{server.port}")
            assert at.send(OURS, message=text)[-1][:1] == b"K"
            (session,) = server.sessions
        size = len(text) + text.count(b"\n")
        assert session.lines[1] == b"MAIL FROM:<me@here.example> SIZE=%d%s\r\n" % (size, words)
        assert len(session.message) == size


def test_a_message_of_many_megabytes_takes_no_more_memory(at: Place) -> None:
    pids: list[int] = []
    sizes: list[int] = []

    def look(session: Session) -> bytes:
        status = Path(f"/proc/{pids[-1]}/status").read_text()
        sizes.append(int(status.partition("VmHWM:")[2].split()[0]))
        return b"250 ok\r\n"

    for size in (1, 25_000_000):
        with sink({**FAIR, "message": look}) as server:
            at.control(smtproutes=f":127.0.0.1:{server.port}")
            message = (b".x" + b"y" * 70 + b"\n") * (size // 73 + 1)
            (at.path / "message").write_bytes(message)
            with open(at.path / "message", "rb") as file:
                env = environment(QMAILHOME=str(at.path))
                process = subprocess.Popen([OURS, *ENVELOPE], stdin=file, stdout=subprocess.PIPE, env=env)
                pids.append(process.pid)
                assert process.communicate(timeout=TIMEOUT)[0].startswith(b"r\0K")
            assert server.sessions[0].message == message.replace(b"\n", b"\r\n").replace(b".x", b"..x")
    assert sizes[1] - sizes[0] < 2000  # kB


def test_a_server_that_refuses_a_long_message_while_it_comes_is_heard(at: Place) -> None:
    def refuse(session: Session) -> bytes | None:
        session.connection.sendall(b"354 go\r\n")
        session.connection.recv(1000)
        session.connection.sendall(b"552 too big for me\r\n")
        session.connection.shutdown(socket.SHUT_WR)
        while session.connection.recv(65536):
            pass
        return None

    with sink({**FAIR, "DATA": refuse}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(OURS, message=b"line\n" * 1_000_000) == [
            b"r", b"D127.0.0.1 failed after I sent the message.\nRemote host said: 552 too big for me\n"
        ]  # fmt: skip


class Broken(qmail_remote.Link):
    """A connection that breaks while the end of the message is sent, after the server has said something."""

    __slots__ = ("_said",)

    def __init__(self, said: bytes) -> None:
        self._said = said

    def send(self, data: bytes | bytearray) -> None:
        raise BrokenPipeError

    def hear_now(self, conversation: Conversation) -> None:
        conversation.feed(self._said)


@pytest.mark.parametrize(
    ("said", "report"),
    [
        (b"552 too big\r\n", b"Dplace failed after I sent the message.\nRemote host said: 552 too big\n"),
        (b"250 early\r\n", b"Zplace failed after I sent the message.\nRemote host said: 250 early\n"),
        (b"", b"ZConnected to place but connection died. (#4.4.2)\n"),
    ],
)
def test_what_a_server_says_to_a_message_of_which_the_end_cannot_be_sent(said: bytes, report: bytes) -> None:
    conversation = Conversation(b"place", b"me", Mail(b"a@b", [b"c@d"]), extended=False)
    conversation.feed(b"220 x\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n")
    with pytest.raises(BrokenPipeError):
        qmail_remote.send_message(Broken(said), conversation, b"")
    conversation.lost()
    assert conversation.reports == [b"r", report]


def test_a_server_that_hangs_up_in_the_middle_of_a_message_may_have_it_later(remote: str, at: Place) -> None:
    def hang_up(session: Session) -> bytes | None:
        session.connection.sendall(b"354 go\r\n")
        session.connection.recv(1000)
        return None

    with sink({**OLD, "DATA": hang_up}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(remote, message=b"line\n" * 1_000_000) == [
            b"r", b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"
        ]  # fmt: skip


def test_a_server_that_hangs_up_on_ehlo_is_asked_again_without(at: Place) -> None:
    with sink({**FAIR, "EHLO": None}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(OURS)[-1][:1] == b"K"
        assert [session.lines[0] for session in server.sessions] == [b"EHLO here.example\r\n", b"HELO here.example\r\n"]
    with sink({**FAIR, "EHLO": None, "HELO": None}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(OURS) == [b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"]
        assert len(server.sessions) == 2


@pytest.mark.parametrize("reply", ["greeting", "message"])
def test_a_silent_server_is_left(remote: str, at: Place, reply: str) -> None:
    free = threading.Event()

    def silent(session: Session) -> None:
        free.wait(TIMEOUT)

    with sink({**OLD, reply: silent}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}", timeoutremote="1")
        try:
            died = b"Possible duplicate! " if reply == "message" else b""
            assert at.send(remote)[-1] == b"ZConnected to 127.0.0.1 but connection died. " + died + b"(#4.4.2)\n"
        finally:
            free.set()


def test_a_server_that_drips_is_left(at: Place) -> None:
    """The original waits for each byte anew."""
    stop = threading.Event()

    def drip(session: Session) -> None:
        while not stop.wait(0.2):
            session.connection.sendall(b"2")

    with sink({**FAIR, "MAIL": drip}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}", timeoutremote="1")
        began = time.monotonic()
        try:
            assert at.send(OURS) == [b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"]
        finally:
            stop.set()
        assert time.monotonic() - began < 10


def test_a_server_that_does_not_read_is_left(at: Place) -> None:
    free = threading.Event()

    def deaf(session: Session) -> None:
        session.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        session.connection.sendall(b"354 go\r\n")
        free.wait(TIMEOUT)

    with sink({**FAIR, "DATA": deaf}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}", timeoutremote="1")
        try:
            died = [b"r", b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"]
            assert at.send(OURS, message=b"line\n" * 2_000_000) == died
        finally:
            free.set()


def test_a_flood_of_lines_ends_it(at: Place) -> None:
    with sink({**FAIR, "RCPT": b"250-more\r\n" * 1_000_000}) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(OURS) == [b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"]


def test_where_nobody_listens_there_is_no_connection(remote: str, at: Place) -> None:
    with sink() as server:
        port = server.port
    at.control(smtproutes=f":127.0.0.1:{port}")
    assert at.send(remote) == [b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"]


def test_routes_are_chosen_by_host(remote: str, at: Place) -> None:
    with sink() as one, sink() as two:
        at.control(smtproutes=f"there.example:127.0.0.1:{one.port}\n.There.example:[127.0.0.1]:{two.port}x")
        at.send(remote, "THERE.example", "me@x", "one@x")
        at.send(remote, "sub.there.EXAMPLE", "me@x", "two@x")
        assert (len(one.sessions), len(two.sessions)) == (1, 1)


def test_few_arguments_are_improper(remote: str, at: Place) -> None:
    assert at.send(remote, "there.example", "me@here.example") == [
        b"DI (qmail-remote) was invoked improperly. (#5.3.5)\n"
    ]  # fmt: skip


def test_controls_that_cannot_be_read_are_trouble(remote: str, at: Place) -> None:
    trouble = [b"ZUnable to read control files. (#4.3.0)\n"]
    for name in ("smtproutes", "helohost", "timeoutremote", "timeoutconnect"):
        (at.path / "control" / name).mkdir()
        assert at.send(remote) == trouble
        (at.path / "control" / name).rmdir()
    at.control(me=None)
    assert at.send(remote) == trouble


def test_without_a_home_there_is_trouble(at: Place) -> None:
    at.path = at.path / "missing"
    done = subprocess.run([OURS, *ENVELOPE], capture_output=True, env=environment(QMAILHOME=str(at.path)), check=False)
    assert (done.returncode, done.stdout) == (0, b"ZUnable to switch to home directory. (#4.3.0)\n\0")


def test_a_message_that_cannot_be_read_waits(remote: str, at: Place) -> None:
    with sink() as server, open("/dev/null", "wb") as unreadable:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        done = subprocess.run(
            [*in_home(remote, at.path), *ENVELOPE], stdin=unreadable, capture_output=True,
            env=environment(QMAILHOME=str(at.path)), timeout=TIMEOUT, check=False,
        )  # fmt: skip
    assert done.stdout.endswith(b"ZUnable to read message. (#4.3.0)\n\0")


def test_who_reads_the_reports_may_have_gone(remote: str, at: Place) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with sink() as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        done = subprocess.run(
            [*in_home(remote, at.path), *ENVELOPE], stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE,
            env=environment(QMAILHOME=str(at.path)), timeout=TIMEOUT, check=False,
        )  # fmt: skip
        assert server.sessions[0].ended
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


# IPv6


def test_a_route_may_lead_to_an_ipv6_address(at: Place) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no ::1")
    with sink(ip="::1") as server:
        at.control(smtproutes=f":[::1]:{server.port}")
        assert at.send(OURS)[-1].startswith(b"K::1 accepted message.\n")
        at.control(smtproutes=f":[IPv6:::1]:{server.port}")
        assert at.send(OURS)[-1].startswith(b"K::1 accepted message.\n")


def test_a_host_with_addresses_of_both_kinds_is_reached_by_the_one_that_works(at: Place) -> None:
    records: dnsserver.Records = {("both.example", "A"): ["127.0.0.3"], ("both.example", "AAAA"): ["::1"]}
    with dnsserver.running(records) as names, sink(ip="::1") as server:
        at.control(smtproutes=f":both.example:{server.port}")
        assert at.send(OURS, env=names.environment)[-1].startswith(b"K::1 accepted message.\n")
        with sink(ip="127.0.0.3", port=server.port) as first:
            assert at.send(OURS, env=names.environment)[-1].startswith(b"K127.0.0.3 accepted message.\n")
            assert len(first.sessions) == 1


# AUTH

LOGIN: dict[str, Say] = {
    **FAIR,
    "EHLO": b"250-hi\r\n250 AUTH PLAIN\r\n",
    "AUTH": b"334 \r\n",
    "AG1L": b"235 welcome\r\n",  # base64 of NUL me NUL ...
}


def test_a_smart_host_gets_a_password(at: Place) -> None:
    with sink(LOGIN) as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}|me|my password")
        assert at.send(OURS)[-1][:1] == b"K"
        assert server.sessions[0].lines[1:3] == [b"AUTH PLAIN\r\n", b"AG1lAG15IHBhc3N3b3Jk\r\n"]


def test_a_sender_may_have_a_smart_host(at: Place) -> None:
    with sink(LOGIN) as server, sink() as other:
        at.control(
            smtproutes=f":127.0.0.1:{other.port}", authsenders=f"@here.example:127.0.0.1:{server.port}|me|my password"
        )
        assert at.send(OURS)[-1][:1] == b"K"
        assert at.send(OURS, "there.example", "me@else.example", "you@there.example")[-1][:1] == b"K"
        assert (len(server.sessions), len(other.sessions)) == (1, 1)


def own_address() -> str | None:
    """An address of this machine that is not a loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return None
        name = str(sock.getsockname()[0])
        return None if name.startswith("127.") else name


def test_a_password_goes_in_clear_only_where_the_administrator_says(at: Place) -> None:
    ip = own_address()
    if ip is None:
        pytest.skip("this machine has loopback addresses only")
    with sink(LOGIN, ip=ip) as server:
        at.control(smtproutes=f":{ip}:{server.port}|me|my password")
        (report,) = at.send(OURS)
        assert report.startswith(f"ZConnected to {ip} but I would have to send my password in clear".encode())
        assert server.sessions[0].lines == [b"EHLO here.example\r\n", b"QUIT\r\n"]
        at.control(clearauthhosts=f"other.example\n{ip}")
        assert at.send(OURS)[-1][:1] == b"K"


# DNS, as far as nobody must listen on port 25; the rest is in tests/peers/test_exchanges.py

QUICK = (0.05, 0.05, 0.05)
ZONE: dnsserver.Records = {
    ("null.example", "MX"): ["0 ."],
    ("us.example", "MX"): ["10 local.example.", "20 behind.example."],
    ("local.example", "A"): ["127.0.0.1"],
    ("local6.example", "AAAA"): ["::1"],
    ("behind.example", "A"): ["192.0.2.99"],
    ("lost.example", "MX"): ["10 gone.example.", "10 text.example."],
    ("text.example", "TXT"): ['"no address"'],
    ("loop.example", "CNAME"): ["pool.example"],
    ("xn--bcher-kva.example", "MX"): ["0 ."],
}

US = (
    b"DSorry. Although I'm listed as a best-preference MX or A for that host,\n"
    b"it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n"
)
NO_HOST = b"DSorry, I couldn't find any host named %s. (#5.1.2)\n"
NOWHERE = b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n"
NULL = b"DSorry, %s does not accept mail: its DNS says so by a null MX. (#5.1.10)\n"
UNKNOWN = b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n"


@pytest.mark.parametrize(
    ("host", "report"),
    [
        ("none.example", NO_HOST % b"none.example"),
        ("text.example", NO_HOST % b"text.example"),
        ("null.example", NULL % b"null.example"),
        ("bücher.example", NULL % b"b??cher.example"),
        ("us.example", US),
        ("local.example", US),
        ("local6.example", US),
        ("[127.0.0.1]", US),
        ("127.0.0.1", US),
        ("[IPv6:::1]", US),
        ("0.0.0.0", US),
        ("lost.example", NOWHERE),
        ("a..b", NO_HOST % b"a..b"),
        ("", NO_HOST % b""),
        ("x" * 64 + ".example", NO_HOST % (b"x" * 64 + b".example")),
        ("two words\n.example", NO_HOST % b"two?words?.example"),
    ],
)
def test_what_dns_says_is_reported(at: Place, host: str, report: bytes) -> None:
    with dnsserver.running(ZONE) as names:
        assert at.send(OURS, host, "me@here.example", "you@there.example", env=names.environment) == [report]


def test_a_relay_that_does_not_exist_is_reported(at: Place) -> None:
    with dnsserver.running(ZONE) as names:
        at.control(smtproutes=":none.example")
        assert at.send(OURS, env=names.environment) == [NO_HOST % b"none.example"]


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No patience with name servers."""
    read = resolver.read

    def impatient(env: dict[bytes, bytes]) -> Resolver:
        found = read(env)
        return Resolver(found.servers, found.rules, found.port, QUICK)

    monkeypatch.setattr(resolver, "read", impatient)
    yield


def found(server: dnsserver.Server, host: bytes, relay: bool = False) -> bytes:
    """The report on where mail for host goes."""
    env = {name.encode(): value.encode() for name, value in server.environment.items()}
    route = Route(host) if relay else None
    with pytest.raises(qmail_remote.Failed) as failure:
        qmail_remote.targets(route, b"" if relay else host, resolver.read(env))
    report = failure.value.args[0]
    assert isinstance(report, bytes)
    return report


@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize(
    "twist",
    [
        lambda answer: [answer[:3] + b"\x82" + answer[4:]],
        lambda answer: [answer[:3] + b"\x85" + answer[4:]],
        lambda answer: [],
        lambda answer: [answer[:-1]],
        lambda answer: [answer[:2] + b"\x81\0" + answer[4:]],
    ],
    ids=["server failure", "refused", "silent", "malformed", "lame"],
)
def test_nothing_is_bounced_because_dns_has_trouble(lookups: None, twist: dnsserver.Twist, relay: bool) -> None:
    records: dnsserver.Records = {("there.example", "TXT"): ['"x"']}
    with dnsserver.running(records, twist=twist) as server:
        if twist(b"x" * 50) == [b"x" * 49]:
            records["there.example", "MX"] = ["0 there.example."]
            records["there.example", "A"] = ["192.0.2.1"]
        assert found(server, b"there.example", relay) == UNKNOWN


@pytest.mark.parametrize("relay", [False, True])
def test_nothing_is_bounced_because_nobody_can_be_asked(lookups: None, relay: bool) -> None:
    with dnsserver.running({}) as server:
        pass
    assert found(server, b"there.example", relay) == UNKNOWN


def test_a_circle_of_aliases_is_trouble(lookups: None) -> None:
    def circle(answer: bytes) -> list[bytes]:
        """One CNAME record more: the name is itself."""
        return [answer[:6] + b"\0\1" + answer[8:] + b"\xc0\x0c\0\5\0\1\0\0\0\0\0\2\xc0\x0c"]

    records: dnsserver.Records = {("there.example", "TXT"): ['"x"']}
    with dnsserver.running(records, twist=circle) as server:
        assert found(server, b"there.example") == UNKNOWN


def test_one_address_is_enough_where_the_others_are_not_known(lookups: None) -> None:
    def half(answer: bytes) -> list[bytes]:
        return [answer[:3] + b"\x82" + answer[4:]] if b"\0\x1c\0\1" in answer[12:] else [answer]

    records: dnsserver.Records = {("there.example", "A"): ["192.0.2.1"]}
    with dnsserver.running(records, twist=half) as server:
        env = {name.encode(): value.encode() for name, value in server.environment.items()}
        targets = qmail_remote.targets(None, b"there.example", resolver.read(env))
        assert [target.ip for target in targets] == [b"\xc0\0\2\1"]


@pytest.mark.parametrize(("unknown", "report"), [(b"\7primary", UNKNOWN), (b"\4last", US)])
def test_a_second_best_exchanger_does_not_bounce_mail_while_the_best_is_not_known(
    lookups: None, unknown: bytes, report: bytes
) -> None:
    def trouble(answer: bytes) -> list[bytes]:
        return [answer[:3] + b"\x82" + answer[4:]] if answer[12:].startswith(unknown) else [answer]

    records: dnsserver.Records = {
        ("there.example", "MX"): ["10 primary.example.", "20 local.example.", "30 last.example."],
        ("local.example", "A"): ["127.0.0.1"],
    }
    with dnsserver.running(records, twist=trouble) as server:
        assert found(server, b"there.example") == report


def test_many_exchanges_are_asked_in_order_and_not_all(lookups: None) -> None:
    records: dnsserver.Records = {
        ("there.example", "MX"): [f"{number} m{number}.example." for number in range(100)],
        **{(f"m{number}.example", "A"): [f"198.51.100.{number}"] for number in range(100)},
    }
    with dnsserver.running(records) as server:
        env = {name.encode(): value.encode() for name, value in server.environment.items()}
        targets = qmail_remote.targets(None, b"there.example", resolver.read(env))
        assert [target.ip[3] for target in targets] == list(range(32))
        assert ("tcp", "there.example", "MX") in server.asked


def test_a_domain_whose_name_servers_are_dead_for_ipv6_is_soon_left_too(lookups: None) -> None:
    def dead(answer: bytes) -> list[bytes]:
        return [] if b"\0\x1c\0\1" in answer[12:] else [answer]

    records: dnsserver.Records = {
        ("there.example", "MX"): [f"{number} m{number}.example." for number in range(10, 20)],
        **{(f"m{number}.example", "A"): [f"198.51.100.{number}"] for number in range(10, 20)},
    }
    with dnsserver.running(records, twist=dead) as server:
        env = {name.encode(): value.encode() for name, value in server.environment.items()}
        targets = qmail_remote.targets(None, b"there.example", resolver.read(env))
        assert [target.ip[3] for target in targets] == [10, 11, 12, 13]


def test_a_domain_whose_name_servers_are_dead_is_soon_left(lookups: None) -> None:
    def dead(answer: bytes) -> list[bytes]:
        return [] if answer[12:15] == b"\3m1" else [answer]

    records: dnsserver.Records = {
        ("there.example", "MX"): [f"{number} m{number}.example." for number in range(10, 20)],
        ("m19.example", "A"): ["198.51.100.1"],
    }
    with dnsserver.running(records, twist=dead) as server:
        assert found(server, b"there.example") == UNKNOWN
        asked = {name for _, name, _ in server.asked}
        assert asked == {"there.example", "m10.example", "m11.example", "m12.example", "m13.example"}


# tcpto


def tcpto(at: Place) -> Path:
    return at.path / "queue" / "lock" / "tcpto"


@pytest.fixture
def slow(at: Place) -> Iterator[int]:
    """A port of 127.0.0.1 where connections are neither taken nor refused: the queue of the listener is full."""
    make_queue(at.path)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield int(listener.getsockname()[1])
        for filler in fillers:
            filler.close()


NO_CONNECTION = [b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"]


def test_a_slow_host_is_noted_left_out_and_forgiven(remote: str, at: Place, slow: int) -> None:
    at.control(smtproutes=f":127.0.0.1:{slow}", timeoutconnect="1")
    assert at.send(remote) == NO_CONNECTION
    record = tcpto(at).read_bytes()[:16]
    assert record[:5] == b"\x7f\0\0\1\1"
    assert abs(int.from_bytes(record[8:12], "little") - time.time()) < 30
    two_hours_ago = int(time.time() - 7200).to_bytes(4, "little")
    tcpto(at).write_bytes(record[:4] + b"\2" + bytes(3) + two_hours_ago + bytes(1012))
    assert at.send(remote) == NO_CONNECTION
    assert tcpto(at).read_bytes()[4] == 3
    with sink() as server:
        at.control(smtproutes=f":127.0.0.1:{server.port}")
        assert at.send(remote) == NO_CONNECTION
        assert server.sessions == []
        tcpto(at).write_bytes(record[:4] + b"\2" + bytes(3) + two_hours_ago + bytes(1012))
        assert at.send(remote)[-1][:1] == b"K"
    assert tcpto(at).read_bytes()[:12] == b"\x7f\0\0\1\0\0\0\0" + two_hours_ago


def test_a_slow_host_takes_the_place_of_the_one_that_matters_least(remote: str, at: Place, slow: int) -> None:
    now = int(time.time())
    table = b"".join(
        bytes((10, 0, 0, place, 1 + place % 3, 1, 2, 3)) + (now - place * 100).to_bytes(4, "little") + b"abcd"
        for place in range(64)
    )
    tcpto(at).write_bytes(table)
    at.control(smtproutes=f":127.0.0.1:{slow}", timeoutconnect="1")
    assert at.send(remote) == NO_CONNECTION
    found = tcpto(at).read_bytes()
    (place,) = [at_ for at_ in range(0, 1024, 16) if found[at_ : at_ + 16] != table[at_ : at_ + 16]]
    assert place == 63 * 16  # counts 1, 1 + 63 % 3 = 1, and 6300 seconds ago
    assert found[place : place + 8] == b"\x7f\0\0\1\1\1\2\3"
    assert found[place + 12 :][:4] == b"abcd"


def test_a_host_that_refuses_is_not_slow(remote: str, at: Place) -> None:
    make_queue(at.path)
    with sink() as server:
        port = server.port
    at.control(smtproutes=f":127.0.0.1:{port}")
    tcpto(at).write_bytes(b"\x7f\0\0\1\1" + bytes(1019))
    assert at.send(remote) == NO_CONNECTION
    assert tcpto(at).read_bytes() == b"\x7f\0\0\1" + bytes(1020)


def test_an_ipv6_host_does_not_touch_the_table(at: Place) -> None:
    make_queue(at.path)
    before = os.urandom(1024)
    tcpto(at).write_bytes(before)
    with sink(ip="::1") as server:
        at.control(smtproutes=f":[::1]:{server.port}")
        assert at.send(OURS)[-1][:1] == b"K"
    assert tcpto(at).read_bytes() == before
