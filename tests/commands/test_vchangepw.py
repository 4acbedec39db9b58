import os
import pty
import subprocess

import pytest

from tests.helpers import BIN
from tests.virtual import SHA512, Virtual, virtual
from tests.vpopusers import account, logs_in

__all__ = ["virtual"]

OURS = str(BIN / "vchangepw")
PROMPT = "Please enter the email address: "


@pytest.fixture
def home(virtual: Virtual) -> Virtual:
    virtual.domain(
        "a.example",
        f"max:{SHA512}",
        f"fixed:{SHA512}:1:1:fixed:DIR/fixed:NOQUOTA",
        f"clear:{SHA512}:1:0:clear:DIR/clear:NOQUOTA:secret",
        "closed::1:0:closed:DIR/closed:NOQUOTA",
    )
    (virtual.etc / "defaultdomain").write_text("a.example\n")
    return virtual


def change(home: Virtual, *answers: str, code: int = 0) -> tuple[str, str]:
    """What is said, behind the echo of the address, and what is logged. There is no terminal: a session of its own."""
    argv = ["setsid", "-w", OURS]
    text = "".join(answer + "\n" for answer in answers).encode()
    result = home.run(*argv, input=text)
    assert result.returncode == code
    told = [line.partition("vchangepw: ")[2] for line in result.stderr.decode().splitlines() if "vchangepw: " in line]
    return result.stdout.decode().removeprefix(f"{PROMPT}{answers[0]}\n" if answers else PROMPT), "\n".join(told)


def test_who_knows_the_password_changes_it(home: Virtual) -> None:
    said = change(home, "max@a.example", "secret", "other", "other")
    assert said == ("Password successfully changed.\n", "User <max@a.example> changed password")
    assert logs_in(home, "max@a.example", "other") and not logs_in(home, "max@a.example", "secret")
    assert account(home, "max").clear is None


def test_a_name_without_domain_and_a_wrong_repetition_will_do(home: Virtual) -> None:
    said, _ = change(home, "max", "secret", "one", "two", "three", "three")
    assert said == "Passwords do not match, try again\nPassword successfully changed.\n"
    assert logs_in(home, "max@a.example", "three")


def test_a_password_that_was_kept_in_clear_stays_so(home: Virtual) -> None:
    change(home, "clear@a.example", "secret", "other", "other")
    assert account(home, "clear").clear == b"other"


@pytest.mark.parametrize(
    ("answers", "code", "said", "told"),
    [
        (["max@a.example", "wrong"], 3, "Error: authentication failed!\n", "Wrong password for user <max@a.example>"),
        (["joe@a.example", "secret"], 3, "Error: authentication failed!\n", "Wrong password for user <joe@a.example>"),
        (["closed@a.example", ""], 3, "Error: authentication failed!\n", "Wrong password for user <closed@a.example>"),
        (
            ["max@c.example", "secret"],
            3,
            "Error: authentication failed!\n",
            "Domain of address <max@c.example> does not exist",
        ),
        (["max@a.example", "x" * 128], 3, "Error: password too long.\n", "Too long password for user <max@a.example>"),
        (
            ["fixed@a.example", "secret", "other", "other"],
            255,
            "Error: Illegal username\n",
            "Error changing users password! User <fixed@a.example>, message: Illegal username",
        ),
        (
            ["max@a.example", "secret", "x" * 129, "x" * 129],
            229,
            "Error: password too long (max=128)\n",
            "Error changing users password! User <max@a.example>, message: password too long (max=128)",
        ),
        (["max@a.example", "secret", "", ""], 255, "Error: No password entered\n", ""),
        (["max@a.example", "secret"], 255, "Error: No password entered\n", ""),
        (["m:x@a.example"], 255, "Error: Illegal username\n", ""),
        (["max@a.example"], 3, "Error: authentication failed!\n", "Wrong password for user <max@a.example>"),
    ],
)
def test_what_is_wrong_changes_nothing(home: Virtual, answers: list[str], code: int, said: str, told: str) -> None:
    before = (home.folder / "domains/a.example/vpasswd").read_text()
    assert change(home, *answers, code=code) == (said, told)
    assert (home.folder / "domains/a.example/vpasswd").read_text() == before


def test_who_waits_until_the_password_is_another_one_does_not_change_that(home: Virtual) -> None:
    argv = ["setsid", "-w", OURS]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=home.env()
    ) as thief:
        assert thief.stdin and thief.stdout and thief.stderr
        thief.stdin.write(b"max@a.example\nsecret\n")
        thief.stdin.flush()
        shown = b""
        while not shown.endswith(b"password for max@a.example: "):
            shown += os.read(thief.stderr.fileno(), 1000)
        change(home, "max@a.example", "secret", "other", "other")
        said, _ = thief.communicate(b"third\nthird\n")
    assert (thief.returncode, said.endswith(b"\nError: authentication failed!\n")) == (3, True)
    assert logs_in(home, "max@a.example", "other")


def test_without_an_address_it_ends(home: Virtual) -> None:
    assert change(home) == ("\n\n", "")
    assert change(home, "x" * 300, code=3)[0].endswith("\nError: email address too long\n")
    assert home.run(OURS, "x").returncode == 100


def test_on_a_terminal_passwords_are_not_shown(home: Virtual) -> None:
    master, slave = pty.openpty()
    argv = ["setsid", "-c", "-w", OURS]
    with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=home.env()):
        os.close(slave)
        shown = b""
        for prompt, answer in (
            (b"address: ", b"max@a.example"),
            (b"old password: ", b"secret"),
            (b"password for max@a.example: ", b"other"),
            (b"password again: ", b"other"),
        ):
            while not shown.endswith(prompt):
                shown += os.read(master, 1000)
            os.write(master, answer + b"\n")
        try:
            while part := os.read(master, 1000):
                shown += part
        except OSError:  # the other side is closed
            pass
    os.close(master)
    assert b"Password successfully changed." in shown
    assert b"secret" not in shown and b"other" not in shown
    assert logs_in(home, "max@a.example", "other")
