"""qmail-clean: each request has its answer, and removes what it names, as the original."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.commands import qmail_clean
from tests.helpers import BIN
from tests.queuehomes import BOTH, QueueHome, needs_originals, program, queue_home

__all__ = ["queue_home"]

OURS = BIN / "qmail-clean"
REQUESTS = st.lists(
    st.sampled_from([b"foop/", b"todo/", b"todoX", b"todo", b"foo/", b"1", b"12", b"a", b"/", b"\xff", b"0" * 90]),
    max_size=4,
).map(b"".join)
WELL_FORMED = st.tuples(st.sampled_from([b"foop/", b"todo/", b"todoX", b"mess/", b"foopX"]), st.integers(0)).map(
    lambda pair: pair[0] + b"%d" % pair[1]
)


def clean(which: str, home: QueueHome, requests: bytes) -> bytes:
    done = subprocess.run(
        program(which, "qmail-clean", home),
        input=requests,
        capture_output=True,
        env=home.env(),
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def fill(home: QueueHome, number: int) -> None:
    for name in (f"mess/{number % 23}/{number}", f"intd/{number}", f"todo/{number}"):
        (home.queue / name).touch()


@BOTH
def test_todo_removes_intd_and_todo_and_foop_intd_and_mess(which: str, queue_home: QueueHome) -> None:
    for number in (100, 200):
        fill(queue_home, number)
    assert clean(which, queue_home, b"todo/100\0foop/200\0") == b"++"
    assert queue_home.files() == {f"mess/{100 % 23}/100", "todo/200"}


@BOTH
def test_what_is_not_there_is_removed_already(which: str, queue_home: QueueHome) -> None:
    assert clean(which, queue_home, b"todo/100\0foop/100\0") == b"++"


@BOTH
def test_what_cannot_be_removed_is_told_and_ends_the_request(which: str, queue_home: QueueHome) -> None:
    argv_made = program(which, "qmail-clean", queue_home)
    (queue_home.queue / "intd/100").mkdir()
    (queue_home.queue / "todo/100").touch()
    done = subprocess.run(argv_made, input=b"todo/100\0", capture_output=True, env=queue_home.env(), check=True)
    assert done.stdout == b"!"
    assert queue_home.files() == {"todo/100"}


@BOTH
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"", b"x"),
        (b"foop/", b"x"),
        (b"foop/1", b"+"),
        (b"todo/1", b"+"),
        (b"todoX1", b"+"),
        (b"foopX1", b"x"),
        (b"mess/1", b"x"),
        (b"foop/" + b"1" * 94, b"+"),
        (b"foop/" + b"1" * 95, b"x"),
        (b"foop/" + b"1" * 9000, b"x"),
    ],
    ids=range(10),
)
def test_answers(which: str, queue_home: QueueHome, request_: bytes, answer: bytes) -> None:
    assert clean(which, queue_home, request_ + b"\0") == answer


@pytest.mark.parametrize("number", [b"1a", b"a1", b"-1", b"../x", b"todo/1"])
def test_what_is_no_number_has_one_answer_and_removes_nothing(queue_home: QueueHome, number: bytes) -> None:
    """The original answers once for each byte that is no digit, and then does what the digits in front of it say."""
    fill(queue_home, 1)
    assert clean("ours", queue_home, b"foop/%s\0" % number) == b"x"
    assert len(queue_home.files()) == 3


@BOTH
def test_a_request_that_does_not_end_has_no_answer(which: str, queue_home: QueueHome) -> None:
    fill(queue_home, 100)
    assert clean(which, queue_home, b"foop/1\0todo/100") == b"+"
    assert len(queue_home.files()) == 3


@needs_originals
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(WELL_FORMED, max_size=8))
def test_any_requests_are_answered_as_by_the_original(queue_home: QueueHome, requests: list[bytes]) -> None:
    text = b"".join(request + b"\0" for request in requests)
    ours, theirs = (clean(which, queue_home, text) for which in ("ours", "the original"))
    assert ours == theirs
    assert len(ours) == len(requests)


@given(request=st.one_of(st.binary(), REQUESTS))
def test_a_request_names_a_number_or_is_none(request: bytes) -> None:
    parsed = qmail_clean.parse(request)
    assert parsed is None or (parsed[0] in (b"foop", b"todo") and request[5:].isdigit())


def old(path: Path) -> None:
    path.touch()
    os.utime(path, (path.stat().st_mtime - 129601,) * 2)


@BOTH
def test_pid_is_cleaned_at_first_and_every_31_requests(which: str, queue_home: QueueHome) -> None:
    argv = program(which, "qmail-clean", queue_home)
    old(queue_home.queue / "pid/first")
    (queue_home.queue / "pid/young").touch()
    seen = []
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=queue_home.env(), bufsize=0
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(64):
            process.stdin.write(b"todo/1\0")
            assert process.stdout.read(1) == b"+"
            seen.append("pid/next" in queue_home.files())
            if not seen[-1]:
                old(queue_home.queue / "pid/next")
        process.stdin.close()
    assert "pid/first" not in queue_home.files()
    assert "pid/young" in queue_home.files()
    gone = [number for number, there in enumerate(seen) if not there]
    assert gone in ([0, 31, 62], [0, 30, 61], [0, 31, 61], [0, 30, 62])  # before or after the answer was read


def test_split_todo_is_found_in_the_queue(tmp_path: Path) -> None:
    home = QueueHome(tmp_path / "home", split_todo=True)
    for name in (f"todo/{100 % 23}/100", f"intd/{100 % 23}/100", f"mess/{100 % 23}/100"):
        (home.queue / name).touch()
    assert clean("ours", home, b"todo/100\0") == b"+"
    assert home.files() == {f"mess/{100 % 23}/100"}


def test_an_answer_that_nobody_reads_ends_it(queue_home: QueueHome) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([OURS], input=b"foop/1\0", stdout=writer, env=queue_home.env(), check=False)
    os.close(writer)
    assert done.returncode == 100


def test_without_a_queue_it_ends(tmp_path: Path) -> None:
    home = QueueHome(tmp_path / "home")
    (home.queue / "mess").rename(tmp_path / "mess")
    assert subprocess.run([OURS], env=home.env(), stdin=subprocess.DEVNULL, check=False).returncode == 111
    home.queue.rename(tmp_path / "elsewhere")
    assert subprocess.run([OURS], env=home.env(), stdin=subprocess.DEVNULL, check=False).returncode == 111
