"""The command line of sendmail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import options
from qmailpy.formats.sendmail import LATER_LETTERS, LETTERS, read

WORDS = st.lists(st.sampled_from([
    b"-t", b"-i", b"-oi", b"-o", b"-f", b"-fx", b"-F", b"-bm", b"-b", b"-tif", b"-", b"--", b"joe", b"-Z", b"-:", b"",
    b"-N", b"-B", b"-e",
]))  # fmt: skip


@pytest.mark.parametrize(
    ("words", "found", "rest"),
    [
        ([], [], []),
        ([b"joe", b"-t"], [], [b"joe", b"-t"]),
        ([b"-t", b"--", b"-f"], [(b"t", b"")], [b"-f"]),
        ([b"-t", b"-", b"-f"], [(b"t", b"")], [b"-", b"-f"]),
        ([b"-FCron Daemon", b"-i", b"-odi", b"-oem", b"root"],
         [(b"F", b"Cron Daemon"), (b"i", b""), (b"o", b"di"), (b"o", b"em")], [b"root"]),
        ([b"-t", b"-i", b"-f", b"a@b"], [(b"t", b""), (b"i", b""), (b"f", b"a@b")], []),
        ([b"-tifa@b"], [(b"t", b""), (b"i", b""), (b"f", b"a@b")], []),
        ([b"-B8BITMIME", b"-Nnever", b"-R", b"hdrs", b"joe"],
         [(b"B", b"8BITMIME"), (b"N", b"never"), (b"R", b"hdrs")], [b"joe"]),
        ([b"-tE", b"joe"], [(b"t", b"")], [b"joe"]),
        ([b"-Etf", b"-Jx", b"-Am", b"joe"], [], [b"joe"]),
    ],
)  # fmt: skip
def test_options_are_read_as_mail_programs_give_them(
    words: list[bytes], found: list[tuple[bytes, bytes]], rest: list[bytes]
) -> None:
    assert read([b"sendmail", *words]) == (found, rest, b"")


@pytest.mark.parametrize(
    ("words", "found", "problem"),
    [
        ([b"-Z"], [], b"illegal option -- Z"),
        ([b"-bp", b"-t:"], [(b"b", b"p"), (b"t", b"")], b"illegal option -- :"),
        ([b"-i", b"-f"], [(b"i", b"")], b"option requires an argument -- f"),
    ],
)
def test_what_stands_before_a_wrong_option_is_known(
    words: list[bytes], found: list[tuple[bytes, bytes]], problem: bytes
) -> None:
    assert read([b"sendmail", *words])[::2] == (found, problem)


@given(words=WORDS)
def test_all_else_is_read_as_other_options_are(words: list[bytes]) -> None:
    argv = [b"sendmail", *words]
    before = list(argv)
    try:
        expected: object = options.parse(argv, LETTERS + LATER_LETTERS)
    except options.OptionError as e:
        expected = e.args[0]
    found, rest, problem = read(argv)
    assert (problem or (found, rest)) == expected
    assert argv == before
