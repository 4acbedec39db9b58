"""readproctitle beside Debian's: what ps shows of it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import BIN, environment, eventually, needs, run

NAME = "readproctitle"
DOTS = "." * 400
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its ids: run the tests as root")


@pytest.fixture(params=["ours", "Debian's"])
def readproctitle(request: pytest.FixtureRequest) -> str | Path:
    return BIN / NAME if request.param == "ours" else needs(NAME)


@contextlib.contextmanager
def running(*words: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdin is not None
        yield process
        process.stdin.close()
        assert process.wait(20) == 0


def give(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def last(process: "subprocess.Popen[bytes]") -> bytes:
    return Path(f"/proc/{process.pid}/cmdline").read_bytes()[:-1].rpartition(b"\0")[2]


def title(data: bytes, length: int) -> bytes:
    """Byte by byte, as the manual page has it."""
    shown = bytearray(b"." * length)
    for byte in data.replace(b"\0", b""):
        del shown[3]
        shown.append(byte)
    return bytes(shown)


def test_ps_shows_the_latest_input_in_place_of_400_dots(readproctitle: str | Path) -> None:
    with running(readproctitle, "service", "errors:", DOTS) as process:
        text = b"supervise: fatal: unable to start pop3d/run: access denied\n"
        expected = title(text, 400)
        give(process, text)
        assert eventually(lambda: last(process) == expected)
        shown = run(["ps", "-ww", "-o", "args=", "-p", str(process.pid)]).stdout
        assert shown.rstrip(b"\n? ").endswith(b"service errors: " + expected.rstrip(b"\n"))
        give(process, text * 3)
        assert eventually(lambda: last(process) == title(text * 4, 400))


def test_the_last_argument_becomes_dots_whatever_it_was(readproctitle: str | Path) -> None:
    with running(readproctitle, "errors:", "anything else") as process:
        assert eventually(lambda: last(process) == b"." * 13)
        give(process, b"ab\0c")
        assert eventually(lambda: last(process) == b"..." + b"." * 7 + b"abc")


def test_only_the_last_argument_changes(readproctitle: str | Path) -> None:
    with running(readproctitle, ".....", "x", ".....") as process:
        give(process, b"abcdef")
        assert eventually(lambda: last(process) == b"...ef")
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        assert words[-4:] == [b".....", b"x", b"...ef", b""]
        assert b"PATH=" in Path(f"/proc/{process.pid}/environ").read_bytes()


@settings(max_examples=10)
@given(
    blocks=st.lists(
        st.lists(st.sampled_from([b"\0", b"\n", b"a", b"\xff", b"long line " * 50]), max_size=20).map(b"".join),
        max_size=4,
    ),
    length=st.sampled_from([5, 6, 40, 400]),
)
def test_any_input_is_shown_as_debians_shows_it(blocks: Sequence[bytes], length: int) -> None:
    expected = title(b"".join(blocks) + b"end", length)
    shown = []
    for program in BIN / NAME, needs(NAME):
        with running(program, "." * length) as process:
            for block in (*blocks, b"end"):
                give(process, block)
            assert eventually(lambda: last(process) == expected)
            shown.append(last(process))
    assert shown[0] == shown[1]


def test_a_megabyte_is_read_to_its_end(readproctitle: str | Path) -> None:
    with running(readproctitle, DOTS) as process:
        give(process, bytes(range(256)) * 4096)
        assert eventually(lambda: last(process) == title(bytes(range(256)) * 2, 400))


@pytest.mark.parametrize("words", [(), ("",), ("a",), ("....",), ("service", "....")])
def test_too_few_words_are_100_in_silence(readproctitle: str | Path, words: tuple[str, ...]) -> None:
    done = run([readproctitle, *words])
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 100)


@pytest.mark.parametrize(("input", "code"), [("</dev/null", 0), ("<&-", 111), ("0>/dev/null", 111)])
def test_its_end_is_0_and_an_error_111(readproctitle: str | Path, input: str, code: int) -> None:
    done = run(["sh", "-c", f'exec "$0" errors: ..... {input}', readproctitle])
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", code)


def test_behind_another_command_line_it_says_that_nothing_can_be_shown() -> None:
    """As after a warm step from a process that was started with other arguments."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from qmailpy.commands import readproctitle\n"
        "sys.exit(readproctitle.main([b'readproctitle', b'.....'], {}))\n"
    )
    done = run(["python3", "-ISc", script, BIN.parent])
    why = b"readproctitle: fatal: unable to show a title: the last argument in ps is not mine\n"
    assert (done.stdout, done.stderr, done.returncode) == (b"", why, 111)


@pytest.mark.parametrize("before", [("pgrphack",), pytest.param(("setuidgid", "nobody"), marks=needs_root)])
@pytest.mark.parametrize("whose", ["ours", "Debian's"])
def test_behind_a_command_that_leaves_the_arguments_it_shows_them(before: tuple[str, ...], whose: str) -> None:
    """Also warm, and as another user: /proc/self/mem would be closed."""
    first = str(BIN / before[0]) if whose == "ours" else needs(before[0])
    with running(first, *before[1:], BIN / NAME, "errors:", "." * 20) as process:
        give(process, b"text")
        assert eventually(lambda: last(process) == title(b"text", 20))
