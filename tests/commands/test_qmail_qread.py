"""qmail-qread: byte by byte what the original prints."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import BIN
from tests.queuehomes import BOTH, QueueHome, needs_originals, nobody, open_to_all, program, queue_home

__all__ = ["queue_home"]

BIRTH = 1004950987


def add(home: QueueHome, number: int, sender: bytes, size: int = 1234, **channels: bytes) -> None:
    place = f"{number % 23}/{number}"
    (home.queue / "mess" / place).write_bytes(b"x" * size)
    (home.queue / "info" / place).write_bytes(b"F" + sender + b"\0")
    os.utime(home.queue / "info" / place, (BIRTH, BIRTH))
    for channel, text in channels.items():
        (home.queue / channel / place).write_bytes(text)


def read(which: str, home: QueueHome) -> bytes:
    argv = program(which, "qmail-qread", home)
    done = subprocess.run(argv, capture_output=True, env=home.env(), check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@BOTH
def test_a_queue(which: str, queue_home: QueueHome) -> None:
    add(queue_home, 2220372, b"joe@a.example", local=b"Talias-x@a.example\0", remote=b"Dmary@b.example\0Tx\0")
    add(queue_home, 2220373, b"", size=0)
    (queue_home.queue / "bounce/2220373").touch()
    assert read(which, queue_home) == (
        b"5 Nov 2001 09:03:07 GMT  #2220372  1234  <joe@a.example> \n"
        b"\tlocal\talias-x@a.example\n"
        b"  done\tremote\tmary@b.example\n"
        b"\tremote\tx\n"
        b"5 Nov 2001 09:03:07 GMT  #2220373  0  <>  bouncing\n"
    )


@BOTH
def test_an_empty_queue(which: str, queue_home: QueueHome) -> None:
    assert read(which, queue_home) == b""


@BOTH
def test_bytes_that_cannot_be_printed_are_not(which: str, queue_home: QueueHome) -> None:
    add(queue_home, 23, b"a\x1b[2J\xff\n@b", local=b"Tc\r\n\x7f@d\0Xodd\0\0Thalf")
    assert read(which, queue_home) == (b"5 Nov 2001 09:03:07 GMT  #23  1234  <a_[2J__@b> \n\tlocal\tc___@d\n")


@BOTH
def test_a_message_that_is_gone_is_told_and_the_next_is_listed(which: str, queue_home: QueueHome) -> None:
    add(queue_home, 23, b"a@b")
    add(queue_home, 24, b"c@d")
    (queue_home.queue / "mess/0/23").unlink()
    assert read(which, queue_home) == (
        b"warning: trouble with #23: file does not exist\n5 Nov 2001 09:03:07 GMT  #24  1234  <c@d> \n"
    )


@BOTH
def test_what_is_not_a_number_is_no_message(which: str, queue_home: QueueHome) -> None:
    for name in ("x", "12x", ".1"):
        (queue_home.queue / "info/0" / name).touch()
    assert read(which, queue_home) == b""


@BOTH
def test_a_folder_that_is_missing(which: str, queue_home: QueueHome, tmp_path: Path) -> None:
    argv = program(which, "qmail-qread", queue_home)
    (queue_home.queue / "info/5").rename(tmp_path / "elsewhere")
    done = subprocess.run(argv, capture_output=True, env=queue_home.env(), check=False)
    assert (done.returncode, done.stderr) == (111, b"")
    assert done.stdout == b"fatal: unable to opendir info/5: file does not exist\n"


@needs_originals
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_contents_are_listed_as_by_the_original(queue_home: QueueHome, data: st.DataObject) -> None:
    records = st.lists(st.sampled_from([b"T", b"D", b"X", b"\0", b"a@b", b"\xff\n", b"T\0"]), max_size=8).map(b"".join)
    queue_home.empty()
    for number in (23, 24, 47):
        sender = data.draw(records).replace(b"\0", b"")
        add(queue_home, number, sender, local=data.draw(records), remote=data.draw(records))
    assert read("ours", queue_home) == read("the original", queue_home)


def test_who_may_not_read_the_queue_is_told_so(queue_home: QueueHome, tmp_path: Path) -> None:
    uid, gid = nobody()
    open_to_all(tmp_path)
    user = {"user": uid, "group": gid, "extra_groups": [], "capture_output": True, "check": False}
    done = subprocess.run([BIN / "qmail-qread"], env=queue_home.env(), **user)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout) == (111, b"fatal: unable to chdir: access denied\n")
    home = {**queue_home.env(), "QMAILHOME": str(tmp_path / "missing")}
    done = subprocess.run([BIN / "qmail-qread"], env=home, **user)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout) == (111, b"fatal: unable to chdir: file does not exist\n")


def test_an_output_that_is_full_is_a_failure(queue_home: QueueHome) -> None:
    add(queue_home, 23, b"a@b")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [BIN / "qmail-qread"], env=queue_home.env(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 111
    assert done.stderr == b"qmail-qread: fatal: unable to write output: out of disk space\n"


@pytest.mark.parametrize("split", [3, 101])
def test_another_split_is_found(tmp_path: Path, split: int) -> None:
    home = QueueHome(tmp_path / "home", split=split)
    for folder in ("mess", "info", "local", "remote"):
        (home.queue / folder / f"{202 % split}" / "202").write_bytes(b"Fa@b\0" if folder == "info" else b"Tc@d\0")
    lines = read("ours", home).splitlines()
    assert [line.split()[-1] for line in lines] == [b"<a@b>", b"c@d", b"c@d"]
