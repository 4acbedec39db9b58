"""except: what the answer of a program means; the original has to pass the same where QMAIL_BIN names it."""

import pytest

from tests.commands.localuser import MESSAGE, User, user
from tests.submissions import everybodys

__all__ = ["user"]

both = pytest.mark.parametrize("program", everybodys("except"))


@both
@pytest.mark.parametrize(("answer", "code"), [(0, 100), (1, 0), (99, 0), (100, 0), (110, 0), (112, 0), (255, 0)])
def test_the_answer_is_turned_round(user: User, program: str, answer: int, code: int) -> None:
    done = user.run([program, "sh", "-c", f"exit {answer}"])
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@both
def test_the_program_finds_the_message_and_says_what_it_likes(user: User, program: str) -> None:
    done = user.run([program, "sh", "-c", "cat; echo no >&2; false"])
    assert (done.returncode, done.stdout, done.stderr) == (0, MESSAGE, b"no\n")


@both
def test_trouble_of_the_program_is_trouble_for_now(user: User, program: str) -> None:
    done = user.run([program, "sh", "-c", "exit 111"])
    assert (done.returncode, done.stderr) == (111, b"except: fatal: temporary child error\n")
    done = user.run([program, "sh", "-c", "kill -TERM $$"])
    assert (done.returncode, done.stderr) == (111, b"except: fatal: child crashed\n")


@both
@pytest.mark.parametrize("name", ["missing", "./missing", ".", "./text"])
def test_a_program_that_is_not_there_says_no(user: User, program: str, name: str) -> None:
    user.write("text", b"", 0o644)
    done = user.run([program, name])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@both
def test_except_says_its_usage(user: User, program: str) -> None:
    done = user.run([program])
    assert (done.returncode, done.stdout, done.stderr) == (100, b"", b"except: usage: except program [ arg ... ]\n")


@pytest.mark.parametrize("cold", ["", "1"])
@pytest.mark.parametrize(("word", "code"), [("true", 100), ("false", 0)])
def test_two_of_them_are_as_none(user: User, cold: str, word: str, code: int) -> None:
    """The one behind runs warm."""
    (program, *_) = everybodys("except")
    assert user.run([program, "except", "except", word], QMAILPY_COLD=cold).returncode == code
