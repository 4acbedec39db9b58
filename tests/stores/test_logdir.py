"""stores.logdir: rotation, crashes at every step, and a disk that is full."""

import errno
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.stores import logdir, safeio
from qmailpy.stores.logdir import LogDir
from tests.helpers import needs, run

SIZE = 4096
LINES = [b"%05d %s\n" % (number, b"x" * (number * 37 % 300)) for number in range(60)]


def unexpected(complaint: bytes, error: OSError | None) -> None:
    raise AssertionError((complaint, error))


def no_processor(command: bytes, directory: int) -> int:
    raise AssertionError(command)


def opened(
    folder: Path,
    size: int = SIZE,
    number: int = 1000,
    command: bytes | None = None,
    process: logdir.Process = no_processor,
    pause: logdir.Pause = unexpected,
) -> LogDir:
    return LogDir(os.fsencode(folder), size, number, command, process, pause)


def files(folder: Path) -> list[Path]:
    """The old files, the oldest first, and current."""
    return sorted(folder.glob("@*")) + sorted(folder.glob("current"))


def modes(folder: Path) -> list[tuple[str, int]]:
    return [(re.sub("[0-9a-f]{24}", "", file.name), file.stat().st_mode & 0o777) for file in files(folder)]


def text(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in files(folder))


def test_a_new_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    assert sorted(os.listdir(tmp_path / "log")) == ["current", "lock", "state"]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700
    assert modes(tmp_path / "log") == [("current", 0o644)]
    log.write(b"line\n")
    log.close()
    assert modes(tmp_path / "log") == [("current", 0o744)]


def test_a_clean_end_is_gone_on_from(tmp_path: Path) -> None:
    for part in (b"one\n", b"two\n"):
        log = opened(tmp_path)
        log.write(part)
        log.close()
    assert text(tmp_path) == b"one\ntwo\n"
    assert modes(tmp_path) == [("current", 0o744)]


def test_an_unclean_end_is_set_aside(tmp_path: Path) -> None:
    opened(tmp_path).write(b"one\n")  # the lock goes with the object's descriptor
    for fd in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}").startswith(str(tmp_path)):
            os.close(int(fd))
    log = opened(tmp_path)
    log.write(b"two\n")
    log.close()
    assert modes(tmp_path) == [("@.u", 0o644), ("current", 0o744)]
    assert text(tmp_path) == b"one\ntwo\n"


def model(text: bytes, size: int) -> list[bytes]:
    """Byte by byte: a file ends at its size, or at an end of a line at most 2000 bytes before."""
    made = [b""]
    for at in range(len(text)):
        if len(made[-1]) >= size:
            made.append(b"")
        made[-1] += text[at : at + 1]
        if made[-1].endswith(b"\n") and len(made[-1]) >= size - 2000:
            made.append(b"")
    return made


PART = st.lists(st.sampled_from([b"\n", b"x" * 30 + b"\n", b"y" * 999, b"z" * 2096, b"w" * 4095]), max_size=8)


