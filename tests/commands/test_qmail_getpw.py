"""qmail-getpw: the six strings, as the original has them. More of whom it finds is in test_qmail_lspawn."""

import os
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import BIN, run
from tests.queuehomes import BOTH, ORIGINALS
from tests.spawners import ALIAS, OTHER, UID, World, world

__all__ = ["world"]

GETPW = BIN / "qmail-getpw"


def getpw(world: World, which: str, *arguments: bytes) -> tuple[int, bytes]:
    argv = [*map(str, world.program(which, "qmail-getpw")), *map(os.fsdecode, arguments)]
    done = run(argv, env=world.env())
    return done.returncode, done.stdout.replace(ALIAS.encode(), b"alias")


@BOTH
@pytest.mark.parametrize(
    ("local", "name", "uid", "dash", "ext"),
    [
        (b"joe", "joe", UID, "", ""),
        (b"Joe-Smith", "joe-smith", OTHER, "", ""),
        (b"joe-Smyth-x", "joe", UID, "-", "Smyth-x"),
        (b"", "alias", None, "-", ""),
        (b"Nobody-x", "alias", None, "-", "Nobody-x"),
    ],
)
def test_the_six_strings(
    which: str, world: World, local: bytes, name: str, uid: int | None, dash: str, ext: str
) -> None:
    code, text = getpw(world, which, local)
    assert code == 0
    home = {"joe": world.joe, "alias": world.alias}.get(name, world.folder / "other")
    assert text.endswith(b"\0")
    got = text[:-1].decode().split("\0")
    assert (got[0], *got[3:]) == (name, str(home), dash, ext)
    if uid:
        assert got[1:3] == [str(uid)] * 2


@BOTH
def test_without_an_argument_it_says_so_and_more_are_ignored(which: str, world: World) -> None:
    assert getpw(world, which) == (100, b"")
    assert getpw(world, which, b"joe", b"x") == getpw(world, which, b"joe")


@BOTH
def test_without_an_account_alias(which: str, world: World) -> None:
    passwd = world.folder / "passwd"
    lines = [line for line in passwd.read_text().splitlines(True) if not line.startswith(("alias:", f"{ALIAS}:"))]
    passwd.write_text("".join(lines))
    assert getpw(world, which, b"nobody-there") == (116, b"")
    assert getpw(world, which, b"joe")[0] == 0


def test_an_answer_that_cannot_be_written_is_no_answer(world: World) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(world.inside(GETPW, "joe"), stdout=full, env=world.env(), check=False)
    assert done.returncode == 118


LOCALS = st.lists(
    st.sampled_from([b"joe", b"JOE", b"-", b"smith", b"x" * 31, b"y" * 32, b"toor", b"\xff", b" ", b":", b"homeless"]),
    max_size=6,
).map(b"".join)

if ORIGINALS:

    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(local=LOCALS)
    def test_any_local_part_is_answered_as_by_the_original(world: World, local: bytes) -> None:
        assert getpw(world, "ours", local) == getpw(world, "the original", local)
