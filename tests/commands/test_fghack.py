"""fghack beside Debian's, and with it in one chain."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.commands import loaders
from tests.helpers import BIN, environment, eventually, needs

NAME = "fghack"


@pytest.fixture(params=["ours", "ours, cold", "Debian's"])
def how(request: pytest.FixtureRequest) -> tuple[str | Path, dict[str, str]]:
    """Program and environment."""
    cold = {"QMAILPY_COLD": "1"} if request.param == "ours, cold" else {}
    return (needs(NAME) if request.param == "Debian's" else BIN / NAME), environment(**cold)


def children(pid: int) -> list[str]:
    """The states of the children of pid."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0] for each in pids]


@pytest.mark.parametrize("prefix", [(), ("argv0", "bash")], ids=["foreign", "behind our own"])
def test_fghack_waits_for_a_process_in_the_background(
    how: tuple[str | Path, dict[str, str]], prefix: tuple[str, ...]
) -> None:
    program, env = how
    reader, writer = os.pipe()
    script = f"cat <&{reader} & exit 3"
    words = [*prefix, "bash", "-c", script]  # dash knows no descriptors above 9
    with subprocess.Popen([program, *words], stdout=subprocess.PIPE, env=env, pass_fds=[reader]) as process:
        os.close(reader)
        assert eventually(lambda: children(process.pid) == ["Z"])  # the program has ended, and fghack knows not yet
        assert process.poll() is None
        os.write(writer, b"late")
        assert process.stdout is not None
        assert process.stdout.read(4) == b"late"
        os.close(writer)
        assert process.wait(20) == 3


def test_the_program_finds_the_pipe_31_times_in_every_chain() -> None:
    facts = loaders.same_in_every_chain(NAME)
    assert facts["fds"] == dict.fromkeys(range(34), "pipe:")


def test_fghack_throws_away_what_is_written_to_the_pipe() -> None:
    script = "i=0; while [ $i -lt 300 ]; do printf '%1000s' x >&7; i=$((i+1)); done; echo done; exit 4"
    done = loaders.same_as_debians(NAME, "sh", "-c", script)
    assert (done.stdout, done.stderr, done.returncode) == (b"done\n", b"", 4)


@pytest.mark.parametrize(
    "words",
    [
        (), ("./missing",), ("missing",), ("/",), ("true",), ("sh", "-c", "exit 7"), ("sh", "-c", "exit 255"),
        ("sh", "-c", "kill -TERM $$"), ("sh", "-c", "kill -KILL $$"), ("sh", "-c", "ulimit -c 0; kill -ABRT $$"),
        ("cat",),
    ],
)  # fmt: skip
def test_fghack_says_and_ends_as_debians(words: tuple[str, ...]) -> None:
    loaders.same_as_debians(NAME, *words, input=b"text")


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("trap '' CHLD", b"wait failed: no child processes"),
        ("ulimit -n 4", b"unable to create pipe: process cannot open more files"),
    ],
)
def test_fghack_says_what_failed_as_debians(before: str, text: bytes) -> None:
    shell = ("bash", "-c", f'{before}; exec "$0" "$@"')  # dash does not ignore SIGCHLD
    done = loaders.same_as_debians(NAME, "true", before=shell)
    assert (done.stderr, done.returncode) == (b"fghack: fatal: %s\n" % text, 111)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without processes: run the tests as root")
def test_fghack_says_that_there_can_be_no_process_as_debians() -> None:
    nobody = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
    done = loaders.same_as_debians(NAME, "true", before=(*nobody, "sh", "-c", 'ulimit -p 1; exec "$0" "$@"'))
    assert (done.stderr, done.returncode) == (b"fghack: fatal: unable to fork: temporary failure\n", 111)


def test_where_descriptors_are_few_all_are_taken_as_by_debians() -> None:
    """So few that the program's own libraries cannot be opened."""
    shell = ("sh", "-c", 'ulimit -n 8; exec "$0" "$@"')
    assert loaders.same_as_debians(NAME, "cat", before=shell).returncode == 127
