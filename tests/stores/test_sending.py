"""sending: what qmail-send has on disk, after each step, after a kill at any of them, and when the system fails."""

import errno
import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.stores import queue, sending
from qmailpy.stores.sending import Reading, Spool, Trouble
from tests.queuehomes import QueueHome, queue_home
from tests.stores.test_queue import enqueue, failing, in_a_child

__all__ = ["queue_home"]

Lines = list[bytes]


def rewrite(recipient: bytes) -> tuple[int, bytes]:
    return (0, b"v-" + recipient) if recipient.startswith(b"c") else (1, recipient)


@pytest.fixture
def spool(queue_home: QueueHome) -> Iterator[Spool]:
    yield from opened(queue_home)


def opened(home: QueueHome) -> Iterator[Spool]:
    fd = queue.open_queue(os.fsencode(home.path))
    yield Spool(fd, queue.find_layout(fd))
    os.close(fd)


def take_in(spool: Spool, number: int, lines: Lines | None = None) -> list[int]:
    arrival = spool.prepare(number, rewrite, (lines if lines is not None else []).append)
    arrival.sync()
    return arrival.channels


def put(home: QueueHome, name: str, text: bytes = b"", when: int = 0) -> Path:
    path = home.queue / name
    path.write_bytes(text)
    if when:
        os.utime(path, (when, when))
    return path


def place(folder: str, number: int) -> str:
    return f"{folder}/{number % 23}/{number}"


def contents(home: QueueHome, number: int) -> dict[str, bytes]:
    found = {folder: home.queue / place(folder, number) for folder in ("info", "local", "remote")}
    return {folder: path.read_bytes() for folder, path in found.items() if path.exists()}


WHOLE = {"info": b"Fa@b\0", "local": b"Tv-c@d\0", "remote": b"Te@f\0"}


def test_a_message_gets_its_info_and_its_lists(queue_home: QueueHome, spool: Spool) -> None:
    number = enqueue(queue_home.path)
    lines: Lines = []
    assert take_in(spool, number, lines) == [0, 1]
    assert contents(queue_home, number) == WHOLE
    size = (queue_home.queue / place("mess", number)).stat().st_size
    assert lines == [
        b"new msg %d\n" % number,
        b"info msg %d: bytes %d from <a@b> qp %d uid %d\n" % (number, size, os.getpid(), os.getuid()),
    ]
    for folder in WHOLE:
        assert (queue_home.queue / place(folder, number)).stat().st_mode & 0o777 == 0o600


def test_what_a_crash_has_left_is_made_again(queue_home: QueueHome, spool: Spool) -> None:
    number = enqueue(queue_home.path, recipients=(b"e@f",))
    for folder in ("info", "local", "remote"):
        put(queue_home, place(folder, number), b"old")
    assert take_in(spool, number) == [1]
    assert contents(queue_home, number) == {"info": b"Fa@b\0", "remote": b"Te@f\0"}


