"""lasterrors: the newest reason of each recipient, whatever the addresses, the texts and the disk are like."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.stores import lasterrors
from qmailpy.unix import fds

ADDRESS = st.binary(max_size=40).filter(lambda text: b"\0" not in text)
TEXT = st.binary(max_size=60)
NOTE = st.tuples(st.sampled_from(lasterrors.CHANNELS), ADDRESS, st.integers(0, 2**40), TEXT)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "last").mkdir()
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_the_newest_of_each_recipient_is_read(queue: int, tmp_path: Path) -> None:
    lasterrors.note(queue, 23, b"remote", b"mary@b.example", 1700000000, b"no.\n")
    lasterrors.note(queue, 23, b"local", b"mary@b.example", 1700000001, b"full")
    lasterrors.note(queue, 23, b"remote", b"mary@b.example", 1700000400, b"still no.\n")
    lasterrors.note(queue, 24, b"remote", b"x", 5, b"")
    assert lasterrors.read(queue, 23) == {
        (b"local", b"mary@b.example"): (1700000001, b"full"),
        (b"remote", b"mary@b.example"): (1700000400, b"still no.\n"),
    }
    assert lasterrors.noted(queue) == {23, 24}
    assert (tmp_path / "last/24").read_bytes() == b"5 remote 1:x,\0"
    assert (tmp_path / "last/24").stat().st_mode & 0o777 == 0o600


def test_what_is_forgotten_is_gone(queue: int) -> None:
    lasterrors.note(queue, 23, b"remote", b"x", 1, b"no")
    lasterrors.forget(queue, 23)
    lasterrors.forget(queue, 23)
    assert (lasterrors.read(queue, 23), lasterrors.noted(queue)) == ({}, set())


def test_without_its_folder_nothing_is_noted(queue: int, tmp_path: Path) -> None:
    (tmp_path / "last").rmdir()
    lasterrors.note(queue, 23, b"remote", b"x", 1, b"no")
    lasterrors.forget(queue, 23)
    assert (lasterrors.read(queue, 23), lasterrors.noted(queue), list(tmp_path.iterdir())) == ({}, set(), [])


def test_no_link_is_followed(queue: int, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"1 remote 1:x,no\0")
    (tmp_path / "last/23").symlink_to(tmp_path / "mine")
    lasterrors.note(queue, 23, b"remote", b"x", 1, b"no")
    assert lasterrors.read(queue, 23) == {}
    assert (tmp_path / "mine").read_bytes() == b"1 remote 1:x,no\0"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NOTE, max_size=12))
def test_any_addresses_and_texts_are_kept(queue: int, notes: list[tuple[bytes, bytes, int, bytes]]) -> None:
    lasterrors.forget(queue, 5)
    for channel, address, when, text in notes:
        lasterrors.note(queue, 5, channel, address, when, text)
    wanted = {(channel, address): (when, text.replace(b"\0", b" ")) for channel, address, when, text in notes}
    assert lasterrors.read(queue, 5) == wanted


@given(st.binary(max_size=200), NOTE)
def test_whatever_stands_in_front_spoils_no_more_than_one(
    garbage: bytes, note: tuple[bytes, bytes, int, bytes]
) -> None:
    record = lasterrors._record(note[0], note[1], note[2], note[3].replace(b"\0", b" "))
    found = lasterrors.parse(garbage + record + record)
    assert found[note[0], note[1]] == (note[2], note[3].replace(b"\0", b" "))


@given(st.lists(NOTE, min_size=1, max_size=5), st.data())
def test_a_torn_file_has_all_but_the_last(notes: list[tuple[bytes, bytes, int, bytes]], data: st.DataObject) -> None:
    records = [lasterrors._record(*note) for note in notes]
    whole = b"".join(records)
    cut = data.draw(st.integers(len(whole) - len(records[-1]), len(whole) - 1))
    assert lasterrors.parse(whole[:cut]) == lasterrors.parse(b"".join(records[:-1]))


def test_of_very_many_recipients_the_last_are_kept(queue: int, tmp_path: Path) -> None:
    for number in range(3000):
        lasterrors.note(queue, 7, b"remote", b"%d@b.example" % number, number, b"x" * 200)
    assert (tmp_path / "last/7").stat().st_size <= lasterrors.SIZE + 300
    found = lasterrors.read(queue, 7)
    assert list(found) == [(b"remote", b"%d@b.example" % number) for number in range(3000 - len(found), 3000)]
    assert len(found) > 100
    assert sorted(os.listdir(tmp_path / "last")) == ["7"]


def test_texts_are_cut_and_absurd_addresses_are_not_noted(queue: int) -> None:
    lasterrors.note(queue, 7, b"remote", b"x", 1, b"y" * 10000)
    lasterrors.note(queue, 7, b"remote", b"x" * 5000, 1, b"y")
    assert lasterrors.read(queue, 7) == {(b"remote", b"x"): (1, b"y" * lasterrors.TEXT_SIZE)}


def test_a_full_disk_is_nobodys_trouble(queue: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(lasterrors, "SIZE", 100)
    for number in range(4):
        lasterrors.note(queue, 7, b"remote", b"%d" % number, 1, b"x" * 30)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        lasterrors.note(queue, 7, b"remote", b"y", 1, b"x")
    with monkeypatch.context() as patch:
        patch.setattr(fds, "write_all", full)
        lasterrors.note(queue, 7, b"remote", b"y", 1, b"x" * 90)
    assert lasterrors.read(queue, 7) == {}
