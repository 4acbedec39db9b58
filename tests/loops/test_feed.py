"""A program gets lines of ours and then the input, and its end is the end."""

import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, run

PROGRAM = """
import os, sys
sys.path.append(sys.argv[1])
from qmailpy.loops.feed import feed
def start(prepare):
    pid = os.fork()
    if pid == 0:
        prepare()
        os.execvp(sys.argv[2], sys.argv[2:])
    return pid
sys.exit(feed(b"prog", start, b"head\\n"))
"""


def fed(*words: str, input: bytes = b"body\n", before: str = "") -> tuple[bytes, bytes, int]:
    """Output, errors and exit code of a feed of that command; before: redirections."""
    call = [sys.executable, "-ISc", PROGRAM, str(ROOT), *words]
    done = run(["sh", "-c", f'exec "$@" {before}', "sh", *call], input)
    return done.stdout, done.stderr, done.returncode


def test_the_head_comes_before_the_input() -> None:
    assert fed("cat") == (b"head\nbody\n", b"", 0)
    big = bytes(range(256)) * 4096
    assert fed("cat", input=big)[0] == b"head\n" + big


@pytest.mark.parametrize("script", ["exit 7", "cat > /dev/null; exit 7"])
def test_the_exit_code_is_that_of_the_program_whether_it_reads_or_not(script: str) -> None:
    assert fed("sh", "-c", script, input=b"x" * 1000000) == (b"", b"", 7)


def test_a_program_that_is_killed_is_said_to_have_crashed() -> None:
    assert fed("sh", "-c", "kill -KILL $$") == (b"", b"prog: fatal: child crashed\n", 111)


def test_a_part_is_never_taken_for_the_whole(tmp_path: Path) -> None:
    """A descriptor that can only be written; the program would tell of the end of its input."""
    out = tmp_path / "out"
    done = fed("sh", "-c", f"cat > /dev/null; echo end > {out}", before=f"0> {tmp_path}/unreadable")
    assert done == (b"", b"prog: fatal: unable to read input: file descriptor not open\n", 111)
    assert not out.exists()


def test_a_closed_input_is_an_empty_one() -> None:
    assert fed("cat", before="<&-") == (b"head\n", b"", 0)


def test_the_program_has_no_other_descriptors_and_dies_of_sigpipe() -> None:
    listing = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    assert fed(sys.executable, "-ISc", listing)[0] == b"[0, 1, 2]\n"
    mask = fed("grep", "SigIgn", "/proc/self/status")[0].split()[1]
    assert int(mask, 16) & 1 << 12 == 0
