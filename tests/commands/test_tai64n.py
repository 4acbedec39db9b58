"""tai64n: Debian's, but for the time in the labels."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.commands import filters
from tests.helpers import BIN, needs, run

LABEL = re.compile(rb"(?m)^@([0-9a-f]{16})([0-9a-f]{8}) ")


@pytest.fixture(params=["ours", "Debian's"])
def tai64n(request: pytest.FixtureRequest) -> str | Path:
    return BIN / "tai64n" if request.param == "ours" else needs("tai64n")


def seconds(output: bytes) -> list[float]:
    return [int(found[1], 16) - (1 << 62) - 10 + int(found[2], 16) / 1e9 for found in LABEL.finditer(output)]


def test_each_line_has_the_time_in_front(tai64n: str | Path) -> None:
    before = time.time()
    result = run([tai64n], b"one\n\n@two\npartial")
    assert LABEL.sub(b"LABEL ", result.stdout) == b"LABEL one\nLABEL \nLABEL @two\nLABEL partial"
    assert all(before - 0.001 <= second <= time.time() for second in seconds(result.stdout))
    assert (result.stderr, result.returncode) == (b"", 0)


@settings(max_examples=20)
@given(text=st.lists(st.sampled_from([b"\n", b"a", b"\r", b"\0\xff", b"x" * 5000]), max_size=40).map(b"".join))
def test_lines_are_labelled_as_debians_labels_them(text: bytes) -> None:
    ours, debians = (run([program], text) for program in (BIN / "tai64n", needs("tai64n")))
    assert LABEL.sub(b"@ ", ours.stdout) == LABEL.sub(b"@ ", debians.stdout)
    assert (ours.returncode, ours.stderr) == (debians.returncode, debians.stderr) == (0, b"")


def test_pieces_of_any_size_give_the_same(tai64n: str | Path) -> None:
    output, code = filters.fed_in_pieces(tai64n, filters.SAMPLE)
    assert LABEL.sub(b"", output) == filters.SAMPLE
    assert len(seconds(output)) == filters.SAMPLE.count(b"\n") + 1
    assert seconds(output) == sorted(seconds(output))
    assert code == 0


def test_each_line_is_passed_on_at_once_with_the_time_of_its_first_byte(tai64n: str | Path) -> None:
    size = len(b"@") + 24 + len(b" ")

    def answered(piece: bytes, answer: bytes) -> None:
        filters.answers(["sh", "-c", f'"$0" | stdbuf -o0 cut -c{size + 1}-', tai64n], [piece], [answer])

    answered(b"one\n", b"one\n")
    answered(b"one\ntwo\n", b"one\ntwo\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", ">/dev/full"])
def test_what_cannot_be_read_or_written_is_111_without_a_word(tai64n: str | Path, closed: str) -> None:
    result = run(["sh", "-c", f'exec "$0" {closed}', tai64n], b"line\n")
    assert (result.stdout, result.stderr, result.returncode) == (b"", b"", 111)


def test_it_ends_as_debians_when_nobody_reads_its_output() -> None:
    ours, debians = (
        filters.ended_without_reader(program, filters.SAMPLE) for program in (BIN / "tai64n", needs("tai64n"))
    )
    assert ours == debians
