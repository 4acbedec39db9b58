import os
import resource
from pathlib import Path

import pytest

from tests.helpers import BIN, environment, run

OURS = str(BIN / "relay-ctrl-chdir")
SHOW = 'echo "$RELAY_CTRL_DIR_FD"; readlink "/proc/self/fd/$RELAY_CTRL_DIR_FD"; pwd'


@pytest.mark.parametrize("cold", ["", "1"])
def test_the_program_has_the_directory_on_a_high_descriptor(tmp_path: Path, cold: str) -> None:
    env = environment(RELAY_CTRL_DIR=str(tmp_path), QMAILPY_COLD=cold)
    found = run([OURS, "argv0", "sh", "sh", "-c", SHOW], env=env, cwd="/").stdout.split()
    limit = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    assert found == [b"%d" % (limit - 1), os.fsencode(tmp_path), b"/"]


def test_below_what_the_limit_allows_and_what_is_taken(tmp_path: Path) -> None:
    script = 'ulimit -n 64; exec 9</dev/null; exec "$@"'
    env = environment(RELAY_CTRL_DIR=str(tmp_path))
    argv = ["sh", "-c", script, "sh", OURS, OURS, "sh", "-c", 'echo "$RELAY_CTRL_DIR_FD"']
    assert run(argv, env=env).stdout == b"62\n"


def test_without_a_directory_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for value, reason in (
        (None, "$RELAY_CTRL_DIR is not set"),
        ("file", "unable to open directory file: not a directory"),
        ("none", "unable to open directory none: file does not exist"),
    ):
        env = environment(**({"RELAY_CTRL_DIR": value} if value else {}))
        result = run([OURS, "echo", "in"], env=env, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (111, b"")
        assert result.stderr.decode() == f"relay-ctrl-chdir: fatal: {reason}\n"


def test_misuse_is_1() -> None:
    assert run([OURS]).returncode == 1
