"""fixcrio: what the program and its client get is what they get from Debian's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.commands import copiers, filters
from tests.helpers import BIN, environment, needs, run


@pytest.fixture(params=["ours", "Debian's"])
def fixcrio(request: pytest.FixtureRequest) -> str | Path:
    return BIN / "fixcrio" if request.param == "ours" else needs("fixcrio")


def test_fixcrio_fixes_what_the_program_reads(fixcrio: str | Path) -> None:
    result = run([fixcrio, "sh", "-c", "od -c >&2"], b"a\nb\r\n\n\r\r\nc\r")
    assert result.stderr == run(["od", "-c"], b"a\r\nb\r\n\r\n\r\r\nc\r").stdout
    assert result.stdout == b""


def test_fixcrio_fixes_what_the_program_writes(fixcrio: str | Path) -> None:
    result = run([fixcrio, "printf", r"a\nb\r\n\n\r\r\nc\r"])
    assert (result.stdout, result.stderr, result.returncode) == (b"a\r\nb\r\n\r\n\r\r\nc\r", b"", 0)


def test_fixcrio_gives_what_debians_gives() -> None:
    copiers.same_as_debians("fixcrio", "cat", input=filters.SAMPLE)


@settings(max_examples=10)
@given(text=st.lists(st.sampled_from([b"\r", b"\n", b"a", b"\0"]), max_size=2000).map(b"".join))
def test_fixcrio_gives_what_debians_gives_for_any_input(text: bytes) -> None:
    copiers.same_as_debians("fixcrio", "cat", input=text)


def test_fixcrio_passes_each_line_on_at_once(fixcrio: str | Path) -> None:
    program = 'while read -r line; do echo "got $line"; done'  # read keeps the CR
    filters.answers([fixcrio, "sh", "-c", program], [b"one\n", b"two\r\n"], [b"got one\r\n", b"got two\r\n"])


@pytest.mark.parametrize("words", [["sh", "-c", "exit 7"], ["sh", "-c", "kill -TERM $$"], ["./missing"], []])
def test_fixcrio_ends_as_the_program_ends(words: list[str]) -> None:
    copiers.same_as_debians("fixcrio", *words)


def test_fixcrio_says_its_usage() -> None:
    result = run([BIN / "fixcrio"])
    assert (result.stderr, result.returncode) == (b"fixcrio: usage: fixcrio program [ arg ... ]\n", 100)


def test_fixcrio_names_a_program_that_it_cannot_run() -> None:
    result = run([BIN / "fixcrio", "./missing"])
    assert result.stderr == b"fixcrio: fatal: unable to run ./missing: file does not exist\n"
    assert result.returncode == 111


def test_fixcrio_leaves_no_descriptor_to_the_program(fixcrio: str | Path) -> None:
    assert run([fixcrio, sys.executable, "-ISc", copiers.LIST_DESCRIPTORS]).stdout == b"[0, 1, 2, 3]\r\n"


def test_fixcrio_holds_no_descriptor_of_an_earlier_step() -> None:
    assert copiers.closed_by_everybody_but_the_program("fixcrio")


def test_fixcrio_is_not_stuck_when_the_program_writes_before_it_reads() -> None:
    script = "import os,sys; os.write(1, b'w' * 1000000); print(len(sys.stdin.buffer.read()))"
    result = run([BIN / "fixcrio", sys.executable, "-ISc", script], b"r" * 1000000)
    assert result.stdout == b"w" * 1000000 + b"1000000\r\n"


def test_fixcrio_ends_the_program_of_a_client_that_is_gone() -> None:
    """The copier ends when it cannot write; then the program gets SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [BIN / "fixcrio", "yes"], input=b"", stdout=writer, env=environment(), check=False, timeout=20
    )
    os.close(writer)
    assert ended.returncode == -signal.SIGPIPE
