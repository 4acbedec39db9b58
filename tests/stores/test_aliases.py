"""aliases: lists that everybody may read, the names that complete, and what is said of trouble."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.formats.aliases import Names
from qmailpy.formats.forwardcdb import Wrong
from qmailpy.stores import aliases
from qmailpy.stores.aliases import Unusable, compile_file, names, read_list


def test_a_list_that_everybody_may_read_is_read(tmp_path: Path) -> None:
    path = tmp_path / "l.bin"
    path.write_bytes(b"&a@b\0" * 50000)
    path.chmod(0o444)
    assert read_list(os.fsencode(path)) == b"&a@b\0" * 50000


@pytest.mark.parametrize("mode", [0o600, 0o440, 0o640, 0o404])
def test_a_list_that_somebody_may_not_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "l.bin"
    path.touch()
    path.chmod(mode)
    with pytest.raises(Unusable) as found:
        read_list(os.fsencode(path))
    assert found.value.complaint == os.fsencode(path) + b" is not world-readable"


def test_what_is_no_file_is_no_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "fifo").chmod(0o666)
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(Unusable, match="is not a regular file"):
            read_list(os.fsencode(path))


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unusable) as found:
        read_list(b"/nowhere/l")
    assert found.value.complaint == b"unable to read /nowhere/l"
    assert found.value.error is not None
    assert found.value.error.errno == errno.ENOENT


def home(path: Path, **files: str) -> bytes:
    (path / "control").mkdir()
    for name, text in files.items():
        (path / "control" / name).write_text(text + "\n")
    return os.fsencode(path)


def test_names_are_those_of_control_and_else_that_of_the_host(tmp_path: Path) -> None:
    found = names(home(tmp_path, me="me.example", defaultdomain="d.example", plusdomain=""), {})
    assert found.complete(b"joe@") == b"joe@me.example"
    assert found.complete(b"joe@x") == b"joe@x.d.example"
    assert found.complete(b"joe@x+") == b"joe@x."


def test_the_environment_comes_before_control(tmp_path: Path) -> None:
    env = {b"QMAILDEFAULTHOST": b"h", b"QMAILDEFAULTDOMAIN": b"", b"QMAILPLUSDOMAIN": b"p"}
    found = names(home(tmp_path, me="me.example", defaulthost="x"), env)
    assert found.complete(b"joe@") == b"joe@h."
    assert found.complete(b"joe@x+") == b"joe@x.p"


def test_without_any_file_the_name_is_me(tmp_path: Path) -> None:
    assert names(home(tmp_path), {}).complete(b"joe@") == b"joe@me.me"


def test_trouble_with_the_home_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="unable to chdir to /nowhere"):
        names(b"/nowhere", {})
    (tmp_path / "control" / "me").mkdir(parents=True)
    with pytest.raises(Unusable, match="unable to read controls"):
        names(os.fsencode(tmp_path), {})


NAMES = Names(b"h", b"d", b"p")


def test_a_file_is_made_of_another_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(b"x" * 200000)
    assert compile_file(b"me", b"a", b".bin", lambda: NAMES, lambda text, names: [text, names.complete(b"j@")]) == 0
    assert (tmp_path / "a.bin").read_bytes() == b"x" * 200000 + b"j@h.d"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.bin"]


def test_a_wrong_line_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    (tmp_path / "a.bin").write_bytes(b"old")
    for wrong, code, said in (
        (Wrong(b"bad", 7, for_ever=True), 100, b"me: fatal: bad (line 7)\n"),
        (Wrong(b"bad"), 111, b"me: fatal: bad\n"),
    ):

        def make(text: bytes, names: Names, wrong: Wrong = wrong) -> Iterator[bytes]:
            yield b"half"
            raise wrong

        assert compile_file(b"me", b"a", b".bin", lambda: NAMES, make) == code
        assert capfdbinary.readouterr().err == said
        assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_lists_are_compiled_for_everybody() -> None:
    assert 0o666 & ~aliases.MASK & aliases.READ_BY_ALL == aliases.READ_BY_ALL
