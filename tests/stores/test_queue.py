"""queue: what is on disk after each step, after a kill at any of them, and when the system fails."""

import errno
import os
import pwd
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qmailpy.formats import envelope
from qmailpy.stores import queue
from tests.queuehomes import QueueHome, nobody, queue_home

__all__ = ["queue_home"]

# Everything that changes the disk.
CHANGING = ("open", "link", "unlink", "write", "fsync", "ftruncate", "fchown")

MESSAGE = b"Subject: test\n\n" + b"text\n" * 5
BIG = b"x" * (3 * queue.BLOCK)


def enqueue(home: Path, message: bytes = MESSAGE, recipients: tuple[bytes, ...] = (b"c@d", b"e@f")) -> int:
    draft = queue.Draft(os.fsencode(home), os.getuid(), os.getpid())
    try:
        draft.write(message)
        draft.begin_envelope()
        draft.add(envelope.build(b"a@b", recipients)[:-1])
        draft.commit()
        return draft.number
    finally:
        draft.release()


def states(home: QueueHome) -> dict[int, set[str]]:
    """Message number: where it has files."""
    found: dict[int, set[str]] = {}
    for name in home.files():
        if not name.startswith("pid/"):
            folder, *_, number = name.split("/")
            found.setdefault(int(number), set()).add(folder)
    return found


def check(home: QueueHome, message: bytes = MESSAGE) -> int:
    """The queue is legal, and what is in todo is whole; returns how many are there."""
    for found in states(home).values():
        assert found in ({"mess"}, {"mess", "intd"}, {"mess", "intd", "todo"}, {"mess", "todo"}), found
    for queued in home.messages():
        assert (queued.body, queued.sender, queued.recipients) == (message, b"a@b", [b"c@d", b"e@f"])
    return len(home.messages())


def calls(kill_at: int, after: bool, recorded: list[str] | None = None) -> Iterator[Callable[..., Any]]:
    """In place of each function that changes the disk, one that kills its process at the call number kill_at."""
    count = 0

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == kill_at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **options)
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if recorded is not None:
                where = arguments[0]
                recorded.append(f"{name} {where.decode() if isinstance(where, bytes) else os.fstat(where).st_ino}")
            return result

        return act

    return (wrapped(name, getattr(os, name)) for name in CHANGING)


def in_a_child(act: Callable[[], object], kill_at: int, after: bool) -> int:
    """The wait status of a process that does it, 0 if it says that it is done."""
    pid = os.fork()
    if pid == 0:
        try:
            for name, function in zip(CHANGING, list(calls(kill_at, after)), strict=True):
                setattr(os, name, function)
            act()
            os._exit(0)
        except queue.Trouble as e:
            os._exit(e.code)
        finally:
            os._exit(99)
    return os.waitpid(pid, 0)[1]


def test_a_message_is_queued(queue_home: QueueHome) -> None:
    before = int(time.time())
    number = enqueue(queue_home.path)
    queued = queue_home.message()
    assert queued.number == number
    assert (queued.uid, queued.pid) == (os.getuid(), os.getpid())
    assert (queued.sender, queued.recipients, queued.body) == (b"a@b", [b"c@d", b"e@f"], MESSAGE)
    assert queued.received.startswith(b"Received: (qmail %d invoked by uid %d); " % (os.getpid(), os.getuid()))
    assert queue_home.files() == {f"mess/{number % 23}/{number}", f"intd/{number}", f"todo/{number}"}
    assert (queue_home.queue / f"todo/{number}").samefile(queue_home.queue / f"intd/{number}")
    assert int((queue_home.queue / f"todo/{number}").stat().st_mtime) >= before


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_files_have_their_mode_whatever_the_umask(queue_home: QueueHome, umask: int) -> None:
    before = os.umask(umask)
    try:
        enqueue(queue_home.path)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    for name in queue_home.files():
        assert (queue_home.queue / name).stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize("theirs", ["mess", ".", "pid", "intd", "todo"])
