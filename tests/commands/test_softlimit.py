"""softlimit beside Debian's, and with it in one chain; and what it says of limits that Python cannot live with."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.accounts import hashed
from tests.commands import loaders
from tests.helpers import BIN, environment, run
from tests.servers import MESSAGES, NAME, OURS, PASSWORD, Home, home, pop3, serve

SOFTLIMIT = "softlimit"
LETTERS = "acdflmoprst"
SHOW = ("cat", "/proc/self/limits")


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("value", ["0", "1", "3", "1000", "100000", "5000000", "64000000", "9" * 30, "=", ""])
def test_softlimit_limits_a_foreign_program_as_debians(letter: str, value: str) -> None:
    if letter == "t" and value in ("0", ""):
        value = "1"  # no time at all is up at the next tick of the clock, in the program or before
    loaders.same_as_debians(SOFTLIMIT, f"-{letter}", value, *SHOW)


def test_a_foreign_program_gets_what_is_too_little_for_python() -> None:
    done = loaders.same_as_debians(SOFTLIMIT, "-m", "5000000", *SHOW)
    soft = {line[:26].strip(): line[26:].split()[0] for line in done.stdout.decode().splitlines()}
    assert [soft[f"Max {name}"] for name in ("address space", "data size", "locked memory", "stack size")] == [
        "5000000"
    ] * 4


VALUES = st.sampled_from(
    ["=", "", "0", "7", "4096", "3000000", "64000000", "18446744073709551615", "18446744073709551616",
     "9223372036854775808", "36893488147483647232", "5x", "x", "-1", "==", " 1", "=1", "\u0661"]
)  # fmt: skip


@settings(max_examples=25)
@given(
    options=st.lists(st.tuples(st.sampled_from(LETTERS.replace("t", "")), VALUES, st.booleans()), max_size=5),
    hard=st.sampled_from(["", "ulimit -v 90000", "ulimit -n 50; ulimit -f 100"]),
)
def test_any_options_have_the_effect_of_debians(options: list[tuple[str, str, bool]], hard: str) -> None:
    words = [
        word for letter, value, apart in options for word in ([f"-{letter}", value] if apart else [f"-{letter}{value}"])
    ]
    before = ("sh", "-c", f'{hard or ":"}; exec "$0" "$@"')
    loaders.same_as_debians(SOFTLIMIT, *words, *SHOW, before=before)


@pytest.mark.parametrize(
    "words",
    [
        (), ("-m",), ("-m", "5"), ("-m", "5x", "cat"), ("-m", "-5", "cat"), ("-Z", "cat"), ("-m", "1", "-Z"), ("--",),
        ("-c0", "./missing"), ("-c0", "missing"), ("-c0", "--", "sh", "-c", "exit 7"), ("cat",),
        ("-f0", "sh", "-c", "ulimit -f"), ("-t1", "sh", "-c", "while :; do :; done"),
        ("-m", "0", "missing"), ("-o", "0", "missing"), ("-s", "0", "missing"),
    ],
)  # fmt: skip
def test_softlimit_says_and_ends_as_debians(words: tuple[str, ...]) -> None:
    loaders.same_as_debians(SOFTLIMIT, *words, input=b"text")


def test_many_and_long_arguments_reach_a_program_under_limits_that_leave_no_memory() -> None:
    long = ["y" * 100000] * 4 + ["z"] * 5000
    env = environment(**{f"V{n}": "v" * 20000 for n in range(10)})
    for limit in ("-m", "-d", "-a"):
        done = run([BIN / SOFTLIMIT, limit, "6000000", "sh", "-c", "exit 7", *long], env=env)
        assert (done.stderr, done.returncode) == (b"", 7)


def test_softlimit_hands_all_on_in_every_chain(tmp_path: Path) -> None:
    facts = loaders.same_in_every_chain(SOFTLIMIT, "-m", "64000000", "-o", "100", "-c", "0", cwd=tmp_path)
    soft = {name: limit[0] for name, limit in facts["limits"].items()}
    assert (soft["RLIMIT_AS"], soft["RLIMIT_DATA"], soft["RLIMIT_STACK"]) == (64000000,) * 3
    assert (soft["RLIMIT_NOFILE"], soft["RLIMIT_CORE"]) == (100, 0)
    assert facts["fds"] == {0: "pipe:", 1: "pipe:", 2: "pipe:"}


TOO_SMALL = re.compile(
    rb"softlimit: fatal: -(\w) (\d+)(, the hard limit,)? is too small for (\S+), which runs in Python: (\d+) suffices\n"
)


def refused(*words: str, program: str | Path = "tcpserver", **env: str) -> "re.Match[bytes]":
    """What softlimit says of words before a program, which does not run."""
    done = run([BIN / SOFTLIMIT, *words, program, "0"], env=environment(**env))
    match = TOO_SMALL.fullmatch(done.stderr)
    assert match, done.stderr
    assert (done.stdout, done.returncode) == (b"", 100)
    return match


def suffices(letter: str) -> str:
    return refused(f"-{letter}", "1")[5].decode()


@pytest.mark.parametrize("letter", "adms")
def test_a_limit_too_small_for_a_command_of_ours_is_named_before_it_is_set(letter: str) -> None:
    said = refused("-c0", f"-{letter}", "500000")
    assert (said[1], said[2], said[4]) == (letter.encode(), b"500000", b"tcpserver")
    assert int(said[5]) % 1_000_000 == 0


def test_a_limit_on_open_files_too_small_is_named() -> None:
    said = refused("-o", "5")
    assert (said[1], said[2]) == (b"o", b"5")
    assert 10 < int(said[5]) < 60


def test_the_value_of_an_old_guide_is_refused_before_any_command_of_ours() -> None:
    for program in ("tcpserver", "multilog", "argv0", BIN / "qmail-pop3d"):
        assert refused("-m", "5000000", program=program)[4] == str(program).encode()


def test_a_cold_step_is_judged_too() -> None:
    refused("-m", "5000000", QMAILPY_COLD="1")


def test_a_later_option_for_the_same_limit_is_the_one_that_counts() -> None:
    assert run([BIN / SOFTLIMIT, "-a", "5", "-m", "64000000", "argv0", "true", "x"]).returncode == 0
    said = refused("-m", "64000000", "-a", "5")
    assert (said[1], said[2]) == (b"a", b"5")
    assert refused("-a", "64000000", "-m", "5")[1] == b"m"


def test_a_hard_limit_too_small_is_called_that() -> None:
    shell = ["sh", "-c", 'ulimit -v 30000; exec "$0" "$@"']
    for words in (["-a", "="], ["-m", "64000000"]):
        done = run([*shell, BIN / SOFTLIMIT, *words, "tcpserver"])
        match = TOO_SMALL.fullmatch(done.stderr)
        assert match and match[2] == b"30720000" and match[3]
        assert done.returncode == 100


@pytest.mark.parametrize("letter", "flprtc")
def test_other_limits_are_nobodys_reason_to_refuse(letter: str) -> None:
    done = run([BIN / SOFTLIMIT, f"-{letter}", "5" if letter == "t" else "0", "argv0", "sh", "sh", "-c", "echo $0"])
    assert (done.stdout, done.stderr, done.returncode) == (b"sh\n", b"", 0)


def session(home: Home, words: list[str], cold: str) -> bytes:
    """A whole session of the POP3 chain behind softlimit."""
    prefix = [str(BIN / SOFTLIMIT), *words]
    dialogue = f"user {NAME}\r\npass {PASSWORD}\r\nstat\r\nretr 1\r\ndele 1\r\nquit\r\n".encode()
    with serve(OURS, *pop3(), env=home.environment(QMAILPY_COLD=cold), prefix=prefix) as server:
        return server.talk(dialogue)


@pytest.mark.parametrize("cold", ["", "1"], ids=["warm", "cold"])
@pytest.mark.parametrize("letter", "adsom")
@pytest.mark.parametrize("stored", ["sha512", "crypt's own choice"])
def test_what_is_said_to_suffice_suffices_for_the_pop3_chain(letter: str, cold: str, stored: str) -> None:
    words = [f"-{letter}", suffices(letter)]
    with home() as at:
        if stored != "sha512":
            at.passwords.write_text(
                re.sub("(?<=:)[$]6[$][^:]*", lambda _: hashed(PASSWORD.encode()), at.passwords.read_text())
            )
        at.deliver(*MESSAGES)
        replies = session(at, words, cold)
        assert replies.count(b"+OK") == 7, replies
        assert len(at.messages()) == len(MESSAGES) - 1


@pytest.mark.parametrize("cold", ["", "1"], ids=["warm", "cold"])
def test_what_the_readme_recommends_passes(cold: str) -> None:
    with home() as at:
        at.deliver(*MESSAGES)
        assert session(at, ["-m", "64000000"], cold).count(b"+OK") == 7
