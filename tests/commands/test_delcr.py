"""delcr: the same bytes and exit codes as Debian's."""

import signal
from pathlib import Path

import pytest

from tests.commands import filters
from tests.helpers import BIN, needs, run


@pytest.fixture(params=["ours", "Debian's"])
def delcr(request: pytest.FixtureRequest) -> str | Path:
    return BIN / "delcr" if request.param == "ours" else needs("delcr")


def test_delcr_gives_what_debians_gives() -> None:
    ours = run([BIN / "delcr"], filters.SAMPLE)
    assert (ours.stdout, ours.stderr, ours.returncode) == (run([needs("delcr")], filters.SAMPLE).stdout, b"", 0)


def test_delcr_does_not_care_how_its_input_is_cut() -> None:
    assert filters.fed_in_pieces(BIN / "delcr", filters.SAMPLE) == (filters.SAMPLE.replace(b"\r\n", b"\n"), 0)


def test_delcr_writes_before_it_waits(delcr: str | Path) -> None:
    filters.answers([delcr], [b"one\r", b"\n", b"\r\r\nx"], [b"one", b"\n", b"\r\nx"])


def test_delcr_keeps_a_cr_at_the_very_end(delcr: str | Path) -> None:
    assert run([delcr], b"text\r").stdout == b"text\r"


def test_delcr_ignores_arguments(delcr: str | Path) -> None:
    assert run([delcr, "-x", "file"], b"\r\n").stdout == b"\n"


def test_delcr_says_nothing_about_an_input_that_cannot_be_read(delcr: str | Path) -> None:
    result = run(["sh", "-c", 'exec "$0" <&-', delcr])
    assert (result.stdout, result.stderr, result.returncode) == (b"", b"", 111)


def test_delcr_says_nothing_about_an_output_that_cannot_be_written(delcr: str | Path) -> None:
    result = run(["sh", "-c", 'exec "$0" >&-', delcr], b"text\n")
    assert (result.stdout, result.stderr, result.returncode) == (b"", b"", 111)


def test_delcr_dies_of_sigpipe_when_nobody_reads(delcr: str | Path) -> None:
    assert filters.ended_without_reader(delcr, b"text\n") == -signal.SIGPIPE
