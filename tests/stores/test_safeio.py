import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qmailpy.stores import safeio

Crash = Callable[[], None]


def killed(act: Crash) -> None:
    """act in a child, which must die of SIGKILL."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def die(*arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def names(tmp_path: Path) -> tuple[Path, Path]:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path, tmp_path / "tmp"


def replace(names: tuple[Path, Path], chunks: Iterator[bytes] | list[bytes], mode: int = 0o644) -> None:
    safeio.replace(os.fsencode(names[0]), os.fsencode(names[1]), chunks, mode)


def test_the_file_is_replaced_by_all_chunks(names: tuple[Path, Path]) -> None:
    replace(names, [b"ne", b"", b"w" * 200000])
    assert names[0].read_bytes() == b"ne" + b"w" * 200000
    assert not names[1].exists()


def test_the_mode_is_less_the_umask_and_an_older_temporary_is_emptied(names: tuple[Path, Path]) -> None:
    before = os.umask(0o027)
    try:
        replace(names, [b"new"])
        assert names[0].stat().st_mode & 0o777 == 0o640
        names[1].write_bytes(b"left over from a crash")
        replace(names, [b"newer"])
    finally:
        os.umask(before)
    assert names[0].read_bytes() == b"newer"


def test_the_new_file_is_durable_before_it_has_the_name(
    names: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def noted(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def act(*arguments: object) -> None:
            seen.append(name)
            real(*arguments)

        return act

    for name in "fsync", "close", "rename":
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    replace(names, [b"new"])
    assert seen == ["fsync", "close", "rename"]


@pytest.mark.parametrize("step", ["fsync", "close", "rename"])
def test_a_crash_before_the_rename_leaves_the_old_file(
    names: tuple[Path, Path], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        setattr(os, step, die)
        replace(names, [b"new"])

    killed(act)
    assert names[0].read_bytes() == b"old"


def test_a_crash_between_two_chunks_leaves_the_old_file(names: tuple[Path, Path]) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        die()

    killed(lambda: replace(names, chunks()))
    assert names[0].read_bytes() == b"old"
    assert names[1].read_bytes() == b"half"


def test_a_crash_after_the_rename_leaves_the_new_file(names: tuple[Path, Path]) -> None:
    def act() -> None:
        replace(names, [b"new"])
        die()

    killed(act)
    assert names[0].read_bytes() == b"new"


@pytest.mark.parametrize(
    ("step", "complaint"),
    [("open", b"unable to create TMP"), ("write", b"unable to write to TMP"), ("fsync", b"unable to write to TMP"),
     ("close", b"unable to write to TMP"), ("rename", b"unable to move TMP to FILE")],
)  # fmt: skip
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_an_error_is_told_and_leaves_the_old_file(
    names: tuple[Path, Path], step: str, complaint: bytes, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(number, "")

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises(safeio.Failed) as caught:
            replace(names, [b"new"])
    assert caught.value.errno == number
    expected = complaint.replace(b"TMP", os.fsencode(names[1])).replace(b"FILE", os.fsencode(names[0]))
    assert caught.value.complaint == expected
    assert names[0].read_bytes() == b"old"


def test_a_full_disk_is_an_error_of_writing(tmp_path: Path) -> None:
    with pytest.raises(safeio.Failed) as caught:
        safeio.replace(os.fsencode(tmp_path / "file"), b"/dev/full", [b"new"])
    assert (caught.value.errno, caught.value.complaint) == (errno.ENOSPC, b"unable to write to /dev/full")
    assert not (tmp_path / "file").exists()


def test_an_error_of_the_chunks_passes_through_and_leaves_no_descriptor(names: tuple[Path, Path]) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.EIO, "")

    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError) as caught:
        replace(names, chunks())
    assert not isinstance(caught.value, safeio.Failed)
    assert os.listdir("/proc/self/fd") == before
    assert names[0].read_bytes() == b"old"


# A new file


def create(path: Path, temporary: Path, data: bytes = b"new", mode: int = 0o400) -> None:
    safeio.create(os.fsencode(path), os.fsencode(temporary), data, mode)


def test_a_new_file_has_its_mode_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    create(tmp_path / "file", tmp_path / "tmp", b"x" * 200000)
    assert (tmp_path / "file").read_bytes() == b"x" * 200000
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o400
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_that_is_there_stays_what_it_is(kind: str, tmp_path: Path) -> None:
    if kind == "file":
        (tmp_path / "file").write_bytes(b"old")
    else:
        (tmp_path / "file").symlink_to("nowhere")
    with pytest.raises(safeio.Failed) as caught:
        create(tmp_path / "file", tmp_path / "tmp")
    assert (caught.value.errno, caught.value.complaint) == (errno.EEXIST, b"unable to make %b/file" % bytes(tmp_path))
    assert os.listdir(tmp_path) == ["file"]


def test_no_temporary_of_anybody_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "tmp").write_bytes(b"somebody's")
    with pytest.raises(safeio.Failed):
        create(tmp_path / "file", tmp_path / "tmp")
    assert (tmp_path / "tmp").read_bytes() == b"somebody's"


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_after_a_failure_there_is_neither_file_nor_temporary(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(safeio.Failed):
        create(tmp_path / "file", tmp_path / "tmp")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "link", "unlink"])
def test_killed_at_any_call_a_new_file_is_whole_or_not_there(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, call, die)
    killed(lambda: create(tmp_path / "file", tmp_path / "tmp"))
    assert not (tmp_path / "file").exists() or (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").exists() is (call == "unlink")
