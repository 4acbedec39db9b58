"""checkpassword-test finds each fault of a checker, and none where there is none."""

import os
import pty
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.accounts import SystemAccounts, system_accounts
from tests.helpers import BIN, environment, needs, run

__all__ = ["system_accounts"]

ROOT = os.geteuid() == 0
OURS = str(BIN / "checkpassword-test")

# A checker for max, secret, with faults: checker.py HOME FAULT,FAULT... PROGRAM ...
CHECKER = r"""
import os, signal, sys, time
import warnings  # for execvpe, as long as we may read the library
home, faults, prog = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
if not prog: os._exit(0 if "no program is success" in faults else 2)
def fail(code):
    codes = {"refusals are success": 0, "refusals are 3": 3, "refusals are trouble": 111}
    os._exit(codes.get(faults[0], code) if code == 1 else code)
data = b""
try:
    while len(data) < 513:
        part = os.read(3, 513 - len(data))
        data += part
        if not part or "reads once" in faults: break
        if "does not wait for the end" in faults and data.count(b"\0") >= 3: break
except OSError:
    fail(1 if "no descriptor 3 is a refusal" in faults else 111)
if len(data) > 512 and "takes any length" not in faults: fail(1)
if "leaves 3 open" not in faults: os.close(3)
strings = data.split(b"\0")
if "needs no second NUL" in faults: strings += [b""]
if len(strings) < (4 if "needs three NULs" in faults else 3): fail(2)
name, password = strings[:2]
if "prints" in faults: os.write(1, b"checking\n")
if "tells the password" in faults: os.write(2, b"wrong password secreT, not secret\n" if password != b"secret" else b"")
if "reads standard input" in faults: os.read(0, 1)
if "crashes for unknown names" in faults and name != b"max": os.abort()
if "is slow for known names" in faults and name == b"max" and password != b"secret": time.sleep(0.1)
right = name == b"max" and password == b"secret"
if "takes the beginning for the whole" in faults: right = name == b"max" and password.startswith(b"secret")
if "takes any password" in faults: right = name == b"max"
if "takes an empty password" in faults: right = right or (name == b"max" and not password)
if not right: fail(1)
if os.geteuid() == 0 and "stays root" not in faults:
    os.setgroups([0, 65534] if "keeps root's group" in faults else [65534])
    os.setgid(65534); os.setuid(65534)
os.chdir(home)
env = dict(os.environb)
env.update({b"USER": b"max", b"HOME": os.fsencode(home), b"SHELL": b"/bin/sh"})
if "sets another HOME" in faults: env[b"HOME"] = b"/usr"
if "sets no USER" in faults: env[b"USER"] = os.environb[b"USER"]
if "sets no SHELL" in faults: env[b"SHELL"] = os.environb[b"SHELL"]
if "cleans the environment" in faults: del env[b"CHECKPASSWORD_TEST"]
if "adds a variable" in faults: env[b"UID"] = b"65534"
if "hands on the password" in faults: env[b"PASSWORD"] = password
if "leaves a file open" in faults: os.dup2(os.open("/dev/null", os.O_RDONLY), 9)
if "redirects 2" in faults: os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
if "changes the umask" in faults: os.umask(0)
signal.signal(signal.SIGPIPE, signal.SIG_IGN if "ignores SIGPIPE" in faults else signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
if "blocks signals" in faults: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
if "waits for the program" in faults or "swallows the exit code" in faults:
    pid = os.fork()
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os._exit(0 if "swallows the exit code" in faults else code)
try:
    os.execvpe(prog[0], prog, env)
except OSError:
    os._exit(126 if "has a shell's exit codes" in faults else 111)
"""

NEAR = [  # passwords near the right one
    "first byte of the password wrong",
    "last byte of the password wrong",
    "last byte of the password missing",
    "one byte behind the password",
    "empty password",
    "program missing, wrong password",
]
REFUSED = [*NEAR, "unknown name", "empty name", "packet of 513 bytes", "packet of 5000 bytes"]
TROUBLE = ["program missing", "program not executable"]
TIMES = "time to refuse an unknown name"
WAITS = "end of file behind the third NUL"

