import os
import time
from pathlib import Path

from tests.helpers import BIN, environment, run

OURS = str(BIN / "relay-ctrl-age")


def test_old_files_go_and_others_stay(tmp_path: Path) -> None:
    for name, age in {"192.0.2.1": 910, "192.0.2.2": 890, "2001:db8::1": 910, ".12.34:5": 910, ".12.34:6": 0}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    (tmp_path / "folder").mkdir()
    os.utime(tmp_path / "folder", (0, 0))
    assert run([OURS], env=environment(RELAY_CTRL_DIR=str(tmp_path))).returncode == 0
    assert sorted(os.listdir(tmp_path)) == [".12.34:6", "192.0.2.2", "folder"]
    assert run([OURS], env=environment(RELAY_CTRL_DIR=str(tmp_path), RELAY_CTRL_EXPIRY="60")).returncode == 0
    assert sorted(os.listdir(tmp_path)) == [".12.34:6", "folder"]


def test_without_a_directory_it_fails_with_1(tmp_path: Path) -> None:
    result = run([OURS])
    assert (result.returncode, result.stderr) == (1, b"relay-ctrl-age: fatal: $RELAY_CTRL_DIR is not set\n")
    assert run([OURS], env=environment(RELAY_CTRL_DIR=str(tmp_path / "none"))).returncode == 1
