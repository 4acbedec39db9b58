"""condredirect: which messages go on; the original has to pass the same where QMAIL_BIN names it."""

import subprocess
from pathlib import Path

import pytest

from tests.commands.localuser import MESSAGE, User, anonymous, user
from tests.helpers import BIN
from tests.queuehomes import QueueHome, queue_home
from tests.submissions import everybodys

__all__ = ["queue_home", "user"]

SET = {"SENDER": "s@t", "NEWSENDER": "other", "DTLINE": "Delivered-To: x\n"}

both = pytest.mark.parametrize("program", everybodys("condredirect"))


@both
def test_a_message_goes_on_if_the_program_says_yes(user: User, program: str) -> None:
    done = user.run([program, "new@h", "sh", "-c", "cat"], **SET)
    assert (done.returncode, done.stdout, anonymous(done.stderr)) == (99, MESSAGE, b"condredirect: qp PID\n")
    assert user.forwarded() == (b"Delivered-To: x\n" + MESSAGE, b"Fs@t\0Tnew@h\0\0")


@both
@pytest.mark.parametrize("answer", [1, 99, 100, 110, 112, 255])
def test_it_does_not_if_the_program_says_no(user: User, program: str, answer: int) -> None:
    done = user.run([program, "new@h", "sh", "-c", f"exit {answer}"])
    assert (done.returncode, done.stdout, done.stderr, user.forwarded()) == (0, b"", b"", None)


@both
def test_trouble_of_the_program_is_trouble_for_now(user: User, program: str) -> None:
    done = user.run([program, "new@h", "sh", "-c", "exit 111"], **SET)
    assert (done.returncode, done.stderr) == (111, b"condredirect: fatal: temporary child error\n")
    done = user.run([program, "new@h", "sh", "-c", "kill -TERM $$"], **SET)
    assert (done.returncode, done.stderr) == (111, b"condredirect: fatal: child crashed\n")
    assert user.run([program, "new@h", "missing"], **SET).returncode == 0
    assert user.forwarded() is None


@both
def test_what_is_not_set_is_said_once_it_matters(user: User, program: str) -> None:
    assert user.run([program, "new@h", "false"]).returncode == 0
    done = user.run([program, "new@h", "true"], DTLINE="x")
    assert (done.returncode, done.stderr) == (100, b"condredirect: fatal: SENDER not set\n")
    done = user.run([program, "new@h", "true"], SENDER="x")
    assert (done.returncode, done.stderr) == (100, b"condredirect: fatal: DTLINE not set\n")


@both
def test_a_pipe_cannot_be_read_again(user: User, program: str) -> None:
    done = subprocess.run(
        [program, "new@h", "true"], input=MESSAGE, capture_output=True, env=user.env(**SET), check=False
    )
    assert (done.returncode, done.stderr) == (111, b"condredirect: fatal: unable to rewind: unseekable descriptor\n")


@both
@pytest.mark.parametrize(("code", "exit_code", "text"), [
    (31, 100, b"mail server permanently rejected message (#5.3.0)"), (53, 111, b"qq write error or disk full (#4.3.0)"),
])  # fmt: skip
def test_trouble_with_the_queue_is_told(user: User, program: str, code: int, exit_code: int, text: bytes) -> None:
    user.queue(code)
    done = user.run([program, "a", "true"], **SET)
    assert (done.returncode, done.stderr) == (exit_code, b"condredirect: fatal: " + text + b"\n")


@both
@pytest.mark.parametrize("words", [[], ["a"]])
def test_condredirect_says_its_usage(user: User, program: str, words: list[str]) -> None:
    done = user.run([program, *words])
    text = b"condredirect: usage: condredirect newaddress program [ arg ... ]\n"
    assert (done.returncode, done.stdout, done.stderr) == (100, b"", text)


def test_the_message_gets_into_the_queue_of_the_home(user: User, queue_home: QueueHome) -> None:
    with user.message.open("rb") as message:
        words: list[str | Path] = [BIN / "condredirect", "a@b", "except", "false"]
        done = subprocess.run(words, stdin=message, capture_output=True, env=queue_home.env(**SET), check=False)
    queued = queue_home.message()
    assert (done.returncode, done.stderr) == (99, b"condredirect: qp %d\n" % queued.pid)
    assert (queued.sender, queued.recipients) == (b"s@t", [b"a@b"])
    assert queued.body == b"Delivered-To: x\n" + MESSAGE
