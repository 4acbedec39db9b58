"""pgrphack beside Debian's, and with it in one chain."""

import os
import sys
from typing import Any

import pytest

from tests.commands import loaders
from tests.helpers import BIN, needs, run

NAME = "pgrphack"


def test_pgrphack_starts_a_session_in_every_chain() -> None:
    facts = loaders.same_in_every_chain(NAME)
    assert facts["leads its session"]
    assert facts["fds"] == {0: "pipe:", 1: "pipe:", 2: "pipe:"}


@pytest.mark.parametrize("program", [BIN / NAME, NAME], ids=["ours", "Debian's"])
def test_pgrphack_runs_the_program_also_where_it_leads_a_group_already(program: Any) -> None:
    start = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    show = "import os; print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())"
    path = needs(NAME) if program == NAME else program
    done = run([sys.executable, "-ISc", start, path, sys.executable, "-ISc", show])
    assert (done.stdout, done.stderr, done.returncode) == (b"False True\n", b"", 0)


@pytest.mark.parametrize(
    "words", [(), ("./missing",), ("missing",), ("sh", "-c", "exit 7"), ("sh", "-c", "kill -TERM $$"), ("cat",)]
)
def test_pgrphack_says_and_ends_as_debians(words: tuple[str, ...]) -> None:
    loaders.same_as_debians(NAME, *words, input=b"text")


def test_a_signal_to_the_group_of_the_program_reaches_nobody_else() -> None:
    done = run([BIN / NAME, "sh", "-c", "trap 'exit 5' TERM; kill -TERM 0; exit 6"])
    assert (done.returncode, os.getpgid(0) > 0) == (5, True)
