"""preline: the lines in front of the message; the original has to pass the same where QMAIL_BIN names it."""

import itertools

import pytest

from tests.commands.localuser import MESSAGE, User, user
from tests.helpers import BIN
from tests.submissions import everybodys

__all__ = ["user"]

SET = {"UFLINE": "u\n", "RPLINE": "r\n", "DTLINE": "d\n"}
OURS = BIN / "preline"
USAGE = b"preline: usage: preline cmd [ arg ... ]\n"

both = pytest.mark.parametrize("program", everybodys("preline"))


@both
@pytest.mark.parametrize("letters", ["", *map("".join, itertools.combinations("frd", 2)), "frd", "fF", "Ff", "frdR"])
def test_lines_are_in_front_of_the_message(user: User, program: str, letters: str) -> None:
    kept = "".join(
        line for letter, line in (("f", "u\n"), ("r", "r\n"), ("d", "d\n"))
        if letters.rfind(letter) <= letters.rfind(letter.upper())
    )  # fmt: skip
    done = user.run([program, *(["-" + letters] if letters else []), "cat"], **SET)
    assert (done.returncode, done.stdout, done.stderr) == (0, kept.encode() + MESSAGE, b"")


@both
def test_preline_ends_as_the_program_ends(user: User, program: str) -> None:
    for code in (0, 1, 99, 100, 111, 255):
        assert user.run([program, "sh", "-c", f"cat >/dev/null; exit {code}"], b"x" * 300_000, **SET).returncode == code
    done = user.run([program, "sh", "-c", "cat >/dev/null; kill -TERM $$"], **SET)
    assert (done.returncode, done.stderr) == (111, b"preline: fatal: child crashed\n")


def test_a_program_that_does_not_want_all_is_the_judge_of_it(user: User) -> None:
    """The original fails then, and the message comes again."""
    for code in (0, 100):
        done = user.run([OURS, "sh", "-c", f"head -c 10; exit {code}"], b"x" * 300_000, **SET)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"u\nr\nd\nxxxx", b"")


@both
def test_preline_names_what_it_cannot_run(user: User, program: str) -> None:
    user.write("text", b"", 0o644)
    for name, reason in (("missing", b"file does not exist"), ("./text", b"access denied")):
        done = user.run([program, name], b"", **SET)
        said = b"preline: fatal: unable to run %s: %s\n" % (name.encode(), reason)
        assert done.stderr.startswith(said)
        assert (done.returncode == 100) or (program != str(OURS) and b"unable to copy input" in done.stderr)


@both
@pytest.mark.parametrize("missing", SET)
def test_preline_wants_all_variables(user: User, program: str, missing: str) -> None:
    done = user.run([program, "cat"], **{name: value for name, value in SET.items() if name != missing})
    assert (done.returncode, done.stdout, done.stderr) == (100, b"", USAGE)


@both
@pytest.mark.parametrize(("words", "more"), [([], b""), (["-f"], b""), (["-x"], b"preline: illegal option -- x\n")])
def test_preline_says_its_usage(user: User, program: str, words: list[str], more: bytes) -> None:
    done = user.run([program, *words], **SET)
    assert (done.returncode, done.stdout, done.stderr) == (100, b"", more + USAGE)


@pytest.mark.parametrize("cold", ["", "1"])
def test_one_behind_another_puts_its_lines_in_front(user: User, cold: str) -> None:
    """The one behind runs warm."""
    done = user.run([OURS, "-rd", "preline", "-f", "cat"], QMAILPY_COLD=cold, **SET)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"r\nd\nu\n" + MESSAGE, b"")
