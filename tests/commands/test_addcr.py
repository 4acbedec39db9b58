"""addcr: the same bytes and exit codes as Debian's."""

import signal
from pathlib import Path

import pytest

from tests.commands import filters
from tests.helpers import BIN, needs, run


@pytest.fixture(params=["ours", "Debian's"])
def addcr(request: pytest.FixtureRequest) -> str | Path:
    return BIN / "addcr" if request.param == "ours" else needs("addcr")


def test_addcr_gives_what_debians_gives() -> None:
    ours = run([BIN / "addcr"], filters.SAMPLE)
    assert (ours.stdout, ours.stderr, ours.returncode) == (run([needs("addcr")], filters.SAMPLE).stdout, b"", 0)


def test_addcr_does_not_care_how_its_input_is_cut() -> None:
    assert filters.fed_in_pieces(BIN / "addcr", filters.SAMPLE) == (filters.SAMPLE.replace(b"\n", b"\r\n"), 0)


def test_addcr_writes_before_it_waits(addcr: str | Path) -> None:
    filters.answers([addcr], [b"one", b"\n", b"two\r\n"], [b"one", b"\r\n", b"two\r\r\n"])


def test_addcr_ignores_arguments(addcr: str | Path) -> None:
    assert run([addcr, "-x", "file"], b"\n").stdout == b"\r\n"


def test_addcr_says_nothing_about_an_input_that_cannot_be_read(addcr: str | Path) -> None:
    result = run(["sh", "-c", 'exec "$0" <&-', addcr])
    assert (result.stdout, result.stderr, result.returncode) == (b"", b"", 111)


def test_addcr_says_nothing_about_an_output_that_cannot_be_written(addcr: str | Path) -> None:
    result = run(["sh", "-c", 'exec "$0" >&-', addcr], b"text\n")
    assert (result.stdout, result.stderr, result.returncode) == (b"", b"", 111)


def test_addcr_dies_of_sigpipe_when_nobody_reads(addcr: str | Path) -> None:
    assert filters.ended_without_reader(addcr, b"text\n") == -signal.SIGPIPE
