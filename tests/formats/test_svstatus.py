"""supervise/status and supervise/child: any bytes are read, what is written is read again, and a status is described
in the words of Debian's svstat."""

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmailpy.formats import svstatus, tai64n
from qmailpy.formats.svstatus import DOWN, ONCE, UP, Child, Status
from tests.commands.supervised import MadeUp
from tests.helpers import needs, run

SECOND = tai64n.SECOND
NOW = 1_795_000_000 * SECOND

EXAMPLE = bytes.fromhex("40000000 6b036987 28f4b7e4 f24e0000 00 75")  # written by the original

PIDS = st.one_of(st.just(0), st.integers(0, 2**32 - 1))
WORDS = st.binary(min_size=1, max_size=20).filter(
    lambda word: len(word.split()) == 1 and not word[:1].isspace() and not word[-1:].isspace()
)


def described(status: Status, normally_up: bool = True, now: int = NOW) -> bytes:
    return svstatus.describe(status, now, normally_up)


def test_the_status_of_the_original() -> None:
    status = svstatus.parse(EXAMPLE)
    assert status is not None
    assert tai64n.label(status.when) == b"@400000006b03698728f4b7e4"
    assert (status.pid, status.paused, status.want) == (20210, False, UP)
    assert svstatus.pack(status) == EXAMPLE


@pytest.mark.parametrize("length", range(svstatus.SIZE))
def test_a_short_status_is_none(length: int) -> None:
    assert svstatus.parse(EXAMPLE[:length]) is None


def test_what_encore_appends_is_ignored() -> None:
    status = svstatus.parse(EXAMPLE + b"\x03\0" + bytes(20))
    assert status is not None
    assert svstatus.pack(status) == EXAMPLE


@pytest.mark.parametrize(
    ("pid", "paused", "want", "normally_up", "words"),
    [
        (7, False, UP, True, b"up (pid 7) 5 seconds"),
        (7, False, UP, False, b"up (pid 7) 5 seconds, normally down"),
        (7, True, DOWN, False, b"up (pid 7) 5 seconds, normally down, paused, want down"),
        (7, False, ONCE, True, b"up (pid 7) 5 seconds"),
        (0, False, DOWN, False, b"down 5 seconds"),
        (0, False, DOWN, True, b"down 5 seconds, normally up"),
        (0, True, UP, True, b"down 5 seconds, normally up, want up"),
        (0, False, UP, False, b"down 5 seconds, want up"),
        (0, False, ONCE, False, b"down 5 seconds"),
        (0, False, b"?", False, b"down 5 seconds"),
    ],
)
def test_a_status_in_words(pid: int, paused: bool, want: bytes, normally_up: bool, words: bytes) -> None:
    assert described(Status(NOW - 5 * SECOND, pid, paused, want), normally_up) == words


@pytest.mark.parametrize(
    ("when", "now", "words"),
    [
        (NOW + SECOND - 1, NOW + SECOND, b"down 1 seconds"),  # seconds of the clock, not of the time between
        (NOW, NOW + SECOND - 1, b"down 0 seconds"),
        (NOW + 100 * SECOND, NOW, b"down 0 seconds"),
    ],
)
def test_seconds_are_whole_and_never_negative(when: int, now: int, words: bytes) -> None:
    assert described(Status(when, 0, False, ONCE), False, now) == words


def test_who_is_down_is_not_paused() -> None:
    assert svstatus.pack(Status(NOW, 0, True, UP))[16] == 0
    assert svstatus.pack(Status(NOW, 1, True, UP))[16] == 1


@given(st.binary(max_size=45))
def test_any_bytes_are_read_as_a_status(text: bytes) -> None:
    status = svstatus.parse(text)
    assert (status is None) == (len(text) < svstatus.SIZE)
    if status is not None:
        described(status)


