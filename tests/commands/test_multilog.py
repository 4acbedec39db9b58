"""multilog: the directories are those that Debian's leaves, and no line is lost whatever happens to it."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import BIN, environment, needs, run

TIMEOUT = 20
LABEL = re.compile(rb"(?m)^@[0-9a-f]{24} ")
PROGRAMS = ["ours", "Debian's"]


def program(name: str) -> str | Path:
    return BIN / "multilog" if name == "ours" else needs("multilog")


@pytest.fixture(params=PROGRAMS)
def multilog(request: pytest.FixtureRequest) -> str | Path:
    return program(request.param)


def logs(folder: Path) -> list[Path]:
    """The old files, the oldest first, and current."""
    return sorted(folder.glob("@*")) + sorted(folder.glob("current"))


def text(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in logs(folder))


def contents(folder: Path) -> list[tuple[str, int, bytes]]:
    """Name without the time, mode and contents of all that is in a directory, the oldest first."""
    return [
        (re.sub("[0-9a-f]{24}", "", file.name), file.stat().st_mode & 0o777, LABEL.sub(b"@ ", file.read_bytes()))
        for file in sorted(folder.iterdir())
    ]


@contextmanager
def running(argv: Sequence[str | bytes | Path], cwd: Path, stdin: int) -> "Iterator[subprocess.Popen[bytes]]":
    with subprocess.Popen(argv, stdin=stdin, stderr=subprocess.PIPE, cwd=cwd, env=environment()) as child:
        try:
            yield child
        finally:
            child.kill()


def until(condition, child: "subprocess.Popen[bytes] | None" = None) -> None:  # type: ignore[no-untyped-def]
    """Look again and again: nothing tells when a file changes."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        assert child is None or child.poll() is None
        time.sleep(0.002)


def holds(log: Path, expected: bytes) -> Callable[[], bool]:
    """Whether current ends with expected; for until."""
    return lambda: (log / "current").exists() and text(log).endswith(expected)


# The script


WORDS = st.sampled_from(
    [
        *("+*", "-*", "-a*", "+*b", "-*a*b", "+**", "-*: b", "+", "-a", "e", "=one", "=two", "./log", "./other"),
        *("Q", "", "n3", "s4096", "!cat", "t"),
    ]
)
LINES = st.lists(st.sampled_from([b"a", b"b", b"a*", b"ab", b": b", b"\0\xff", b"\r", b"x" * 199]), max_size=8).map(
    b"".join
)
LONG = st.integers(990, 1010).map(lambda size: b"ab" + b"y" * size)


