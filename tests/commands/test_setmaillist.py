"""setmaillist beside the original: the list it makes, and what is left after trouble."""

import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.forwarders import BOTH, EVERYBODY, ORIGINALS, run, set_list
from tests.helpers import BIN
from tests.submissions import Submissions, mail

__all__ = ["mail"]


@BOTH
def test_lines_become_a_list(mail: Submissions, which: str) -> None:
    made = set_list(which, mail, b"# c\n\njoe@x.y \t\n&mary@x.y\n/etc/l.bin\n./m.bin\nlast")
    assert (made.code, made.said) == (0, b"")
    assert made.file == b"&joe@x.y\0&mary@x.y\0/etc/l.bin\0./m.bin\0&last\0"
    assert not (mail.path / "set.tmp").exists()


@BOTH
def test_everybody_may_read_the_list_whatever_the_umask(mail: Submissions, which: str) -> None:
    before = os.umask(0o077)
    try:
        assert set_list(which, mail, b"joe").code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((mail.path / "set.bin").stat().st_mode) == 0o644


@BOTH
@pytest.mark.parametrize("words", [[], ["a.bin"]])
def test_setmaillist_says_its_usage(mail: Submissions, which: str, words: list[str]) -> None:
    done = run(which, mail, ["setmaillist", *words])
    assert (done.returncode, done.stderr) == (100, b"setmaillist: usage: setmaillist list.bin list.tmp\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a\nb\0\n", b"NUL in input (line 2)"),
        (b"\n\n" + b"a" * 801, b"addresses must be under 800 bytes (line 3)"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_the_old_list_stays(mail: Submissions, text: bytes, said: bytes) -> None:
    (mail.path / "set.bin").write_bytes(b"old")
    done = mail.run([BIN / "setmaillist", "set.bin", "set.tmp"], text)
    assert (done.returncode, done.stderr) == (111, b"setmaillist: fatal: " + said + b"\n")
    assert (mail.path / "set.bin").read_bytes() == b"old"


TEXTS = st.lists(
    st.sampled_from([b"a@b", b"&", b"#", b"\n", b"\n", b" ", b"\t", b".", b"/", b"\0", b"\r", b"\xff", b"x" * 790]),
    max_size=12,
).map(b"".join)

if ORIGINALS:

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=TEXTS)
    def test_any_lines_become_what_the_original_makes_of_them(mail: Submissions, text: bytes) -> None:
        ours, theirs = (set_list(which, mail, text) for which in EVERYBODY)
        assert ours.same(theirs), (ours.said, theirs.said)
