"""maildirsize: what comes in, what is counted anew and when, and what is left when something fails."""

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qmailpy.formats import maildirsize as texts
from qmailpy.stores import delivery, maildir, maildirsize
from qmailpy.stores.maildirsize import Counter
from tests.stores.test_delivery import Text

LATER = 3600  # seconds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    maildir.make(bytes(tmp_path / "Maildir"))
    return tmp_path / "Maildir"


def put(folder: Path, text: bytes, quota: bytes | None = b"100S,3C") -> Counter:
    counter = Counter(None if quota is None else texts.quota(quota))
    delivery.to_maildir(bytes(folder), b"", Text(text), counter)
    return counter


def names(folder: Path) -> list[str]:
    return sorted(name.partition(",")[2] for name in os.listdir(folder / "new"))


def age(folder: Path, seconds: int = 60) -> None:
    """As if nothing had happened for so long."""
    then = time.time() - seconds
    for path in (*folder.rglob("new"), *folder.rglob("cur")):
        os.utime(path, (then, then))


def test_a_message_has_its_size_in_its_name_and_its_line(folder: Path) -> None:
    assert put(folder, b"12345").before is not None
    assert names(folder) == ["S=5"]
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n0 0\n5 1\n"
    assert (folder / "maildirsize").stat().st_mode & 0o777 == 0o600
    assert os.listdir(folder / "tmp") == []


@pytest.mark.parametrize("sizes", [[50, 50, 1], [1, 1, 1, 1], [101], [100, 1]])
def test_what_exceeds_the_quota_is_not_taken(folder: Path, sizes: list[int]) -> None:
    for size in sizes[:-1]:
        put(folder, b"x" * size)
    before = (folder / "maildirsize").exists() and os.listdir(folder / "new")
    with pytest.raises(maildirsize.Over):
        put(folder, b"x" * sizes[-1])
    assert os.listdir(folder / "tmp") == []
    assert os.listdir(folder / "new") == (before or [])
    usage = texts.parse((folder / "maildirsize").read_bytes())
    assert usage is not None and (usage.size, usage.count) == (sum(sizes[:-1]), len(sizes) - 1)


def test_without_quota_there_is_no_file_and_one_that_is_there_is_kept_up(folder: Path) -> None:
    for quota in (b"NOQUOTA", None):
        put(folder, b"x" * 500, quota)
    assert not (folder / "maildirsize").exists()
    (folder / "maildirsize").write_bytes(b"1C\n1000 2\n")
    put(folder, b"x", b"NOQUOTA")
    assert (folder / "maildirsize").read_bytes() == b"1C\n1000 2\n1 1\n"


def test_a_maildir_of_nobody_has_the_quota_of_its_file(folder: Path) -> None:
    (folder / "maildirsize").write_bytes(b"10S\n0 0\n")
    put(folder, b"x" * 9, None)
    with pytest.raises(maildirsize.Over):
        put(folder, b"xx", None)


def test_a_folder_counts_for_its_maildir(folder: Path) -> None:
    maildir.make(bytes(folder / ".Spam"))
    (folder / ".Spam" / "maildirfolder").touch()
    (folder / "maildirsize").write_bytes(b"10S\n0 0\n")
    put(folder / ".Spam", b"x" * 9, None)
    assert (folder / "maildirsize").read_bytes() == b"10S\n0 0\n9 1\n"
    assert not (folder / ".Spam" / "maildirsize").exists()
    assert maildirsize.used(bytes(folder / ".Spam")) == (9, 1)


def test_everything_is_counted_but_trash_and_what_is_marked(folder: Path) -> None:
    for name in (".Work", ".Trash", ".Trash.old"):
        maildir.make(bytes(folder / name))
    (folder / ".note").write_bytes(b"a file")
    for path, text in {
        "new/1,S=7": b"is not read", "cur/2:2,S": b"12", "cur/3,S=9:2,ST": b"gone", "cur/.hidden": b"1234",
        ".Work/cur/4,S=x:2,": b"123", ".Trash/cur/5": b"1", ".Trash.old/new/6": b"12345", "tmp/7": b"1",
    }.items():  # fmt: skip
        (folder / path).write_bytes(text)
    assert maildirsize.used(bytes(folder)) == (7 + 2 + 3 + 5, 4)


def test_one_that_a_reader_moves_meanwhile_is_counted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "new" / "1").write_bytes(b"123")
    real = os.listdir
    seen = []

    def listdir(path: int) -> list[str]:
        found = real(path)
        seen.append(found)
        if found == ["1"]:
            os.rename(folder / "new" / "1", folder / "cur" / "1:2,")
        return found

    monkeypatch.setattr(os, "listdir", listdir)
    assert maildirsize.used(bytes(folder)) == (3, 1)
    assert ["1"] in seen and ["1:2,"] in seen


def test_messages_that_a_reader_has_removed_make_room(folder: Path) -> None:
    for _ in range(3):
        put(folder, b"x")
    with pytest.raises(maildirsize.Over):
        put(folder, b"x")
    os.unlink(folder / "new" / os.listdir(folder / "new")[0])
    put(folder, b"x")
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n2 2\n1 1\n"


def test_a_full_maildir_is_not_counted_again_and_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        put(folder, b"x")
    age(folder)
    counts = []
    real = maildirsize.count

    def count(base: int) -> tuple[int, int]:
        counts.append(base)
        return real(base)

    monkeypatch.setattr(maildirsize, "count", count)
    for _ in range(5):
        assert not Counter(texts.quota(b"100S,3C")).has_room(bytes(folder), 1)
        with pytest.raises(maildirsize.Over):
            put(folder, b"x")
    assert len(counts) == 1
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + LATER * 10**9)
    assert not Counter(texts.quota(b"100S,3C")).has_room(bytes(folder), 1)
    assert len(counts) == 2


