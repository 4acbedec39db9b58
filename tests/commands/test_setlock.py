"""setlock beside Debian's, against Debian's, and with it in one chain."""

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import loaders
from tests.helpers import BIN, environment, eventually, needs

NAME = "setlock"
HELD = b"setlock: fatal: unable to lock file: temporary failure\n"


@pytest.fixture(params=["ours", "Debian's"])
def setlock(request: pytest.FixtureRequest) -> str | Path:
    return BIN / NAME if request.param == "ours" else needs(NAME)


@pytest.fixture(params=["ours", "Debian's"])
def holder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Holds the lock on `file` until its input ends."""
    with started(BIN / NAME if request.param == "ours" else needs(NAME), "file", "cat", cwd=tmp_path) as process:
        says(process, b"here\n")
        yield process
        process.stdin.close()  # type: ignore[union-attr]


def started(*words: str | Path, cwd: Path) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment(), cwd=cwd)


def says(process: "subprocess.Popen[bytes]", text: bytes) -> None:
    """Have cat(1) copy text: it runs."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(text)
    process.stdin.flush()
    assert select.select([process.stdout], [], [], 20)[0]
    assert os.read(process.stdout.fileno(), 4096) == text


def waits_for_a_lock(pid: int) -> bool:
    return any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.parametrize("option", ["-n", "-nX", "-N -n", "-xXn"])
def test_setlock_n_does_not_wait_for_a_lock_that_another_has(
    holder: "subprocess.Popen[bytes]", tmp_path: Path, option: str
) -> None:
    done = loaders.same_as_debians(NAME, *option.split(), "file", "echo", "ran", cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (b"", HELD, 111)


@pytest.mark.parametrize("option", ["-nx", "-n -x", "-NXxn"])
def test_setlock_x_gives_up_in_silence(holder: "subprocess.Popen[bytes]", tmp_path: Path, option: str) -> None:
    done = loaders.same_as_debians(NAME, *option.split(), "file", "echo", "ran", cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)


def test_setlock_waits_until_the_lock_is_free(
    holder: "subprocess.Popen[bytes]", setlock: str | Path, tmp_path: Path
) -> None:
    with started(setlock, "-nN", "file", "echo", "ran", cwd=tmp_path) as waiting:
        assert eventually(lambda: waits_for_a_lock(waiting.pid))
        assert holder.stdin is not None
        holder.stdin.close()
        assert waiting.communicate(timeout=20) == (b"ran\n", b"")
        assert waiting.returncode == 0


def test_setlock_can_be_ended_while_it_waits(
    holder: "subprocess.Popen[bytes]", setlock: str | Path, tmp_path: Path
) -> None:
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGALRM:
        with started(setlock, "file", "echo", "ran", cwd=tmp_path) as waiting:
            assert eventually(lambda: waits_for_a_lock(waiting.pid))
            waiting.send_signal(number)
            assert waiting.communicate(timeout=20) == (b"", b"")
            assert waiting.returncode == -number


def test_the_lock_lives_as_long_as_somebody_has_the_descriptor(setlock: str | Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    script = f"cat <&{reader} >/dev/null & exit 3"
    pipe = subprocess.DEVNULL
    first = subprocess.run(
        [setlock, "file", "bash", "-c", script], stdin=pipe, stdout=pipe, env=environment(), cwd=tmp_path,
        pass_fds=[reader], check=False, timeout=20,
    )  # fmt: skip
    assert first.returncode == 3
    assert loaders.same_as_debians(NAME, "-n", "file", "true", cwd=tmp_path).stderr == HELD
    os.close(writer)
    os.close(reader)
    assert loaders.same_as_debians(NAME, "file", "true", cwd=tmp_path).returncode == 0


def test_the_program_finds_the_lock_open_and_nothing_else_changed_in_any_chain(tmp_path: Path) -> None:
    facts = loaders.same_in_every_chain(NAME, "file", cwd=tmp_path)
    assert facts["fds"] == {0: "pipe:", 1: "pipe:", 2: "pipe:", 3: str(tmp_path / "file")}
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_setlock_leaves_what_is_in_the_file(setlock: str | Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "file").chmod(0o644)
    subprocess.run([setlock, "file", "sh", "-c", "echo more >&3"], cwd=tmp_path, env=environment(), check=True)
    assert (tmp_path / "file").read_text() == "textmore\n"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "words",
    [
        (), ("file",), ("-n", "file"), ("-n",), ("-Z", "file", "true"), ("-nZ", "file", "true"), ("--", "file"),
        ("missing/file", "true"), ("-x", "missing/file", "true"), ("-xX", "missing/file", "true"), (".", "true"),
        ("", "true"), ("fifo", "true"), ("-x", "fifo", "true"), ("--", "file", "sh", "-c", "exit 7"),
        ("file", "./missing"), ("-x", "file", "./missing"), ("/dev/null", "echo", "-n", "x"), ("-", "pwd"),
    ],
)  # fmt: skip
def test_setlock_says_and_ends_as_debians(tmp_path: Path, words: tuple[str, ...]) -> None:
    os.mkfifo(tmp_path / "fifo")
    loaders.same_as_debians(NAME, *words, cwd=tmp_path)
