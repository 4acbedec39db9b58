"""qmail-pw2u: the lines it makes of accounts, byte for byte the original's."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import BIN, environment, run
from tests.queuehomes import BOTH, ORIGINALS
from tests.spawners import ALIAS, OTHER, UID, World, world

__all__ = ["world"]

PW2U = BIN / "qmail-pw2u"
FILES = ("include", "exclude", "mailnames", "subusers", "append")


class Passwd:
    """Accounts of a world, and the two programs. The original's alias has another name."""

    def __init__(self, world: World) -> None:
        self.world = world
        joe, alias = world.joe, world.alias
        uid = alias.stat().st_uid
        self.lines = [
            "root:x:0:0::/root:/bin/sh",
            f"joe:x:{UID}:{UID + 1}:Joe,,:{joe}:/bin/sh",
            f"alias:x:{uid}:7::{alias}:/bin/sh",
            f"Jane:x:{OTHER}:8::{world.folder}/other:/bin/sh",
            f"elsewhere:x:{OTHER}:8::{joe}:/bin/sh",
            f"homeless:x:{OTHER}:8::/nowhere:/bin/sh",
            f"short:x:{UID}:8:",
        ]

    def run(
        self, which: str, *options: str, text: bytes | None = None, **files: bytes
    ) -> "subprocess.CompletedProcess[bytes]":
        if text is None:
            text = "".join(f"{line}\n" for line in self.lines).encode()
        for name in FILES:
            path = self.world.home.path / "users" / name
            path.unlink(missing_ok=True)
            if name in files:
                path.write_bytes(self.theirs(which, files[name]))
        done = run(self.world.program(which, "qmail-pw2u", *options), self.theirs(which, text), self.world.env())
        if which != "ours":
            done.stdout, done.stderr = (out.replace(ALIAS.encode(), b"alias") for out in (done.stdout, done.stderr))
        return done

    def theirs(self, which: str, text: bytes) -> bytes:
        """In the folders' names there is alias too, and stays."""
        if which == "ours":
            return text
        kept = os.fsencode(self.world.alias)
        return text.replace(kept, b"\1").replace(b"alias", ALIAS.encode()).replace(b"\1", kept)

    def lines_of(self, which: str, *options: str, **files: bytes) -> list[str]:
        done = self.run(which, *options, **files)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.endswith(b"\n")
        return done.stdout.decode().splitlines()


@pytest.fixture
def passwd(world: World) -> Passwd:
    return Passwd(world)


def own(passwd: Passwd) -> tuple[str, str]:
    """What is behind the name for joe and for alias."""
    joe, alias = passwd.world.joe, passwd.world.alias
    return f":joe:{UID}:{UID + 1}:{joe}:", f":alias:{alias.stat().st_uid}:7:{alias}:"


@BOTH
def test_accounts_with_homes_of_their_own_have_two_lines(which: str, passwd: Passwd) -> None:
    joe, alias = own(passwd)
    assert passwd.lines_of(which) == [
        f"=joe{joe}::", f"+joe-{joe}-::", f"+{alias}-::", f"=alias{alias}::", f"+alias-{alias}-::", "."
    ]  # fmt: skip


@BOTH
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), {"joe", "alias"}),
        (("-o",), {"joe", "alias"}),
        (("-H",), {"joe", "alias", "elsewhere", "homeless"}),
        (("-u",), {"joe", "alias", "Jane"}),
        (("-uU",), {"joe", "alias"}),
        (("-Hu",), {"joe", "alias", "Jane", "elsewhere", "homeless"}),
    ],
)
def test_options_say_who_is_left_out(which: str, passwd: Passwd, options: tuple[str, ...], names: set[str]) -> None:
    lines = passwd.lines_of(which, *options)
    assert {line[1:].partition(":")[0] for line in lines if line.startswith("=")} == names


@BOTH
def test_a_missing_home_may_be_an_error(which: str, passwd: Passwd) -> None:
    done = passwd.run(which, "-h")
    assert (done.returncode, done.stdout) == (111, b"")
    assert done.stderr.startswith(b"qmail-pw2u: fatal: unable to stat /nowhere")


@BOTH
@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (("-c+",), ["+joe+{joe}-::"]),
        (("-c", "+-"), ["+joe+{joe}-::"]),
        (("-C",), []),
        (("-c", ""), []),
        (("-/",), ["+joe-{joe}-/::"]),
        (("-C", "-c="), ["+joe={joe}-::"]),
    ],
)
def test_options_say_what_follows_a_name(which: str, passwd: Passwd, options: list[str], lines: list[str]) -> None:
    joe, _ = own(passwd)
    found = [line for line in passwd.lines_of(which, *options) if line.startswith("+joe")]
    assert found == [line.format(joe=joe) for line in lines]


@BOTH
def test_include_and_exclude(which: str, passwd: Passwd) -> None:
    def names(**files: bytes) -> set[str]:
        return {line[1:].partition(":")[0] for line in passwd.lines_of(which, **files) if line.startswith("=")}

    assert names(exclude=b"JOE \n# x\n\n") == {"alias"}
    assert names(include=b"alias\nother") == {"alias"}
    assert names(include=b"alias\njoe", exclude=b"joe") == {"alias"}


