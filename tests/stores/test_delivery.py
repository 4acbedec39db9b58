"""delivery: the order of what is done to the disk, and what is left when a step fails."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qmailpy.stores import delivery, maildir
from qmailpy.unix import processes

HEAD = b"Return-Path: <s>\n"


class Text(delivery.Message):
    """A message from memory."""

    def __init__(self, *blocks: bytes) -> None:
        super().__init__()
        self._blocks = blocks

    def blocks(self) -> Iterator[bytes]:
        yield from self._blocks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "label", lambda: b"%d" % os.getpid())  # as in a new process
    maildir.make(bytes(tmp_path / "Maildir"))
    return tmp_path / "Maildir"


def deliver(folder: Path, *blocks: bytes) -> None:
    delivery.to_maildir(bytes(folder), HEAD, Text(*blocks))


def failing(name: str, at: int, error: int) -> Callable[..., Any]:
    """The function of os, but for call number at."""
    real = getattr(os, name)
    count = 0

    def act(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise OSError(error, "")
        return real(*arguments, **options)

    return act


def test_the_name_appears_once_all_is_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody is told before the name is, too."""
    steps: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def act(*arguments: Any, **options: Any) -> Any:
            what = arguments[0]
            if isinstance(what, int):
                where = os.readlink(f"/proc/self/fd/{what}")
                steps.append(f"{name} {Path(where).relative_to(folder).parts[0]}")
            elif not what.startswith(b"/"):
                steps.append(f"{name} {what.split(b'/')[0].decode()}")
            return real(*arguments, **options)

        return act

    for name in ("open", "write", "fsync", "link", "unlink"):
        monkeypatch.setattr(os, name, noting(name))
    deliver(folder, b"text", b"more")
    monkeypatch.undo()
    steps = [step for step in steps if not step.startswith("open new")]
    assert steps == ["open tmp", "write tmp", "write tmp", "fsync tmp", "link tmp", "unlink tmp", "fsync new"]


@pytest.mark.parametrize("blocks", [(), (b"text",), (b"a" * 65536, b"b")])
def test_a_message_is_what_was_given(folder: Path, blocks: tuple[bytes, ...]) -> None:
    deliver(folder, *blocks)
    (path,) = (folder / "new").iterdir()
    assert path.read_bytes() == HEAD + b"".join(blocks)
    assert os.listdir(folder / "tmp") == []


@pytest.mark.parametrize(
    ("name", "at", "step"),
    [
        ("open", 1, delivery.FOLDER), ("open", 2, delivery.OTHER), ("write", 1, delivery.OTHER),
        ("fsync", 1, delivery.OTHER), ("open", 3, delivery.OTHER), ("link", 1, delivery.OTHER),
        ("fsync", 2, delivery.OTHER),
    ],
)  # fmt: skip
def test_a_failure_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int, step: str) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, name, failing(name, at, errno.EPERM if step == delivery.FOLDER else errno.EIO))
    with pytest.raises(delivery.Undelivered) as raised:
        deliver(folder, b"text")
    monkeypatch.undo()
    assert raised.value.step == step
    assert [os.listdir(folder / name) for name in ("tmp", "new", "cur")] == [[], [], []]
    assert os.listdir("/proc/self/fd") == before


def test_trouble_on_the_way_into_a_maildir_may_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", failing("open", 1, errno.EIO))
    with pytest.raises(delivery.Undelivered) as raised:
        deliver(folder, b"text")
    assert raised.value.step == delivery.OTHER