def test_each_file_is_synced_in_its_order(queue_home: QueueHome, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    number = enqueue(queue_home.path, recipients=(b"e@f", b"c@d"))
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    take_in(spool, number)
    assert synced == [(queue_home.queue / place(folder, number)).stat().st_ino for folder in WHOLE]


def test_many_recipients_take_no_memory_to_speak_of(queue_home: QueueHome, spool: Spool) -> None:
    recipients = tuple(b"%s%d@x.example" % (b"ce"[n % 2 : n % 2 + 1], n) for n in range(30000))
    number = enqueue(queue_home.path, recipients=recipients)
    take_in(spool, number)
    assert contents(queue_home, number)["local"] == b"".join(b"Tv-%s\0" % one for one in recipients[::2])
    assert contents(queue_home, number)["remote"] == b"".join(b"T%s\0" % one for one in recipients[1::2])


@pytest.mark.parametrize(
    ("envelope", "trouble"),
    [(b"u1\0Fa@b\0X\0", b"unknown record type in todo/%d"), (b"\0", b"unknown record type in todo/%d")],
)
def test_a_strange_envelope_is_left_alone(queue_home: QueueHome, spool: Spool, envelope: bytes, trouble: bytes) -> None:
    number = enqueue(queue_home.path)
    put(queue_home, f"todo/{number}", envelope)
    with pytest.raises(Trouble) as raised:
        take_in(spool, number)
    assert raised.value.args[0] == trouble % number
    assert not spool.remaining(number + 23)


def test_what_has_no_nul_at_its_end_is_no_record(queue_home: QueueHome, spool: Spool) -> None:
    number = enqueue(queue_home.path)
    put(queue_home, f"todo/{number}", b"u1\0p2\0Fa@b\0Te@f\0Tc@d")
    assert take_in(spool, number) == [1]


@pytest.mark.parametrize(
    ("call", "at", "code", "trouble"),
    [
        ("open", 1, errno.EACCES, b"unable to open todo/%(n)d"),
        ("stat", 1, errno.EIO, b"unable to stat mess/%(s)d/%(n)d"),
        ("unlink", 1, errno.EIO, b"unable to unlink local/%(s)d/%(n)d"),
        ("unlink", 2, errno.EIO, b"unable to unlink remote/%(s)d/%(n)d"),
        ("unlink", 3, errno.EROFS, b"unable to unlink info/%(s)d/%(n)d"),
        ("open", 2, errno.ENOSPC, b"unable to create info/%(s)d/%(n)d"),
        ("open", 3, errno.ENOSPC, b"unable to create local/%(s)d/%(n)d"),
        ("open", 4, errno.ENOSPC, b"unable to create remote/%(s)d/%(n)d"),
        ("read", 1, errno.EIO, b"trouble reading todo/%(n)d"),
        ("write", 1, errno.ENOSPC, b"trouble writing to info/%(s)d/%(n)d"),
        ("write", 2, errno.ENOSPC, b"trouble writing to local/%(s)d/%(n)d"),
        ("write", 3, errno.ENOSPC, b"trouble writing to remote/%(s)d/%(n)d"),
        ("fsync", 1, errno.EIO, b"trouble fsyncing info/%(s)d/%(n)d"),
        ("fsync", 2, errno.EIO, b"trouble fsyncing local/%(s)d/%(n)d"),
        ("fsync", 3, errno.EIO, b"trouble fsyncing remote/%(s)d/%(n)d"),
    ],
)
def test_each_failure_is_told_and_the_next_try_makes_all_again(
    queue_home: QueueHome, spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str, at: int, code: int, trouble: bytes
) -> None:
    number = enqueue(queue_home.path)
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, call, failing(call, at, code))
    with pytest.raises(Trouble) as raised:
        take_in(spool, number)
    monkeypatch.undo()
    assert raised.value.args[0] == trouble % {b"n": number, b"s": number % 23}
    assert (queue_home.queue / f"todo/{number}").exists()
    assert len(os.listdir("/proc/self/fd")) == before
    take_in(spool, number)
    assert contents(queue_home, number) == WHOLE


