"""checkpassword beside the original, which a variable CHECKPASSWORD may name."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.accounts import GID, UID, SystemAccounts, login, system_accounts
from tests.helpers import BIN, environment, run

__all__ = ["system_accounts"]

OURS = str(BIN / "checkpassword")
CHECKERS = [OURS] + [path for path in [os.environ.get("CHECKPASSWORD")] if path]

# Prints what the account has become, from /proc: nothing of it passes through another program.
PROBE = (
    "sh",
    "-c",
    'pwd; echo "$USER $HOME $SHELL $KEPT"; echo *; grep -E "^(Uid|Gid|Groups)" /proc/$$/status; ls /proc/$$/fd',
)


@pytest.fixture(params=CHECKERS)
def checker(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


@pytest.mark.parametrize("packet", [b"q-right\0secret\0", b"q-right\0secret\0stamp\0", b"q-right\0secret\0s\0more\0"])
def test_the_right_password_becomes_the_account(system_accounts: SystemAccounts, checker: str, packet: bytes) -> None:
    env = environment(USER="root", HOME="/root", SHELL="/bin/bash", KEPT="k e p t")
    result = system_accounts.login([checker, *PROBE], packet, env)
    lines = result.stdout.decode().split("\n")
    assert lines[:3] == [
        str(system_accounts.home),
        f"q-right {system_accounts.home} /bin/q-shell k e p t",
        "*",
    ]
    status = [line.split() for line in lines[3:6]]
    assert status == [["Uid:", *[str(UID)] * 4], ["Gid:", *[str(GID)] * 4], ["Groups:", str(GID)]]
    assert lines[6:] == ["0", "1", "2", ""]
    assert (result.returncode, result.stderr) == (0, b"")


def test_no_signal_is_blocked_or_ignored(system_accounts: SystemAccounts, checker: str) -> None:
    result = system_accounts.login([checker, "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], b"q-right\0secret\0")
    internal = 3 << 31  # 32 and 33 are the C library's own; make(1) ignores them
    assert [int(mask, 16) & ~internal for mask in result.stdout.split()[1::2]] == [0, 0]


def test_the_exit_code_is_that_of_the_program(system_accounts: SystemAccounts, checker: str) -> None:
    assert system_accounts.login([checker, "sh", "-c", "exit 37"], b"q-right\0secret\0").returncode == 37


@pytest.mark.parametrize(
    "packet",
    [
        b"q-right\0secreT\0",
        b"q-right\0secre\0",
        b"q-right\0secrets\0",
        b"q-right\0\0",
        b"\0secret\0",
        b"Q-RIGHT\0secret\0",
        b"q-right@host\0secret\0",
        b"q-nobody\0secret\0",
        b"q-bang\0secret\0",
        b"q-star\0secret\0",
        b"q-star\0*\0",
        b"q-empty\0\0",
        b"q-empty\0secret\0",
        b"q-shadowless\0x\0",
        b"\xff\n:\0secret\0",
        b"q-right\0secret\0".ljust(513, b"x"),
        b"x" * 5000,
    ],
)
def test_what_is_not_the_right_password_is_refused_in_silence(
    system_accounts: SystemAccounts, checker: str, packet: bytes
) -> None:
    result = system_accounts.login([checker, "echo", "in"], packet)
    assert (result.returncode, result.stdout, result.stderr) == (1, b"", b"")


def test_512_bytes_are_accepted(system_accounts: SystemAccounts, checker: str) -> None:
    packet = b"q-right\0secret\0".ljust(512, b"x")
    assert system_accounts.login([checker, "echo", "in"], packet).stdout == b"in\n"


@pytest.mark.parametrize("name", ["q-expired", "q-expired-at-zero", "q-must-change", "q-too-old"])
def test_an_expired_account_is_refused(system_accounts: SystemAccounts, name: str) -> None:
    result = system_accounts.login([OURS, "echo", "in"], name.encode() + b"\0secret\0")
    assert (result.returncode, result.stdout, result.stderr) == (1, b"", b"")


@pytest.mark.parametrize(
    "name", ["q-yescrypt", "q-expires-tomorrow", "q-in-grace", "q-old-without-limit", "q-no-dates"]
)
def test_an_account_that_has_not_expired_is_accepted(system_accounts: SystemAccounts, name: str) -> None:
    assert system_accounts.login([OURS, "echo", "in"], name.encode() + b"\0secret\0").stdout == b"in\n"


def test_a_hash_that_crypt_does_not_know_is_trouble_not_a_wrong_password(system_accounts: SystemAccounts) -> None:
    result = system_accounts.login([OURS, "echo", "in"], b"q-argon\0secret\0")
    assert (result.returncode, result.stdout) == (111, b"")
    assert result.stderr == b"checkpassword: fatal: crypt(3) does not know hashes of the form $argon2id$\n"


def test_a_missing_home_is_temporary(system_accounts: SystemAccounts) -> None:
    result = system_accounts.login([OURS, "echo", "in"], b"q-homeless\0secret\0")
    assert (result.returncode, result.stdout) == (111, b"")
    assert result.stderr == b"checkpassword: fatal: unable to change to the home of uid 54321: file does not exist\n"


def test_a_program_that_cannot_be_run_is_temporary(system_accounts: SystemAccounts, checker: str) -> None:
    result = system_accounts.login([checker, "no-such-program"], b"q-right\0secret\0")
    assert (result.returncode, result.stdout) == (111, b"")
    assert system_accounts.login([checker, "no-such-program"], b"q-right\0wrong\0").returncode == 1


def test_as_a_warm_step_it_does_the_same(system_accounts: SystemAccounts) -> None:
    results = [
        system_accounts.login(["argv0", "checkpassword", "anything", *PROBE], b"q-right\0secret\0", environment(**cold))
        for cold in ({}, {"QMAILPY_COLD": "1"})
    ]
    assert results[0].stdout == results[1].stdout
    assert b"Uid:\t54321" in results[0].stdout
    assert system_accounts.login(["argv0", "checkpassword", "x", "true"], b"q-right\0wrong\0").returncode == 1


def test_a_wrong_password_does_not_stay_in_the_way_of_the_next_login(system_accounts: SystemAccounts) -> None:
    """main works twice in one process."""
    again = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from qmailpy.commands import checkpassword\n"
        "for packet in b'q-right\\0wrong\\0', b'q-right\\0secret\\0':\n"
        "    r, w = os.pipe(); os.write(w, packet); os.close(w); os.dup2(r, 3); r == 3 or os.close(r)\n"
        "    print(type(checkpassword.main([b'checkpassword', b'true'], {})).__name__)\n"
    )
    result = run([*system_accounts.prefix, "python3", "-IS", "-c", again, str(BIN.parent)])
    assert (result.stdout, result.stderr) == (b"int\nExec\n", b"")


@pytest.mark.parametrize("packet", [b"", b"q-right", b"q-right\0", b"q-right\0secret"])
def test_a_packet_without_two_nuls_is_misuse(checker: str, packet: bytes) -> None:
    result = login([checker, "echo", "in"], packet)
    assert (result.returncode, result.stdout) == (2, b"")


def test_no_program_is_misuse(checker: str) -> None:
    assert login([checker], b"q-right\0secret\0").returncode == 2


def test_a_closed_descriptor_3_is_temporary(checker: str) -> None:
    assert run(["sh", "-c", f"{checker} echo in 3<&-"]).returncode == 111


def test_a_descriptor_3_that_cannot_be_read_is_temporary(checker: str, tmp_path: Path) -> None:
    assert run(["sh", "-c", f"{checker} echo in 3<{tmp_path}"]).returncode == 111


def test_without_root_trouble_is_said_and_no_password_called_wrong() -> None:
    prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
    results = [
        login([*prefix, OURS, "echo", "in"], name + b"\0secret\0", environment()) for name in (b"root", b"q-nobody")
    ]
    for result in results:
        assert (result.returncode, result.stdout) == (111, b"")
        assert b"checkpassword: fatal: unable to look up accounts and shadow passwords: access denied" in result.stderr


def test_end_of_file_ends_the_packet_and_not_a_nul(system_accounts: SystemAccounts) -> None:
    reading, writing = os.pipe()
    with subprocess.Popen(
        [*system_accounts.prefix, "sh", "-c", 'exec 3<&0 </dev/null; exec "$@"', "sh", OURS, "echo", "in"],
        stdin=reading,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as checker:
        os.close(reading)
        os.write(writing, b"q-right\0secret\0stamp\0")
        with pytest.raises(subprocess.TimeoutExpired):
            checker.wait(timeout=0.2)
        os.close(writing)
        assert checker.stdout is not None and checker.stdout.read() == b"in\n"
