"""Address lists as qmail-inject reads, changes and folds them. What each list becomes was seen with the original, which
tests/commands/test_qmail_inject.py asks again where there is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats.addresses822 import (
    ATOM,
    COMMENT,
    LITERAL,
    QUOTE,
    SIGNS,
    WIDTH,
    Tokens,
    Unparsable,
    one_line,
    parse,
    quote,
    rewrite,
    unparse,
    unquote,
    unquote_reversed,
)

# What lists are made of, and what breaks them.
PIECES = st.sampled_from([
    b"joe", b"a.b", b"@h", b"@h.example", b"@", b".", b",", b", ", b"<", b">", b"<u@h>", b"<@a,@b:u@h>", b"<>",
    b"Name <u@h>", b"g: a, b;", b":", b";", b" ", b"\t", b"\n ", b"(c)", b"(a(b)c)", b"(", b")", b'"q r"', b'"',
    b"[1.2]", b"[", b"]", b"\\", b'\\"', b"\\\n", b"\r", b"+", b"\xe9", b"\0", b"\x7f", b"long" * 30,
])  # fmt: skip
LISTS = st.lists(PIECES, max_size=20).map(b"".join) | st.binary(max_size=50)

# Outside of quotes an atom shows what a backslash protected, as with the original: a\\,b as a,b.
WITHOUT_BACKSLASHES = LISTS.map(lambda text: text.replace(b"\\", b""))


def nothing(address: Tokens) -> None:
    pass


def addresses(field: bytes) -> list[bytes]:
    """The addresses in a field, in its order."""
    found: list[bytes] = []
    rewrite(field, lambda address: found.append(unquote_reversed(address)))
    return found[::-1]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (b"", []),
        (b" \t\r\n", []),
        (b"joe", [(ATOM, b"joe")]),
        (b"a b", [(ATOM, b"a"), (ATOM, b"b")]),
        (b"a\\ b", [(ATOM, b"a b")]),
        (b"a\\", [(ATOM, b"a")]),
        (b"\\", [(ATOM, b"")]),
        (b'a"b"', [(ATOM, b"a"), (QUOTE, b"b")]),
        (b"\xe9", [(QUOTE, b"\xe9")]),
        (b"x)", [(QUOTE, b"x)")]),
        (b'"a\\"b"', [(QUOTE, b'a"b')]),
        (b"(a(b)c)", [(COMMENT, b"abc")]),
        (b"(a\\)b)", [(COMMENT, b"a)b")]),
        (b"[1.2\\]3]", [(LITERAL, b"1.2]3")]),
        (b".,@<>:;", [SIGNS[byte] for byte in b".,@<>:;"]),
    ],
)
def test_tokens_lose_their_quotes(text: bytes, tokens: Tokens) -> None:
    assert parse(text) == tokens


@pytest.mark.parametrize("text", [b"(", b"((a)", b'"', b'"a\\"', b"[", b"[a\\", b")", b"]", b"a )"])
def test_what_does_not_end_or_only_ends_is_unparsable(text: bytes) -> None:
    with pytest.raises(Unparsable) as raised:
        parse(text)
    assert raised.value.args == (text,)


@pytest.mark.parametrize(
    ("field", "shown", "found"),
    [
        (b"To: joe\n", b"To: joe\n", [b"joe"]),
        (b"To : joe , bob@h\n", b"To: joe, bob@h\n", [b"joe", b"bob@h"]),
        (b"To: joe bob\n", b"To: joe, bob\n", [b"joe", b"bob"]),
        (b"To: joe (c) bob\n", b"To: joe, bob (c)\n", [b"joe", b"bob"]),
        (b"To: joe@(c)h\n", b"To: joe@h (c)\n", [b"joe@h"]),
        (b"To: Full Name <u@h>\n", b"To: Full Name <u@h>\n", [b"u@h"]),
        (b'To: "a b"@c\n', b'To: "a b"@c\n', [b"a b@c"]),
        (b"To: a <b> c\n", b"To: a <b>, c\n", [b"b", b"c"]),
        (b"To: grp: a, b;, c\n", b"To: grp: a, b;, c\n", [b"a", b"b", b"c"]),
        (b"To: <>\n", b"To: <>\n", [b""]),
        (b"To: u@[1.2.3.4]\n", b"To: u@[1.2.3.4]\n", [b"u@[1.2.3.4]"]),
        (b"To:\n", b"To:\n", []),
        (b"To: ,,a,,\n", b"To: , , a, ,\n", [b"a"]),
        (b"To: \xe9@h\n", b'To: "\xe9"@h\n', [b"\xe9@h"]),
    ],
)
def test_addresses_are_found_and_the_field_is_shown_again(field: bytes, shown: bytes, found: list[bytes]) -> None:
    assert rewrite(field, nothing) == shown
    assert addresses(field) == found


@pytest.mark.parametrize("field", [b"To: a:b\n", b"To: a;b;\n", b"To: a>\n", b"To: (\n"])
def test_a_list_that_makes_no_sense_is_unparsable(field: bytes) -> None:
    with pytest.raises(Unparsable) as raised:
        rewrite(field, nothing)
    assert raised.value.args == (field,)


def test_lines_are_folded_behind_commas_before_they_are_too_long() -> None:
    field = rewrite(b"To: " + b", ".join([b"abcdefg@example.org"] * 9) + b"\n", nothing)
    lines = field.split(b"\n")
    assert [len(line) for line in lines] == [66, 64, 63, 0]
    assert max(map(len, lines)) <= WIDTH
    assert all(line.startswith(b"  ") for line in lines[1:-1])
    assert addresses(field) == [b"abcdefg@example.org"] * 9


def test_a_change_is_seen_in_the_field() -> None:
    def at_home(address: Tokens) -> None:
        address[:0] = parse(b"@home")[::-1]

    assert rewrite(b"To: a, B <b>, c (x)\n", at_home) == b"To: a@home, B <b@home>, c@home (x)\n"


def test_what_goes_into_a_header_is_one_line() -> None:
    assert one_line(b"a\nb\r\n\tc\0\xff") == b"a b  \tc\0\xff"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (b"", b""),
        (b"joe", b"joe"),
        (b"joe@h", b"joe@h"),
        (b"@h", b'""@h'),
        (b"a b@h", b'"a b"@h'),
        (b".a@h", b'".a"@h'),
        (b"a.@h", b'"a."@h'),
        (b"a..b@h", b'"a..b"@h'),
        (b"a.b@h", b"a.b@h"),
        (b"a@b@h", b'"a@b"@h'),
        (b'a"\\\r\nb', b'"a\\"\\\\\\\r\\\nb"'),
        (b"\xe9@h", b'"\xe9"@h'),
        (b"a@h h", b"a@h h"),
    ],
)
def test_an_envelopes_address_gets_quotes_where_it_needs_them(address: bytes, text: bytes) -> None:
    assert quote(address) == text


@given(text=LISTS)
def test_any_field_is_shown_or_unparsable(text: bytes) -> None:
    try:
        shown = rewrite(b"To: " + text + b"\n", nothing)
    except Unparsable:
        return
    assert shown.startswith(b"To:")
    assert shown.endswith(b"\n")


@given(text=WITHOUT_BACKSLASHES)
def test_what_is_shown_has_the_same_addresses_and_is_shown_alike(text: bytes) -> None:
    try:
        shown = rewrite(b"To: " + text + b"\n", nothing)
    except Unparsable:
        return
    assert addresses(shown) == addresses(b"To: " + text + b"\n")
    assert rewrite(shown, nothing) == shown


@given(text=WITHOUT_BACKSLASHES)
def test_tokens_survive_being_shown(text: bytes) -> None:
    try:
        tokens = parse(text)
    except Unparsable:
        return
    assert parse(unparse(tokens)) == tokens


@given(box=st.binary(min_size=1).map(lambda box: box.replace(b"\0", b"")))
def test_quotes_are_taken_off_again(box: bytes) -> None:
    assert unquote(parse(quote(box + b"@h"))) == box + b"@h"
