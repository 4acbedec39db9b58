"""Mail by netstrings: how a message goes into the queue, and how a client is served."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterable

import pytest

from qmailpy.loops import requests
from qmailpy.protocols import qmtp
from qmailpy.protocols.netstrings import END
from tests.helpers import ROOT

DATE = b"; 9 Sep 2001 01:46:40 -0000\n"


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({}, b"from unknown (unknown)\n  by unknown with QMTP"),
        ({b"TCPREMOTEHOST": b"h", b"TCPREMOTEIP": b"::1"}, b"from h (::1)\n  by unknown with QMTP"),
        ({b"TCPREMOTEINFO": b"", b"TCPLOCALIP": b"l i"}, b"from unknown (@unknown)\n  by l?i with QMTP"),
        ({b"TCPLOCALHOST": b"", b"TCPLOCALIP": b"li"}, b"from unknown (unknown)\n  by  with QMTP"),
    ],
)
def test_the_received_line_is_made_of_the_environment(env: dict[bytes, bytes], line: bytes) -> None:
    assert requests.received_line(b"QMTP", env, 1_000_000_000) == b"Received: " + line + DATE


class Injection:
    """Stands in for one of stores.injection."""

    qp = 4711

    def __init__(self, text: bytes = b"") -> None:
        self.text = text
        self.written = b""
        self.failed = False
        self.envelope: tuple[bytes, list[bytes]] | None = None

    def write(self, data: bytes) -> None:
        self.written += data

    def fail(self) -> None:
        self.failed = True

    def close(self, sender: bytes, recipients: Iterable[bytes]) -> bytes:
        self.envelope = sender, list(recipients)
        return self.text


def test_a_message_has_its_envelope_and_nothing_of_the_one_before() -> None:
    injections = [Injection(), Injection(b"Zlater")]
    begun = iter(injections)
    mail = requests.Mail(lambda: next(begun))
    mail.fail()  # nothing has begun
    mail.open(b"Received: x\n")
    mail.write(b"hello\n")
    mail.sender = b"me"
    mail.add(b"you")
    mail.add(b"")
    assert mail.close(17) == b"Kok 17 qp 4711"
    mail.fail()  # nor is anything left
    mail.open(b"Received: y\n")
    mail.add(b"z")
    assert mail.close(17) == b"Zlater"
    assert [each.written for each in injections] == [b"Received: x\nhello\n", b"Received: y\n"]
    assert [each.envelope for each in injections] == [(b"me", [b"you", b""]), (b"", [b"z"])]
    assert not any(each.failed for each in injections)


def test_a_message_that_is_not_closed_can_still_fail() -> None:
    injection = Injection()
    mail = requests.Mail(lambda: injection)
    mail.open(b"")
    mail.fail()
    assert injection.failed


SERVE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from qmailpy.loops import requests
from qmailpy.protocols import qmtp
requests.TIMEOUT_S, requests.GRACE_S = 0, int(sys.argv[2])
def act(kind, value):
    if value == b"trouble":
        raise FileNotFoundError(2, "")
    if value == b"hang":
        while True:
            pass
    return (b"%d" % kind, b"")
os._exit(requests.serve(b"test", qmtp.server(), act, once=sys.argv[3] == "once"))
"""


def served(sent: bytes, *, once: bool = False, grace_s: int = 60, leave: bool = True) -> tuple[int, bytes, bytes]:
    """(exit code, answers, what was said) for a client that sends something at once and leaves, or stays."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(sent)
        if leave:
            ours.shutdown(socket.SHUT_WR)
        words = [sys.executable, "-c", SERVE, str(ROOT), str(grace_s), "once" if once else ""]
        fd = theirs.fileno()
        ended = subprocess.run(words, stdin=fd, stdout=fd, stderr=subprocess.PIPE, timeout=20, check=False)
        theirs.close()
        return ended.returncode, b"".join(iter(lambda: os.read(ours.fileno(), 65536), b"")), ended.stderr


MAIL = b"2:\na,2:me,6:3:you,,"
EVENTS = b"01234"


def test_each_event_is_acted_on_and_answered() -> None:
    assert served(MAIL * 2) == (0, EVENTS * 2, b"")
    assert served(MAIL * 2, once=True) == (0, EVENTS, b"")
    assert served(MAIL + b"x") == (100, EVENTS, b"")
    assert served(MAIL + b"9" * 20) == (111, EVENTS, b"")


def test_trouble_ends_the_conversation_with_a_line_in_the_log() -> None:
    line = b"test: fatal: unable to take a message: file does not exist\n"
    assert served(MAIL + b"8:\ntrouble,") == (111, EVENTS + b"0", line)


def test_answers_of_any_size_go_out_in_blocks() -> None:
    parts = [b"x" * 1000] * 150
    blocks = list(
        requests._answers(b"", qmtp.server(), MAIL + b"x", lambda kind, _: parts if kind == END else (), False)
    )
    assert [len(answers) for answers, _ in blocks] == [66_000, 66_000, 18_000]
    assert [code for _, code in blocks] == [None, None, 100]


def test_a_client_that_stays_silent_is_left() -> None:
    assert served(MAIL, leave=False) == (111, EVENTS, b"")


def test_nobody_waits_for_ever_for_a_queue_that_hangs() -> None:
    code, answers, _ = served(MAIL + b"5:\nhang,", grace_s=1)
    assert (code, answers) == (-14, b"")  # SIGALRM
