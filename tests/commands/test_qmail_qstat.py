"""qmail-qstat: the two lines of the original."""

import subprocess
from pathlib import Path

import pytest

from tests.helpers import BIN, run
from tests.queuehomes import BOTH, QueueHome, nobody, open_to_all, program, queue_home

__all__ = ["queue_home"]

LINES = b"messages in queue: %d\nmessages in queue but not yet preprocessed: %d\n"


def fill(home: QueueHome) -> None:
    for name in ("mess/0/23", "mess/1/24", "mess/1/x", "todo/24", "intd/24", "info/0/23"):
        (home.queue / name).touch()
    (home.queue / "mess/1/link").symlink_to("24")


@BOTH
def test_files_are_counted(which: str, queue_home: QueueHome) -> None:
    argv = program(which, "qmail-qstat", queue_home)
    assert run(argv, env=queue_home.env()).stdout == LINES % (0, 0)
    fill(queue_home)
    done = run(argv, env=queue_home.env())
    assert (done.returncode, done.stdout, done.stderr) == (0, LINES % (3, 1), b"")


def test_split_todo_is_counted(tmp_path: Path) -> None:
    home = QueueHome(tmp_path / "home", split_todo=True)
    for name in ("mess/0/23", "todo/0/23", "todo/1/24"):
        (home.queue / name).touch()
    assert run([BIN / "qmail-qstat"], env=home.env()).stdout == LINES % (1, 2)


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("queue", b"unable to chdir to %s/queue: file does not exist"),
        ("queue/mess", b"unable to read %s/queue/mess: file does not exist"),
        ("queue/todo", b"unable to read %s/queue/todo: file does not exist"),
    ],
)
def test_what_is_missing_is_not_empty(queue_home: QueueHome, missing: str, line: bytes) -> None:
    (queue_home.path / missing).rename(queue_home.path / "elsewhere")
    done = run([BIN / "qmail-qstat"], env=queue_home.env())
    assert (done.returncode, done.stdout) == (111, b"")
    assert done.stderr == b"qmail-qstat: fatal: " + line % str(queue_home.path).encode() + b"\n"


def test_what_cannot_be_read_is_not_empty(queue_home: QueueHome, tmp_path: Path) -> None:
    uid, gid = nobody()
    open_to_all(tmp_path)
    done = subprocess.run(
        [BIN / "qmail-qstat"], env=queue_home.env(), user=uid, group=gid, extra_groups=[], capture_output=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (111, b"")
    assert done.stderr.endswith(b"/queue: access denied\n")