def without_second_directories(words: list[str]) -> list[str]:
    return [word for at, word in enumerate(words) if not word.startswith("./") or word not in words[:at]]


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(WORDS, max_size=8).map(without_second_directories),
    lines=st.lists(LINES | LONG, max_size=12),
    end=st.sampled_from([b"\n", b""]),
)
def test_any_script_does_what_debians_does(
    words: list[str], lines: list[bytes], end: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    given = b"\n".join(lines) + end if lines else b""
    results = []
    for name in PROGRAMS:
        folder = tmp_path_factory.mktemp("multilog")
        done = run([program(name), *words], given, cwd=folder)
        found = {
            path.name: contents(path)
            if path.is_dir()
            else (path.stat().st_mode & 0o777, LABEL.sub(b"@ ", path.read_bytes()))
            for path in folder.iterdir()
        }
        results.append((done.returncode, LABEL.sub(b"@ ", done.stderr), done.stdout, found))
    assert results[0] == results[1]


def packets(argv: Sequence[str | Path], cwd: Path, sent: list[bytes]) -> "subprocess.CompletedProcess[bytes]":
    """Run multilog so that each of its reads gives one of sent, however fast it is."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its, running(argv, cwd, its.fileno()) as child:
        its.close()
        for packet in sent:
            ours.sendall(packet)
        ours.shutdown(socket.SHUT_WR)
        _, stderr = child.communicate(timeout=TIMEOUT)
    return subprocess.CompletedProcess(argv, child.returncode, b"", stderr)


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 60, 250, 510, 511, 512, 700, 998, 999]), min_size=10, max_size=60),
    processor=st.booleans(),
    number=st.sampled_from(["n2", "n4", "n100"]),
)
def test_files_are_rotated_where_debians_rotates_them(
    sizes: list[int], processor: bool, number: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sent = [b"%d" % (at % 10) * size + b"\n" for at, size in enumerate(sizes)]
    script = ["s4096", number, *(["!tr 0-9 a-j; cat <&4 >&5; echo >&5"] if processor else []), "./log"]
    results = []
    for name in PROGRAMS:
        folder = tmp_path_factory.mktemp("multilog")
        done = packets([program(name), *script], folder, sent)
        assert (done.returncode, done.stderr) == (0, b"")
        results.append(contents(folder / "log"))
    assert results[0] == results[1]


@pytest.mark.parametrize("script", [["./log"], ["t", "./log"]])
def test_a_line_longer_than_a_file_is_split_as_debians_splits_it(script: list[str], tmp_path: Path) -> None:
    sent = [b"a" * 1000] * 9 + [b"b" * 700 + b"\n", b"c\n", b"d" * 998, b"\n", b"e" * 300]
    results = []
    for name in PROGRAMS:
        folder = tmp_path / name
        folder.mkdir()
        assert packets([program(name), "s4096", script[0], *script[1:]], folder, sent).returncode == 0
        results.append(contents(folder / "log"))
    assert results[0] == results[1]


def test_long_input_is_split_at_ends_of_lines_only(multilog: str | Path, tmp_path: Path) -> None:
    lines = b"".join(b"%d %s\n" % (number, b"x" * (number % 1500)) for number in range(3000))
    done = run([multilog, "s20000", "n1000", "./log"], lines, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert text(tmp_path / "log") == lines
    for file in logs(tmp_path / "log")[:-1]:
        assert file.read_bytes().endswith(b"\n")
        assert 18000 <= file.stat().st_size <= 20000
        assert file.stat().st_mode & 0o777 == 0o744


def test_labels_are_those_of_the_time_of_reading(multilog: str | Path, tmp_path: Path) -> None:
    before = int(time.time())
    run([multilog, "t", "./log"], b"one\ntwo\n", cwd=tmp_path)
    found = re.fullmatch(rb"@4([0-9a-f]{15})[0-9a-f]{8} one\n@4[0-9a-f]{23} two\n", text(tmp_path / "log"))
    assert found is not None
    assert before <= int(found[1], 16) - 10 <= time.time()


def test_a_script_without_a_directory_reads_to_the_end(multilog: str | Path) -> None:
    done = run([multilog], b"line\n" * 50000)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("closed", ["<&-", "</dev/null"])
def test_an_input_that_is_not_there_has_ended(multilog: str | Path, tmp_path: Path, closed: str) -> None:
    assert run(["sh", "-c", f'exec "$0" ./log {closed}', multilog], cwd=tmp_path).returncode == 0
    assert [name for name, _, _ in contents(tmp_path / "log")] == ["current", "lock", "state"]


# The start


@pytest.mark.parametrize(
    ("script", "prepare"),
    [
        (["./log"], "touch log"),
        (["./log"], "mkdir -p log/lock"),
        (["./log"], "mkdir -p log/state"),
        (["./log"], "ln -s log log"),
        (["./log"], "mkdir log; ln -s current log/current"),
        (["./no/log"], ":"),
        (["=no/file", "./log"], ":"),
        (["=log", "./log"], "mkdir log"),
        (["=fifo"], "mkfifo fifo"),
        (["./log", "./log"], "true"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line_and_111(tmp_path: Path, script: list[str], prepare: str) -> None:
    results = []
    for name in PROGRAMS:
        folder = tmp_path / name
        folder.mkdir()
        run(["sh", "-c", prepare], cwd=folder)
        done = run([program(name), *script], b"line\n", cwd=folder)
        assert done.returncode == 111
        results.append(done.stderr)
    assert results[0] == results[1]
    assert results[0].startswith(b"multilog: fatal: ") and results[0].count(b"\n") == 1


def test_a_failing_start_leaves_other_directories_as_they_were(tmp_path: Path) -> None:
    """The original leaves the mode of a crash, and so a new file @LABEL.u at each attempt."""
    run([BIN / "multilog", "./log"], b"line\n", cwd=tmp_path)
    before = contents(tmp_path / "log")
    assert run([BIN / "multilog", "./log", "./no/log"], b"more\n", cwd=tmp_path).returncode == 111
    assert contents(tmp_path / "log") == before


@pytest.mark.parametrize("other", PROGRAMS)
def test_a_directory_has_one_multilog(multilog: str | Path, other: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with running([program(other), "./log"], tmp_path, reader) as child:
        os.close(reader)
        os.write(writer, b"line\n")
        until(holds(tmp_path / "log", b"line\n"), child)
        done = run([multilog, "./log"], b"more\n", cwd=tmp_path)
        assert done.stderr == b"multilog: fatal: unable to lock directory ./log: temporary failure\n"
        assert done.returncode == 111
        os.close(writer)
        assert child.wait(TIMEOUT) == 0


# While it runs


@contextmanager
def fed(argv: Sequence[str | Path], cwd: Path) -> "Iterator[tuple[subprocess.Popen[bytes], int, int]]":
    """multilog with a pipe, both ends of which this process keeps, as svscan does."""
    reader, writer = os.pipe()
    try:
        with running(argv, cwd, reader) as child:
            yield child, reader, writer
    finally:
        for fd in (reader, writer):
            try:
                os.close(fd)
            except OSError:
                pass


def test_each_line_is_in_the_log_at_once(multilog: str | Path, tmp_path: Path) -> None:
    with fed([multilog, "+*", "./log"], tmp_path) as (child, _, writer):
        expected = b""
        for line in (b"one\n", b"two\nthree\n", b"\n"):
            os.write(writer, line)
            expected += line
            until(holds(tmp_path / "log", expected), child)
        os.write(writer, b"par")
        os.write(writer, b"tial\n")
        until(lambda: text(tmp_path / "log") == expected + b"partial\n", child)


def cpu(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def pending(pid: int) -> int:
    """Signals that have not come yet."""
    return int(re.findall(r"ShdPnd:\t([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())[0], 16)


@pytest.mark.parametrize("beginning", [b"par", b"x" * 5000])
def test_the_beginning_of_a_line_does_not_keep_it_busy(multilog: str | Path, tmp_path: Path, beginning: bytes) -> None:
    with fed([multilog, "./log"], tmp_path) as (child, reader, writer):
        os.write(writer, b"line\n" + beginning)
        until(lambda: not select.select([reader], [], [], 0)[0], child)  # all of it was taken
        until(lambda: text(tmp_path / "log").startswith(b"line\n"), child)
        switches = Path(f"/proc/{child.pid}/status")

        def count() -> int:
            return int(re.findall(r"\nvoluntary_ctxt_switches:\t(\d+)", switches.read_text())[0])

        until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S", child)
        before = count(), cpu(child.pid)
        select.select([], [], [], 0.1)
        assert (count(), cpu(child.pid)) == before
        os.write(writer, b"tial\n")
        until(lambda: text(tmp_path / "log") == b"line\n" + beginning + b"tial\n", child)


@pytest.mark.parametrize("kind", ["pipe", "FIFO", "socket"])
def test_sigterm_ends_it_at_the_next_end_of_a_line(multilog: str | Path, tmp_path: Path, kind: str) -> None:
    if kind == "socket":
        one, two = socket.socketpair()
        writer, reader = one.detach(), two.detach()
    elif kind == "pipe":
        reader, writer = os.pipe()
    else:
        os.mkfifo(tmp_path / "fifo")
        reader = os.open(tmp_path / "fifo", os.O_RDWR)
        writer = os.dup(reader)
    with running([multilog, "./log"], tmp_path, reader) as child:
        os.write(writer, b"one\ntw")
        until(holds(tmp_path / "log", b"one\n"), child)
        until(lambda: not select.select([reader], [], [], 0)[0], child)
        child.terminate()
        until(lambda: not pending(child.pid), child)
        os.write(writer, b"o\nthree\n")
        assert child.wait(TIMEOUT) == 0
        whole = text(tmp_path / "log")
        if multilog != BIN / "multilog" and whole == b"one\ntwo\nthree\n":  # it misses a signal just before it reads
            return
        assert whole == b"one\ntwo\n"
        assert (tmp_path / "log/current").stat().st_mode & 0o777 == 0o744
        assert os.read(reader, 100) == b"three\n"
    os.close(reader)
    os.close(writer)


def test_sigterm_between_lines_ends_it_at_once(multilog: str | Path, tmp_path: Path) -> None:
    for _ in range(10):
        with fed([multilog, "./log"], tmp_path) as (child, _, writer):
            before = text(tmp_path / "log") if (tmp_path / "log").exists() else b""
            os.write(writer, b"line\n")
            until(holds(tmp_path / "log", before + b"line\n"), child)
            child.terminate()
            assert child.wait(TIMEOUT) == 0
    assert len(logs(tmp_path / "log")) == 1  # each went on where the one before had ended


def test_sigalrm_rotates_what_is_not_empty(multilog: str | Path, tmp_path: Path) -> None:
    with fed([multilog, "./log", "-*", "./none"], tmp_path) as (child, _, writer):
        for number in range(1, 6):
            os.write(writer, b"%d\n" % number)
            until(holds(tmp_path / "log", b"%d\n" % number), child)
            child.send_signal(signal.SIGALRM)
            until(lambda: len(logs(tmp_path / "log")) == number + 1 and not (tmp_path / "log/previous").exists(), child)  # noqa: B023
        os.close(writer)
    assert [(name, data) for name, _, data in contents(tmp_path / "log")] == [
        *(("@.s", b"%d\n" % number) for number in range(1, 6)),
        ("current", b""),
        ("lock", b""),
        ("state", b""),
    ]
    assert len(logs(tmp_path / "none")) == 1


def test_signals_that_come_during_a_processor_are_not_lost(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    with fed([BIN / "multilog", "!cat; read x <../go", "./log"], tmp_path) as (child, _, writer):
        os.write(writer, b"line\n")
        until(holds(tmp_path / "log", b"line\n"), child)
        child.send_signal(signal.SIGALRM)
        until(lambda: (tmp_path / "log/processed").exists(), child)
        child.terminate()
        (tmp_path / "go").write_bytes(b"\n")
        assert child.wait(TIMEOUT) == 0
    assert [name for name, _, _ in contents(tmp_path / "log")] == ["@.s", "current", "lock", "state"]


# Processors


PROCESSOR = "tr a-z A-Z; read old <&4; echo $old$old. >&5; kill -l >/dev/null; umask; ls /proc/self/fd >&2; pwd >&2"


def test_a_processor_has_the_descriptors_and_state_that_debians_gives_it(tmp_path: Path) -> None:
    results = []
    for name in PROGRAMS:
        folder = tmp_path / name
        folder.mkdir()
        done = packets([program(name), f"!{PROCESSOR}", "s4096", "./log"], folder, [b"x" * 990 + b"\n"] * 9)
        assert done.returncode == 0
        results.append((done.stderr.replace(os.fsencode(folder), b""), contents(folder / "log")))
    assert results[0] == results[1]
    assert (tmp_path / "ours/log/state").read_bytes() == b".......\n"


DISPOSITIONS = f"exec {sys.executable} -ISc " + repr(
    "import signal; print([n for n in range(1, 65) if n not in (9, 19, 32, 33) "
    "and signal.getsignal(n) not in (signal.SIG_DFL, signal.default_int_handler)], signal.pthread_sigmask(0, []))"
)


def test_a_processor_finds_the_signals_as_from_debians(tmp_path: Path) -> None:
    results = []
    for name in PROGRAMS:
        run([program(name), f"!{DISPOSITIONS}", "s4096", f"./{name}"], b"x" * 990 + b"\n" + b"y" * 4000, cwd=tmp_path)
        results.append(logs(tmp_path / name)[0].read_bytes())
    assert results[0] == results[1]


def test_a_processor_that_fails_is_run_again(multilog: str | Path, tmp_path: Path) -> None:
    """After five seconds, which is why there is one such test."""
    script = ["!test -e ../again || { touch ../again; echo half; exit 3; }; cat", "./log"]
    with fed([multilog, *script], tmp_path) as (child, _, writer):
        os.write(writer, b"line\n")
        until(holds(tmp_path / "log", b"line\n"), child)
        child.send_signal(signal.SIGALRM)
        assert child.stderr is not None
        assert child.stderr.readline() == b"multilog: warning: processor failed in ./log, pausing\n"
        until(lambda: len(logs(tmp_path / "log")) == 2, child)
        os.close(writer)
        assert child.wait(TIMEOUT) == 0
    assert text(tmp_path / "log") == b"line\n"


# Crashes

ONCE = ("mkdir", "flock", "tee", "poll")
OFTEN = ("write", "fsync", "renameat", "linkat", "unlinkat", "fchmod", "fchmodat")
KILLS = [*((call, 1) for call in ONCE), ("poll", 2), *((call, when) for call in OFTEN for when in (1, 2, 3))]


@pytest.mark.parametrize("successor", PROGRAMS)
def test_a_kill_at_any_call_of_the_system_loses_no_line(tmp_path: Path, successor: str) -> None:
    lines = [b"%d %s\n" % (number, b"x" * (number % 50)) for number in range(400)]
    strace = needs("strace")
    for call, when in KILLS:
        folder = tmp_path / f"{call}-{when}"
        folder.mkdir()
        inject = f"inject={call}:signal=KILL:when={when}"
        script = ["s4096", "n100", "./log"]
        with fed([strace, "-qq", "-o", "/dev/null", "-e", inject, BIN / "multilog", *script], folder) as (
            child,
            reader,
            writer,
        ):
            os.write(writer, b"".join(lines))
            assert child.wait(TIMEOUT) == -signal.SIGKILL, (call, when)
            with running([program(successor), *script], folder, reader) as second:
                os.close(writer)
                assert second.wait(TIMEOUT) == 0
        found = [line + b"\n" for line in text(folder / "log").split(b"\n")[:-1]]
        assert set(found) >= set(lines), (call, when)
        assert len(found) <= 2 * len(lines)
        first = [line for at, line in enumerate(found) if line not in found[:at] and line in lines]
        assert first == lines, "in order"


@pytest.mark.parametrize("successor", PROGRAMS)
def test_a_kill_at_any_time_loses_no_line(tmp_path: Path, successor: str) -> None:
    """Lines as of a service, one write each; both take turns with ours."""
    reader, writer = os.pipe()
    expected = []
    number = 0
    for turn in range(20):
        name = "ours" if turn % 2 == 0 else successor
        with running([program(name), "t", "s4096", "n100000", "./log"], tmp_path, reader) as child:
            before = len(logs(tmp_path / "log")) if (tmp_path / "log").exists() else 0
            size = 0
            while True:
                line = b"%d %s" % (number, b"x" * (number % 90))
                os.write(writer, line + b"\n")
                expected.append(line)
                number += 1
                size += len(line)
                if size > 3000 * (turn % 7 + 1) and len(logs(tmp_path / "log")) > before:
                    break
            if name == "ours":
                child.kill()
            else:
                child.terminate()  # the original loses what it has read
                # It misses a signal that comes just before it reads, and sees it after one more line.
                expected.append(b"%d after" % number)
                os.write(writer, expected[-1] + b"\n")
                number += 1
            child.wait(TIMEOUT)
    os.close(writer)
    with running([BIN / "multilog", "t", "s4096", "n100000", "./log"], tmp_path, reader) as child:
        os.close(reader)
        assert child.wait(TIMEOUT) == 0
    found = [LABEL.sub(b"", line) for line in text(tmp_path / "log").split(b"\n")[:-1]]
    seen = set()
    first = [line for line in found if line not in seen and not seen.add(line)]  # type: ignore[func-returns-value]
    assert [line for line in first if line in set(expected)] == expected


@pytest.mark.parametrize("error", ["ENOSYS", "EINVAL", "EPERM"])
def test_a_system_without_tee_is_no_reason_to_stop(tmp_path: Path, error: str) -> None:
    argv: list[str | Path] = [
        needs("strace"),
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"inject=tee:error={error}",
        BIN / "multilog",
        "./log",
    ]
    lines = b"".join(b"%d\n" % number for number in range(20000)) + b"last"
    assert run(argv, lines, cwd=tmp_path).returncode == 0
    assert text(tmp_path / "log") == lines + b"\n"


def test_a_warm_step_writes_and_ends_as_a_cold_one(tmp_path: Path) -> None:
    for name, cold in (("warm", ""), ("cold", "1")):
        folder = tmp_path / name
        argv = ["argv0", "multilog", "multilog", "t", "!cat", "s4096", "./log"]
        folder.mkdir()
        done = run(argv, b"x" * 500 + b"\n" * 4000, cwd=folder, env=environment(QMAILPY_COLD=cold))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert contents(tmp_path / "warm/log") == contents(tmp_path / "cold/log")


# A disk that is full

FULL = """
mount -t tmpfs -o size=128k tmpfs "$1" && cd "$1" && mkdir log || exit 99
dd if=/dev/zero of=filler bs=1k count=64 2>/dev/null
shift
exec "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk: run the tests as root")
def test_a_full_disk_is_waited_for_and_nothing_is_lost(multilog: str | Path, tmp_path: Path) -> None:
    lines = b"".join(b"%d %s\n" % (number, b"x" * 80) for number in range(900))
    argv: list[str | Path] = ["unshare", "-m", "sh", "-c", FULL, "sh", tmp_path, multilog, "s20000", "n100", "./log"]
    with fed(argv, tmp_path) as (child, _, writer):
        feeder = os.fork()
        if feeder == 0:
            with open(writer, "wb") as pipe:
                pipe.write(lines)
            os._exit(0)
        os.close(writer)
        assert child.stderr is not None
        assert (
            child.stderr.readline()
            == b"multilog: warning: unable to write to ./log/current, pausing: out of disk space\n"
        )
        inside = Path(f"/proc/{child.pid}/root{tmp_path}")
        assert lines.startswith(text(inside / "log"))
        (inside / "filler").unlink()
        hold = os.open(inside, os.O_RDONLY)  # the mount is there as long as somebody is in it
        assert child.wait(TIMEOUT) == 0
        os.waitpid(feeder, 0)
        assert text(Path(f"/proc/self/fd/{hold}/log")) == lines
        os.close(hold)