@settings(max_examples=50)
@given(parts=st.lists(PART.map(b"".join), max_size=5))
def test_files_end_where_they_should_however_the_text_is_cut(
    parts: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = opened(folder)
    for part in parts:
        log.write(part)
    log.close()
    assert [file.read_bytes() for file in files(folder)] == model(b"".join(parts), SIZE)


def test_the_oldest_files_are_removed(tmp_path: Path) -> None:
    foreign = ["@", "@" + "0" * 23, "x" * 30]
    for name in foreign:
        (tmp_path / name).touch()
    (tmp_path / ("@" + "0" * 24)).touch()
    log = opened(tmp_path, number=3)
    kept = []
    for number in range(5):
        log.write(b"%d\n" % number)
        log.rotate()
        kept.append(b"%d\n" % number)
    log.close()
    assert text(tmp_path) == b"".join(kept[-2:])
    assert all((tmp_path / name).exists() for name in foreign)


def test_what_cannot_be_removed_is_said_and_stays(tmp_path: Path) -> None:
    name = "@" + "0" * 24
    (tmp_path / name).mkdir()
    said = []
    log = opened(tmp_path, number=2, pause=lambda complaint, error: said.append(complaint))
    log.write(b"one\n")
    log.rotate()
    log.close()
    assert said == [b"unable to remove %s/%s" % (os.fsencode(tmp_path), name.encode())]


@pytest.mark.parametrize(
    ("prepare", "complaint", "number"),
    [
        (lambda folder: folder.touch(), b"unable to open directory ", errno.ENOTDIR),
        (lambda folder: (folder / "lock").mkdir(parents=True), b"unable to lock directory ", errno.EISDIR),
        (lambda folder: folder.symlink_to(folder), b"unable to open directory ", errno.ELOOP),
        (lambda folder: (folder / "state").mkdir(parents=True), b"unable to write to ", errno.EISDIR),
    ],
)
def test_what_is_wrong_at_the_start_is_named(
    tmp_path: Path, prepare: Callable[[Path], None], complaint: bytes, number: int
) -> None:
    prepare(tmp_path / "log")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(safeio.Failed) as caught:
        opened(tmp_path / "log")
    assert caught.value.complaint.startswith(complaint + os.fsencode(tmp_path / "log"))
    assert caught.value.errno == number
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_has_one_writer(tmp_path: Path) -> None:
    log = opened(tmp_path)
    with pytest.raises(safeio.Failed) as caught:
        opened(tmp_path)
    assert caught.value.complaint == b"unable to lock directory " + os.fsencode(tmp_path)
    assert caught.value.errno == errno.EAGAIN
    log.close()


# Trouble


STEPS = ("write", "fsync", "rename", "open", "fchmod", "chmod", "stat", "link", "unlink", "listdir")


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_lost_or_doubled_when_a_step_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    said: list[bytes] = []

    def pause(complaint: bytes, error: OSError | None) -> None:
        assert error is not None and error.errno == errno.ENOSPC
        said.append(complaint)

    log = opened(tmp_path, pause=pause)
    real = getattr(os, step)
    calls = 0

    def failing(*arguments: object, **names: object) -> object:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise OSError(errno.ENOSPC, "")
        return real(*arguments, **names)

    monkeypatch.setattr(os, step, failing)
    for line in LINES[:30]:
        log.write(line)
    log.close()
    monkeypatch.undo()
    assert text(tmp_path) == b"".join(LINES[:30])
    assert len(files(tmp_path)) > 2
    assert said and all(complaint.startswith(b"unable to ") for complaint in said)


def test_partial_writes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    log.write(b"".join(LINES))
    log.close()
    monkeypatch.undo()
    assert [file.read_bytes() for file in files(tmp_path)] == model(b"".join(LINES), SIZE)


# Crashes


COUNTED = (*STEPS, "mkdir", "close")


def copier(command: bytes, directory: int) -> int:
    """A processor that does its work in this process, with the same files."""
    folder = Path(f"/proc/self/fd/{directory}")
    (folder / "processed").write_bytes((folder / "previous").read_bytes())
    (folder / "newstate").write_bytes(b"")
    return 0


def written_until_killed(folder: Path, lines: list[bytes], call: int, command: bytes | None) -> int | None:
    """How many lines were written before SIGKILL came in place of that call of the system. None: it never came."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _count_down(call)
            log = opened(folder, command=command, process=copier)
            for line in lines:
                log.write(line)
                os.write(writer, b".")  # counted too
            log.close()
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as progress:
        done = len(progress.read())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return None if status == 0 else done


def _count_down(left: int) -> None:
    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **names: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **names)

        return call

    for name in COUNTED:
        setattr(os, name, counted(getattr(os, name)))


def ours(folder: Path, text: bytes) -> None:
    log = opened(folder)
    log.write(text)
    log.close()


def debians(folder: Path, text: bytes) -> None:
    result = run([needs("multilog"), f"s{SIZE}", "n1000", folder], text)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("successor", [ours, debians])
@pytest.mark.parametrize("command", [None, b"cp"])
def test_a_crash_at_any_step_loses_no_line(
    tmp_path: Path, successor: Callable[[Path, bytes], None], command: bytes | None
) -> None:
    lines = LINES[10:32]
    call = 0
    while True:
        call += 1
        folder = tmp_path / str(call)
        done = written_until_killed(folder, lines, call, command)
        if done is None:
            break
        successor(folder, b"".join(lines[done:]))
        found = [line + b"\n" for line in text(folder).split(b"\n")[:-1]]
        again = [line for line in lines if found.count(line) != 1]
        assert set(found) >= set(lines)
        assert again in ([], lines[done : done + 1]), "at most the line that was being written is there twice"
        left = set(os.listdir(folder)) - {file.name for file in files(folder)}
        assert left == {"lock", "state"}
        assert modes(folder)[-1] == ("current", 0o744)
    assert call > 60
    assert [name for name, _ in modes(tmp_path / str(call))].count("@.s") >= 1
