"""supervision.multilog: what the script's words mean, by the original's algorithm written down plainly."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmailpy.supervision import multilog
from qmailpy.supervision.multilog import DESELECT, HEAD, HEAD_OF_LINE, LINES, REST_OF_LINE, SELECT


def matches(pattern: bytes, line: bytes) -> bool:
    """match.c: byte by byte."""
    at = 0
    for position, character in enumerate(pattern):
        if character == ord("*"):
            if position + 1 == len(pattern):
                return True
            at = line.find(pattern[position + 1 : position + 2], at)
            if at < 0:
                return False
        elif line[at : at + 1] != bytes((character,)):
            return False
        else:
            at += 1
    return at == len(line)


def selected(actions: list[tuple[bytes, bytes]], line: bytes) -> bool:
    state = True
    for sign, pattern in actions:
        if state != (sign == SELECT) and matches(pattern, line[:HEAD]):
            state = not state
    return state


PATTERNS = st.lists(st.sampled_from([b"*", b"a", b"b", b"c", b"\n", b"^", b"]", b"-", b"\\"]), max_size=6).map(b"".join)
ACTIONS = st.lists(st.tuples(st.sampled_from([SELECT, DESELECT]), PATTERNS), max_size=12)
LINE = st.lists(st.sampled_from([b"a", b"b", b"c", b"*", b"^]", b"-\\", b"\0\xff", b"\r"]), max_size=8).map(b"".join)
LONG = st.builds(lambda line, size: (line * size)[: size + 990], LINE.filter(bool), st.integers(0, 30)).map(
    lambda line: line.ljust(990, b"a")
)


@given(actions=ACTIONS, lines=st.lists(LINE | LONG, max_size=30), times=st.sampled_from([1, 1, 1, 200]))
@example(actions=[(DESELECT, b"*")], lines=[b"", b"a"], times=1)
@example(actions=[(DESELECT, b"a*"), (SELECT, b"**c"), (DESELECT, b"*b")], lines=[b"ab", b"a*c", b"ac"], times=1)
def test_lines_are_chosen_as_by_one_action_after_the_other(
    actions: list[tuple[bytes, bytes]], lines: list[bytes], times: int
) -> None:
    expected = b"".join(line + b"\n" for line in lines if selected(actions, line))
    choose = multilog.chooser(actions)
    block = b"".join(line + b"\n" for line in lines)
    for _ in range(2):
        assert choose(block * times) == expected * times


@given(actions=ACTIONS, lines=st.lists(LINE, max_size=10))
def test_lines_are_chosen_alike_where_nothing_is_possessive(
    actions: list[tuple[bytes, bytes]], lines: list[bytes]
) -> None:
    """As before Python 3.11."""
    compile_as_now = re.compile

    def compile_as_before(expression: bytes) -> re.Pattern[bytes]:
        if b"]*+" in expression:
            raise re.error("multiple repeat")
        return compile_as_now(expression)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(re, "compile", compile_as_before)
        choose = multilog.chooser(actions)
    assert choose(b"".join(line + b"\n" for line in lines)) == b"".join(
        line + b"\n" for line in lines if selected(actions, line)
    )


def test_many_changes_of_mind_are_no_problem() -> None:
    choose = multilog.chooser([(DESELECT if number % 2 else SELECT, b"*%d" % number) for number in range(1000)])
    assert choose(b"x 997\nx 998\nx\n" * 500) == b"x 998\nx\n" * 500


@pytest.mark.parametrize(
    ("pattern", "line", "does"),
    [
        (b"", b"", True),
        (b"", b"a", False),
        (b"*", b"", True),
        (b"*: fatal: *", b"c: fatal: y", True),
        (b"*: fatal: *", b"a: b: fatal: x", False),
        (b"a", b"ab", False),
        (b"**", b"ab", False),
        (b"**", b"a*b", True),
        (b"a\nb*", b"a", False),
    ],
)
def test_patterns_match_whole_lines_and_never_go_back(pattern: bytes, line: bytes, does: bool) -> None:
    assert matches(pattern, line) == does
    assert (multilog.chooser([(DESELECT, b"*"), (SELECT, pattern)])(line + b"\n") != b"") == does


def test_the_words_set_what_follows_them() -> None:
    words = [b"t", b"./a", b"s5000", b"n3", b"!cat", b"-*x*", b"/b", b"e", b"s1", b"n", b"+y", b"=f", b"", b"Q", b"./c"]
    found = multilog.outputs(words)
    assert [(each.kind, each.name) for each in found] == [
        (b"/", b"./a"),
        (b"/", b"/b"),
        (b"e", b""),
        (b"=", b"f"),
        (b"/", b"./c"),
    ]
    logs = [each for each in found if each.kind == b"/"]
    assert [(log.size, log.number, log.processor) for log in logs] == [
        (99999, 10, None),
        (5000, 3, b"cat"),
        (4096, 2, b"cat"),
    ]
    assert found[1].choose is found[2].choose
    assert [each.choose(b"xx\ny\n") for each in found] == [b"xx\ny\n", b"y\n", b"y\n", b"y\n", b"y\n"]
    assert multilog.outputs([b"s99999999999", b"/"])[0].size == 16777215


@pytest.mark.parametrize(("words", "labelled"), [([], False), ([b""], False), ([b"tx"], True), ([b"e", b"t"], False)])
def test_only_the_first_word_asks_for_labels(words: list[bytes], labelled: bool) -> None:
    assert multilog.labelled(words) == labelled


BYTES = st.lists(st.sampled_from([b"\n", b"a", b"bb\n", b"x" * 400, b"y" * 999 + b"\n"]), max_size=30).map(b"".join)


@given(
    text=BYTES, sizes=st.lists(st.integers(1, 700), min_size=1, max_size=8), leave=st.booleans(), label=st.booleans()
)
def test_the_same_lines_come_out_however_the_input_is_cut(
    text: bytes, sizes: list[int], leave: bool, label: bool
) -> None:
    lines = multilog.Lines(label)
    written, begun = b"", False
    at = reach = turn = 0
    while at < len(text):
        reach = min(len(text), max(at, reach) + sizes[turn % len(sizes)])
        turn += 1
        events, used = lines.feed(text[at:reach], b"@ ", leave)
        assert used > 0
        if not leave:
            assert used == reach - at
        at += used
        for kind, part in events:
            assert (kind == REST_OF_LINE) == begun
            assert part.endswith(b"\n") or kind != LINES
            if kind == HEAD_OF_LINE:
                assert len(part) >= HEAD
            begun = not part.endswith(b"\n")
            written += part
        assert lines.within() or text[:at].endswith(b"\n")
    for _, part in lines.end():
        written += part
    expected = text if text.endswith(b"\n") or not text else text + b"\n"
    assert written == (re.sub(rb"(?m)^(?=.|\n)", b"@ ", expected) if label else expected)


def test_a_line_has_the_label_of_its_first_byte() -> None:
    lines = multilog.Lines(True)
    assert lines.feed(b"one\ntw", b"@1 ", True) == ([(LINES, b"@1 one\n")], 4)
    assert lines.feed(b"two\nthree\n", b"@2 ", True) == ([(LINES, b"@1 two\n@2 three\n")], 10)
    assert lines.feed(b"fo", b"@3 ", True) == ([], 2)
    assert lines.within()
    assert lines.feed(b"ur\nfive", b"@4 ", False) == ([(LINES, b"@3 four\n")], 7)
    assert lines.end() == [(LINES, b"@4 five\n")]