def killed(act: Callable[[], object], kill_at: int, after: bool) -> bool:
    """Whether a child that does it is killed at that call."""
    status = in_a_child(act, kill_at, after)
    assert status in (0, signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_call_of_preprocessing_loses_nothing(queue_home: QueueHome, spool: Spool, after: bool) -> None:
    kills = 0
    for kill_at in range(1, 20):
        number = enqueue(queue_home.path)
        put(queue_home, place("remote", number), b"Tstale@x\0")
        if killed(functools.partial(take_in, spool, number), kill_at, after):
            kills += 1
            assert survey(spool) == (set(), set())  # while todo/N is there nobody takes it for preprocessed
            assert (queue_home.queue / f"todo/{number}").exists()
            take_in(spool, number)
        assert contents(queue_home, number) == WHOLE
        queue_home.empty()
    assert kills == 13 - 2 * after  # of what is removed two files are not there


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_while_a_failure_is_noted_leaves_what_was_there(
    queue_home: QueueHome, spool: Spool, after: bool
) -> None:
    spool.append_bounce(5, b"first\n\n")
    for kill_at in range(1, 9):
        if not killed(lambda: spool.append_bounce(5, b"second\n\n"), kill_at, after):
            break
        assert (queue_home.queue / "bounce/5").read_bytes() in (b"first\n\n", b"first\n\nsecond\n\n")
        put(queue_home, "bounce/5", b"first\n\n")
    assert kill_at == 4  # open, write, fsync


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failure_is_noted_whole_or_not_at_all(
    queue_home: QueueHome, spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spool.append_bounce(5, b"first\n\n")
    monkeypatch.setattr(os, call, failing(call, 1, errno.ENOSPC))
    with pytest.raises(OSError, match=r"\[Errno "):
        spool.append_bounce(5, b"second\n\n")
    monkeypatch.undo()
    assert (queue_home.queue / "bounce/5").read_bytes() == b"first\n\n"


def test_a_full_disk_in_the_middle_of_a_text_takes_nothing_back(
    queue_home: QueueHome, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]) if len(data) > 5 else _no_room())
    with pytest.raises(OSError, match=r"\[Errno "):
        spool.append_bounce(5, b"1234567")
    monkeypatch.undo()
    assert (queue_home.queue / "bounce/5").read_bytes() == b""


def _no_room() -> int:
    raise OSError(errno.ENOSPC, "")


def test_a_mark_is_one_byte(queue_home: QueueHome, spool: Spool) -> None:
    path = put(queue_home, place("local", 5), b"Ta@b\0Tc@d\0")
    spool.mark(0, 5, 5)
    assert path.read_bytes() == b"Ta@b\0Dc@d\0"
    path.unlink()
    with pytest.raises(Trouble, match="message will be delivered twice"):
        spool.mark(0, 5, 5)


