"""maildir: which files are messages, in which order; and what is cleaned, moved and made."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.stores import maildir
from tests.pop3_original import Heap

NOW = 1_700_000_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maildir that is the current directory."""
    maildir.make(bytes(tmp_path / "Maildir"))
    monkeypatch.chdir(tmp_path / "Maildir")
    return tmp_path / "Maildir"


def put(path: str | bytes, mtime: float, text: bytes = b"") -> None:
    with open(path, "wb") as f:
        f.write(text)
    os.utime(path, (mtime, mtime))


def test_messages_come_by_time_from_new_and_cur(folder: Path) -> None:
    put("new/c", NOW - 1, b"ccc")
    put("cur/b:2,S", NOW - 2, b"bb")
    put("new/a", NOW - 3, b"a")
    assert maildir.scan(NOW) == ([b"new/a", b"cur/b:2,S", b"new/c"], [1, 2, 3])


def test_messages_of_this_second_and_of_the_future_are_left_for_later(folder: Path) -> None:
    for name, mtime in (("now", NOW), ("late", NOW + 0.9), ("future", NOW + 5), ("last", NOW - 0.1), ("ages", -5)):
        put("new/" + name, mtime)
    assert maildir.scan(NOW)[0] == [b"new/ages", b"new/last"]


def test_names_that_begin_with_a_dot_are_no_messages(folder: Path) -> None:
    for name in (".hidden", "..more", ":2,"):
        put("cur/" + name, NOW - 1)
    assert maildir.scan(NOW)[0] == [b"cur/:2,"]


def test_whatever_has_a_status_is_listed_and_what_has_none_is_not(folder: Path) -> None:
    os.mkdir("new/directory")
    os.mkfifo("new/fifo")
    put("target", NOW - 1, b"xyz")
    os.symlink("../target", "cur/link")
    os.symlink("nowhere", "cur/dangling")
    os.symlink("loop", "cur/loop")
    for name in ("directory", "fifo"):
        os.utime("new/" + name, (NOW - 3, NOW - 3))
    paths, sizes = maildir.scan(NOW)
    assert sorted(paths) == [b"cur/link", b"new/directory", b"new/fifo"]
    assert sizes[paths.index(b"cur/link")] == 3


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.integers(NOW - 3, NOW)), max_size=30))
def test_messages_of_one_second_leave_as_from_the_heap_of_the_original(messages: list[tuple[bytes, int]]) -> None:
    heap = Heap()
    for name, time in messages:
        heap.insert(time, name)
    wanted = [heap.remove() for _ in messages]
    order = maildir._order([time for _, time in messages])
    times = [messages[index][1] for index in order]
    assert sorted(order) == list(range(len(messages)))
    assert times == sorted(times)
    if len({time for _, time in messages}) < len(messages):
        assert [messages[index][0] for index in order] == wanted


@pytest.mark.parametrize("missing", ["new", "cur"])
def test_a_maildir_without_new_or_cur_cannot_be_scanned(folder: Path, missing: str) -> None:
    os.rmdir(missing)
    with pytest.raises(FileNotFoundError):
        maildir.scan(NOW)
    put(missing, NOW)
    with pytest.raises(NotADirectoryError):
        maildir.scan(NOW)


@given(st.binary(min_size=1, max_size=30).filter(lambda name: not set(name) & set(b"/\0") and name[:1] != b"."))
def test_a_name_may_hold_any_byte(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as top:
        here = os.getcwd()
        os.chdir(top)
        try:
            for sub in ("tmp", "new", "cur"):
                os.mkdir(sub)
            put(b"new/" + name, NOW - 1)
            assert maildir.scan(NOW)[0] == [b"new/" + name]
            maildir.see(b"new/" + name)
            assert os.listdir(b"cur") == [name + b":2,"]
        finally:
            os.chdir(here)


def test_stale_files_in_tmp_are_removed_by_their_time_of_access(folder: Path) -> None:
    for name, age in (("stale", 129601), ("edge", 129600), ("fresh", 5), (".hidden", 999999)):
        put("tmp/" + name, NOW - age)
        os.utime("tmp/" + name, (NOW - age, 0))
    os.mkdir("tmp/directory")
    os.utime("tmp/directory", (0, 0))
    os.symlink("nowhere", "tmp/dangling")
    maildir.clean(NOW)
    assert sorted(os.listdir("tmp")) == [".hidden", "dangling", "directory", "edge", "fresh"]


def test_a_link_in_tmp_loses_itself_and_not_its_target(folder: Path) -> None:
    put("target", 0)
    os.symlink("../target", "tmp/link")
    maildir.clean(NOW)
    assert (os.listdir("tmp"), os.path.exists("target")) == ([], True)


def test_a_missing_tmp_is_nobodys_problem(folder: Path) -> None:
    os.rmdir("tmp")
    maildir.clean(NOW)


def test_only_messages_in_new_move(folder: Path) -> None:
    put("new/a", NOW)
    put("new/b:2,S", NOW)
    put("cur/c:2,R", NOW)
    for path in (b"new/a", b"new/b:2,S", b"cur/c:2,R"):
        maildir.see(path)
    assert sorted(os.listdir("cur")) == ["a:2,", "b:2,S:2,", "c:2,R"]
    assert os.listdir("new") == []
    with pytest.raises(FileNotFoundError):
        maildir.see(b"new/a")


def test_a_new_maildir_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "made"
    maildir.make(bytes(path))
    assert sorted(os.listdir(path)) == ["cur", "new", "tmp"]
    assert {entry.stat().st_mode & 0o777 for entry in (path, *path.iterdir())} == {0o700}
    with pytest.raises(FileExistsError) as caught:
        maildir.make(bytes(path))
    assert caught.value.filename == bytes(path)
