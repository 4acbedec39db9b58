import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.stores import relayctrl

IP = b"192.0.2.7"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[relayctrl.Folder]:
    made = relayctrl.opened({relayctrl.DIR: os.fsencode(tmp_path)})
    yield made
    made.close()


@given(st.binary(max_size=60) | st.ip_addresses().map(lambda ip: str(ip).encode()))
def test_whatever_a_peer_is_called_its_file_lies_in_the_folder(ip: bytes) -> None:
    name = relayctrl.name_of(ip)
    assert name is None or (name == relayctrl.name_of(name) and b"/" not in name and not name.startswith(b"."))


@given(st.binary(max_size=8) | st.just(b"USER=") | st.just(b"USER=a=b\0PATH=x\0"))
def test_what_a_file_holds_sets_user_and_domain_or_nothing(text: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as path:
        (Path(path) / IP.decode()).write_bytes(text)
        made = relayctrl.opened({relayctrl.DIR: path.encode()})
        try:
            found = relayctrl.look_up(made, IP, 0)
        finally:
            made.close()
    assert found is not None and found.keys() <= {b"USER", b"DOMAIN"}


def test_a_file_that_was_renewed_meanwhile_is_not_forgotten(folder: relayctrl.Folder, tmp_path: Path) -> None:
    """Between the look at it and its removal."""
    relayctrl.remember(folder, IP, {b"USER": b"max"})
    relayctrl.forget(folder, IP, 1)
    assert (tmp_path / IP.decode()).read_bytes() == b"USER=max\0"
    relayctrl.forget(folder, IP, 1 << 40)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_leaves_nothing_behind(
    folder: relayctrl.Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda fd, text: 1)
    with pytest.raises(OSError):
        relayctrl.remember(folder, IP, {b"USER": b"max"})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("word", "seconds"), [(b"", 900), (b"0", 900), (b"x", 900), (b"60", 60), (b"-1", 900)])
def test_the_time_is_a_number_or_a_quarter_of_an_hour(word: bytes, seconds: int) -> None:
    assert relayctrl.expiry({relayctrl.EXPIRY: word}) == seconds