# What is wrong with the checker -> the rows that say so, and no others. Faults of one group do not hide each other.
FAULTS = {
    "given": {
        "leaves 3 open": ["descriptor 3"],
        "leaves a file open": ["other descriptors"],
        "redirects 2": ["descriptor 2"],
        "reads standard input": ["input behind the packet"],
        "prints": ["written to descriptor 1"],
        "sets another HOME": ["HOME"],
        "sets no USER": ["USER"],
        "sets no SHELL": ["SHELL"],
        "cleans the environment": ["other variables"],
        "hands on the password": ["password in the environment"],
        "ignores SIGPIPE": ["SIGPIPE"],
    },
    "refused": {
        "takes any length": ["packet of 513 bytes", "packet of 5000 bytes"],
        "takes an empty password": ["empty password"],
        "no descriptor 3 is a refusal": ["descriptor 3 closed", "descriptor 3 not readable"],
        "no program is success": ["no program"],
        "crashes for unknown names": ["unknown name", "empty name"],
        "has a shell's exit codes": TROUBLE,
        "tells the password": ["password in what is written"],
    },
    "strict": {
        "needs three NULs": [
            "packet ends behind the password",
            "packet ends in the third string",
            "packet of 512 bytes",
        ]
    },
    "lax": {"needs no second NUL": ["packet ends in the password", "packet ends behind the name"]},
    "hasty": {"does not wait for the end": [WAITS]},
    "once": {"reads once": ["packet byte by byte", WAITS]},
    "open": {"takes any password": NEAR},
    "prefix": {"takes the beginning for the whole": ["one byte behind the password"]},
    "success": {"refusals are success": REFUSED},
    "trouble": {"refusals are trouble": REFUSED},
    "parent": {"waits for the program": ["process"]},
    "code": {"swallows the exit code": ["process", "exit code", *TROUBLE]},
}
WEAKNESSES = {
    "refusals": {"refusals are 3": REFUSED},
    "times": {"is slow for known names": [TIMES]},
    "others": {
        "adds a variable": ["other variables"],
        "changes the umask": ["umask"],
        "blocks signals": ["other signals"],
    },
}
FAULTS_OF_ROOT = {
    "root": {"stays root": ["user", "group"]},
    "groups": {"keeps root's group": ["other groups"]},
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="qmailpy-checker-"))  # tmp_path is closed to other users
    folder.chmod(0o755)
    (folder / "home").mkdir()
    (folder / "checker.py").write_text(CHECKER)
    (folder / "password").write_text("secret\n")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def verdicts(result: "subprocess.CompletedProcess[bytes]") -> dict[str, str]:
    """Check -> its verdict, from the table."""
    assert result.stderr == b""
    lines = result.stdout.decode().split("\n\n")[0].split("\n")
    assert lines[0].split() == ["check", "expected", "found"]
    return {line[:35].strip(): line.rsplit(" ", 1)[1] for line in lines[1:]}


def examine(folder: Path, faults: dict[str, list[str]], rounds: int = 1) -> tuple[int, dict[str, str]]:
    checker = ["python3", "-IS", str(folder / "checker.py"), str(folder / "home"), ",".join(faults)]
    result = run([OURS, "-u", "max", "-p", str(folder / "password"), "-n", str(rounds), *checker])
    return result.returncode, verdicts(result)


def test_a_checker_without_fault_passes(folder: Path) -> None:
    code, rows = examine(folder, {}, rounds=9)
    assert {check for check, verdict in rows.items() if verdict != "ok"} <= ({"other groups"} if not ROOT else set())
    assert code == 0 and len(rows) > 45


@pytest.mark.parametrize("group", [*FAULTS, *(FAULTS_OF_ROOT if ROOT else ())])
def test_faults_are_named_by_their_rows(folder: Path, group: str) -> None:
    faults = {**FAULTS, **FAULTS_OF_ROOT}[group]
    code, rows = examine(folder, faults)
    assert {check for check, verdict in rows.items() if verdict == "FAILED"} == {*chain(*faults.values())}
    assert code == 1


