"""A service directory from outside: never supervised, no longer supervised, and trouble are kept apart; the current
directory is what it was."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.formats import svstatus
from qmailpy.formats.svstatus import Child, Status
from qmailpy.stores import services
from tests.commands.supervised import MadeUp

STATUS = Status(1_795_000_000_123_456_789, 7, False, svstatus.UP)
PACKED = svstatus.pack(STATUS)


@pytest.fixture
def start() -> Iterator[int]:
    fd = services.open_start()
    yield fd
    os.close(fd)


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeUp]:
    monkeypatch.chdir(tmp_path)
    with MadeUp(tmp_path / "x", PACKED) as service:
        yield service


def why(start: int, directory: bytes = b"x") -> tuple[bytes, bool]:
    """Why nothing can be said of it, and whether that is because there is no supervise."""
    before = os.getcwd()
    with pytest.raises(services.Unknown) as raised:
        services.look(directory, start)
    assert os.getcwd() == before
    return raised.value.text, raised.value.absent


def test_a_look_finds_all_there_is_to_say(made_up: MadeUp, start: int) -> None:
    state = services.look(b"x", start)
    assert (state.status.when, state.status.pid, state.stamp) == (STATUS.when, 7, PACKED[:12])
    assert (state.normally_up, state.script) == (True, None)
    assert state.describe(STATUS.when) == b"up (pid 7) 0 seconds"
    assert os.getcwd() == str(made_up.folder.parent)


def test_a_file_down_is_seen(made_up: MadeUp, start: int) -> None:
    (made_up.folder / "down").touch()
    state = services.look(b"x", start)
    assert not state.normally_up
    assert state.describe(STATUS.when) == b"up (pid 7) 0 seconds, normally down"


@pytest.mark.parametrize(
    ("child", "script"),
    [
        (svstatus.pack_child(Child(b"finish", 7, 100, b"boot")), b"finish"),
        (svstatus.pack_child(Child(b"run", 8, 100, b"boot")), None),  # of an earlier process
        (b"", None),
        (b"run 7 100 boot", None),
    ],
)
def test_the_script_is_that_of_the_process(made_up: MadeUp, start: int, child: bytes, script: bytes | None) -> None:
    made_up.write(PACKED, child)
    assert services.look(b"x", start).script == script


def test_a_child_that_cannot_be_read_says_no_script(made_up: MadeUp, start: int) -> None:
    (made_up.folder / "supervise" / "child").mkdir()
    assert services.look(b"x", start).script is None


def test_without_a_directory(made_up: MadeUp, start: int) -> None:
    (made_up.folder / "file").touch()
    assert why(start, b"missing") == (b"unable to chdir: file does not exist", True)
    assert why(start, b"") == (b"unable to chdir: file does not exist", True)
    assert why(start, b"x/file") == (b"unable to chdir: not a directory", False)
    assert why(start, b"a" * 300) == (b"unable to chdir: file name too long", False)


def test_without_a_supervise(made_up: MadeUp, start: int) -> None:
    made_up.end()
    assert why(start) == (b"supervise not running", True)
    shutil.rmtree(made_up.folder / "supervise")
    assert why(start) == (b"unable to open supervise/ok: file does not exist", True)


@pytest.mark.parametrize("name", ["down", "supervise/ok", "supervise/status"])
def test_trouble_is_neither(made_up: MadeUp, start: int, name: str) -> None:
    (made_up.folder / name).unlink(missing_ok=True)
    (made_up.folder / name).symlink_to((made_up.folder / name).name)
    what = b"unable to stat down" if name == "down" else b"unable to open " + name.encode()
    assert why(start) == (what + b": symbolic link loop", False)


def test_without_a_status(made_up: MadeUp, start: int) -> None:
    status = made_up.folder / "supervise" / "status"
    status.unlink()
    assert why(start) == (b"unable to open supervise/status: file does not exist", False)
    status.write_bytes(PACKED[:17])
    assert why(start) == (b"unable to read supervise/status: bad format", False)
    status.unlink()
    status.mkdir()
    assert why(start) == (b"unable to read supervise/status: is a directory", False)


def test_no_descriptor_is_left(made_up: MadeUp, start: int) -> None:
    before = os.listdir("/proc/self/fd")
    services.look(b"x", start)
    (made_up.folder / "supervise" / "status").write_bytes(b"")
    why(start)
    assert os.listdir("/proc/self/fd") == before


def test_a_fifo_opens_only_with_a_reader_and_counts_what_is_unread(made_up: MadeUp) -> None:
    os.chdir(made_up.folder)
    fd = services.open_write(services.CONTROL)
    assert not os.get_inheritable(fd)
    assert services.unread(fd) == 0
    os.write(fd, b"udx")
    assert services.unread(fd) == 3
    os.read(made_up.readers[0], 1)
    assert services.unread(fd) == 2
    os.close(fd)
    made_up.end()
    with pytest.raises(OSError) as raised:
        services.open_write(services.CONTROL)
    assert raised.value.errno == services.NOT_RUNNING


def test_in_what_is_no_fifo_nothing_is_unread(start: int) -> None:
    with open("/dev/null", "wb") as null:
        assert services.unread(null.fileno()) == 0


def test_no_way_back_is_an_error_of_its_own(made_up: MadeUp) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(services.Lost) as raised:
        services.look(b"x", fd)
    os.close(fd)
    assert raised.value.error.errno == errno.ENOTDIR
