"""The file of slow hosts: read, changed and emptied, by several at once, and never anybody's reason to fail."""

import os
from pathlib import Path

import pytest

from qmailpy.formats import tcpto as table
from qmailpy.stores import tcpto


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "queue" / "lock").mkdir(parents=True)
    (tmp_path / "queue" / "lock" / "tcpto").write_bytes(bytes(1024))
    return tmp_path


def contents(home: Path) -> bytes:
    return (home / "queue/lock/tcpto").read_bytes()


def test_what_is_written_is_read(home: Path) -> None:
    tcpto.change(os.fsencode(home), lambda found: (16, b"x" * 16) if found == bytes(1024) else None)
    assert contents(home) == bytes(16) + b"x" * 16 + bytes(992)
    assert tcpto.read(os.fsencode(home)) == contents(home)
    tcpto.change(os.fsencode(home), lambda found: None)
    assert contents(home)[16:32] == b"x" * 16


def test_clear_makes_it_whole_and_empty(home: Path) -> None:
    (home / "queue/lock/tcpto").write_bytes(b"x" * 100)
    tcpto.clear(os.fsencode(home))
    assert contents(home) == bytes(1024)


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_without_a_table_nothing_is_known_and_nothing_happens(home: Path, what: str) -> None:
    (home / "queue/lock/tcpto").unlink()
    if what == "folder":
        (home / "queue/lock/tcpto").mkdir()
    assert tcpto.read(os.fsencode(home)) == b""
    tcpto.change(os.fsencode(home), lambda found: (0, b"x"))
    tcpto.clear(os.fsencode(home))
    assert (home / "queue/lock/tcpto").exists() == (what == "folder")


def test_changes_of_several_processes_do_not_meet(home: Path) -> None:
    """Each counts its own host up, in a record that was free when it looked."""

    def count(number: int) -> None:
        ip = bytes((10, 0, 0, number))

        def decide(found: bytes) -> tuple[int, bytes]:
            entry = table.find(found, ip) or next(entry for entry in table.entries(found) if not entry.count)
            return entry.position, table.changed(found, entry.position, ip, entry.count + 1, 0)

        for _ in range(100):
            tcpto.change(os.fsencode(home), decide)

    children = []
    for number in range(1, 5):
        pid = os.fork()
        if pid == 0:
            try:
                count(number)
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    entries = [entry for entry in table.entries(contents(home)) if entry.count]
    assert sorted((entry.ip[3], entry.count) for entry in entries) == [(number, 100) for number in range(1, 5)]
