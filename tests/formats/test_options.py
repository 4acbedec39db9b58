"""The command line of the originals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import options
from qmailpy.formats.options import OptionError, parse
from tests.helpers import needs, run

LETTERS = b"ab:vc:"
TCPCLIENT = b"dDvqQhHrRi:p:t:T:l:"  # as in its usage line


def parsed(*words: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    return parse([b"program", *words], LETTERS)


@pytest.mark.parametrize(
    ("words", "options", "rest"),
    [
        ([], [], []),
        ([b"host"], [], [b"host"]),
        ([b"-a"], [(b"a", b"")], []),
        ([b"-av"], [(b"a", b""), (b"v", b"")], []),
        ([b"-a", b"-a"], [(b"a", b""), (b"a", b"")], []),
        ([b"-bx"], [(b"b", b"x")], []),
        ([b"-b", b"x"], [(b"b", b"x")], []),
        ([b"-b", b""], [(b"b", b"")], []),
        ([b"-b", b"-a"], [(b"b", b"-a")], []),
        ([b"-b", b"--"], [(b"b", b"--")], []),
        ([b"-abva"], [(b"a", b""), (b"b", b"va")], []),
        ([b"-avb", b"x", b"-a", b"y"], [(b"a", b""), (b"v", b""), (b"b", b"x"), (b"a", b"")], [b"y"]),
        ([b"-b:"], [(b"b", b":")], []),
        ([b"-a-"], None, b"illegal option -- -"),
        ([b"-a", b"host", b"-v"], [(b"a", b"")], [b"host", b"-v"]),  # nothing is permuted
        ([b"--", b"-a"], [], [b"-a"]),
        ([b"-a", b"--", b"--", b"x"], [(b"a", b"")], [b"--", b"x"]),
        ([b"--all", b"x"], [], [b"x"]),  # no long names: any word with two hyphens ends the options
        ([b"-", b"-a"], [], [b"-", b"-a"]),
        ([b"", b"-a"], [], [b"", b"-a"]),
        ([b"-Z"], None, b"illegal option -- Z"),
        ([b"-:"], None, b"illegal option -- :"),
        ([b"-a\xe9"], None, b"illegal option -- \xe9"),
        ([b"-b"], None, b"option requires an argument -- b"),
        ([b"-ab"], None, b"option requires an argument -- b"),
    ],
)
def test_options_are_read_as_sgetopt_reads_them(
    words: list[bytes], options: list[tuple[bytes, bytes]] | None, rest: list[bytes] | bytes
) -> None:
    if options is not None:
        assert parsed(*words) == (options, rest)
        return
    with pytest.raises(OptionError) as problem:
        parsed(*words)
    assert problem.value.args[0] == rest


# Without NUL, as no exec can pass it.
words = st.lists(
    st.lists(st.sampled_from([b"-", b"--", b"a", b"b", b"v", b"c", b":", b"Z", b"x", b"\xff", b" "]), max_size=4).map(
        b"".join
    ),
    max_size=6,
)


@given(words=words)
def test_any_words_give_options_and_a_rest_or_one_complaint(words: list[bytes]) -> None:
    try:
        options, rest = parsed(*words)
    except OptionError as problem:
        assert problem.args[0].rsplit(b" -- ", 1)[0] in (b"illegal option", b"option requires an argument")
        return
    assert all(letter in (b"a", b"b", b"c", b"v") for letter, _ in options)
    assert all(not argument for letter, argument in options if letter in (b"a", b"v"))
    assert rest == words[len(words) - len(rest) :]


@given(
    options=st.lists(
        st.one_of(
            st.tuples(st.sampled_from([b"a", b"v"]), st.just(b"")),
            st.tuples(st.sampled_from([b"b", b"c"]), st.binary()),
        )
    ),
    rest=st.lists(st.binary()),
)
def test_options_written_one_by_one_are_read_back(options: list[tuple[bytes, bytes]], rest: list[bytes]) -> None:
    line = [word for letter, argument in options for word in ([b"-" + letter] + [argument] * (letter in b"bc"))]
    assert parsed(*line, b"--", *rest) == (options, rest)


@pytest.mark.parametrize(
    "line",
    [
        b"-Z",
        b"-vZ",
        b"-v -i",
        b"-vp",
        b"-:",
        b"-v --",
        b"-v -",
        b"-v-",
        b"--h -Z",
        b"-T 1 -Z",
        b"-T1Z -R -\xe9",
    ],
)
def test_debians_tcpclient_complains_of_the_same(line: bytes) -> None:
    """With less than host, port and program it ends with its usage line, before which stands the complaint."""
    said = run([needs("tcpclient"), *line.split()]).stderr
    try:
        parse([b"tcpclient", *line.split()], TCPCLIENT)
        complaint = b""
    except OptionError as problem:
        complaint = b"tcpclient: %s\n" % problem.args[0]
    assert said == complaint + said[said.index(b"tcpclient: usage: ") :]


class Settings:
    verbosity = limit = 0
    name = b""


def test_an_option_is_an_attribute_a_number_or_a_word() -> None:
    settings = Settings()
    tables = ({b"v": ("verbosity", 2)}, {b"c": "limit"}, {b"l": "name"})
    for letter, word, known in ((b"v", b"", True), (b"c", b"12x", True), (b"l", b"host", True), (b"u", b"1", False)):
        assert options.apply(settings, letter, word, *tables) == known
    assert (settings.verbosity, settings.limit, settings.name) == (2, 12, b"host")


@pytest.mark.parametrize(
    ("words", "options_of", "found"),
    [
        ([], [], [b"0", b"443"]),
        ([b"h"], [], [b"h", b"443"]),
        ([b"-4", b"h", b"1", b"-X", b"-a", b"f"], [b"-4", b"-X", b"-a", b"f"], [b"h", b"1"]),
        ([b"-6"], [b"-6"], [b"0", b"443"]),
        ([b"-v", b"-4", b"-4"], [b"-4"], [b"-v", b"-4"]),
    ],
)
def test_options_for_another_command_stand_around_the_words(
    words: list[bytes], options_of: list[bytes], found: list[bytes]
) -> None:
    assert options.interleaved([b"x", *words], [b"0", b"443"]) == (options_of, found)
