"""newinclude beside the original: the list it makes, and what is left after trouble."""

import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.forwarders import BOTH, EVERYBODY, ORIGINALS, compile_list, run
from tests.helpers import BIN
from tests.submissions import Submissions, mail

__all__ = ["mail"]


@BOTH
def test_a_list_is_compiled(mail: Submissions, which: str) -> None:
    made = compile_list(which, mail, b"# friends\njoe, Mary <mary@x.y>\n\n:include:other.bin\nlast@x+")
    assert (made.code, made.said) == (0, b"")
    assert made.file == b"&mary@x.y\0&joe@host.domain.example\0./other.bin\0&last@x.plus.example\0"
    assert not (mail.path / "list.tmp").exists()


@BOTH
def test_names_are_those_of_control_where_the_environment_has_none(mail: Submissions, which: str) -> None:
    mail.env = {name: value for name, value in mail.env.items() if not name.startswith(("QMAILDEF", "QMAILPLUS"))}
    (mail.path / "control" / "defaulthost").write_text("box\n")
    assert compile_list(which, mail, b"joe").file == b"&joe@box.me.example\0"


@BOTH
def test_everybody_may_read_the_list_whatever_the_umask(mail: Submissions, which: str) -> None:
    before = os.umask(0o077)
    try:
        assert compile_list(which, mail, b"joe").code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((mail.path / "list.bin").stat().st_mode) == 0o644


@BOTH
def test_newinclude_says_its_usage(mail: Submissions, which: str) -> None:
    done = run(which, mail, ["newinclude"])
    assert (done.returncode, done.stderr) == (100, b"newinclude: usage: newinclude list\n")


@BOTH
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("list", b"unable to read list: is a directory"),
        ("list.tmp", b"unable to write to list.tmp: is a directory"),
        ("list.bin", b"unable to move list.tmp to list.bin: is a directory"),
    ],
)
def test_a_file_that_is_trouble_is_named(mail: Submissions, which: str, name: str, complaint: bytes) -> None:
    (mail.path / "list").write_bytes(b"joe\n")
    (mail.path / name).unlink(missing_ok=True)
    (mail.path / name).mkdir()
    done = run(which, mail, ["newinclude", "list"])
    assert (done.returncode, done.stderr) == (111, b"newinclude: fatal: " + complaint + b"\n")


@pytest.mark.parametrize("line", [b"/file", b'"|program"', b"joe (", b'joe@"x\\\n.y"'])
def test_a_line_that_is_wrong_is_named_and_the_old_list_stays(mail: Submissions, line: bytes) -> None:
    (mail.path / "list.bin").write_bytes(b"old")
    (mail.path / "list").write_bytes(b"joe\n" + line + b"\n")
    done = mail.run([BIN / "newinclude", "list"])
    assert done.returncode == 111
    assert done.stderr.startswith(b"newinclude: fatal: ")
    assert done.stderr.endswith(b" (line 2)\n")
    assert (mail.path / "list.bin").read_bytes() == b"old"


def test_a_list_in_a_list_is_one_that_newinclude_has_compiled(mail: Submissions) -> None:
    assert compile_list("ours", mail, b":include:/etc/a, :include:b\n").file == b"./b.bin\0/etc/a.bin\0"


LINES = st.lists(
    st.sampled_from([
        b"joe", b"x", b"@h", b"h.i", b":", b",", b";", b"<", b">", b"(", b")", b'"', b"\\", b"|p", b"/", b" ", b"\n",
        b"#", b"[1.2]", b":include:l.bin", b":include:", b"+", b"\0", b"\t", b"\xff",
    ]),
    max_size=12,
).map(b"".join)  # fmt: skip


def whole_name(item: bytes) -> bytes:
    """An item of the original's list as it should be: it names what newinclude has read, not what it has written."""
    return item if item.startswith(b"&") or item.endswith(b".bin") else item + b".bin"


if ORIGINALS:

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=LINES)
    def test_any_list_becomes_what_the_original_makes_of_it(mail: Submissions, text: bytes) -> None:
        ours, theirs = (compile_list(which, mail, text) for which in EVERYBODY)
        theirs.file = theirs.file and b"".join([whole_name(item) + b"\0" for item in theirs.file.split(b"\0")[:-1]])
        assert ours.same(theirs), (ours.said, theirs.said)
