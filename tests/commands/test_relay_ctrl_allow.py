import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import BIN, environment, run

OURS = str(BIN / "relay-ctrl-allow")
ROOT = os.geteuid() == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="qmailpy-relay-"))
    yield made
    shutil.rmtree(made)


def env(folder: Path, ip: str, **changes: str) -> dict[str, str]:
    return environment(RELAY_CTRL_DIR=str(folder), TCPREMOTEIP=ip, **changes)


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_the_address_becomes_a_file_that_knows_the_user(folder: Path, ip: str, name: str) -> None:
    result = run([OURS, "sh", "-c", "echo in; pwd"], env=env(folder, ip, USER="max", DOMAIN="host.example"), cwd="/")
    assert (result.stdout, result.stderr) == (b"in\n/\n", b"")
    assert os.listdir(folder) == [name]
    assert (folder / name).read_bytes() == b"USER=max\0DOMAIN=host.example\0"
    assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_a_second_login_takes_the_place_of_the_first(folder: Path) -> None:
    (folder / "192.0.2.7").write_bytes(b"USER=joe\0")
    os.utime(folder / "192.0.2.7", (0, 0))
    assert run([OURS], env=env(folder, "192.0.2.7")).returncode == 0
    assert (folder / "192.0.2.7").read_bytes() == b""
    assert (folder / "192.0.2.7").stat().st_mtime > 0


def test_through_a_descriptor_everybody_may_write(folder: Path) -> None:
    """As each mail user is another one, and the directory is closed to all of them."""
    script = 'umask 077; chmod 700 "$0/.."; exec "$@"'
    inner = folder / "ip"
    inner.mkdir()
    inner.chmod(0o777)
    drop = ["setuidgid", "nobody"] if ROOT else []
    argv = ["sh", "-c", script, str(inner), "relay-ctrl-chdir", *drop, OURS]
    result = run([*argv, "sh", "-c", 'ls "/proc/self/fd/$RELAY_CTRL_DIR_FD"'], env=env(inner, "192.0.2.7"))
    assert b"No such file" in result.stderr and b"relay-ctrl" not in result.stderr  # the descriptor is closed
    assert (inner / "192.0.2.7").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize(
    ("changes", "written"), [({}, False), ({"AUTHENTICATED": ""}, False), ({"AUTHENTICATED": "max"}, True)]
)
def test_of_courier_only_a_login_counts(folder: Path, changes: dict[str, str], written: bool) -> None:
    courier = env(folder, "192.0.2.7", AUTHUSER="x", AUTHARGV0="y", **changes)
    assert run([OURS, "echo", "in"], env=courier).stdout == b"in\n"
    assert (os.listdir(folder) != []) == written


@pytest.mark.parametrize("ip", ["", "../x", "1.2.3", "unix", "1.2.3.4/../x"])
def test_what_is_no_address_is_refused(folder: Path, ip: str) -> None:
    result = run([OURS, "echo", "in"], env=env(folder, ip))
    assert (result.returncode, result.stdout) == (111, b"")
    assert os.listdir(folder) == []


def test_trouble_keeps_nobody_from_his_mail(folder: Path) -> None:
    for changes, told in (
        ({"RELAY_CTRL_DIR": str(folder / "none")}, b"file does not exist"),
        ({"RELAY_CTRL_DIR_FD": "3x"}, b"no number in $RELAY_CTRL_DIR_FD"),
        ({"RELAY_CTRL_DIR_FD": "77"}, b"unable to use descriptor 77: file descriptor not open"),
        ({"RELAY_CTRL_DIR_FD": "0"}, b"unable to use descriptor 0"),
    ):
        result = run([OURS, "echo", "in"], env={**env(folder, "192.0.2.7"), **changes})
        assert result.stdout == b"in\n"
        assert result.stderr.startswith(b"relay-ctrl-allow: warning: ") and told in result.stderr
    unset = environment(TCPREMOTEIP="192.0.2.7")
    assert run([OURS, "echo", "in"], env=unset).stderr == b"relay-ctrl-allow: warning: $RELAY_CTRL_DIR is not set\n"


def test_a_program_that_is_not_there_is_111(folder: Path) -> None:
    assert run([OURS, "no-such-program"], env=env(folder, "192.0.2.7")).returncode == 111