@given(
    records=st.lists(st.tuples(st.sampled_from([b"T", b"D", b"X"]), st.binary(max_size=9))),
    tail=st.binary(max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("block", [1, 5, 65536])
def test_records_are_read_with_their_positions(
    queue_home: QueueHome, block: int, records: list[tuple[bytes, bytes]], tail: bytes
) -> None:
    whole = [letter + address.replace(b"\0", b"") for letter, address in records]
    text = b"".join(record + b"\0" for record in whole)
    path = put(queue_home, place("local", 5), text + tail.replace(b"\0", b""))
    before, sending.BLOCK = sending.BLOCK, block
    try:
        reading = Reading(os.open(path, os.O_RDONLY))
        found = []
        while record := reading.next():
            letter, position, address = record
            assert text[position : position + 1] == letter
            found.append(letter + address)
        assert reading.next() is None
        reading.close()
    finally:
        sending.BLOCK = before
    assert found == whole


def survey(spool: Spool, flushed: int = 0) -> tuple[set[tuple[int, int, int]], set[int]]:
    waiting: set[tuple[int, int, int]] = set()
    done: set[int] = set()

    def unknown(channel: int, number: int) -> None:
        raise AssertionError

    spool.survey(flushed, lambda *found: waiting.add(found), done.add, unknown)
    return waiting, done


@pytest.mark.parametrize("split_todo", [False, True])
def test_a_survey_finds_each_list_at_its_time(tmp_path: Path, split_todo: bool) -> None:
    home = QueueHome(tmp_path / "home", split_todo=split_todo)
    for number in (1, 2, 3, 30):
        put(home, place("info", number), b"Fx\0")
    put(home, place("local", 1), when=100)
    put(home, place("remote", 1), when=200)
    put(home, place("remote", 30), when=300)
    put(home, place("local", 4), when=400)  # without info
    put(home, place("local", 3), when=500)
    put(home, f"todo/{3 % 23}/3" if split_todo else "todo/3")
    put(home, "info/0/x")
    put(home, "info/0/-5")
    for spool in opened(home):
        assert survey(spool) == ({(0, 100, 1), (1, 200, 1), (1, 300, 30)}, {2})
        assert list(spool.arrived()) == [3]


def test_after_a_flush_a_list_is_due_unless_it_has_been_put_off_since(queue_home: QueueHome, spool: Spool) -> None:
    put(queue_home, place("info", 1))
    changed = int(put(queue_home, place("local", 1), when=1 << 32).stat().st_ctime)
    assert survey(spool, changed + 5) == ({(0, changed + 5, 1)}, set())
    assert survey(spool, changed - 5) == ({(0, 1 << 32, 1)}, set())
    os.utime(queue_home.queue / place("local", 1), (100, 100))
    assert survey(spool, changed + 5) == ({(0, 100, 1)}, set())


def test_a_folder_that_cannot_be_read_is_named(queue_home: QueueHome, spool: Spool) -> None:
    (queue_home.queue / "info/7").rmdir()
    with pytest.raises(queue.Unlisted) as raised:
        survey(spool)
    assert raised.value.name == b"info/7"


def test_garbage_is_what_nobody_has_finished(queue_home: QueueHome, spool: Spool) -> None:
    numbers = [enqueue(queue_home.path) for _ in range(4)]
    for number in numbers:
        os.utime(queue_home.queue / place("mess", number), (1000, 5000))
    one, new, preprocessed, queued = numbers
    for number in (one, preprocessed):
        (queue_home.queue / f"todo/{number}").unlink()
    put(queue_home, place("info", preprocessed))
    os.utime(queue_home.queue / place("mess", new), (2000, 2000))
    (queue_home.queue / f"todo/{new}").unlink()
    assert queued in spool.arrived()

    def found(now: int) -> set[int]:
        return set(spool.garbage(now)) - {-1}

    assert found(1000 + 129600) == set()
    assert found(1000 + 129601) == {one}
    assert found(2000 + 129601) == {one, new}


def test_info_is_sender_birth_and_mode(queue_home: QueueHome, spool: Spool) -> None:
    put(queue_home, place("info", 5), b"Fa@b\0rest", when=12345).chmod(0o700)
    sender, birth, mode = spool.read_info(5)
    assert (sender, birth, mode & 0o7777) == (b"a@b", 12345, 0o700)
    put(queue_home, place("info", 5), b"F" + b"x" * 9000 + b"\0")
    assert spool.read_info(5)[0] == b"x" * 9000


@pytest.mark.parametrize("text", [b"", b"Fa@b", b"Ta@b\0", b"\0"])
def test_an_info_that_is_none_is_trouble(queue_home: QueueHome, spool: Spool, text: bytes) -> None:
    put(queue_home, place("info", 5), text)
    with pytest.raises(Trouble, match="trouble opening info/5/5; will try again later"):
        spool.read_info(5)


def test_there_is_one_qmail_send(queue_home: QueueHome, spool: Spool) -> None:
    fd = sending.lock(spool.queue)
    with pytest.raises(BlockingIOError):
        sending.lock(spool.queue)
    os.close(fd)
    os.close(sending.lock(spool.queue))
    (queue_home.queue / "lock/sendmutex").unlink()
    with pytest.raises(FileNotFoundError):
        sending.lock(spool.queue)


def test_a_trigger_that_is_none_is_not_waited_for(queue_home: QueueHome, spool: Spool) -> None:
    os.close(sending.open_trigger(spool.queue))
    (queue_home.queue / "lock/trigger").unlink()
    assert sending.open_trigger(spool.queue) == -1
    put(queue_home, "lock/trigger")
    assert sending.open_trigger(spool.queue) == -1
