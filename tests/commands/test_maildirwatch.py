"""maildirwatch: what is on the screen, and when it is looked for again."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.commands import maildirwatch
from tests.helpers import BIN, environment, run

WATCH = BIN / "maildirwatch"
CLEAR = b"\033[;H\033[;J"
THEN = 1_000_000_000


@pytest.fixture
def maildir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("tmp", "new", "cur"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(maildir: Path, name: str, text: bytes, time: int = THEN) -> None:
    (maildir / name).write_bytes(text)
    os.utime(maildir / name, (time, time))


def test_new_messages_are_shown_the_oldest_first(maildir: Path) -> None:
    put(maildir, "new/2", b"Subject: two\n\nbody\nmore\n", THEN + 1)
    head = b"Return-Path: <a@b>\nDelivered-To: joe@h\nFrom: A\n\t<a@b>\nSubject: one\n"
    put(maildir, "new/1", head + b"Delivered-To: other\n\n" + b"x" * 200)
    put(maildir, "cur/3", b"Subject: three\n\n")
    put(maildir, "new/.4", b"Subject: four\n\n")
    assert maildirwatch.screen(THEN + 2) == (
        b"FROM <a@b> TO <other>\n\033[1mFrom: A//<a@b>\033[0m\none//" + b"x" * 153 + b"\n\n"
        b"FROM ? TO <?>\ntwo//body/more/\n\n"
    )


def test_a_message_of_this_very_second_waits(maildir: Path) -> None:
    put(maildir, "new/1", b"Subject: one\n\n")
    assert maildirwatch.screen(THEN) == b""
    assert maildirwatch.screen(THEN + 1) == b"FROM ? TO <?>\none//\n\n"


def test_a_screen_is_told_nothing_but_text(maildir: Path) -> None:
    head = b"Return-Path: <\033a\x9b>\nDelivered-To: \x7f\x85\nFrom: \033[2J\nSubject: \033]0;x\a\n"
    put(maildir, "new/1", head + b"\n\xff\r\0")
    assert maildirwatch.screen(THEN + 1) == (b"FROM <?a?> TO <??>\n\033[1mFrom: /[2J\033[0m\n/]0;x///////\n\n")


def test_it_is_looked_for_again_every_thirty_seconds(maildir: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    now = [THEN]

    def rest(seconds: int) -> None:
        now[0] += seconds
        put(maildir, f"new/{now[0]}", b"Subject: after %d\n\n" % (now[0] - THEN), THEN)
        if now[0] == THEN + 90:
            (maildir / "new").rename(maildir / "gone")

    assert maildirwatch.watch(lambda: now[0], rest) == 111
    shown, said = capfdbinary.readouterr()
    screens = [re.findall(rb"after (\d+)", screen) for screen in shown.split(CLEAR)[1:]]
    assert screens == [[], [b"30"], [b"30", b"60"]]
    assert said == b"maildirwatch: fatal: unable to scan $MAILDIR/new: file does not exist\n"


def test_stale_files_of_tmp_are_removed(maildir: Path) -> None:
    put(maildir, "tmp/1", b"")

    class Enough(Exception):
        pass

    def rest(seconds: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        maildirwatch.watch(lambda: THEN + 129601, rest)
    assert list((maildir / "tmp").iterdir()) == []


def test_a_message_that_is_no_file_is_passed_over(maildir: Path) -> None:
    (maildir / "new" / "1").symlink_to("nowhere")
    put(maildir, "new/2", b"Subject: two\n\n")
    assert maildirwatch.screen(THEN + 1) == b"FROM ? TO <?>\ntwo//\n\n"


def test_the_command_shows_its_first_screen_at_once(maildir: Path) -> None:
    put(maildir, "new/1", b"Subject: one\n\n")
    wanted = CLEAR + b"FROM ? TO <?>\none//\n\n"
    with subprocess.Popen([WATCH], env=environment(MAILDIR=str(maildir)), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(len(wanted)) == wanted
        process.kill()


def test_trouble_is_named(maildir: Path) -> None:
    for env, said in (
        (environment(), b"MAILDIR not set"),
        (environment(MAILDIR="/nowhere"), b"unable to chdir to /nowhere: file does not exist"),
    ):
        done = run([WATCH], env=env)
        assert (done.returncode, done.stderr) == (111, b"maildirwatch: fatal: " + said + b"\n")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [WATCH], env=environment(MAILDIR=str(maildir)), stdout=full, stderr=subprocess.PIPE, check=False
        )
    said = b"maildirwatch: fatal: unable to write to the screen: out of disk space\n"
    assert (done.returncode, done.stderr) == (111, said)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(max_size=300))
def test_any_message_is_shown_as_text(maildir: Path, text: bytes) -> None:
    put(maildir, "new/1", text)
    shown = maildirwatch.screen(THEN + 1).replace(b"\033[1m", b"").replace(b"\033[0m", b"")
    assert shown.translate(None, bytes(range(32, 127))).strip(b"\n") == b""


def test_of_a_header_of_any_size_the_beginning_is_shown(maildir: Path) -> None:
    put(maildir, "new/1", b"Subject: one\n" + b"a:b\n" * 100_000 + b"Subject: two\n\n")
    assert maildirwatch.screen(THEN + 1) == b"FROM ? TO <?>\none/\n\n"
