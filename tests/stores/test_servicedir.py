"""supervise's own files: modes, locks, FIFOs that are none, and a full disk."""

import errno
import os
from pathlib import Path

import pytest

from qmailpy.formats.svstatus import UP, Child, Status
from qmailpy.stores import servicedir
from qmailpy.stores.safeio import Failed
from qmailpy.stores.servicedir import Place

CHILD = Child(b"run", 7, 8, b"boot")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sv").mkdir()
    return tmp_path / "sv"


def place(folder: Path) -> Place:
    return Place(b"sv", bytes(folder))


def complaint(folder: Path) -> tuple[bytes, int]:
    with pytest.raises(Failed) as caught:
        taken = place(folder)
        try:
            taken.open_ok()
        finally:
            taken.close()
    return caught.value.complaint, caught.value.errno or 0


def test_a_directory_belongs_to_one_process_at_a_time(folder: Path) -> None:
    first = place(folder)
    assert complaint(folder) == (b"unable to acquire sv/supervise/lock", errno.EAGAIN)
    first.close()
    place(folder).close()


def test_what_fails_is_said_as_in_the_original(folder: Path) -> None:
    assert complaint(folder / "none") == (b"unable to chdir to sv", errno.ENOENT)
    (folder / "supervise").write_text("")
    assert complaint(folder) == (b"unable to acquire sv/supervise/lock", errno.ENOTDIR)
    (folder / "supervise").unlink()
    (folder / "supervise").mkdir()
    (folder / "supervise" / "ok").mkdir()
    assert complaint(folder) == (b"unable to read sv/supervise/ok", errno.ENXIO)
    (folder / "supervise" / "control").unlink()
    (folder / "supervise" / "control").touch()
    assert complaint(folder) == (b"unable to read sv/supervise/control", errno.ENXIO)


def test_nothing_stays_open_of_a_directory_that_could_not_be_taken(folder: Path) -> None:
    before = os.listdir("/proc/self/fd")
    (folder / "supervise").mkdir()
    (folder / "supervise" / "control").touch()
    complaint(folder)
    assert os.listdir("/proc/self/fd") == before


def test_down_is_there_or_not_or_nobody_knows(folder: Path) -> None:
    taken = place(folder)
    assert not taken.normally_down()
    (folder / "down").touch()
    assert taken.normally_down()
    (folder / "down").unlink()
    (folder / "down").symlink_to("down")
    with pytest.raises(Failed) as caught:
        taken.normally_down()
    assert (caught.value.complaint, caught.value.errno) == (b"unable to stat sv/down", errno.ELOOP)
    taken.close()


def test_a_script_is_an_executable_file_and_run_is_anything(folder: Path) -> None:
    taken = place(folder)
    for script in ("run", "finish"):
        assert not taken.has(script.encode())
        (folder / script).touch(0o600)
        assert taken.has(script.encode()) == (script == "run")
    (folder / "finish").chmod(0o700)
    assert taken.has(b"finish")
    (folder / "stop").mkdir()
    assert not taken.has(b"stop")
    taken.close()


def test_status_and_child_come_back_as_they_were_written(folder: Path) -> None:
    taken = place(folder)
    assert (taken.read_status(), taken.read_child()) == (None, None)
    taken.write_status(Status(5, 7, True, UP))
    for pid in (1234567, 7):  # a shorter line over a longer one
        taken.write_child(Child(b"run", pid, 8, b"boot"))
    status, child = taken.read_status(), taken.read_child()
    assert status is not None and child is not None
    assert (status.when, status.pid, status.paused, status.want) == (5, 7, True, UP)
    assert (child.script, child.pid, child.started, child.boot) == (b"run", 7, 8, b"boot")
    taken.forget_child()
    taken.forget_child()
    assert taken.read_child() is None
    taken.close()


def test_the_directory_may_be_moved_while_it_is_supervised(folder: Path) -> None:
    taken = place(folder)
    folder.rename(folder.with_name("other"))
    taken.write_status(Status(5, 7, False, UP))
    assert (folder.with_name("other") / "supervise" / "status").stat().st_size == 18
    taken.close()


def test_the_pipe_to_the_log_keeps_what_is_in_it_while_anybody_has_it(folder: Path) -> None:
    at = servicedir.open_folder(bytes(folder))
    reading, writing = servicedir.open_log_pipe(at)
    os.write(writing, b"line\n")
    again = servicedir.open_log_pipe(at)
    os.close(reading)
    os.close(writing)
    assert os.read(again[0], 100) == b"line\n"
    for fd in again:
        assert os.get_blocking(fd)
        os.close(fd)
    assert (folder / "supervise").stat().st_mode & 0o777 == 0o700
    assert (folder / "supervise" / "logpipe").stat().st_mode & 0o777 == 0o600


def test_relief_takes_the_older_half_of_a_pipe(folder: Path) -> None:
    at = servicedir.open_folder(bytes(folder))
    reading, writing = servicedir.open_log_pipe(at)
    os.set_blocking(writing, False)
    filled = 0
    try:
        while True:
            filled += os.write(writing, b"%063d\n" % (filled // 64))
    except BlockingIOError:
        pass
    lost = servicedir.relieve(at)
    assert 0 < lost <= filled // 2
    assert os.read(reading, 64) == b"%063d\n" % (lost // 64)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("current", "line"),
    [(b"one\ntwo\n", b"two"), (b"one", b"one"), (b"", b""), (b"x" * 5000, b"x" * 2048), (b"a\n" * 5000, b"a")],
)
def test_the_last_line_of_a_log(folder: Path, current: bytes, line: bytes) -> None:
    taken = place(folder)
    assert taken.last_line() == b""
    (folder / "log" / "main").mkdir(parents=True)
    (folder / "log" / "main" / "current").write_bytes(current)
    assert taken.last_line() == line
    taken.close()


def test_the_last_line_is_not_that_of_a_file_that_the_logs_account_has_linked_to(folder: Path) -> None:
    taken = place(folder)
    (folder / "log" / "main").mkdir(parents=True)
    (folder / "secret").write_text("secret\n")
    (folder / "log" / "main" / "current").symlink_to(folder / "secret")
    assert taken.last_line() == b""
    taken.close()


@pytest.mark.parametrize("step", ["open", "write", "rename"])
def test_a_status_that_cannot_be_written_leaves_the_old_one(
    folder: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = place(folder)
    taken.write_status(Status(5, 7, False, UP))

    def full(*arguments: object, **more: object) -> int:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(Failed) as caught:
        taken.write_status(Status(6, 8, False, UP))
    monkeypatch.undo()
    end = b" to status" if step == "rename" else b""
    assert caught.value.complaint == b"unable to %s sv/supervise/status.new%s" % (step.encode(), end)
    status = taken.read_status()
    assert status is not None and status.pid == 7
    taken.close()
