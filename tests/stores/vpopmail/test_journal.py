"""journal: what is under way is read as it was written, and only from those who may order it."""

import errno
import os
from pathlib import Path

import pytest

from qmailpy.stores.vpopmail import journal


@pytest.fixture
def home(tmp_path: Path) -> bytes:
    (tmp_path / "users").mkdir()
    return bytes(tmp_path)


def test_a_record_is_there_until_it_is_removed(home: bytes) -> None:
    assert journal.read(home) is None
    record = {b"kind": journal.ADD, b"name": b"a.example", b"odd": b"\n:\0,"}
    journal.write(home, record)
    assert os.stat(home + journal.JOURNAL).st_mode & 0o777 == 0o600
    assert journal.read(home) == record
    journal.remove(home)
    assert journal.read(home) is None


@pytest.mark.parametrize("text", [b"", b"x", b"4:kind,", b"4:kind,5:other,", b"4:kind,3:add,1:x,", b"4:kind,3:add"])
def test_what_is_no_record_is_an_error(home: bytes, text: bytes) -> None:
    Path(os.fsdecode(home + journal.JOURNAL)).write_bytes(text)
    with pytest.raises(OSError) as caught:
        journal.read(home)
    assert caught.value.errno == errno.EPROTO


def test_a_link_is_no_journal(home: bytes) -> None:
    journal.write(home, {b"kind": journal.ADD})
    os.rename(home + journal.JOURNAL, home + b"/elsewhere")
    os.symlink(home + b"/elsewhere", home + journal.JOURNAL)
    with pytest.raises(OSError):
        journal.read(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_users_record_is_no_order(home: bytes) -> None:
    journal.write(home, {b"kind": journal.ADD})
    os.chown(home + journal.JOURNAL, 54321, 54321)
    with pytest.raises(OSError):
        journal.read(home)
