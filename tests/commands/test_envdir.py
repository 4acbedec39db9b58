"""envdir beside Debian's, and with it in one chain."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.commands import loaders
from tests.helpers import BIN, environment, needs, run
from tests.servers import public_folder

NAME = "envdir"
SHOW = ("cat", "/proc/self/environ")


@pytest.fixture(params=["ours", "Debian's"])
def envdir(request: pytest.FixtureRequest) -> str | Path:
    return BIN / NAME if request.param == "ours" else needs(NAME)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "env").mkdir()
    return tmp_path / "env"


def found(envdir: str | Path, folder: Path, **env: str) -> dict[bytes, bytes]:
    done = run([envdir, folder, *SHOW], env=environment(**env))
    assert (done.returncode, done.stderr) == (0, b"")
    entries = loaders.variables(done.stdout.split(b"\0")[:-1])
    return {name: value for name, value in entries.items() if os.fsdecode(name) not in environment()}


def test_envdir_sets_each_variable_to_the_first_line_of_its_file(envdir: str | Path, folder: Path) -> None:
    for name, text in {
        "A": b"one\ntwo\n",
        "B": b" b b \t \n",
        "C": b"no end",
        "a-b.c": b"\xff\r\n",
        "N": b"x\0y",
    }.items():
        (folder / name).write_bytes(text)
    (folder / "LONG").write_bytes(b"x" * 100000 + b"\n" + b"y" * 100000)
    assert found(envdir, folder, A="old", KEPT="k") == {
        b"A": b"one", b"B": b" b b", b"C": b"no end", b"a-b.c": b"\xff\r", b"N": b"x\ny", b"KEPT": b"k",
        b"LONG": b"x" * 100000,
    }  # fmt: skip


def test_envdir_removes_the_variable_whose_file_is_empty(envdir: str | Path, folder: Path) -> None:
    (folder / "GONE").touch()
    (folder / "NEVER").touch()
    (folder / "EMPTY").write_text("\n")
    assert found(envdir, folder, GONE="x", EMPTY="x") == {b"EMPTY": b""}


def test_envdir_skips_files_that_begin_with_a_dot(envdir: str | Path, folder: Path) -> None:
    (folder / ".A").write_text("a\n")
    (folder / ".folder").mkdir()
    assert found(envdir, folder) == {}


def test_envdir_reads_links_and_a_fifo_without_a_writer_as_an_empty_file(envdir: str | Path, folder: Path) -> None:
    os.mkfifo(folder / "FIFO")
    (folder.parent / "text").write_text("linked\n")
    (folder / "LINK").symlink_to("../text")
    assert found(envdir, folder, FIFO="x") == {b"LINK": b"linked"}


def test_envdir_takes_an_odd_name_as_debians(envdir: str | Path, folder: Path) -> None:
    """What the manual page says about it."""
    (folder / "A=B").write_text("v\n")
    (folder / "C=D").touch()
    (folder / " ").write_text("space\n")
    assert found(envdir, folder, A="x", C="x") == {b"A": b"B=v", b"C": b"D", b" ": b"space"}


def test_envdir_loses_a_variable_without_a_name(folder: Path) -> None:
    """The original makes an entry that begins with an equals sign."""
    (folder / "=x").write_text("v\n")
    (folder / "=").touch()
    assert found(BIN / NAME, folder, A="x") == {b"A": b"x"}


def test_envdir_takes_a_link_to_nowhere_as_if_it_were_not_there(folder: Path) -> None:
    """The original takes the value from the file that it has read before, and a newline."""
    (folder / "A").symlink_to("nowhere")
    (folder / "B").write_text("b\n")
    assert found(BIN / NAME, folder, A="old") == {b"A": b"old", b"B": b"b"}


@settings(max_examples=12)
@given(
    st.dictionaries(
        st.sampled_from(["A", "B", "KEPT", "a b", "X\n"]),
        st.lists(st.sampled_from([b"\0", b"\n", b" ", b"\t", b"v", b"\xff", b"="]), max_size=8).map(b"".join),
    )
)
def test_envdir_gives_what_debians_gives_for_any_files(files: dict[str, bytes]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="qmailpy-"))
    try:
        for name, text in files.items():
            (folder / name).write_bytes(text)
        assert found(BIN / NAME, folder, KEPT="k", A="a") == found(needs(NAME), folder, KEPT="k", A="a")
    finally:
        shutil.rmtree(folder)


def test_envdir_changes_nothing_but_the_environment_in_any_chain(folder: Path) -> None:
    (folder / "NEW").write_text("new\n")
    (folder / "GONE").touch()
    reader, writer = os.pipe()
    facts = loaders.same_in_every_chain(NAME, "env", env={"GONE": "x"}, cwd=folder.parent, pass_fds=[writer])
    os.close(reader)
    os.close(writer)
    env = loaders.variables(facts["env"])
    assert env[b"NEW"] == b"new"
    assert b"GONE" not in env
    assert facts["cwd"] == str(folder.parent)
    assert facts["fds"] == {0: "pipe:", 1: "pipe:", 2: "pipe:", writer: "pipe:"}


def test_envdir_looks_for_the_program_along_its_own_path(envdir: str | Path, folder: Path) -> None:
    (folder / "PATH").write_text("/nowhere\n")
    done = run([envdir, folder, "/bin/sh", "-c", 'echo "$PATH"'])
    assert done.stdout == b"/nowhere\n"
    assert run([envdir, folder, "cat"], b"x").stdout == b"x"


@pytest.mark.parametrize("words", [(), ("env",)])
def test_envdir_says_its_usage_as_debians_and_ends_with_111(words: tuple[str, ...]) -> None:
    done = loaders.same_as_debians(NAME, *words)
    assert (done.stderr, done.returncode) == (b"envdir: usage: envdir dir child\n", 111)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing", b"unable to switch to directory missing: file does not exist"),
        ("", b"unable to switch to directory : file does not exist"),
        ("file", b"unable to switch to directory file: not a directory"),
        ("file/x", b"unable to switch to directory file/x: not a directory"),
        ("loop", b"unable to switch to directory loop: symbolic link loop"),
        ("n" * 300, b"unable to switch to directory " + b"n" * 300 + b": file name too long"),
        ("folders", b"unable to read folders/A: is a directory"),
        ("folders/", b"unable to read folders//A: is a directory"),
        ("loops", b"unable to read loops/A: symbolic link loop"),
        ("sockets", b"unable to read sockets/A: device not configured"),
    ],
)
def test_envdir_says_what_it_cannot_read_as_debians(tmp_path: Path, name: str, text: bytes) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for each in "folders", "loops", "sockets":
        (tmp_path / each).mkdir()
    (tmp_path / "folders" / "A").mkdir()
    (tmp_path / "loops" / "A").symlink_to("A")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "sockets" / "A"))
    done = loaders.same_as_debians(NAME, name, "true", cwd=tmp_path)
    assert (done.stderr, done.returncode) == (b"envdir: fatal: " + text + b"\n", 111)


@pytest.mark.parametrize(
    ("mode", "file_mode", "text"),
    [
        (0o444, 0o644, b"unable to switch to directory env: access denied"),
        (0o111, 0o644, b"unable to read directory env: access denied"),
        (0o755, 0o000, b"unable to read env/A: access denied"),
    ],
)
def test_envdir_says_what_it_may_not_read_as_debians(mode: int, file_mode: int, text: bytes) -> None:
    before = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()
    with public_folder() as folder:
        (folder / "env").mkdir()
        (folder / "env" / "A").write_text("a\n")
        (folder / "env" / "A").chmod(file_mode)
        (folder / "env").chmod(mode)
        done = loaders.same_as_debians(NAME, "env", "true", before=before, cwd=folder)
        (folder / "env").chmod(0o755)
    assert (done.stderr, done.returncode) == (b"envdir: fatal: " + text + b"\n", 111)


def test_envdir_does_not_ask_to_read_the_working_folder(tmp_path: Path) -> None:
    """The original opens it, to come back."""
    before = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()
    with public_folder() as folder:
        (folder / "env").mkdir()
        (folder / "env" / "A").write_text("a\n")
        (folder / "closed").mkdir(mode=0o111)
        done = run([*before, BIN / NAME, folder / "env", "sh", "-c", "echo $A"], cwd=folder / "closed")
        assert (done.stdout, done.stderr) == (b"a\n", b"")


@pytest.mark.parametrize("program", [("./missing",), ("missing",), ("sh", "-c", "exit 7")])
def test_envdir_ends_as_debians(folder: Path, program: tuple[str, ...]) -> None:
    loaders.same_as_debians(NAME, os.fspath(folder), *program)
