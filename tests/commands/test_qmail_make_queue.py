"""qmail-make-queue: the queue of the original, made, checked and mended; messages stay as they are."""

import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest

from tests.helpers import BIN, environment, run
from tests.queuehomes import QueueHome, needs_originals, nobody, open_to_all, original, queue_home, run_queue

__all__ = ["queue_home"]

MAKE = BIN / "qmail-make-queue"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def make(home: Path, *words: str, code: int = 0) -> list[str]:
    done = run([MAKE, *words], env=environment(QMAILHOME=str(home)))
    assert (done.returncode, done.stderr == b"") == (code, code == 0), done.stderr
    return done.stdout.decode().splitlines()


def listed(queue: Path) -> dict[str, tuple[str, int]]:
    """Name: kind and mode, size of a file."""
    files = [path for path in queue.rglob("*") if not (path.name.isdigit() and path.is_file())]
    return {
        str(path.relative_to(queue)): (stat.filemode(path.stat().st_mode), path.is_file() and path.stat().st_size)
        for path in files
    }


def owners(queue: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(queue)): (path.stat().st_uid, path.stat().st_gid) for path in queue.rglob("*")}


def test_a_queue_is_made(home: Path) -> None:
    before = os.umask(0o077)
    try:
        lines = make(home)
    finally:
        os.umask(before)
    found = listed(home / "queue")
    assert len(found) == 10 + 4 * 23 + 3
    assert (
        found["pid"] == found["intd"] == found["bounce"] == found["last"] == found["info/22"] == ("drwx------", False)
    )
    assert found["todo"] == found["lock"] == found["mess"] == found["mess/0"] == ("drwxr-x---", False)
    assert found["lock/trigger"] == ("prw--w--w-", False)
    assert found["lock/sendmutex"] == ("-rw-------", 0)
    assert found["lock/tcpto"] == ("-rw-r--r--", 1024)
    assert (home / "queue/lock/tcpto").read_bytes() == bytes(1024)
    assert "made queue/mess/22: a directory" in lines
    assert lines[-1] == "made mta-sts: a directory"
    assert len(lines) == len(found) + 2
    assert set(owners(home / "queue").values()) == {(home.stat().st_uid, home.stat().st_gid)}


@needs_originals
def test_it_is_the_originals_queue(home: Path) -> None:
    make(home)
    theirs = Path(original("qmail-queue")).parent.parent / "queue"
    ours = listed(home / "queue")
    assert ours.pop("last") == ("drwx------", False)
    assert ours == listed(theirs)


def test_what_the_originals_queue_lacks_is_added(home: Path) -> None:
    """It has no folder for the last errors."""
    make(home)
    (home / "queue/last").rmdir()
    assert make(home) == ["made queue/last: a directory"]


def test_a_queue_that_is_right_is_left_alone(home: Path) -> None:
    make(home)
    before = {path: path.stat().st_ctime_ns for path in (home / "queue").rglob("*")}
    assert make(home) == []
    assert {path: path.stat().st_ctime_ns for path in (home / "queue").rglob("*")} == before


def test_what_is_wrong_is_mended_and_said(home: Path) -> None:
    make(home)
    queue = home / "queue"
    (queue / "lock/trigger").chmod(0o644)
    (queue / "info/4").rmdir()
    os.truncate(queue / "lock/tcpto", 100)
    wanted = [
        "make queue/info/4: a directory",
        "mend queue/lock/tcpto: size 1024, was 100",
        "mend queue/lock/trigger: mode 0622, was 0644",
    ]
    assert make(home, "-n") == [f"would {line}" for line in wanted]
    assert make(home, "-n") == [f"would {line}" for line in wanted]
    assert make(home) == [line.replace("make", "made").replace("mend", "mended") for line in wanted]
    assert make(home) == []


def test_nothing_is_made_with_n(home: Path) -> None:
    assert len(make(home, "-n")) == 10 + 4 * 23 + 3 + 2
    assert list(home.iterdir()) == []


def test_messages_are_not_touched(queue_home: QueueHome) -> None:
    assert run_queue([BIN / "qmail-queue"], b"text", b"Fa\0\0", queue_home.env()).returncode == 0
    files = [queue_home.queue / name for name in queue_home.files()]
    for file in files:
        file.chmod(0o400)
    before = [file.stat() for file in files]
    (queue_home.queue / "todo").chmod(0o700)
    assert make(queue_home.path) == ["mended queue/todo: mode 0750, was 0700", "made mta-sts: a directory"]
    assert [file.stat() for file in files] == before