@pytest.mark.parametrize("group", WEAKNESSES)
def test_weaknesses_are_warnings(folder: Path, group: str) -> None:
    code, rows = examine(folder, WEAKNESSES[group], rounds=5 if group == "times" else 1)
    if group != "times":
        rows.pop(TIMES)  # one round says nothing
    assert {check for check, verdict in rows.items() if verdict == "warning"} == {*chain(*WEAKNESSES[group].values())}
    assert code == 0


CHECKERS = ["checkpassword"] + [path for path in [os.environ.get("CHECKPASSWORD")] if path]


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("name", ["q-right", "q-yescrypt"])
def test_checkpassword_and_the_original_pass(
    system_accounts: SystemAccounts, folder: Path, checker: str, name: str
) -> None:
    result = run([*system_accounts.prefix, OURS, "-u", name, "-p", str(folder / "password"), checker])
    rows = verdicts(result)
    assert result.returncode == 0 and "FAILED" not in rows.values() and "skipped" not in rows.values()
    if checker == "checkpassword" and name == "q-right":  # most of these accounts have SHA-512
        assert "warning" not in rows.values()


def test_checkpassword_flatfile_passes(folder: Path) -> None:
    file = folder / "flatfile"
    hashed = run([needs("openssl"), "passwd", "-6", "secret"]).stdout.decode()
    file.write_text(f"max:{hashed}")
    (folder / "max").mkdir()
    if ROOT:
        os.chown(file, 65534, 65534)
    env = environment(CHECKPASSWORD_FILE=str(file))
    result = run([OURS, "-u", "max", "-p", str(folder / "password"), "checkpassword-flatfile"], env=env)
    rows = verdicts(result)
    assert result.returncode == 0
    assert set(rows.values()) - {"skipped"} == {"ok"}


def test_without_an_account_only_what_needs_none_is_tested() -> None:
    result = run([OURS, "checkpassword-flatfile"], env=environment(CHECKPASSWORD_FILE="/dev/null"))
    rows = verdicts(result)
    assert rows["what needs an account"] == "skipped"
    assert rows["packet empty"] == rows["no program"] == "ok"
    assert not set(NEAR) & set(rows)


def test_a_password_that_is_not_accepted_fails_and_skips_the_rest(folder: Path) -> None:
    checker = ["python3", "-IS", str(folder / "checker.py"), str(folder / "home"), "none"]
    result = run([OURS, "-u", "max", *checker], input=b"wrong\n")
    rows = verdicts(result)
    assert (rows["right password"], rows["what the program is given"]) == ("FAILED", "skipped")
    assert result.returncode == 1


def test_on_a_terminal_the_password_is_asked_for_without_echo(folder: Path) -> None:
    checker = ["python3", "-IS", str(folder / "checker.py"), str(folder / "home"), "none"]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [OURS, "-n", "1", "-u", "max", *checker],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        env=environment(),
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    while b"Password: " not in shown:
        shown += os.read(master, 1024)
    os.write(master, b"secret\n")
    output = process.communicate(timeout=20)[0]
    os.set_blocking(master, False)
    try:
        shown += os.read(master, 1024)
    except OSError:
        pass
    os.close(master)
    assert process.returncode == 0 and b"0 FAILED" in output
    assert b"secret" not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 100, "usage: checkpassword-test"),
        (["-x", "true"], 100, "illegal option -- x"),
        (["-p", "/dev/null", "true"], 100, "usage: checkpassword-test"),
        (["-n", "0", "true"], 100, "usage: checkpassword-test"),
        (["-u", "max", "-p", "/dev/null", "true"], 100, "an empty password is never right"),
        (["-u", "max", "-p", "/nonexistent", "true"], 111, "unable to read the password: file does not exist"),
        (["no-such-program"], 111, "unable to run no-such-program: file does not exist"),
    ],
)
def test_what_cannot_be_tested_is_said(arguments: list[str], code: int, message: str) -> None:
    result = run([OURS, *arguments])
    assert (result.returncode, result.stdout) == (code, b"")
    assert message.encode() in result.stderr