@BOTH
def test_mailnames_take_the_place_of_the_name(which: str, passwd: Passwd) -> None:
    joe, _ = own(passwd)
    lines = passwd.lines_of(which, "-C", mailnames=b"joe:x\n\nJOE::one::Two:\nalias:\nnocolon\n")
    assert [line for line in lines if joe in line] == [f"=one{joe}::", f"=Two{joe}::"]
    assert not [line for line in lines if line.startswith("=alias")]


@BOTH
def test_subusers_have_an_accounts_mail_under_an_extension(which: str, passwd: Passwd) -> None:
    joe, _ = own(passwd)
    lines = passwd.lines_of(which, subusers=b"one:joe:pre:x\nshort:joe\nnone:joe:\nEmpty:JOE::\n\n")
    assert lines[-5:] == [f"=one{joe}-:pre:", f"+one-{joe}-:pre-:", f"=Empty{joe}-::", f"+Empty-{joe}-:-:", "."]


def test_a_subuser_of_nobody_is_an_error_with_its_line(passwd: Passwd) -> None:
    done = passwd.run("ours", subusers=b"one:joe:pre:\ntwo:nobody:\n")
    text = b"qmail-pw2u: fatal: unable to find nobody user for subuser (line 2 of users/subusers)\n"
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", text)


@BOTH
def test_append_is_copied(which: str, passwd: Passwd) -> None:
    assert passwd.lines_of(which, append=b"any\n\nthing\n")[-4:] == ["any", "", "thing", "."]


def test_an_append_without_a_final_newline_does_not_swallow_the_dot(passwd: Passwd) -> None:
    """The original leaves a file that qmail-newu refuses."""
    assert passwd.lines_of("ours", append=b"=x:joe:1:1:/:::")[-2:] == ["=x:joe:1:1:/:::", "."]


@BOTH
def test_without_alias_there_are_no_lines(which: str, passwd: Passwd) -> None:
    done = passwd.run(which, text=passwd.lines[1].encode())
    assert (done.returncode, done.stderr) == (111, b"qmail-pw2u: fatal: unable to find alias user\n")


@BOTH
def test_an_unknown_option(which: str, passwd: Passwd) -> None:
    assert passwd.run(which, "-x").returncode == 100
    assert passwd.run("ours", "-x").stderr == b"qmail-pw2u: illegal option -- x\n"


@BOTH
@pytest.mark.parametrize("name", ["include", "exclude", "mailnames"])
def test_a_file_that_cannot_be_read(which: str, passwd: Passwd, name: str) -> None:
    (passwd.world.home.path / "users" / name).mkdir()
    done = run(passwd.world.program(which, "qmail-pw2u"), b"", passwd.world.env())
    assert (done.returncode, done.stdout) == (111, b"")
    assert done.stderr.startswith(b"qmail-pw2u: fatal: unable to read controls")


def test_input_and_output_that_fail(tmp_path: Path) -> None:
    env = environment(QMAILHOME=str(tmp_path))
    done = subprocess.run(["sh", "-c", 'exec "$0" <&-', PW2U], env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (
        111, b"qmail-pw2u: fatal: unable to read input: file descriptor not open\n"
    )  # fmt: skip
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [PW2U, "-H"], input=b"alias:x:1:1::/:\n", stdout=full, env=env, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (111, b"qmail-pw2u: fatal: unable to write output: out of disk space\n")


PIECES = st.sampled_from(
    [b"joe", b"Joe", b"alias", b":", b":", b"\n", b" ", b"\0", b"0", b"12", b"x", b"#", b"\xff", b"joe:x:1:2:g:/:s\n"]
)
TEXT = st.lists(PIECES, max_size=12).map(b"".join)
WHO = st.lists(
    st.tuples(
        st.sampled_from([b"joe", b"JOE", b"jane", b"", b"a b"]), st.sampled_from([b"1", b"0", b"x", b"007"]), TEXT
    ).map(lambda row: b"%s:x:%s:5:g:/:%s\n" % row),
    max_size=5,
).map(lambda rows: b"".join(rows) + b"alias:x:9:9::/a:\n")

if ORIGINALS:

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        text=WHO,
        more=TEXT,
        files=st.dictionaries(st.sampled_from(FILES[:-1]), TEXT),
        append=TEXT,
        options=st.lists(st.sampled_from(["-H", "-u", "-C", "-cx", "-/", "-o"]), max_size=3),
    )
    def test_lines_are_those_of_the_original(
        passwd: Passwd, text: bytes, more: bytes, files: dict[str, bytes], append: bytes, options: list[str]
    ) -> None:
        files = {**files, "append": append + b"\n"}
        files = {name: value.replace(b"\0", b"") for name, value in files.items()}
        done = [passwd.run(which, *options, text=text + more, **files) for which in ("ours", "the original")]
        assert done[0].returncode == done[1].returncode
        if done[0].returncode == 0:  # else the original may have written a part of it
            assert done[0].stdout == done[1].stdout
        assert done[0].stderr[:40] == done[1].stderr[:40]