@given(st.integers(0, 2**60), PIDS, st.booleans(), st.binary(min_size=1, max_size=1))
def test_a_status_that_is_written_is_read_again(when: int, pid: int, paused: bool, want: bytes) -> None:
    status = svstatus.parse(svstatus.pack(Status(when, pid, paused, want)))
    assert status is not None
    assert (status.when, status.pid, status.paused, status.want) == (when, pid, paused and pid != 0, want)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeUp]:
    with MadeUp(tmp_path_factory.mktemp("services") / "x") as made_up:
        yield made_up


def debians(service: MadeUp, text: bytes, normally_up: bool) -> bytes:
    down = service.folder / "down"
    down.unlink(missing_ok=True) if normally_up else down.touch()
    service.write(text)
    return run([needs("svstat"), "x"], cwd=service.folder.parent).stdout.removeprefix(b"x: ").removesuffix(b"\n")


SECONDS_OF_TAI = st.one_of(st.integers(0, 2**64 - 1), st.integers(-(2**31), 2**31).map(lambda s: (1 << 62) + 10 + s))


@given(
    SECONDS_OF_TAI,
    st.integers(0, SECOND - 1),
    PIDS,
    st.binary(min_size=1, max_size=1),
    st.one_of(st.sampled_from([UP, DOWN, ONCE]), st.binary(min_size=1, max_size=30)),
    st.booleans(),
)
@example(2**64 - 1, 0, 2**32 - 1, b"\x02", b"u\x03\0", True)
@example(0, SECOND - 1, 0, b"\1", b"d", False)
@example((1 << 61) + 12345, 0, 0, b"\0", b"d", False)
@example((1 << 62) - (1 << 52) + 1, 0, 0, b"\0", b"d", False)
def test_a_status_is_described_as_by_debians_svstat(
    service: MadeUp, seconds: int, nanoseconds: int, pid: int, paused: bytes, want: bytes, normally_up: bool
) -> None:
    packed = seconds.to_bytes(8, "big") + nanoseconds.to_bytes(4, "big") + pid.to_bytes(4, "little") + paused + want
    status = svstatus.parse(packed)
    assert status is not None
    before = time.time_ns()
    theirs = debians(service, packed, normally_up)
    times = (before - SECOND, before, time.time_ns())  # time(2) may lag behind
    ours = [described(status, normally_up, now) for now in times]
    if seconds > (1 << 62) - (1 << 52):
        assert theirs in ours
    else:  # the original counts in a double, and rounds what is longer than the age of the universe
        number = re.compile(rb"\d+ seconds")
        assert number.sub(b"", theirs) == number.sub(b"", ours[0])


@given(st.binary(max_size=svstatus.SIZE - 1))
def test_a_short_status_has_no_words_for_debians_svstat_either(service: MadeUp, text: bytes) -> None:
    assert debians(service, text, True) == b"unable to read supervise/status: bad format"


def child(text: bytes) -> tuple[bytes, int, int, bytes] | None:
    found = svstatus.parse_child(text)
    return None if found is None else (found.script, found.pid, found.started, found.boot)


@given(WORDS, st.integers(0, 2**32 - 1), st.integers(0, 2**62), WORDS)
def test_a_child_that_is_written_is_read_again(script: bytes, pid: int, started: int, boot: bytes) -> None:
    text = svstatus.pack_child(Child(script, pid, started, boot))
    assert len(text) == svstatus.CHILD_SIZE
    assert child(text) == (script, pid, started, boot)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"run 7 100 boot",
        b"run 7 100 boot\nrun 8 100 boot\n",
        b"run 7 100\n",
        b"run 7 100 boot more\n",
        b"run -7 100 boot\n",
        b"run 7 1.5 boot\n",
        b"run 7 100 boot\nrun",
        b"run 7 " + b"1" * 5000 + b" boot\n",
        b"run " + b"1" * 5000 + b" 7 boot\n",
    ],
)
def test_what_is_no_child(text: bytes) -> None:
    assert child(text) is None


@given(st.one_of(st.binary(), st.lists(st.sampled_from([b"run", b"7", b" ", b"\n", b"-", b"\xb2"])).map(b"".join)))
def test_any_bytes_are_read_as_a_child(text: bytes) -> None:
    svstatus.parse_child(text)