@pytest.mark.parametrize(("error", "at"), [(errno.EACCES, "open"), (errno.EINVAL, "fsync")])
def test_a_folder_that_cannot_be_synced_gets_mail_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: int, at: str
) -> None:
    """One that we may not read, and one in a file system that knows no such thing."""
    monkeypatch.setattr(os, at, failing(at, 3 if at == "open" else 2, error))
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    if at == "open":
        monkeypatch.setattr(os, "fsync", fsync)
    deliver(folder, b"text")
    assert len(os.listdir(folder / "new")) == 1
    if at == "open":
        assert len(synced) == 2 and all("/tmp/" in name for name in synced)  # its name in tmp is gone by the second


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_name_that_is_taken_is_tried_again_later(folder: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    now = 1_000_000_000.7
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    host = os.uname().nodename
    for number in range(taken):
        (folder / "tmp" / f"{1_000_000_000 + 2 * number}.{os.getpid()}.{host}").touch()
    if taken == 3:
        with pytest.raises(delivery.Undelivered) as raised:
            deliver(folder, b"text")
        assert raised.value.step == delivery.OTHER
    else:
        deliver(folder, b"text")
        assert os.listdir(folder / "new") == [f"{1_000_000_000 + 2 * taken}.{os.getpid()}.{host}"]
    assert pauses == [2] * min(taken, 2)
    assert len(os.listdir(folder / "tmp")) == taken


def test_a_name_in_new_that_is_taken_is_not_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    deliver(folder, b"first")
    with pytest.raises(delivery.Undelivered) as raised:
        deliver(folder, b"second")
    assert raised.value.step == delivery.OTHER
    (path,) = (folder / "new").iterdir()
    assert (path.read_bytes(), os.listdir(folder / "tmp")) == (HEAD + b"first", [])


def test_a_delivery_that_takes_a_day_is_given_up(folder: Path) -> None:
    class Slow(delivery.Message):
        def blocks(self) -> Iterator[bytes]:
            yield b"x"
            os.kill(os.getpid(), signal.SIGALRM)
            yield b"y"

    with pytest.raises(delivery.Undelivered) as raised:
        delivery.to_maildir(bytes(folder), b"", Slow())
    assert raised.value.step == delivery.TIMEOUT
    assert [os.listdir(folder / name) for name in ("tmp", "new")] == [[], []]
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.alarm(0) == 0


def test_a_message_that_breaks_off_is_not_delivered(folder: Path, tmp_path: Path) -> None:
    class Broken(delivery.Message):
        def blocks(self) -> Iterator[bytes]:
            yield b"x" * 100_000
            raise delivery.Undelivered(delivery.READ)

    box = tmp_path / "box"
    box.write_bytes(b"old\n")
    with pytest.raises(delivery.Undelivered) as raised:
        delivery.to_maildir(bytes(folder), b"", Broken())
    assert raised.value.step == delivery.READ
    with pytest.raises(delivery.Undelivered) as raised:
        delivery.to_mbox(bytes(box), b"From x\n", Broken())
    assert raised.value.step == delivery.READ
    assert [os.listdir(folder / name) for name in ("tmp", "new")] == [[], []]
    assert box.read_bytes() == b"old\n"


@pytest.mark.parametrize(
    ("before", "between"),
    [(b"", b""), (b"old\n", b""), (b"old\n\n", b""), (b"old", b"\n\n"), (b"old\0\0", b"\n\n")],
)
def test_a_from_line_stands_at_the_beginning_of_a_line(tmp_path: Path, before: bytes, between: bytes) -> None:
    box = tmp_path / "box"
    box.write_bytes(before)
    delivery.to_mbox(bytes(box), b"From x\n", Text(b"text"))
    assert box.read_bytes() == before + between + b"From x\ntext\n\n"


@pytest.mark.parametrize(("name", "at"), [("write", 1), ("write", 2), ("fsync", 1)])
def test_a_failure_leaves_an_mbox_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    box = tmp_path / "box"
    box.write_bytes(b"old\n")
    monkeypatch.setattr(os, name, failing(name, at, errno.ENOSPC))
    with pytest.raises(delivery.Undelivered) as raised:
        delivery.to_mbox(bytes(box), b"From x\n", Text(b"x" * 70000, b"y" * 70000))
    assert (raised.value.step, raised.value.error.errno) == (delivery.WRITE, errno.ENOSPC)
    assert box.read_bytes() == b"old\n"


def test_without_locks_mail_is_delivered_and_never_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may have appended to it."""

    def no_locks(fd: int, wait: bool) -> None:
        raise OSError(errno.ENOLCK, "")

    monkeypatch.setattr("qmailpy.unix.locks.lock", no_locks)
    box = tmp_path / "box"
    delivery.to_mbox(bytes(box), b"From x\n", Text(b"text"))
    assert box.read_bytes() == b"From x\ntext\n\n"
    monkeypatch.setattr(os, "fsync", failing("fsync", 1, errno.EIO))
    with pytest.raises(delivery.Undelivered):
        delivery.to_mbox(bytes(box), b"From x\n", Text(b"text"))
    assert box.read_bytes() == b"From x\ntext\n\n" * 2


def test_a_small_message_is_written_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a kill leaves all of it, or nothing."""
    sizes: list[int] = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    delivery.to_mbox(bytes(tmp_path / "box"), b"From x\n", Text(b"text\nFrom me"))
    assert sizes == [len(b"From x\ntext\n>From me\n\n")]


@pytest.mark.parametrize(
    ("line", "exact", "any_case"),
    [(b"A: b\n", True, True), (b"a: B\n", False, True), (b"A: b", True, True), (b": b\n", False, False),
     (b"C: d\n", False, False)],
)  # fmt: skip
def test_a_line_of_the_header_is_found_in_capitals_or_not(line: bytes, exact: bool, any_case: bool) -> None:
    message = delivery.Text(b"X: y\nA: b\n\nC: d\n")
    assert (message.header_has(line), message.header_has(line, any_case=True)) == (exact, any_case)


def test_a_message_may_be_in_memory(folder: Path) -> None:
    delivery.to_maildir(bytes(folder), b"A: b\n", delivery.Text(b"text"))
    (path,) = (folder / "new").iterdir()
    assert path.read_bytes() == b"A: b\ntext"
