"""bouncesaying: who is refused, and with which words; the original has to pass the same where QMAIL_BIN names it."""

import pytest

from tests.commands.localuser import MESSAGE, User, user
from tests.submissions import everybodys

__all__ = ["user"]

both = pytest.mark.parametrize("program", everybodys("bouncesaying"))


@both
@pytest.mark.parametrize("text", ["", "no", "Sorry, \xff\n no. (#5.1.1)", "-x"])
def test_the_text_is_said(user: User, program: str, text: str) -> None:
    for more in ([], ["true"]):
        done = user.run([program, text, *more])
        assert (done.returncode, done.stdout, done.stderr) == (100, b"", text.encode() + b"\n")


@both
@pytest.mark.parametrize("answer", [1, 99, 100, 110, 112, 255])
def test_nothing_is_said_unless_the_program_says_yes(user: User, program: str, answer: int) -> None:
    done = user.run([program, "no", "sh", "-c", f"cat; exit {answer}"])
    assert (done.returncode, done.stdout, done.stderr) == (0, MESSAGE, b"")


@both
def test_trouble_of_the_program_is_trouble_for_now(user: User, program: str) -> None:
    done = user.run([program, "no", "sh", "-c", "exit 111"])
    assert (done.returncode, done.stderr) == (111, b"bouncesaying: fatal: temporary child error\n")
    done = user.run([program, "no", "sh", "-c", "kill -TERM $$"])
    assert (done.returncode, done.stderr) == (111, b"bouncesaying: fatal: child crashed\n")


@both
def test_a_program_that_is_not_there_says_no(user: User, program: str) -> None:
    done = user.run([program, "no", "missing"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@both
def test_bouncesaying_says_its_usage(user: User, program: str) -> None:
    done = user.run([program])
    text = b"bouncesaying: usage: bouncesaying error [ program [ arg ... ] ]\n"
    assert (done.returncode, done.stdout, done.stderr) == (100, b"", text)
