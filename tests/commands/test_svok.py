"""svok: the answers and messages of Debian's, for services in every state."""

import os
from pathlib import Path

import pytest

from tests.commands.supervised import MadeUp, Supervised
from tests.helpers import BIN, environment, needs, run


@pytest.fixture(params=["ours", "Debian's"])
def svok(request: pytest.FixtureRequest) -> str | Path:
    return BIN / "svok" if request.param == "ours" else needs("svok")


def answer(svok: str | Path, *words: str | bytes | Path, cwd: Path | None = None) -> tuple[int, bytes]:
    result = run([svok, *words], cwd=cwd)
    assert result.stdout == b""
    return result.returncode, result.stderr


def test_svok_says_its_usage(svok: str | Path) -> None:
    assert answer(svok) == (100, b"svok: usage: svok dir\n")


def test_svok_knows_a_supervise_that_runs_from_one_that_was_killed(svok: str | Path, tmp_path: Path) -> None:
    with Supervised(tmp_path / "x") as service:
        assert answer(svok, service.folder) == (0, b"")
        assert answer(svok, "x", cwd=tmp_path) == (0, b"")
        assert answer(svok, "x", "/missing", cwd=tmp_path) == (0, b"")
        service.kill()
        assert answer(svok, service.folder) == (100, b"")


def test_svok_says_yes_also_if_the_service_is_down(svok: str | Path, tmp_path: Path) -> None:
    with Supervised(tmp_path / "x", down=True) as service:
        assert answer(svok, service.folder) == (0, b"")


def test_svok_says_no_if_there_never_was_a_supervise(svok: str | Path, tmp_path: Path) -> None:
    assert answer(svok, tmp_path) == (100, b"")
    (tmp_path / "supervise").mkdir()
    assert answer(svok, tmp_path) == (100, b"")


def test_svok_does_not_know_without_a_directory(svok: str | Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, reason in ((b"missing\xff", b"file does not exist"), (b"", b"file does not exist"), (b"file", None)):
        reason = reason or b"not a directory"
        expected = b"svok: fatal: unable to chdir to %s: %s\n" % (name, reason)
        assert answer(svok, name, cwd=tmp_path) == (111, expected)


def test_svok_does_not_know_if_ok_cannot_be_opened(svok: str | Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    supervise = tmp_path / "x" / "supervise"
    supervise.touch()
    expected = b"svok: fatal: unable to open x/supervise/ok: %s\n"
    assert answer(svok, "x", cwd=tmp_path) == (111, expected % b"not a directory")
    supervise.unlink()
    (supervise / "ok").mkdir(parents=True)
    assert answer(svok, "x", cwd=tmp_path) == (111, expected % b"is a directory")
    (supervise / "ok").rmdir()
    (supervise / "ok").symlink_to("ok")
    assert answer(svok, "x/", cwd=tmp_path) == (111, expected.replace(b"x/", b"x//") % b"symbolic link loop")


def test_svok_takes_any_file_for_ok_that_can_be_written(svok: str | Path, tmp_path: Path) -> None:
    (tmp_path / "supervise").mkdir()
    (tmp_path / "supervise" / "ok").touch()
    assert answer(svok, tmp_path) == (0, b"")


def test_svok_writes_nothing_to_supervise(svok: str | Path, tmp_path: Path) -> None:
    with MadeUp(tmp_path / "x") as service:
        assert answer(svok, service.folder) == (0, b"")
        assert os.read(service.readers[1], 1) == b""


def test_svok_takes_a_hyphen_for_a_name(svok: str | Path, tmp_path: Path) -> None:
    with MadeUp(tmp_path / "-x"):
        assert run([svok, "-x"], cwd=tmp_path, env=environment()).returncode == 0
