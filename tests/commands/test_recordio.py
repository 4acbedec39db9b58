"""recordio: the log and the copies are those of Debian's."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.commands import copiers, filters
from tests.helpers import BIN, environment, needs, run

SINK = ("sh", "-c", "cat >/dev/null")  # no exec: an output that is closed ends the copying
# Reads everything before it answers, so that the log has only one order.
REVERSE = ("sh", "-c", "exec tac")


@pytest.fixture(params=["ours", "Debian's"])
def recordio(request: pytest.FixtureRequest) -> str | Path:
    return BIN / "recordio" if request.param == "ours" else needs("recordio")


def test_recordio_marks_ends_of_lines_of_packets_and_of_streams(recordio: str | Path) -> None:
    result = run([recordio, "sh", "-c", "cat >/dev/null; printf '220 hello\\r\\npart'; exit 3"], b"HELO x\r\n\nQUIT")
    assert copiers.anonymous(result.stderr) == (
        b"PID < HELO x\r \nPID <  \nPID < QUIT+\nPID < [EOF]\nPID > 220 hello\r \nPID > part+\nPID > [EOF]\n"
    )
    assert (result.stdout, result.returncode) == (b"220 hello\r\npart", 3)


def test_recordio_logs_the_process_id_of_the_program(recordio: str | Path) -> None:
    result = run([recordio, "sh", "-c", "echo $$"])
    assert b"%s > %s \n" % (result.stdout.strip(), result.stdout.strip()) in result.stderr


def test_recordio_logs_and_copies_what_debians_does() -> None:
    copiers.same_as_debians("recordio", *SINK, input=filters.SAMPLE)
    copiers.same_as_debians("recordio", *REVERSE, input=filters.SAMPLE[:60000])


@settings(max_examples=10)
@given(text=st.lists(st.sampled_from([b"\r", b"\n", b"line", b"\0\xff", b"x" * 250]), max_size=50).map(b"".join))
def test_recordio_logs_what_debians_does_for_any_input(text: bytes) -> None:
    copiers.same_as_debians("recordio", *REVERSE, input=text)


def conversation(recordio: str | Path, packets: list[bytes]) -> bytes:
    """The log of a program that echoes, when the next packet is only sent after the echo of the one before."""
    with subprocess.Popen(
        [recordio, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        for packet in packets:
            os.write(child.stdin.fileno(), packet)
            echo = b""
            while len(echo) < len(packet):
                assert select.select([child.stdout], [], [], 20)[0]
                echo += os.read(child.stdout.fileno(), 65536)
            assert echo == packet
        child.stdin.close()
        return copiers.anonymous(child.stderr.read())


def test_recordio_logs_each_packet_at_once_as_debians_does() -> None:
    packets = [b"one\n", b"par", b"t", b"ial\r\n", b"\n\n", b"x" * 255, b"y" * 256, b"\n" * 256]
    ours, debians = (conversation(program, packets) for program in (BIN / "recordio", needs("recordio")))
    assert ours == debians


def test_recordio_cuts_long_packets_as_debians_does() -> None:
    def per_direction(log: bytes) -> list[list[bytes]]:
        return [[line for line in log.split(b"\n") if line.startswith(way)] for way in (b"PID <", b"PID >")]

    packets = [b"x" * 257, b"y" * 600 + b"\n", (b"z" * 100 + b"\r\n") * 30]
    ours, debians = (conversation(program, packets) for program in (BIN / "recordio", needs("recordio")))
    assert per_direction(ours)[0] == per_direction(debians)[0]
    assert max(len(line) for line in ours.split(b"\n")) == len(b"PID < ") + 256 + len(b"+")


def test_recordio_copies_on_when_nobody_reads_its_log() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    child = subprocess.run(
        [BIN / "recordio", "cat"], input=b"text", stdout=subprocess.PIPE, stderr=writer, env=environment(), check=False
    )
    os.close(writer)
    assert (child.stdout, child.returncode) == (b"text", 0)


@pytest.mark.parametrize("words", [["sh", "-c", "exit 7"], ["sh", "-c", "kill -TERM $$"], []])
def test_recordio_ends_as_the_program_ends(words: list[str]) -> None:
    ours, debians = (run([program, *words]) for program in (BIN / "recordio", needs("recordio")))
    assert ours.returncode == debians.returncode


def test_recordio_says_its_usage() -> None:
    result = run([BIN / "recordio"])
    assert (result.stderr, result.returncode) == (b"recordio: usage: recordio program [ arg ... ]\n", 100)


def test_recordio_names_a_program_that_it_cannot_run(recordio: str | Path) -> None:
    result = run([recordio, "./missing"])
    assert b"recordio: fatal: unable to run ./missing: file does not exist\n" in result.stderr
    assert result.returncode == 111


def test_recordio_leaves_no_descriptor_to_the_program(recordio: str | Path) -> None:
    assert run([recordio, sys.executable, "-ISc", copiers.LIST_DESCRIPTORS]).stdout == b"[0, 1, 2, 3]\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_recordio_gives_the_program_descriptors_0_and_1_even_where_they_were_closed(
    recordio: str | Path, closed: str
) -> None:
    """A pipe's end may then have the number that it is to be moved to."""
    script = "import os; print(os.fstat(0).st_mode >> 12, os.fstat(1).st_mode >> 12)"
    result = run(["sh", "-c", f'exec "$0" "$@" {closed}', recordio, sys.executable, "-ISc", script])
    assert b" > 1 1 \n" in result.stderr  # two pipes
    assert result.returncode == 0


def test_recordio_holds_no_descriptor_of_an_earlier_step() -> None:
    assert copiers.closed_by_everybody_but_the_program("recordio")


def test_recordio_loses_no_last_words_of_a_program_that_reads_no_more() -> None:
    """The original stops copying as soon as it cannot write to the program."""
    for _ in range(5):
        result = run([BIN / "recordio", "sh", "-c", "exec <&-; printf 'last words'"], b"x" * 200000)
        assert result.stdout == b"last words"
        assert copiers.anonymous(result.stderr).endswith(b"PID > last words+\nPID > [EOF]\n")


def test_recordio_ends_the_program_of_a_client_that_is_gone(recordio: str | Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [recordio, "yes"],
        input=b"",
        stdout=writer,
        stderr=subprocess.DEVNULL,
        env=environment(),
        check=False,
        timeout=20,
    )
    os.close(writer)
    assert ended.returncode == -signal.SIGPIPE