@pytest.mark.parametrize("text", [b"", b"100S,3C\n", b"100S,3C\n5", b"9S,3C\n1 1\n", b"100S,3C\n" + b"1 1\n" * 2000])
def test_a_file_that_does_not_say_is_made_new(folder: Path, text: bytes) -> None:
    (folder / "cur" / "1:2,").write_bytes(b"1234567")
    (folder / "maildirsize").write_bytes(text)
    put(folder, b"x")
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n7 1\n1 1\n"


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_is_no_file_is_not_followed(folder: Path, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"100S,3C\n0 0\n")
    if kind == "link":
        (folder / "maildirsize").symlink_to(victim)
    elif kind == "folder":
        (folder / "maildirsize").mkdir()
    else:
        os.mkfifo(folder / "maildirsize")
    if kind == "folder":
        with pytest.raises(delivery.Undelivered):
            put(folder, b"x")
        assert os.listdir(folder / "new") == []
        return
    put(folder, b"x")
    assert victim.read_bytes() == b"100S,3C\n0 0\n"
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n0 0\n1 1\n"


def test_a_message_that_gets_no_name_gives_its_room_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(delivery.Undelivered):
        put(folder, b"12345")
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n0 0\n5 1\n-5 -1\n"
    assert os.listdir(folder / "tmp") == []


def test_a_part_of_a_line_is_not_left_for_the_next_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, b"1")
    real: Callable[[int, bytes], int] = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:1]) if data == b"12 1\n" else real(fd, data))
    with pytest.raises(delivery.Undelivered):
        put(folder, b"x" * 12)
    monkeypatch.undo()
    put(folder, b"22")
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n1 1\n2 1\n"


def test_a_quota_that_changes_meanwhile_is_no_trouble(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vsetuserquota removes the file."""
    put(folder, b"1")
    real = Counter._has_room

    def has_room(self: Counter, base: int, size: int) -> bool:
        (folder / "maildirsize").unlink(missing_ok=True)
        return real(self, base, size)

    monkeypatch.setattr(Counter, "_has_room", has_room)
    put(folder, b"22")
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n1 1\n2 1\n"


@pytest.mark.parametrize("flag", [os.O_RDONLY, os.O_WRONLY])
def test_a_file_that_is_closed_to_us_is_made_new(folder: Path, monkeypatch: pytest.MonkeyPatch, flag: int) -> None:
    put(folder, b"1")
    real = os.open
    closed = os.stat(folder / "maildirsize").st_ino

    def open_(path: bytes, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if path == b"maildirsize" and flags & os.O_ACCMODE == flag and os.stat(path, dir_fd=dir_fd).st_ino == closed:
            raise PermissionError(errno.EACCES, "")
        return real(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open_)
    put(folder, b"22")
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n1 1\n2 1\n"


def test_a_maildir_that_cannot_be_counted_is_no_full_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(base: int) -> tuple[int, int]:
        raise OSError(errno.EACCES, "")

    monkeypatch.setattr(maildirsize, "count", count)
    with pytest.raises(delivery.Undelivered):
        put(folder, b"x")


def test_nothing_stays_open(folder: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    put(folder, b"x" * 100)
    assert not Counter(texts.quota(b"100S,3C")).has_room(bytes(folder), 1)
    with pytest.raises(maildirsize.Over):
        put(folder, b"x")
    maildirsize.note(bytes(folder), 5)
    maildirsize.forget(bytes(folder))
    assert maildirsize.begin_warning(bytes(folder), 0)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_where_folders_cannot_be_locked_mail_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(fd: int, wait: bool) -> None:
        raise OSError(errno.EBADF, "")

    monkeypatch.setattr("qmailpy.unix.locks.lock", lock)
    put(folder, b"x")
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n0 0\n1 1\n"


def test_for_another_quota_all_is_counted_anew_whoever_holds_the_lock(folder: Path) -> None:
    put(folder, b"12345")
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        maildirsize.forget(bytes(folder))
        maildirsize.forget(bytes(folder))
        assert not (folder / "maildirsize").exists()
    finally:
        os.close(lock)
    put(folder, b"678", b"7C")
    assert (folder / "maildirsize").read_bytes() == b"7C\n5 1\n3 1\n"
    maildirsize.forget(bytes(folder / "none"))


def test_a_note_of_what_came_needs_a_file(folder: Path) -> None:
    maildirsize.note(bytes(folder), 5)
    assert not (folder / "maildirsize").exists()
    put(folder, b"x")
    maildirsize.note(bytes(folder), 5)
    maildirsize.note(bytes(folder / "none"), 5)
    assert (folder / "maildirsize").read_bytes() == b"100S,3C\n0 0\n1 1\n5 1\n"


def test_a_warning_is_due_once_a_day(folder: Path) -> None:
    now = 1_000_000_000.0
    found = [maildirsize.begin_warning(bytes(folder), now + hours * 3600) for hours in (0, 0, 23, 24, 25, 49)]
    assert found == [True, False, False, True, False, True]


def test_how_full_it_was_before_a_message(folder: Path) -> None:
    assert put(folder, b"x" * 30).percent() == 0
    assert put(folder, b"x" * 30).percent() == 33
    assert put(folder, b"x", b"NOQUOTA").percent() == 0
