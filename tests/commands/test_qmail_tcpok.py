"""qmail-tcpok: the table is empty afterwards, as with the original."""

import fcntl
import os
import subprocess

import pytest

from tests.helpers import BIN, run
from tests.queuehomes import BOTH, QueueHome, program, queue_home

__all__ = ["queue_home"]


@BOTH
@pytest.mark.parametrize("size", [1024, 100, 0])
def test_the_table_is_empty_and_whole(which: str, queue_home: QueueHome, size: int) -> None:
    table = queue_home.queue / "lock" / "tcpto"
    table.write_bytes(os.urandom(size))
    done = run(program(which, "qmail-tcpok", queue_home), env=queue_home.env())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert table.read_bytes() == bytes(1024)


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ("queue/lock/tcpto", b"write %s/queue/lock/tcpto"),
        ("queue/lock", b"chdir to %s/queue/lock"),
        ("queue", b"chdir to %s/queue/lock"),
    ],
)
def test_what_is_missing_is_said(queue_home: QueueHome, missing: str, complaint: bytes) -> None:
    (queue_home.path / missing).rename(queue_home.path / "elsewhere")
    done = run([BIN / "qmail-tcpok"], env=queue_home.env())
    place = complaint % os.fsencode(queue_home.path)
    assert (done.returncode, done.stdout) == (111, b"")
    assert done.stderr == b"qmail-tcpok: fatal: unable to " + place + b": file does not exist\n"


def test_without_a_home_it_says_so(queue_home: QueueHome) -> None:
    done = run([BIN / "qmail-tcpok"], env={**queue_home.env(), "QMAILHOME": "/nonexistent"})
    assert done.stderr == b"qmail-tcpok: fatal: unable to chdir to /nonexistent: file does not exist\n"


def test_it_waits_for_who_has_the_table(queue_home: QueueHome) -> None:
    table = queue_home.queue / "lock" / "tcpto"
    with open(table, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = subprocess.Popen([BIN / "qmail-tcpok"], env=queue_home.env())
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        file.write(b"x" * 16)
    assert process.wait(20) == 0
    assert table.read_bytes() == bytes(1024)
