"""The folder of policies: read, replaced, bounded."""

import os
from pathlib import Path

import pytest

from qmailpy.formats.mtasts import ENFORCE, Kept, Policy
from qmailpy.stores import mtasts as store
from qmailpy.stores.mtasts import Policies

NOW = 1_800_000_000
KEPT = Kept(b"1", NOW, 0, Policy(ENFORCE, 86400, [b"mx.dom"]))


@pytest.fixture
def policies(tmp_path: Path) -> Policies:
    (tmp_path / "mta-sts").mkdir()
    return Policies(bytes(tmp_path))


def test_a_policy_is_kept_as_a_whole(policies: Policies, tmp_path: Path) -> None:
    assert policies.are_kept()
    assert policies.read(b"dom.example") is None
    for number in (b"1", b"2"):
        policies.write(b"dom.example", Kept(number, NOW, 0, KEPT.policy), NOW)
        found = policies.read(b"dom.example")
        assert found is not None and found.id == number
    assert os.listdir(tmp_path / "mta-sts") == ["dom.example"]


@pytest.mark.parametrize(
    "domain", [b"", b".", b"..", b"../x", b"a/b", b"A", b".new.1", b"x" * 254, b"a\0b", b"\xc3\xbc"]
)
def test_what_is_no_domain_gets_no_file(policies: Policies, tmp_path: Path, domain: bytes) -> None:
    policies.write(domain, KEPT, NOW)
    assert policies.read(domain) is None
    assert os.listdir(tmp_path / "mta-sts") == []
    assert sorted(os.listdir(tmp_path)) == ["mta-sts"]


def test_a_broken_file_is_none_and_an_unreadable_one_an_error(policies: Policies, tmp_path: Path) -> None:
    file = tmp_path / "mta-sts" / "dom"
    file.write_bytes(KEPT.encode()[:-1])
    assert policies.read(b"dom") is None
    file.unlink()
    file.mkdir()
    with pytest.raises(OSError):
        policies.read(b"dom")
    file.rmdir()
    file.symlink_to("/etc/passwd")
    with pytest.raises(OSError):
        policies.read(b"dom")


def test_what_cannot_be_written_is_not_kept(tmp_path: Path) -> None:
    policies = Policies(bytes(tmp_path))
    assert not policies.are_kept()
    policies.write(b"dom", KEPT, NOW)
    assert policies.read(b"dom") is None


def test_the_folder_has_an_end(policies: Policies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST", 5)
    folder = tmp_path / "mta-sts"
    for number in range(8):
        policies.write(b"d%d" % number, KEPT, NOW)
        os.utime(folder / f"d{number}", (NOW + number, NOW + number))
    assert sorted(os.listdir(folder)) == ["d3", "d4", "d5", "d6", "d7"]


def test_what_a_killed_process_has_left_goes(policies: Policies, tmp_path: Path) -> None:
    folder = tmp_path / "mta-sts"
    for name, age in ((".new.1", 86401), (".new.2", 10), ("old", 1 << 20)):
        (folder / name).touch()
        os.utime(folder / name, (NOW - age, NOW - age))
    policies.write(b"dom", KEPT, NOW)
    assert sorted(os.listdir(folder)) == [".new.2", "dom", "old"]
