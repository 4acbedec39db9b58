"""setuidgid beside Debian's, and with it in one chain."""

import os
import pwd
import shutil
from pathlib import Path

import pytest

from tests.accounts import GID, UID, SystemAccounts, system_accounts
from tests.commands import loaders
from tests.helpers import BIN, environment, needs, run
from tests.servers import OURS, public_folder, serve

__all__ = ["system_accounts"]

NAME = "setuidgid"
ME = pwd.getpwuid(os.geteuid()).pw_name
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its ids: run the tests as root")


@needs_root
def test_setuidgid_gives_ids_and_all_else_alike_in_every_chain() -> None:
    nobody = pwd.getpwnam("nobody")
    reader, writer = os.pipe()
    with public_folder() as folder:
        facts = loaders.same_in_every_chain(NAME, "nobody", env={"HOME": "/x"}, pass_fds=[reader], cwd=folder)
        assert facts["cwd"] == str(folder)
    os.close(reader)
    os.close(writer)
    assert facts["ids"] == ((nobody.pw_uid,) * 3, (nobody.pw_gid,) * 3, [nobody.pw_gid])
    assert facts["fds"] == {0: "pipe:", 1: "pipe:", 2: "pipe:", reader: "pipe:"}
    env = loaders.variables(facts["env"])
    assert env[b"HOME"] == b"/x"
    assert b"USER" not in env


def test_setuidgid_drops_groups_beyond_the_primary_one(system_accounts: SystemAccounts) -> None:
    for program in (BIN / NAME, needs(NAME)):
        done = run(
            [*system_accounts.prefix, program, "q-right", "grep", "-E", "^(Uid|Gid|Groups)", "/proc/self/status"]
        )
        lines = [line.split() for line in done.stdout.decode().splitlines()]
        assert lines == [["Uid:", *[str(UID)] * 4], ["Gid:", *[str(GID)] * 4], ["Groups:", str(GID)]]


@needs_root
@pytest.mark.parametrize(
    ("behind", "words"), [("envdir", ("env",)), ("setlock", ("lock",)), ("envuidgid", ("root",)), ("pgrphack", ())]
)
def test_setuidgid_stands_before_debians_programs_and_behind_them(behind: str, words: tuple[str, ...]) -> None:
    program = ["sh", "-c", 'id -u; echo "$A$UID"']
    with public_folder() as folder:
        (folder / "env").mkdir()
        (folder / "env" / "A").write_text("a\n")
        for lock in folder / "lock", folder / "env" / "B":
            lock.touch()
            lock.chmod(0o666)
        told = set()
        for ours, its in (BIN / NAME, needs(behind)), (needs(NAME), BIN / behind), (BIN / NAME, BIN / behind):
            told.add(run([ours, "nobody", its, *words, *program], cwd=folder).stdout)
            told.add(run([its, *words, ours, "nobody", *program], cwd=folder).stdout)
    assert len(told) == 1
    assert told.pop().startswith(b"%d\n" % pwd.getpwnam("nobody").pw_uid)


@pytest.mark.parametrize("words", [(), ("root",), ("no-such-account",)])
def test_setuidgid_says_its_usage_as_debians(words: tuple[str, ...]) -> None:
    loaders.same_as_debians(NAME, *words)


@pytest.mark.parametrize("account", [b"no-such-account", b"", b"\xff\n", b"0", b"x" * 3000])
def test_setuidgid_refuses_an_unknown_account_as_debians(account: bytes) -> None:
    done = loaders.same_as_debians(NAME, account, "true")
    assert (done.stderr, done.returncode) == (b"setuidgid: fatal: unknown account %s\n" % account, 111)


@needs_root
@pytest.mark.parametrize("right", ["setgid", "setuid"])
def test_setuidgid_says_which_part_it_may_not_do(right: str) -> None:
    """Root without that right."""
    done = loaders.same_as_debians(NAME, "nobody", "true", before=("setpriv", f"--bounding-set=-{right}"))
    assert (done.stderr, done.returncode) == (
        b"setuidgid: fatal: unable to %s: permission denied\n" % right.encode(),
        111,
    )


def test_setuidgid_is_for_root_as_debians() -> None:
    before = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()
    account = "nobody" if before else ME
    done = loaders.same_as_debians(NAME, account, "true", before=before)
    assert (done.stderr, done.returncode) == (b"setuidgid: fatal: unable to setgid: permission denied\n", 111)


@needs_root
@pytest.mark.parametrize("program", ["./missing", "missing", "/"])
def test_setuidgid_names_a_program_that_it_cannot_run_as_debians(program: str) -> None:
    assert loaders.same_as_debians(NAME, "root", program).returncode == 111


@needs_root
def test_setuidgid_ends_as_the_program_ends() -> None:
    assert loaders.same_as_debians(NAME, "nobody", "sh", "-c", "cat; exit 7", input=b"x").returncode == 7


@needs_root
@pytest.mark.parametrize("cold", ["", "1"], ids=["warm", "cold"])
def test_setuidgid_stands_behind_tcpserver_for_each_connection(cold: str) -> None:
    env = environment(QMAILPY_COLD=cold)
    with serve(OURS, "envuidgid", "nobody", NAME, "nobody", "sh", "-c", 'echo "$(id -u) $UID"', env=env) as server:
        for _ in range(2):
            assert server.talk() == b"%d %d\n" % ((pwd.getpwnam("nobody").pw_uid,) * 2)


@needs_root
@pytest.mark.parametrize("name", [NAME, "envuidgid"])
def test_an_account_that_cannot_be_looked_up_is_not_called_unknown(name: str, tmp_path: Path) -> None:
    """The original cannot tell one from the other."""
    (tmp_path / "passwd").write_text(Path("/etc/passwd").read_text())
    (tmp_path / "passwd").chmod(0o600)
    (tmp_path / "nsswitch.conf").write_text("passwd: files\n")
    mount = 'for file in passwd nsswitch.conf; do mount --bind "$0/$file" "/etc/$file" || exit 99; done; exec "$@"'
    hidden = ["unshare", "-m", "sh", "-c", mount, os.fspath(tmp_path)]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--reset-env"]
    if run([*hidden, "true"]).returncode:
        sentence = "no mount namespace here"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
    env = shutil.which("env")
    done = run([*hidden, *nobody, str(env), f"PATH={environment()['PATH']}", BIN / name, "daemon", "true"])
    assert done.stderr == b"%s: fatal: unable to look up account daemon: access denied\n" % name.encode()
    assert done.returncode == 111