@pytest.mark.parametrize("split", [1, 100])
def test_another_split_is_made_and_kept(home: Path, split: int) -> None:
    make(home, "-s", str(split))
    assert len(list((home / "queue/mess").iterdir())) == split
    assert make(home) == make(home, "-s", str(split)) == []
    done = run([MAKE, "-s", "23"], env=environment(QMAILHOME=str(home)))
    line = b"qmail-make-queue: fatal: the queue has mess with a split of %d\n" % split
    assert (done.returncode, done.stderr) == (100, line)


def test_todo_is_split_if_asked_for(home: Path) -> None:
    make(home, "-b", "-s5")
    assert len(list((home / "queue/todo").iterdir())) == len(list((home / "queue/intd").iterdir())) == 5
    assert make(home) == make(home, "-b") == []
    (home / "other").mkdir()
    make(home / "other")
    assert run([MAKE, "-b"], env=environment(QMAILHOME=str(home / "other"))).returncode == 100


def test_a_queue_that_was_not_finished_is_finished(home: Path) -> None:
    make(home, "-s", "30")
    for folder in ("mess/3", "mess/0", "info", "lock"):
        subprocess.run(["rm", "-r", home / "queue" / folder], check=True)
    make(home)
    assert make(home) == []
    assert len(list((home / "queue/mess").iterdir())) == 30


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("pid", b"unable to mend queue/pid: it is not a directory"),
        ("lock/trigger", b"unable to mend queue/lock/trigger: it is not a FIFO"),
    ],
)
def test_another_kind_of_thing_is_not_replaced(home: Path, name: str, complaint: bytes) -> None:
    make(home)
    path = home / "queue" / name
    path.rmdir() if path.is_dir() else path.unlink()
    path.write_text("mine")
    done = run([MAKE], env=environment(QMAILHOME=str(home)))
    assert (done.returncode, done.stderr) == (111, b"qmail-make-queue: fatal: " + complaint + b"\n")
    assert path.read_text() == "mine"


def test_links_are_not_followed(home: Path, tmp_path: Path) -> None:
    make(home)
    (tmp_path / "outside").mkdir(mode=0o700)
    (tmp_path / "secret").touch(mode=0o600)
    (home / "queue/pid").rmdir()
    (home / "queue/pid").symlink_to(tmp_path / "outside")
    done = run([MAKE], env=environment(QMAILHOME=str(home)))
    assert (done.returncode, b"queue/pid" in done.stderr) == (111, True)
    (home / "queue/pid").unlink()
    (home / "queue/lock/tcpto").unlink()
    os.link(tmp_path / "secret", home / "queue/lock/tcpto")
    done = run([MAKE], env=environment(QMAILHOME=str(home)))
    assert (done.returncode, b"queue/lock/tcpto" in done.stderr) == (111, True)
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secret").stat().st_size == 0


def test_root_mends_owners(home: Path) -> None:
    uid, gid = nobody()
    make(home)
    os.chown(home / "queue/mess/3", uid, gid)
    user, group = home.stat().st_uid, home.stat().st_gid
    assert make(home) == [f"mended queue/mess/3: owner {user}:{group}, was {uid}:{gid}"]
    assert make(home) == []


def test_another_user_makes_a_queue_for_himself_and_mends_it(home: Path, tmp_path: Path) -> None:
    uid, gid = nobody()
    os.chown(home, uid, gid)
    open_to_all(tmp_path)

    def done(*words: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [MAKE, *words], env=environment(QMAILHOME=str(home)), user=uid, group=gid, extra_groups=[],
            capture_output=True, check=False,
        )  # fmt: skip

    assert done().returncode == 0
    assert set(owners(home / "queue").values()) == {(uid, gid)}
    (home / "queue/mess/3").chmod(0)
    (home / "queue/lock/tcpto").chmod(0)
    assert done().stdout == (
        b"mended queue/mess/3: mode 0750, was 0000\nmended queue/lock/tcpto: mode 0644, was 0000\n"
    )
    os.chown(home / "queue/pid", pwd.getpwnam("root").pw_uid, gid)
    (home / "queue/pid").chmod(0o750)
    mended = done()
    assert (mended.returncode, mended.stdout) == (111, b"")
    assert mended.stderr == b"qmail-make-queue: fatal: unable to mend queue/pid: it belongs to uid 0\n"


def test_without_a_home_it_fails(tmp_path: Path) -> None:
    done = run([MAKE], env=environment(QMAILHOME=str(tmp_path / "missing")))
    assert done.returncode == 111
    assert done.stderr.startswith(b"qmail-make-queue: fatal: unable to work in ")


@pytest.mark.parametrize("words", [["-x"], ["-s"], ["-s", "0"], ["-s", "x"], ["word"]])
def test_usage(words: list[str]) -> None:
    done = run([MAKE, *words])
    assert (done.returncode, done.stderr) == (100, b"qmail-make-queue: usage: qmail-make-queue [ -nb ] [ -s split ]\n")
