"""Lines of users/assign, what the cdb made of them answers, and lines made of accounts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import assign, cdb

TEXT = b"=Joe:joe:1:2:/j:-:x:\n+joe-:Joe:1:2:/j:-:p:more:even\n+JOE:n:1:2:/:-::\n+:all:3:4:/a::::\n.\nafter"


def test_each_line_is_a_record_and_the_last_characters_of_prefixes_are_another() -> None:
    assert list(assign.records(TEXT)) == [
        (b"!joe\0", b"joe\x001\x002\0/j\0-\0x"),
        (b"!joe-", b"Joe\x001\x002\0/j\0-\0p"),
        (b"!joe", b"n\x001\x002\0/\0-\0"),
        (b"!", b"all\x003\x004\0/a\0\0"),
        (b"", b"-E"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (b"", 1, b"no line that begins with a dot"),
        (b"=j:j:1:2:/:-::\n", 2, b"no line that begins with a dot"),
        (b"=j:j:1:2:/:-::\n\n.\n", 2, b"0 colons, not 7"),
        (b"=j:j:1:2:/:-:\n.\n", 1, b"6 colons, not 7"),
        (b":j:1:2:/:-::\n.\n", 1, b"no = or +"),
        (b"=j\0:j:1:2:/:-::\n.\n", 1, b"NUL"),
        (b"=j:j:1:2:/:-::", 1, b"no newline"),
    ],
)
def test_a_bad_line_is_named(text: bytes, line: int, reason: bytes) -> None:
    with pytest.raises(assign.Malformed) as raised:
        list(assign.records(text))
    assert (raised.value.line, raised.value.reason) == (line, reason)


def test_a_first_character_that_is_no_plus_is_taken_for_an_equals_sign() -> None:
    assert next(assign.records(b"#j:j:1:2:/:-::\n.\n")) == (b"!j\0", b"j\x001\x002\0/\0-\0")


def look_up(text: bytes, local: bytes) -> bytes | None:
    file = b"".join(cdb.make(assign.records(text)))
    return assign.search(lambda key: cdb.find(lambda at, size: file[at : at + size], key), local)


@pytest.mark.parametrize(
    ("local", "data"),
    [
        (b"joe", b"joe\x001\x002\0/j\0-\0x"),
        (b"JOE", b"joe\x001\x002\0/j\0-\0x"),
        (b"joe-", b"Joe\x001\x002\0/j\0-\0p"),
        (b"Joe-A-b", b"Joe\x001\x002\0/j\0-\0pA-b"),
        (b"joey", b"all\x003\x004\0/a\0\0joey"),  # not JOE, whose last character is a capital
        (b"", b"all\x003\x004\0/a\0\0"),
    ],
)
def test_the_longest_prefix_that_ends_in_a_known_character_is_found(local: bytes, data: bytes) -> None:
    assert look_up(TEXT, local) == data


def test_what_is_not_there_is_nobody() -> None:
    assert look_up(b"=joe:joe:1:2:/j:-::\n.\n", b"jo") is None


def test_a_cdb_without_an_empty_key_is_none_of_these() -> None:
    with pytest.raises(LookupError):
        assign.search({b"!joe\0": b"data"}.get, b"joe")


def test_the_first_of_two_lines_counts() -> None:
    assert look_up(b"=j:one:1:2:/:-::\n=J:two:1:2:/:-::\n.\n", b"j") == b"one\x001\x002\0/\0-\0"


def test_six_strings_are_needed_and_more_are_ignored() -> None:
    assert assign.fields(b"a\0b\0c\0d\0e\0f\0g") == [b"a", b"b", b"c", b"d", b"e", b"f"]
    with pytest.raises(ValueError):
        assign.fields(b"a\0b\0c\0d\0e")


WORDS = st.binary(max_size=6).map(lambda word: word.translate(None, b":\n\0"))


@given(lines=st.lists(st.tuples(st.sampled_from([b"=", b"+"]), WORDS, WORDS, WORDS), max_size=8), local=WORDS)
def test_the_cdb_answers_as_the_lines_do(lines: list[tuple[bytes, bytes, bytes, bytes]], local: bytes) -> None:
    text = b"".join(b"%s%s:%s:1:2:/:-:%s:\n" % line for line in lines) + b".\n"
    found = None
    for letter, name, user, pre in lines:
        if letter == b"=" and name.lower() == local.lower():
            found = b"%s\x001\x002\0/\0-\0%s" % (user, pre)
            break
    else:
        ends = {name[-1:] for letter, name, _, _ in lines if letter == b"+"}
        best = -1
        for letter, name, user, pre in lines:
            matches = local.lower().startswith(name.lower()) and (not name or name[-1:].lower() in ends)
            if letter == b"+" and len(name) > best and matches:
                best = len(name)
                found = b"%s\x001\x002\0/\0-\0%s%s" % (user, pre, local[len(name) :])
    assert look_up(text, local) == found


@given(text=st.binary(max_size=60))
def test_any_text_has_records_or_a_bad_line(text: bytes) -> None:
    try:
        assert list(assign.records(text))[-1][0] == b""
    except assign.Malformed as e:
        assert 1 <= e.line <= text.count(b"\n") + 2


def test_lines_for_an_account() -> None:
    lines = assign.Lines(b"-", b"-")
    assert lines.everybody(b"alias:1:2:/a") == b"+:alias:1:2:/a:-::\n"
    assert lines.user(b"joe", b"joe:1:2:/j") == b"=joe:joe:1:2:/j:::\n+joe-:joe:1:2:/j:-::\n"
    assert lines.subuser(b"sub", b"joe:1:2:/j", b"pre") == (b"=sub:joe:1:2:/j:-:pre:\n+sub-:joe:1:2:/j:-:pre-:\n")


def test_lines_without_extensions() -> None:
    lines = assign.Lines(b"", b"-/")
    assert lines.user(b"joe", b"joe:1:2:/j") == b"=joe:joe:1:2:/j:::\n"
    assert lines.subuser(b"sub", b"joe:1:2:/j", b"pre") == b"=sub:joe:1:2:/j:-/:pre:\n"
