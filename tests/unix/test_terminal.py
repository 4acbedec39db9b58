import os
import pty
import sys
from pathlib import Path

from qmailpy.unix import terminal
from tests.helpers import ROOT, run

ASKING = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from qmailpy.unix import terminal; import os\n"
    "os.write(1, b'<%s>' % terminal.ask(b'Password: '))"
)


def test_an_answer_on_the_terminal_is_not_shown() -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-IS", "-c", ASKING])
    shown = b""
    while not shown.endswith(b"Password: "):
        shown += os.read(fd, 100)
    os.write(fd, b"secret\n")
    try:
        while block := os.read(fd, 100):
            shown += block
    except OSError:  # the end of a terminal
        pass
    os.close(fd)
    assert os.waitpid(pid, 0)[1] == 0
    assert shown == b"Password: \r\n<secret>"


def test_without_a_terminal_a_line_of_the_input_is_the_answer() -> None:
    done = run(["setsid", "-w", sys.executable, "-IS", "-c", ASKING], input=b"secret\nmore")
    assert (done.stdout, done.stderr) == (b"<secret>", b"Password: ")


def test_a_line_is_read_and_not_a_byte_more(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"one\n\nthree\n" + b"x" * 5000)
    fd = os.open(tmp_path / "input", os.O_RDONLY)
    try:
        assert [bytes(terminal.read_line(fd) or b"-") for _ in range(3)] == [b"one", b"-", b"three"]
        assert len(terminal.read_line(fd) or b"") == terminal.LONGEST + 1
        os.lseek(fd, 0, os.SEEK_END)
        assert terminal.read_line(fd) is None
    finally:
        os.close(fd)
