import subprocess
import sys
from pathlib import Path

import pytest

from qmailpy.unix import processes, title
from tests.helpers import ROOT

SHOW = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from qmailpy.unix import processes, title\n"
    "import os\n"
    "title.Title(os.fsencode(sys.argv[-1])).show(b'n' * len(os.fsencode(sys.argv[-1])))\n"
    "print(flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.mark.parametrize("last", [b"last", b"x" * 50000, b"\xff", b" "])
def test_a_title_is_shown_in_place_of_the_last_argument_alone(last: bytes) -> None:
    argv = [sys.executable.encode(), b"-ISc", SHOW.encode(), bytes(ROOT), b"", last]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": "/bin"}) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert Path(f"/proc/{process.pid}/cmdline").read_bytes() == b"\0".join([*argv[:-1], b"n" * len(last), b""])
        assert Path(f"/proc/{process.pid}/environ").read_bytes() == b"PATH=/bin\0"
        process.stdin.close()


def test_another_argument_than_the_last_is_not_shown() -> None:
    last = Path("/proc/self/cmdline").read_bytes().split(b"\0")[-2]
    for other in (b"other", last[1:], b"x" + last, b"x" * 100_000_000):
        with pytest.raises(title.NotShown):
            title.Title(other)


def test_without_proc_there_is_no_title(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(pid: int | str) -> list[bytes]:
        raise FileNotFoundError

    monkeypatch.setattr(processes, "stat_fields", nothing)
    with pytest.raises(FileNotFoundError):
        title.Title(b"x")
