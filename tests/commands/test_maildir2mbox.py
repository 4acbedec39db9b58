"""maildir2mbox beside the original: what is in which place afterwards, also after a kill and beside another."""

import errno
import fcntl
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from qmailpy.commands import maildir2mbox
from tests.helpers import BIN, environment, eventually, needs, run
from tests.submissions import Done, everybodys

COMMAND = str(BIN / "maildir2mbox")
THEN = 1_000_000_000  # Sun, 9 Sep 2001, 01:46:40 GMT
DATE = b"Sun Sep 09 01:46:40 2001"

both = pytest.mark.parametrize("which", everybodys("maildir2mbox"))


class Mailbox:
    """A Maildir, an mbox file, and a name for a temporary one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mbox = path / "mbox"
        self.maildir = path / "Maildir"
        for name in ("tmp", "new", "cur"):
            (self.maildir / name).mkdir(parents=True)
        names = {"MAIL": self.mbox, "MAILTMP": path / "mbox.tmp", "MAILDIR": self.maildir}
        self.env = environment(**{name: str(path) for name, path in names.items()})

    def put(self, name: str, text: bytes, time: int = THEN) -> Path:
        path = self.maildir / name
        path.write_bytes(text)
        os.utime(path, (time, time))
        return path

    def run(self, which: str, **changes: str | None) -> Done:
        env = {**self.env, **changes}
        return run([which], env={name: value for name, value in env.items() if value is not None})

    def left(self) -> list[str]:
        return sorted(path.relative_to(self.maildir).as_posix() for path in self.maildir.glob("*/*"))


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path)


@both
def test_messages_are_moved_the_oldest_first(mailbox: Mailbox, which: str) -> None:
    mailbox.put("new/2", b"Return-Path: <a b@c>\nSubject: two\n\nFrom me\n>From you\n", THEN)
    mailbox.put("cur/1:2,S", b"Return-Path: <>\n\none\n", THEN - 1)
    mailbox.put("new/3", b"Subject: three\n", THEN + 1)
    mailbox.mbox.write_bytes(b"From x\n\nold\n\n")
    done = mailbox.run(which)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert mailbox.mbox.read_bytes() == (
        b"From x\n\nold\n\n"
        b"From MAILER-DAEMON Sun Sep 09 01:46:39 2001\nReturn-Path: <>\n\none\n\n"
        b"From a-b@c " + DATE + b"\nReturn-Path: <a b@c>\nSubject: two\n\n>From me\n>>From you\n\n"
        b"From XXX Sun Sep 09 01:46:41 2001\nSubject: three\n\n"
    )
    assert mailbox.left() == []
    assert not (mailbox.path / "mbox.tmp").exists()
    assert mailbox.mbox.stat().st_mode & 0o7777 == 0o600


@both
def test_without_messages_nothing_is_made(mailbox: Mailbox, which: str) -> None:
    assert mailbox.run(which).returncode == 0
    assert not mailbox.mbox.exists()


@both
def test_the_mbox_file_is_made_if_there_is_none(mailbox: Mailbox, which: str) -> None:
    mailbox.put("new/1", b"")
    assert mailbox.run(which).returncode == 0
    assert mailbox.mbox.read_bytes() == b"From XXX " + DATE + b"\n\n"


@both
def test_names_that_begin_with_a_dot_and_messages_of_now_stay(mailbox: Mailbox, which: str) -> None:
    mailbox.put("new/.1", b"x\n")
    mailbox.put("new/2", b"x\n", 2**31)
    assert mailbox.run(which).returncode == 0
    assert mailbox.left() == ["new/.1", "new/2"]


@both
def test_stale_files_of_tmp_are_removed(mailbox: Mailbox, which: str) -> None:
    mailbox.put("tmp/1", b"x\n")
    mailbox.put("tmp/2", b"x\n", 2**31)
    assert mailbox.run(which).returncode == 0
    assert mailbox.left() == ["tmp/2"]


@both
@pytest.mark.parametrize("name", ["MAIL", "MAILTMP", "MAILDIR"])
def test_a_variable_that_is_not_set_is_named(mailbox: Mailbox, which: str, name: str) -> None:
    done = mailbox.run(which, **{name: None})
    assert (done.returncode, done.stderr) == (111, f"maildir2mbox: fatal: {name} not set\n".encode())


@both
def test_what_is_trouble_is_named_and_all_messages_stay(mailbox: Mailbox, which: str) -> None:
    mailbox.put("new/1", b"x\n")
    mailbox.mbox.write_bytes(b"old\n")
    folder = mailbox.path / "folder"
    folder.mkdir()
    for changes, complaint in (
        ({"MAIL": str(folder)}, f"unable to lock {folder}: is a directory"),
        ({"MAILTMP": str(folder)}, f"unable to create {folder}: is a directory"),
        ({"MAILTMP": "/dev/full"}, "unable to write to /dev/full: out of disk space"),
        ({"MAILDIR": str(folder / "x")}, f"unable to chdir to {folder}/x: file does not exist"),
        ({"MAILDIR": str(folder)}, "unable to scan $MAILDIR/new: file does not exist"),
    ):
        done = mailbox.run(which, **changes)
        assert (done.returncode, done.stderr) == (111, f"maildir2mbox: fatal: {complaint}\n".encode())
    (mailbox.maildir / "new" / "2").mkdir()
    os.utime(mailbox.maildir / "new" / "2", (THEN, THEN))
    done = mailbox.run(which)
    assert (done.returncode, done.stderr) == (
        111,
        b"maildir2mbox: fatal: unable to read $MAILDIR/new/2: is a directory\n",
    )
    assert (mailbox.left(), mailbox.mbox.read_bytes()) == (["new/1", "new/2"], b"old\n")


def test_no_line_is_lost_for_its_missing_end(mailbox: Mailbox) -> None:
    mailbox.put("new/1", b"Return-Path: <a@b>\n\nlast")
    mailbox.put("new/2", b"alone", THEN + 1)
    mailbox.mbox.write_bytes(b"old")
    assert mailbox.run(COMMAND).returncode == 0
    assert mailbox.mbox.read_bytes() == (
        b"old\n\nFrom a@b " + DATE + b"\nReturn-Path: <a@b>\n\nlast\n\nFrom XXX Sun Sep 09 01:46:41 2001\nalone\n\n"
    )


def test_the_temporary_file_may_not_be_the_mbox_file_itself(mailbox: Mailbox) -> None:
    mailbox.put("new/1", b"x\n")
    mailbox.mbox.write_bytes(b"old\n")
    (mailbox.path / "mbox.tmp").symlink_to("mbox")
    done = mailbox.run(COMMAND)
    assert (done.returncode, done.stderr) == (
        111,
        f"maildir2mbox: fatal: $MAILTMP is $MAIL: {mailbox.mbox}\n".encode(),
    )
    assert (mailbox.left(), mailbox.mbox.read_bytes()) == (["new/1"], b"old\n")


def waits_for_a_lock(process: "subprocess.Popen[bytes]") -> bool:
    return b"-> FLOCK" in Path("/proc/locks").read_bytes() and any(
        line.split()[5] == str(process.pid).encode()
        for line in Path("/proc/locks").read_bytes().splitlines()
        if b"-> FLOCK" in line
    )


@both
def test_the_mbox_file_is_not_touched_while_another_has_the_lock(mailbox: Mailbox, which: str) -> None:
    mailbox.put("new/1", b"x\n")
    with mailbox.mbox.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = subprocess.Popen([which], env=mailbox.env)
        assert eventually(lambda: waits_for_a_lock(process))
        file.write(b"From me\n\n\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
        assert process.wait(20) == 0
    assert mailbox.mbox.read_bytes() == b"From me\n\n\nFrom XXX " + DATE + b"\nx\n\n"


def test_two_at_once_lose_nothing_and_double_nothing(mailbox: Mailbox) -> None:
    for number in range(20):
        mailbox.put(f"new/{number}", b"message %d\n" % number, THEN + number)
    with mailbox.mbox.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        names = [str(mailbox.path / f"tmp{number}") for number in range(4)]
        processes = [subprocess.Popen([COMMAND], env={**mailbox.env, "MAILTMP": name}) for name in names]
        assert eventually(lambda: all(map(waits_for_a_lock, processes)))
    assert [process.wait(20) for process in processes] == [0, 0, 0, 0]
    lines = mailbox.mbox.read_bytes().splitlines()
    assert [line for line in lines if line.startswith(b"message")] == [b"message %d" % number for number in range(20)]
    assert mailbox.left() == []


def kills(calls: str) -> Iterator[tuple[str, int]]:
    for call in calls.split():
        for when in range(1, 40):
            yield call, when


def test_a_kill_at_any_system_call_loses_no_message(mailbox: Mailbox) -> None:
    """And doubles none but between the move and the removal."""
    strace = needs("strace")
    texts = {f"new/{number}": b"message %d\n" % number for number in range(3)}
    reached = set()
    done_with = ""
    for call, when in kills("flock write fsync rename unlink close"):
        if call == done_with:
            continue
        for name, text in texts.items():
            mailbox.put(name, text)
        mailbox.mbox.write_bytes(b"From old\n\nold\n\n")
        inject = f"inject={call}:signal=KILL:when={when}"
        done = run([strace, "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, COMMAND], env=mailbox.env)
        text = mailbox.mbox.read_bytes()
        assert text.startswith(b"From old\n\nold\n\n")
        for name, message in texts.items():
            places = text.count(message) + (mailbox.maildir / name).exists()
            assert places == 1 or (places == 2 and text.count(message) == 1)
        if len(mailbox.left()) + text.count(b"message") > 3:
            assert text.count(b"message") == 3
            reached.add((call, when))
        if done.returncode == 0:
            done_with = call
            assert mailbox.left() == []
    assert reached == {("fsync", 2), ("unlink", 1), ("unlink", 2), ("unlink", 3)}


BLOCKS = st.lists(
    st.sampled_from([b"From ", b">", b"\n", b"x", b"Return-Path: <", b">\n", b" ", b"\t", b"\0", b"\xff", b"@"]),
    max_size=12,
).map(b"".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=BLOCKS)
def test_any_message_becomes_what_the_original_makes_of_it(mailbox: Mailbox, text: bytes) -> None:
    assume(not re.match(rb"Return-Path: <[^>]?(\n|$)", text))  # no sender, and no address either
    found = []
    for which in everybodys("maildir2mbox"):
        mailbox.mbox.unlink(missing_ok=True)
        mailbox.put("new/1", text + b"\n")
        assert mailbox.run(which).returncode == 0
        found.append(mailbox.mbox.read_bytes())
    assert found[0].startswith(b"From ")
    assert found == found[:1] * len(found)


def test_a_message_that_a_reader_moves_meanwhile_is_named(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bytes(mailbox.put("new/1", b"text\n"))

    def gone(path: bytes) -> object:
        raise FileNotFoundError(errno.ENOENT, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", gone)
        with pytest.raises(maildir2mbox.Unable):
            list(maildir2mbox.new_mail(path))
