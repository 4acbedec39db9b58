import os
from pathlib import Path

import pytest

from qmailpy.stores.vpopmail import stamps


def test_a_stamp_holds_the_address_and_is_as_old_as_its_last_use(tmp_path: Path) -> None:
    file = tmp_path / "lastauth"
    for address in (b"192.0.2.100", b"::1", b"::1", b""):
        stamps.write(bytes(file), address)
        found = stamps.read(bytes(file))
        assert found is not None and found[0] == file.read_bytes() == address
        assert found[1] == int(file.stat().st_mtime) > 0
        os.utime(file, (0, 0))
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_or_a_fifo_in_its_place_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "fifo")
    for name in "link", "fifo":
        with pytest.raises(OSError):
            stamps.write(bytes(tmp_path / name), b"::1")
    assert target.read_bytes() == b"precious"


def test_where_nobody_was_there_is_none(tmp_path: Path) -> None:
    assert stamps.read(bytes(tmp_path / "lastauth")) is None
