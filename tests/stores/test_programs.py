"""Which program of a home is meant."""

import os
from pathlib import Path

import pytest

from qmailpy.stores import programs


def test_a_program_in_the_home_is_meant_before_all_others(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "qmail-inject").touch()
    home = bytes(tmp_path)
    assert programs.find(home, b"qmail-inject") == home + b"/bin/qmail-inject"
    assert programs.find(home, b"qmail-smtpd") == b"qmail-smtpd"


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "qmail-inject").symlink_to("nowhere")
    assert programs.find(bytes(tmp_path), b"qmail-inject") == bytes(tmp_path) + b"/bin/qmail-inject"


def test_a_home_without_programs_leaves_it_to_path(tmp_path: Path) -> None:
    assert programs.find(bytes(tmp_path), b"qmail-inject") == b"qmail-inject"


def test_entering_a_home_keeps_an_absolute_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    env = {b"QMAILHOME": bytes(tmp_path)}
    assert programs.enter(env) == (bytes(tmp_path), env)
    assert os.getcwdb() == bytes(tmp_path)


def test_entering_a_home_makes_a_relative_name_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    env = {b"QMAILHOME": b"home", b"X": b"y"}
    assert programs.enter(env) == (bytes(tmp_path / "home"), {b"QMAILHOME": bytes(tmp_path / "home"), b"X": b"y"})


def test_a_home_that_is_missing_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        programs.enter({b"QMAILHOME": bytes(tmp_path / "home")})