def test_root_does_not_write_where_somebody_else_could_put_a_link(queue_home: QueueHome, theirs: str) -> None:
    uid, gid = nobody()
    assert queue.to_become(os.fsencode(queue_home.path)) is None
    os.chown(queue_home.queue / theirs, uid, gid)
    assert queue.to_become(os.fsencode(queue_home.path)) == (uid, gid)
    with pytest.raises(queue.Trouble) as raised:
        enqueue(queue_home.path)
    assert (raised.value.code, queue_home.files()) == (62, set())


@pytest.mark.parametrize("missing", [True, False])
def test_a_folder_that_is_away_or_a_link_makes_nobody_root(queue_home: QueueHome, missing: bool) -> None:
    uid, gid = nobody()
    os.chown(queue_home.queue, uid, gid)
    (queue_home.queue / "mess").rename(queue_home.path / "elsewhere")
    if not missing:
        (queue_home.queue / "mess").symlink_to(queue_home.path / "elsewhere")
        os.chown(queue_home.queue / "mess", uid, gid, follow_symlinks=False)
    assert queue.to_become(os.fsencode(queue_home.path)) == (uid, gid)


@pytest.mark.parametrize(("folder", "code"), [("mess", 64), ("todo", 66)])
def test_links_to_folders_are_not_followed(queue_home: QueueHome, tmp_path: Path, folder: str, code: int) -> None:
    (queue_home.queue / folder).rename(tmp_path / "elsewhere")
    (queue_home.queue / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(queue.Trouble) as raised:
        enqueue(queue_home.path)
    assert raised.value.code == code


@pytest.mark.parametrize("linked", [True, False])
def test_a_trigger_that_is_none_is_left_alone(queue_home: QueueHome, tmp_path: Path, linked: bool) -> None:
    (queue_home.queue / "lock/trigger").unlink()
    target = tmp_path / "target" if linked else queue_home.queue / "lock/trigger"
    target.write_bytes(b"text")
    if linked:
        (queue_home.queue / "lock/trigger").symlink_to(target)
    enqueue(queue_home.path)
    assert target.read_bytes() == b"text"


@pytest.mark.parametrize(("split", "split_todo"), [(1, False), (7, False), (101, False), (23, True), (5, True)])
def test_the_layout_is_found_in_the_queue(tmp_path: Path, split: int, split_todo: bool) -> None:
    home = QueueHome(tmp_path / "home", split, split_todo)
    number = enqueue(home.path)
    place = f"{number % split}/" if split_todo else ""
    assert home.files() == {f"mess/{number % split}/{number}", f"intd/{place}{number}", f"todo/{place}{number}"}
    assert home.message().body == MESSAGE
    layout = queue.find_layout_of(os.fsencode(home.path))
    assert (layout.split, layout.split_todo) == (split, split_todo)


def test_nothing_is_acknowledged_before_the_disk_has_it(queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fsync in its place, and no other: both files before the link to todo, then todo's directory."""
    recorded: list[str] = []
    for name, function in zip(CHANGING, list(calls(0, False, recorded)), strict=True):
        monkeypatch.setattr(os, name, function)
    number = enqueue(queue_home.path)
    monkeypatch.undo()
    intd, todo = ((queue_home.queue / name).stat().st_ino for name in (f"intd/{number}", "todo"))
    steps = [step for step in recorded if not step.startswith(("open mess", "open queue", f"open {queue_home.path}"))]
    pid_file = steps[0].removeprefix("open ")
    assert pid_file.startswith(f"pid/{os.getpid()}.")
    assert steps == [
        f"open {pid_file}",
        f"link {pid_file}",
        f"unlink {pid_file}",
        f"write {number}",
        f"open intd/{number}",
        f"write {intd}",
        f"fsync {intd}",
        f"fsync {number}",
        "open todo",
        f"link intd/{number}",
        f"fsync {todo}",
    ]  # and the trigger, which nobody holds


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("message", [MESSAGE, BIG], ids=["small", "big"])
def test_a_kill_at_any_call_leaves_a_legal_queue_and_loses_nothing_acknowledged(
    queue_home: QueueHome, message: bytes, after: bool
) -> None:
    survived = []
    for kill_at in range(1, 100):
        status = in_a_child(lambda: enqueue(queue_home.path, message), kill_at, after)
        count = check(queue_home, message)
        if status == 0:
            assert count == 1
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        survived.append(count)
        queue_home.empty()
    assert len(survived) >= 11
    assert survived == sorted(survived)  # from one call on it is queued
    assert 1 in survived


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_while_a_message_is_abandoned_leaves_a_legal_queue(queue_home: QueueHome, after: bool) -> None:
    def abandon() -> None:
        draft = queue.Draft(os.fsencode(queue_home.path), 0, 1)
        draft.write(BIG)
        draft.begin_envelope()
        draft.abandon()

    for kill_at in range(1, 100):
        status = in_a_child(abandon, kill_at, after)
        assert check(queue_home) == 0
        if status == 0:
            assert queue_home.files() == set()
            break
        queue_home.empty()


def failing(name: str, at: int, code: int) -> Callable[..., Any]:
    """os.NAME that fails at its call number at."""
    real = getattr(os, name)
    count = 0

    def act(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise OSError(code, "")
        return real(*arguments, **options)

    return act


@pytest.mark.parametrize(
    ("name", "at", "code", "left"),
    [
        ("link", 1, 64, {"pid"}),
        ("unlink", 1, 63, {"pid", "mess"}),
        ("write", 1, 53, set()),
        ("fsync", 1, 53, set()),
        ("write", 2, 53, set()),
        ("fsync", 2, 53, set()),
        ("link", 2, 66, {"mess", "intd"}),
        ("fsync", 3, 66, {"mess", "intd"}),
    ],
)
def test_each_failure_has_its_code_and_leaves_what_the_original_leaves(
    queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch, name: str, at: int, code: int, left: set[str]
) -> None:
    monkeypatch.setattr(os, name, failing(name, at, errno.EIO))
    with pytest.raises(queue.Trouble) as raised:
        enqueue(queue_home.path)
    monkeypatch.undo()
    assert raised.value.code == code
    assert {each.split("/")[0] for each in queue_home.files()} == left
    assert len(os.listdir("/proc/self/fd")) < 100


def test_what_cannot_be_withdrawn_is_told_to_qmail_send(queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = os.open(queue_home.queue / "lock/trigger", os.O_RDONLY | os.O_NONBLOCK)
    try:
        monkeypatch.setattr(os, "fsync", failing("fsync", 3, errno.EIO))
        monkeypatch.setattr(os, "unlink", failing("unlink", 2, errno.EIO))
        with pytest.raises(queue.Trouble) as raised:
            enqueue(queue_home.path)
        monkeypatch.undo()
        assert (raised.value.code, os.read(reader, 10)) == (66, b"\0")
    finally:
        os.close(reader)
    assert len(queue_home.messages()) == 1


@pytest.mark.parametrize("gone", [True, False])
def test_a_client_that_has_hung_up_before_the_end_gets_nothing_queued(queue_home: QueueHome, gone: bool) -> None:
    ours, theirs = socket.socketpair()
    draft = queue.Draft(os.fsencode(queue_home.path), 0, 1)
    with ours, theirs:
        draft.begin_envelope()
        draft.add(b"Fa@b\0")
        if not gone:
            draft.commit(ours.fileno())
        else:
            theirs.close()
            with pytest.raises(queue.Trouble) as raised:
                draft.commit(ours.fileno())
            assert (raised.value.code, queue_home.files()) == (54, set())
    draft.release()
    assert len(queue_home.messages()) == (not gone)


def test_a_write_that_fails_late_leaves_nothing(queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", failing("write", 2, errno.ENOSPC))
    draft = queue.Draft(os.fsencode(queue_home.path), 0, 1)
    draft.write(BIG)
    with pytest.raises(queue.Trouble) as raised:
        draft.write(BIG)
    draft.abandon()
    draft.release()
    assert (raised.value.code, queue_home.files()) == (53, set())


@pytest.mark.parametrize(
    ("missing", "code"), [(".", 61), ("queue", 62), ("queue/pid", 63), ("queue/mess", 64), ("queue/intd", 65),
                          ("queue/todo", 66)]
)  # fmt: skip
def test_a_folder_that_is_missing_has_its_code(queue_home: QueueHome, missing: str, code: int) -> None:
    folder = queue_home.path / missing
    folder.rename(folder.with_name("elsewhere") if missing != "." else queue_home.path.with_name("elsewhere"))
    with pytest.raises(queue.Trouble) as raised:
        enqueue(queue_home.path)
    assert raised.value.code == code


def test_a_message_that_takes_a_day_is_given_up(queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = queue.Draft(os.fsencode(queue_home.path), 0, 1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + queue.DEATH + 1)
    with pytest.raises(queue.Trouble) as raised:
        draft.begin_envelope()
    draft.release()
    assert raised.value.code == 52
    assert set(states(queue_home).popitem()[1]) == {"mess"}


def test_what_is_queued_is_not_abandoned(queue_home: QueueHome) -> None:
    draft = queue.Draft(os.fsencode(queue_home.path), 0, 1)
    draft.begin_envelope()
    draft.add(b"Fa@b\0")
    draft.commit()
    draft.abandon()
    draft.release()
    assert len(queue_home.messages()) == 1


def test_the_trigger_is_pulled_once_todo_is_there(queue_home: QueueHome) -> None:
    reader = os.open(queue_home.queue / "lock/trigger", os.O_RDONLY | os.O_NONBLOCK)
    try:
        enqueue(queue_home.path)
        assert os.read(reader, 10) == b"\0"
    finally:
        os.close(reader)


def test_a_trigger_that_is_full_or_missing_does_no_harm(queue_home: QueueHome) -> None:
    trigger = queue_home.queue / "lock/trigger"
    reader = os.open(trigger, os.O_RDWR | os.O_NONBLOCK)
    try:
        with pytest.raises(BlockingIOError):
            while True:
                os.write(reader, bytes(4096))
        enqueue(queue_home.path)
    finally:
        os.close(reader)
    trigger.unlink()
    enqueue(queue_home.path)
    assert len(queue_home.messages()) == 2


@pytest.mark.parametrize("taken", [1, 8])
def test_a_name_in_pid_that_is_taken_is_passed_over(
    queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000000000.5)
    for sequence in range(1, taken + 1):
        (queue_home.queue / f"pid/7.1000000000.{sequence}").touch()
    queue.Draft(os.fsencode(queue_home.path), 0, 7).release()
    (queue_home.queue / "pid/7.1000000000.9").touch()
    if taken == 8:
        with pytest.raises(queue.Trouble) as raised:
            queue.Draft(os.fsencode(queue_home.path), 0, 7)
        assert raised.value.code == 63


def test_the_received_line_knows_some_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {7: "alias", 8: "qmaild", 9: "qmails", 10: "somebody"}

    def getpwuid(uid: int) -> Any:
        return pwd.struct_passwd((known[uid], "x", uid, uid, "", "/", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    words = [queue.invoked(uid) for uid in (7, 8, 9, 10, 11, 0)]
    assert words == [b"by alias", b"from network", b"for bounce", b"by uid 10", b"by uid 11", b"by uid 0"]


def test_files_in_pid_go_after_36_hours_without_a_reader(queue_home: QueueHome) -> None:
    now = 1_000_000_000
    for name, age in (("old", 129600), ("young", 129599)):
        (queue_home.queue / "pid" / name).touch()
        os.utime(queue_home.queue / "pid" / name, (now - age, now - 10**6))
    fd = queue.open_queue(os.fsencode(queue_home.path))
    queue.clean_pid(fd, now)
    os.close(fd)
    assert queue_home.files() == {"pid/young"}


def test_no_descriptor_is_left_open(queue_home: QueueHome) -> None:
    before = os.listdir("/proc/self/fd")
    enqueue(queue_home.path)
    with pytest.raises(queue.Trouble):
        enqueue(queue_home.path / "missing")
    assert os.listdir("/proc/self/fd") == before
