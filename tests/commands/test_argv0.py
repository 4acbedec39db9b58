"""argv0: the same name, exit codes and messages as with Debian's."""

from pathlib import Path

import pytest

from tests.helpers import BIN, environment, needs, run


@pytest.fixture(params=["ours", "Debian's"])
def argv0(request: pytest.FixtureRequest) -> str | Path:
    return BIN / "argv0" if request.param == "ours" else needs("argv0")


def test_argv0_gives_the_program_its_name_and_arguments(argv0: str | Path) -> None:
    result = run([argv0, "sh", "-name", "-c", 'echo "$0 $# $1"; cat /proc/$$/cmdline', "zero", "one", b"\xfftwo"])
    assert result.stdout == b'zero 2 one\n-name\0-c\0echo "$0 $# $1"; cat /proc/$$/cmdline\0zero\0one\0\xfftwo\0'
    assert (result.stderr, result.returncode) == (b"", 0)


def test_argv0_gives_its_own_process_input_and_exit_code_to_the_program(argv0: str | Path) -> None:
    result = run([argv0, "/bin/sh", "x", "-c", "cat; exit 42"], b"input")
    assert (result.stdout, result.returncode) == (b"input", 42)


@pytest.mark.parametrize("words", [[], ["sh"]])
def test_argv0_without_a_program_says_its_usage(argv0: str | Path, words: list[str]) -> None:
    result = run([argv0, *words])
    assert (result.stdout, result.stderr) == (b"", b"argv0: usage: argv0 realname program [ arg ... ]\n")
    assert result.returncode == 100


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("./missing", b"file does not exist"),
        ("missing", b"file does not exist"),
        ("./forbidden", b"access denied"),
        ("./folder", b"access denied"),
        ("./forbidden/x", b"not a directory"),
        ("forbidden", b"access denied"),
        ("./noformat", b"exec format error"),
    ],
)
def test_argv0_names_what_it_cannot_run(argv0: str | Path, tmp_path: Path, name: str, reason: bytes) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "forbidden").touch(mode=0o600)
    (tmp_path / "noformat").touch(mode=0o700)
    path = f"{tmp_path}:{environment()['PATH']}"
    result = run([argv0, name, "other"], env=environment(PATH=path), cwd=tmp_path)
    assert (result.stdout, result.returncode) == (b"", 111)
    assert result.stderr == b"argv0: fatal: unable to run %s: %s\n" % (name.encode(), reason)


def test_argv0_searches_along_path_past_what_it_may_not_run(argv0: str | Path, tmp_path: Path) -> None:
    for folder, mode in (("first", 0o600), ("second", 0o700)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "greet").write_text(f"#!/bin/sh\necho {folder}\n")
        (tmp_path / folder / "greet").chmod(mode)
    path = f"{tmp_path}/first:{tmp_path}/second:{environment()['PATH']}"
    assert run([argv0, "greet", "other"], env=environment(PATH=path)).stdout == b"second\n"
