import os
import re
import time
from pathlib import Path

import pytest

from tests.helpers import BIN, environment, run

OURS = str(BIN / "relay-ctrl-check")
SHOW = 'echo "${RELAYCLIENT-none} ${USER-} ${DOMAIN-} ${PATH##*:}"'


def check(folder: Path, ip: str = "192.0.2.7", **changes: str) -> tuple[str, str]:
    env = environment(RELAY_CTRL_DIR=str(folder), TCPREMOTEIP=ip, **changes)
    result = run([OURS, "sh", "-c", SHOW], env=env, cwd="/")
    assert result.returncode == 0
    return result.stdout.decode().rstrip("\n"), result.stderr.decode()


def aged(folder: Path, seconds: float, name: str = "192.0.2.7", text: bytes = b"") -> Path:
    file = folder / name
    file.write_bytes(text)
    then = time.time() - seconds
    os.utime(file, (then, then))
    return file


def test_an_address_of_the_last_quarter_of_an_hour_relays(tmp_path: Path) -> None:
    aged(tmp_path, 890, text=b"USER=max\0DOMAIN=host.example\0")
    assert check(tmp_path) == (" max host.example /sbin", "")
    aged(tmp_path, 890, name="2001:db8::7")
    assert check(tmp_path, "2001:0DB8::7")[0].startswith(" ")


def test_the_value_and_the_time_may_be_chosen(tmp_path: Path) -> None:
    file = aged(tmp_path, 890)
    assert check(tmp_path, RELAY_CTRL_RELAYCLIENT="@fixme")[0].startswith("@fixme ")
    assert check(tmp_path, RELAY_CTRL_EXPIRY="60")[0].startswith("none ")
    assert not file.exists()


def test_an_old_file_is_removed_and_an_unknown_address_does_not_relay(tmp_path: Path) -> None:
    file = aged(tmp_path, 910)
    assert check(tmp_path)[0].startswith("none ")
    assert os.listdir(tmp_path) == [] and not file.exists()
    assert check(tmp_path) == ("none   /sbin", "")


def test_of_a_file_only_user_and_domain_count(tmp_path: Path) -> None:
    aged(tmp_path, 0, text=b"PATH=/evil\0RELAYCLIENT=x\0LD_PRELOAD=/evil\0USER=max\0=\0DOMAIN\0USER")
    assert check(tmp_path) == (" max  /sbin", "")


def test_a_link_or_a_fifo_opens_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "ip"
    folder.mkdir()
    (folder / "192.0.2.7").symlink_to(aged(tmp_path, 0, "target"))
    os.mkfifo(folder / "192.0.2.8")
    assert check(folder)[0].startswith("none ")
    found, told = check(folder, "192.0.2.8")
    assert found.startswith("none ")
    assert told.startswith("relay-ctrl-check: warning: unable to read file 192.0.2.8: ")


def test_a_peer_that_may_relay_already_is_not_looked_up(tmp_path: Path) -> None:
    aged(tmp_path, 0, text=b"USER=max\0")
    found, told = check(tmp_path, RELAYCLIENT="@x", RELAY_CTRL_LOG_IPS="1")
    assert found == "@x   /sbin"
    assert re.fullmatch(r"relay-ctrl-check\[\d+\]: \$RELAYCLIENT already set, not checking IP\n", told)


def test_it_tells_what_it_finds_where_that_is_wanted(tmp_path: Path) -> None:
    def lines(**changes: str) -> list[str]:
        told = check(tmp_path, RELAY_CTRL_LOG_IPS="", **changes)[1]
        return [re.sub(r"^relay-ctrl-check\[\d+\]: ", "", line) for line in told.splitlines()]

    assert lines() == ["IP 192.0.2.7 not found"]
    aged(tmp_path, 0, text=b"USER=max\0")
    assert lines() == ["IP 192.0.2.7 found, setting $RELAYCLIENT"]
    assert lines(RELAY_CTRL_LOG_ENV="")[1:] == ["Setting USER=max"]
    aged(tmp_path, 910)
    assert lines() == ["Expired IP 192.0.2.7 found, removing"]


@pytest.mark.parametrize("ip", ["../x", "", "unix"])
def test_what_is_no_address_names_no_file(tmp_path: Path, ip: str) -> None:
    aged(tmp_path, 0, "x")
    folder = tmp_path / "ip"
    folder.mkdir()
    assert check(folder, ip) == (
        "none   /sbin",
        "relay-ctrl-check: warning: no address in $TCPREMOTEIP, not checking IP\n",
    )


def test_the_server_runs_whatever_is_wrong(tmp_path: Path) -> None:
    assert check(tmp_path / "none")[0].startswith("none ")
    assert run([OURS]).returncode == 1
    assert run([OURS, "no-such-program"], env=environment(RELAYCLIENT="")).returncode == 111


@pytest.mark.parametrize("cold", ["", "1"])
def test_a_login_by_pop3_lets_its_address_relay_by_smtp(tmp_path: Path, cold: str) -> None:
    """The chains of the manual page, from the checker on."""
    env = environment(RELAY_CTRL_DIR=str(tmp_path), TCPREMOTEIP="192.0.2.7", USER="max", QMAILPY_COLD=cold)
    tmp_path.chmod(0o777)
    assert run(["relay-ctrl-chdir", "relay-ctrl-allow", "true"], env=env).returncode == 0
    result = run(["relay-ctrl-chdir", OURS, "sh", "-c", SHOW], env=env)
    assert (result.stdout, result.stderr) == (b" max  /sbin\n", b"")
