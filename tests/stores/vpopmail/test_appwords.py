import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.stores.vpopmail import appwords
from tests.accounts import sha512
from tests.vpopkills import deaths


@pytest.fixture
def folder(tmp_path: Path) -> bytes:
    return bytes(tmp_path)


def made(folder: bytes, name: bytes) -> bytearray:
    password = appwords.new()
    appwords.add(folder, name, appwords.hashed(password))
    return password


def test_each_password_opens_the_account_and_is_told_from_the_others(folder: bytes, tmp_path: Path) -> None:
    phone, laptop = made(folder, b"phone"), made(folder, b"laptop")
    assert appwords.match(folder, phone) == b"phone"
    assert appwords.match(folder, laptop) == b"laptop"
    for wrong in (b"", b"x", bytes(phone[:-1]), bytes(phone) + b"x", appwords.hashed(phone)):
        assert appwords.match(folder, bytearray(wrong)) == b""
    assert stat.S_IMODE((tmp_path / ".app-passwords").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ".app-passwords" / "phone").stat().st_mode) == 0o600
    assert bytes(phone) not in (tmp_path / ".app-passwords" / "phone").read_bytes()


def test_new_passwords_are_long_and_never_the_same() -> None:
    some = {bytes(appwords.new()) for _ in range(100)}
    assert len(some) == 100
    assert all(re.fullmatch(rb"(?:[a-z2-7]{5}-){3}[a-z2-7]{5}", password) for password in some)


def test_one_that_was_taken_away_opens_nothing_and_the_others_stay(folder: bytes) -> None:
    phone, laptop = made(folder, b"phone"), made(folder, b"laptop")
    appwords.used(folder, b"phone", b"192.0.2.1")
    appwords.remove(folder, b"phone")
    assert appwords.match(folder, phone) == b""
    assert appwords.match(folder, laptop) == b"laptop"
    with pytest.raises(FileNotFoundError):
        appwords.remove(folder, b"phone")
    made(folder, b"phone")
    assert [(each.name, each.used) for each in appwords.every(folder)] == [(b"laptop", 0), (b"phone", 0)]


def test_one_that_is_there_keeps_its_last_use_when_it_is_added_again(folder: bytes) -> None:
    made(folder, b"phone")
    appwords.used(folder, b"phone", b"192.0.2.1")
    with pytest.raises(FileExistsError):
        made(folder, b"phone")
    assert [each.address for each in appwords.every(folder)] == [b"192.0.2.1"]


def test_each_has_its_own_last_use(folder: bytes) -> None:
    made(folder, b"phone")
    made(folder, b"laptop")
    appwords.used(folder, b"phone", b"2001:db8::1")
    laptop, phone = appwords.every(folder)
    assert (phone.name, phone.address) == (b"phone", b"2001:db8::1")
    assert phone.used >= phone.made > 0
    assert (laptop.used, laptop.address) == (0, b"")


def test_a_name_is_used_once_and_there_is_room_for_fifty(folder: bytes) -> None:
    made(folder, b"phone")
    with pytest.raises(FileExistsError):
        made(folder, b"phone")
    for number in range(appwords.MOST - 1):
        made(folder, b"n%d" % number)
    with pytest.raises(appwords.TooMany):
        made(folder, b"one-more")
    assert len(appwords.every(folder)) == appwords.MOST


@given(st.binary(max_size=70))
def test_no_name_leads_elsewhere(name: bytes) -> None:
    if appwords.is_name(name):
        assert re.fullmatch(rb"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", name)


def test_other_hashes_count_and_what_is_none_opens_nothing(folder: bytes, tmp_path: Path) -> None:
    path = tmp_path / ".app-passwords"
    path.mkdir()
    (path / "crypt").write_text(sha512(b"secret") + "\n")
    for name, text in {"empty": "", "locked": "!\n", "strange": "$foo$bar\n", "short": "{SHA256.HEX}\n"}.items():
        (path / name).write_text(text)
    os.mkfifo(path / "fifo")
    (path / "folder").mkdir()
    (path / "link").symlink_to("crypt")
    assert appwords.match(folder, bytearray(b"secret")) == b"crypt"
    assert appwords.match(folder, bytearray(b"")) == b""


def test_an_addition_that_is_killed_leaves_a_whole_password_or_none(folder: bytes, tmp_path: Path) -> None:
    password = bytearray(b"some-password")
    for _ in deaths(lambda: appwords.add(folder, b"phone", appwords.hashed(password))):
        assert appwords.match(folder, bytearray(b"")) == b""
        assert [each.name for each in appwords.every(folder)] in ([], [b"phone"])
        if appwords.every(folder):
            assert appwords.match(folder, password) == b"phone"
            appwords.remove(folder, b"phone")
        else:
            appwords.add(folder, b"phone", appwords.hashed(password))
            appwords.remove(folder, b"phone")
