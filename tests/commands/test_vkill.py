"""vkill: kills what is named, and spares what it must."""

import signal
import subprocess
import sys
import uuid

from tests.helpers import BIN, environment, run

WAIT = "import sys; print(flush=True); sys.stdin.read()"


def started(*words: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    return process


def test_it_kills_by_a_part_of_the_command_line_and_spares_supervisors() -> None:
    name = f"vkill-test-{uuid.uuid4()}"
    meant = started("a", f"x{name}y")
    spared = [started(name, "supervise"), started(name, "log/multilog"), started("other")]
    result = run([BIN / "vkill", name])
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    meant.communicate()
    assert meant.returncode == -signal.SIGKILL
    for process in spared:
        process.communicate()
        assert process.returncode == 0


def test_it_spares_those_it_descends_from() -> None:
    name = f"vkill-test-{uuid.uuid4()}"
    result = run(["sh", "-c", f'"$0" "$1"; echo alive {name}', BIN / "vkill", name])
    assert result.stdout == f"alive {name}\n".encode()


def test_wrong_usage_prints_the_usage() -> None:
    for words in ([], [""], ["-Z", "x"]):
        result = run([BIN / "vkill", *words])
        assert (result.returncode, result.stdout) == (255, b"vkill: usage: process\noptions: -v (print the version)\n")
