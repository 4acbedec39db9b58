"""qmail-newu: the cdb it makes, byte for byte the original's, and what is left after trouble."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.formats import assign, cdb
from tests.helpers import BIN, environment, needs, run
from tests.queuehomes import BOTH, ORIGINALS
from tests.spawners import World, world

__all__ = ["world"]

NEWU = BIN / "qmail-newu"
TEXT = b"=joe:joe:1:2:/j:::\n+joe-:joe:1:2:/j:-::\n.\n"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "assign").write_bytes(TEXT)
    return tmp_path / "users"


def compile_(users: Path) -> tuple[int, bytes]:
    done = run([NEWU], env=environment(QMAILHOME=str(users.parent)))
    assert done.stdout == b""
    return done.returncode, done.stderr


def test_the_lines_become_a_cdb(users: Path) -> None:
    assert compile_(users) == (0, b"")
    assert (users / "cdb").read_bytes() == b"".join(cdb.make(assign.records(TEXT)))
    dump = run([needs("cdb"), "-l", users / "cdb"]).stdout
    assert dump.count(b"\n") == 4  # two lines, the empty key, and the end of the listing


def test_the_cdb_may_be_read_by_all_whatever_the_umask(users: Path) -> None:
    argv = ["sh", "-c", 'umask 077; exec "$0"', str(NEWU)]
    assert run(argv, env=environment(QMAILHOME=str(users.parent))).returncode == 0
    assert stat.S_IMODE((users / "cdb").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", b"line 1: no line that begins with a dot"),
        (TEXT[:-2], b"line 3: no line that begins with a dot"),
        (b"=joe:joe:1:2:/j:::\n\n.\n", b"line 2: 0 colons, not 7"),
        (b"=joe:joe:1:2:/j::\n.\n", b"line 1: 6 colons, not 7"),
    ],
)
def test_a_bad_line_is_named_and_the_old_cdb_stays(users: Path, text: bytes, why: bytes) -> None:
    compile_(users)
    before = (users / "cdb").read_bytes()
    (users / "assign").write_bytes(text)
    assert compile_(users) == (111, b"qmail-newu: fatal: bad format in users/assign (%s)\n" % why)
    assert (users / "cdb").read_bytes() == before


def test_files_that_cannot_be_used_are_named(users: Path) -> None:
    (users / "cdb.tmp").mkdir()
    assert compile_(users) == (111, b"qmail-newu: fatal: unable to open users/cdb.tmp: is a directory\n")
    (users / "cdb.tmp").rmdir()
    (users / "cdb").mkdir()
    text = b"qmail-newu: fatal: unable to move users/cdb.tmp to users/cdb: is a directory\n"
    assert compile_(users) == (111, text)
    (users / "assign").unlink()
    assert compile_(users) == (111, b"qmail-newu: fatal: unable to open users/assign: file does not exist\n")
    (users / "assign").mkdir()
    assert compile_(users) == (111, b"qmail-newu: fatal: unable to read users/assign: is a directory\n")


def test_a_full_disk_leaves_the_old_cdb(users: Path) -> None:
    os.symlink("/dev/full", users / "cdb.tmp")
    text = b"qmail-newu: fatal: unable to write users/cdb.tmp: out of disk space\n"
    assert compile_(users) == (111, text)
    assert not (users / "cdb").exists()


def test_without_a_home_it_fails() -> None:
    done = run([NEWU], env=environment(QMAILHOME="/nowhere"))
    text = b"qmail-newu: fatal: unable to chdir to /nowhere: file does not exist\n"
    assert (done.returncode, done.stderr) == (111, text)


def test_a_kill_at_any_system_call_leaves_the_old_cdb_or_the_new(users: Path) -> None:
    """The new one from the call on that moves the file, which has been synced by then."""
    compile_(users)
    old = (users / "cdb").read_bytes()
    (users / "assign").write_bytes(TEXT.replace(b"/j", b"/other"))
    new = b"".join(cdb.make(assign.records((users / "assign").read_bytes())))
    reached = {}
    for call in ("write", "fsync", "rename", "exit_group"):
        (users / "cdb").write_bytes(old)
        inject = [needs("strace"), "-f", "-o", "/dev/null", "-e", f"trace={call}"]
        inject += ["-e", f"inject={call}:signal=KILL:when=1", str(NEWU)]
        run(inject, env=environment(QMAILHOME=str(users.parent)))
        found = (users / "cdb").read_bytes()
        assert found in (old, new)
        reached[call] = found == new
    assert reached == {"write": False, "fsync": False, "rename": False, "exit_group": True}


@BOTH
def test_what_follows_the_dot_is_ignored(which: str, world: World) -> None:
    assert made(world, which, TEXT + b"nonsense") == made(world, which, TEXT.rstrip())
    assert made(world, which, TEXT)[0] == 0


def made(world: World, which: str, text: bytes) -> tuple[int, bytes | None]:
    """Exit code and the cdb."""
    folder = world.home.path / "users"
    (folder / "assign").write_bytes(text)
    (folder / "cdb").unlink(missing_ok=True)
    done = run(world.program(which, "qmail-newu"), env=world.env())
    assert done.stderr == b"" or done.stderr.startswith(b"qmail-newu: fatal: bad format in users/assign")
    return done.returncode, (folder / "cdb").read_bytes() if (folder / "cdb").exists() else None


PIECES = st.sampled_from([b":", b":", b":::::::", b"+", b"=", b"#", b"Joe-", b"a", b"\n", b"\n", b".", b"\0", b"\xff"])
LINES = st.lists(
    st.tuples(
        st.sampled_from([b"=", b"+", b"x"]), st.binary(max_size=4).map(lambda word: word.translate(None, b":\0\n"))
    ),
    max_size=6,
).map(lambda lines: b"".join(b"%s%s:user:1:2:/home:-:ext:\n" % line for line in lines) + b".\n")

if ORIGINALS:

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.one_of(LINES, st.lists(PIECES, max_size=24).map(b"".join)))
    def test_the_cdb_is_that_of_the_original(world: World, text: bytes) -> None:
        assert made(world, "ours", text) == made(world, "the original", text)
