"""forwardcdb: the texts of setforward and setmaillist, there and back, and files that are none."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import cdb
from qmailpy.formats.forwardcdb import Wrong, items, list_items, records, shown, shown_list


def made(text: bytes) -> list[tuple[bytes, bytes]]:
    return list(records(text))


def test_an_instruction_is_a_target_and_its_commands() -> None:
    text = b"Root@: joe@a.b, &x@y,\n |run it, !pre,./l.bin,/etc/l; # comment; x:\n@H:;"
    assert made(text) == [(b":root@", b"&joe@a.b\0&x@y\0|runit\0!pre\0./l.bin\0/etc/l\0")]


def test_an_owner_is_a_record_of_its_own_without_a_nul() -> None:
    assert made(b"A@b: ?own@c, x@y;") == [(b"?a@b", b"own@c"), (b":a@b", b"&x@y\0")]
    assert made(b"A@b: ?own@c;") == [(b"?a@b", b"own@c")]


def test_a_backslash_makes_any_byte_an_ordinary_one() -> None:
    assert made(b"a\\ b\\:\\;\\,\\#\\\\@:|c\\ \\\nd;") == [(b":a b:;,#\\@", b"|c \nd\0")]


def test_a_backslash_at_the_end_ends_the_text() -> None:
    assert made(b"a:b;\\") == [(b":a", b"&b\0")]


@pytest.mark.parametrize(
    ("text", "complaint", "line"),
    [
        (b"a: b;\nc: d", b"final instruction must end with semicolon", 2),
        (b"a", b"final instruction must end with semicolon", 1),
        (b"\n\na::b;", b"double colons are not permitted", 3),
        (b"a,b:c;", b"commas are not permitted before colons", 1),
        (b"a:b;\n;", b"commas are not permitted before colons", 2),
        (b"a:\0;", b"NUL bytes are not permitted", 1),
        (b"\\\0:b;", b"NUL bytes are not permitted", 1),
        (b"a: #\n" + b"x" * 801 + b";", b"addresses over 800 bytes are not permitted", 2),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: bytes, complaint: bytes, line: int) -> None:
    with pytest.raises(Wrong) as found:
        made(text)
    assert (found.value.complaint, found.value.line, found.value.for_ever) == (complaint, line, True)


def test_an_address_may_have_800_bytes_with_or_without_its_sign() -> None:
    for sign in (b"", b"&"):
        assert made(b"a:" + sign + b"x" * 800 + b";") == [(b":a", b"&" + b"x" * 800 + b"\0")]


def test_an_item_without_a_nul_is_none() -> None:
    assert items(b"&a\0\0&b") == [b"&a", b""]


WORDS = st.binary(min_size=1, max_size=12).filter(lambda word: b"\0" not in word)
COMMANDS = st.tuples(st.sampled_from([b"&", b"|", b"!", b".", b"/"]), WORDS).map(b"".join)
TABLES = st.lists(
    st.one_of(
        st.tuples(WORDS.map(lambda word: b":" + word.lower()), st.lists(COMMANDS, min_size=1).map(
            lambda commands: b"".join([command + b"\0" for command in commands])
        )),
        st.tuples(WORDS.map(lambda word: b"?" + word.lower()), WORDS),
    )
)  # fmt: skip


@given(table=TABLES)
def test_what_is_printed_is_the_same_database_again(table: list[tuple[bytes, bytes]]) -> None:
    file = b"".join(cdb.make(table))
    assert made(b"".join(shown(file))) == table


def test_printed_text_has_a_line_for_each_command() -> None:
    file = b"".join(cdb.make([(b":a b@", b"&x@y\0|c d\0"), (b"?l@", b"o@p\xff")]))
    assert b"".join(shown(file)) == b"a\\ b@:\n, &x@y\n, |c\\ d\n;\nl@: ?o@p\\\xff;\n"


@pytest.mark.parametrize(
    "record",
    [(b"", b""), (b"x", b""), (b":a", b"&b"), (b":a", b"&b\0\0"), (b":a", b"x\0"), (b":a", b"&" + b"b" * 899 + b"\0")],
)
def test_a_database_of_something_else_is_not_printed(record: tuple[bytes, bytes]) -> None:
    with pytest.raises(Wrong, match="bad database format"):
        list(shown(b"".join(cdb.make([record]))))


@given(file=st.binary(max_size=64), end=st.integers(0, 2**32 - 1))
def test_no_file_is_trouble_for_printing(file: bytes, end: int) -> None:
    for data in (file, pack("<L", end) + bytes(2044) + file):
        for show in (shown, shown_list):
            try:
                list(show(data))
            except Wrong as e:
                assert e.for_ever


@given(data=st.data())
def test_no_change_of_a_database_is_trouble(data: st.DataObject) -> None:
    file = bytearray(b"".join(cdb.make([(b":root@", b"&a@b\0|c\0"), (b"?root@", b"o@p")])))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.sampled_from([*range(4), *range(2048, len(file))]))] = data.draw(st.integers(0, 255))
    del file[data.draw(st.integers(0, len(file))) :]
    try:
        list(shown(bytes(file)))
    except Wrong:
        pass


def test_a_list_has_an_item_for_each_line() -> None:
    text = b"# c\n\n a@b \t\n&c@d\n./l.bin \n/etc/l\nlast"
    assert list(list_items(text)) == [b"& a@b\0", b"&c@d\0", b"./l.bin\0", b"/etc/l\0", b"&last\0"]


@pytest.mark.parametrize(
    ("text", "complaint", "line"),
    [(b"a\nb\0", b"NUL in input", 2), (b"\n\n" + b"a" * 801, b"addresses must be under 800 bytes", 3)],
)
def test_what_is_wrong_with_a_list_is_said_with_its_line(text: bytes, complaint: bytes, line: int) -> None:
    with pytest.raises(Wrong) as found:
        list(list_items(text))
    assert (found.value.complaint, found.value.line, found.value.for_ever) == (complaint, line, False)


@pytest.mark.parametrize("file", [b"&a", b"\0", b"x\0", b"&a\nb\0", b"|c\0", b"&" + b"a" * 899 + b"\0"])
def test_a_list_of_something_else_is_not_printed(file: bytes) -> None:
    with pytest.raises(Wrong, match="bad mailing list format"):
        list(shown_list(file))


@given(lines=st.lists(st.tuples(st.sampled_from([b"&", b".", b"/"]), WORDS).map(b"".join)))
def test_a_printed_list_is_the_same_again(lines: list[bytes]) -> None:
    good = [line for line in lines if b"\n" not in line and line == line.rstrip(b" \t")]
    file = b"".join([line + b"\0" for line in good])
    assert b"".join(list_items(b"".join(shown_list(file)))) == file
