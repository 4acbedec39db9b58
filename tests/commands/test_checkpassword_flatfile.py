import hashlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.accounts import login, sha512
from tests.helpers import BIN, environment

OURS = str(BIN / "checkpassword-flatfile")
ROOT = os.geteuid() == 0
OWNER = pwd.getpwnam("nobody") if ROOT else pwd.getpwuid(os.geteuid())


class Home:
    """A single-user home: of nobody, where the tests run as root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "users" / "flatfile"
        self.file.parent.mkdir()
        (folder / "users" / "max").mkdir()

    def write(self, text: str, owner: int = OWNER.pw_uid, mode: int = 0o600) -> None:
        self.file.write_text(text)
        self.file.chmod(mode)
        if ROOT:
            os.chown(self.file, owner, -1)

    def login(self, packet: bytes, *program: str, **changes: str):  # type: ignore[no-untyped-def]
        env = environment(QMAILHOME=str(self.folder), **changes)
        return login([OURS, *(program or ("echo", "in"))], packet, env)


@pytest.fixture
def home() -> Iterator[Home]:
    folder = Path(tempfile.mkdtemp(prefix="qmailpy-flatfile-"))  # tmp_path is closed to other users
    folder.chmod(0o755)
    try:
        yield Home(folder)
    finally:
        shutil.rmtree(folder)


SHA512 = sha512(b"secret")


def test_the_right_password_runs_the_program_in_the_home(home: Home) -> None:
    home.write(f"# accounts\n\njoe:x\nmax:{SHA512}\n")
    result = home.login(b"max\0secret\0", "sh", "-c", 'pwd; echo "$USER $HOME $SHELL"; id -u; id -g; ls /proc/$$/fd')
    folder = home.folder / "users" / "max"
    assert result.stdout.decode().split("\n")[:4] == [
        str(folder),
        f"max {folder} /bin/sh",
        str(OWNER.pw_uid),
        str(OWNER.pw_gid if ROOT else os.getegid()),
    ]
    assert result.stdout.split()[-3:] == [b"0", b"1", b"2"]
    assert result.stderr == b""


def test_home_and_shell_come_from_the_line(home: Home) -> None:
    (home.folder / "mail").mkdir()
    home.write(f"max:{SHA512}:::Max:../mail:/bin/false\nroot:{SHA512}:::Root:/\n")
    assert home.login(b"max\0secret\0", "sh", "-c", 'echo "$HOME $SHELL"').stdout.decode() == (
        f"{home.folder}/mail /bin/false\n"
    )
    assert home.login(b"root\0secret\0", "pwd").stdout == b"/\n"


@pytest.mark.parametrize(
    "packet", [b"max\0secreT\0", b"max\0\0", b"nobody\0secret\0", b"\0secret\0", b"bang\0secret\0", b"none\0\0"]
)
def test_anything_else_is_refused_in_silence(home: Home, packet: bytes) -> None:
    home.write(f"max:{SHA512}\nbang:!{SHA512}\nnone:\n")
    result = home.login(packet)
    assert (result.returncode, result.stdout, result.stderr) == (1, b"", b"")


def test_apop_and_a_password_of_any_bytes_work_with_a_secret_in_clear(home: Home) -> None:
    home.write("max:{PLAIN}sécret word\n")
    secret, stamp = "sécret word".encode(), b"<1.2@host.example>"
    digest = hashlib.md5(stamp + secret).hexdigest().encode()
    assert home.login(b"max\0" + secret + b"\0" + stamp + b"\0").stdout == b"in\n"
    assert home.login(b"max\0" + digest + b"\0" + stamp + b"\0").stdout == b"in\n"
    assert home.login(b"max\0" + digest + b"\0" + b"<1.3@host.example>\0").returncode == 1


def test_a_bad_line_is_named_and_locks_nobody_out(home: Home) -> None:
    home.write(f"nonsense\nmax:{SHA512}\njoe:x:0:0\n")
    result = home.login(b"max\0secret\0")
    assert result.stdout == b"in\n"
    assert result.stderr.decode() == (
        f"checkpassword-flatfile: warning: {home.file}: ignored line 1, 3: not name:hash[:uid:gid:gecos:home:shell]\n"
    )


def test_the_file_may_be_named_in_the_environment(home: Home, tmp_path: Path) -> None:
    home.write(f"max:{SHA512}\n")
    moved = home.folder / "elsewhere"
    home.file.rename(moved)
    (home.folder / "max").mkdir()
    assert home.login(b"max\0secret\0", CHECKPASSWORD_FILE=str(moved)).stdout == b"in\n"


def trouble(home: Home, **changes: str) -> str:
    result = home.login(b"max\0secret\0", **changes)
    assert (result.returncode, result.stdout) == (111, b"")
    line: str = result.stderr.decode()
    assert line.startswith("checkpassword-flatfile: fatal: ") and line.count("\n") == 1
    return line.split(": ", 2)[2].rstrip("\n")


def test_a_file_that_cannot_be_trusted_is_temporary(home: Home) -> None:
    assert trouble(home) == f"unable to read {home.file}: file does not exist"
    home.write(f"max:{SHA512}\n", mode=0o602)
    assert trouble(home) == f"{home.file} can be written by everybody: chmod o-w"
    assert trouble(home, CHECKPASSWORD_FILE=str(home.folder)) == f"{home.folder} is not a regular file"
    fifo = home.folder / "fifo"
    os.mkfifo(fifo)
    assert trouble(home, CHECKPASSWORD_FILE=str(fifo)) == f"{fifo} is not a regular file"
    with open(home.file, "r+b") as f:
        f.truncate((16 << 20) + 1)
    home.file.chmod(0o600)
    assert trouble(home) == f"{home.file} is too large"


def test_a_hash_of_no_known_form_is_temporary(home: Home) -> None:
    home.write("max:$foo$bar\n")
    assert trouble(home) == "unable to check hashes of the form $foo$"


def test_a_hash_of_the_library_is_checked_or_says_what_is_missing(home: Home) -> None:
    home.write("max:{SSHA}Uo/ySb0GTSIA8u8r+aWEmRQFpN6dU2rN\n")
    result = home.login(b"max\0x\0")
    if result.returncode == 111:
        assert b"unable to check hashes of the form {SSHA}: libpass must be installed" in result.stderr
        if os.environ.get("CI"):
            pytest.fail("libpass is missing")
    else:
        assert result.stdout == b"in\n"
        assert home.login(b"max\0y\0").returncode == 1


def test_a_missing_home_is_temporary(home: Home) -> None:
    home.write(f"max:{SHA512}:::Max:nowhere\n")
    assert trouble(home) == f"unable to change to the home of uid {OWNER.pw_uid}: file does not exist"


def test_misuse_is_2() -> None:
    assert login([OURS], b"max\0secret\0").returncode == 2
    assert login([OURS, "echo"], b"max\0secret").returncode == 2


root = pytest.mark.skipif(not ROOT, reason="only root can become somebody: run the tests as root")


@root
def test_lines_of_roots_file_say_whom_a_login_becomes(home: Home) -> None:
    home.write(f"max:{SHA512}:54321:54322\n", owner=0)
    (home.folder / "users" / "max").chmod(0o755)
    assert home.login(b"max\0secret\0", "id").stdout.split()[:2] == [b"uid=54321", b"gid=54322"]


@root
def test_no_login_becomes_root(home: Home) -> None:
    home.write(f"max:{SHA512}\n", owner=0)
    assert trouble(home) == f"line 1 of {home.file} gives no uid and gid, and root owns the file: nobody to become"
    home.write(f"max:{SHA512}:0:0\n", owner=0)
    assert home.login(b"max\0secret\0").returncode == 1


@root
@pytest.mark.parametrize("ids", ["54321:54322", f"54321:{OWNER.pw_gid}", f"{OWNER.pw_uid}:54322"])
def test_a_file_gives_away_no_more_than_its_owner_has(home: Home, ids: str) -> None:
    home.write(f"max:{SHA512}:{ids}\n")
    assert "gives other ids than its owner's" in trouble(home)
    home.write(f"max:{SHA512}:{OWNER.pw_uid}:{OWNER.pw_gid}\n")
    assert home.login(b"max\0secret\0").stdout == b"in\n"


@root
def test_an_owner_without_an_account_is_nobody_to_become(home: Home) -> None:
    home.write(f"max:{SHA512}\n", owner=54321)
    assert trouble(home) == f"uid 54321, owner of {home.file}, is not in passwd"


def test_as_a_warm_step_it_does_the_same(home: Home) -> None:
    home.write(f"max:{SHA512}\n")
    for cold in {}, {"QMAILPY_COLD": "1"}:
        env = environment(QMAILHOME=str(home.folder), **cold)
        argv = ["argv0", "checkpassword-flatfile", "x", "sh", "-c", "pwd; ls /proc/$$/fd"]
        result = login(argv, b"max\0secret\0", env)
        assert result.stdout.split() == [str(home.folder / "users" / "max").encode(), b"0", b"1", b"2"]
