"""aliases: what stands in aliases, in :include: lists and in .forward files, and what is wrong with a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats.aliases import (
    ADDRESS,
    DIRECT,
    FILE,
    INCLUDE,
    PROGRAM,
    Entry,
    Names,
    entries,
    forwarding,
    list_items,
    records,
)
from qmailpy.formats.forwardcdb import Wrong, items

NAMES = Names(b"host", b"domain.example", b"plus.example")


def compiled(text: bytes) -> list[tuple[bytes, list[bytes] | bytes]]:
    return [(key, data if key.startswith(b"?") else items(data)) for key, data in records(text, NAMES)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"joe, fred@x.y (comment) ,, mary", [b"mary@", b"fred@x.y", b"joe@"]),
        (b"joe fred", [b"fred@", b"joe@"]),
        (b"Joe Shmoe <shmoe@x.y>", [b"shmoe@x.y"]),
        (b'"a b"@x, "c@d"', [b"c@d@", b"a b@x"]),
        (b"<@a,@b:c@d> e", [b"e@", b"@a,@b:c@d"]),
        (b"\\joe", [b"joe@"]),
        (b"joe@[IPv6:2001:db8::1]", [b"joe@[IPv6:2001:db8::1]"]),
        (b"<>", [b""]),
        (b"a;b", [b"b@", b"a@"]),
        (b"", []),
        (b" (c) , ;:", []),
    ],
)
def test_addresses_are_read_from_the_right(line: bytes, found: list[bytes]) -> None:
    assert list(entries(line, includes=True)) == [(ADDRESS, text) for text in found]


def test_without_a_host_there_are_programs_and_files() -> None:
    line = b'"|cmd -x @", "|cmd"@h, /file, /file@h, |c'
    wanted = [(PROGRAM, b"c"), (ADDRESS, b"/file@h"), (FILE, b"/file"), (ADDRESS, b"|cmd@h"), (PROGRAM, b"cmd -x @")]
    assert list(entries(line, includes=True)) == wanted


def test_included_lists_are_told_from_addresses_where_there_may_be_some() -> None:
    line = b"a: :include:/etc/l, : include : l.x"
    wanted: list[Entry] = [(INCLUDE, b"l.x"), (INCLUDE, b"/etc/l"), (ADDRESS, b"a@")]
    assert list(entries(line, includes=True)) == wanted
    assert next(entries(line, includes=False)) == (ADDRESS, b"l.x@")


@pytest.mark.parametrize(
    ("address", "whole"),
    [
        (b"joe@", b"joe@host.domain.example"),
        (b"joe@mail", b"joe@mail.domain.example"),
        (b"joe@mail+", b"joe@mail.plus.example"),
        (b"joe@a.b", b"joe@a.b"),
        (b"joe.x@", b"joe.x@host.domain.example"),
        (b"joe@[1.2.3.4]", b"joe@[1.2.3.4]"),
        (b"joe@[IPv6:::1]", b"joe@[IPv6:::1]"),
        (b"joe@x@[", b"joe@x@[.domain.example"),
    ],
)
def test_addresses_are_completed(address: bytes, whole: bytes) -> None:
    assert NAMES.complete(address) == whole


def test_a_default_host_may_be_whole_or_have_a_plus_itself() -> None:
    assert Names(b"a.b", b"d", b"p").complete(b"joe@") == b"joe@a.b"
    assert Names(b"a+", b"d", b"p").complete(b"joe@") == b"joe@a.p"


def test_an_alias_is_a_record() -> None:
    assert compiled(b"Root: joe, fred@x.y\n") == [(b":root@", [b"&fred@x.y", b"&joe@host.domain.example"])]


def test_an_alias_may_have_a_host_or_be_one() -> None:
    text = b'joe@x.y: a\n@x.y: b\n"a b": c\n'
    assert [key for key, _ in compiled(text)] == [b":joe@x.y", b":@x.y", b":a b@"]


def test_programs_and_lists_are_instructions() -> None:
    text = b'w: "|prog arg", :include:/etc/l, :include:./m, :include:n.o\n'
    assert compiled(text) == [(b":w@", [b"./n.o.bin", b"./m.bin", b"/etc/l.bin", b"!prog arg"])]


def test_an_owner_is_a_record_before_that_of_its_alias() -> None:
    owner = b"owner-List@host.domain.example"
    assert compiled(b"owner-List: joe@x.y\n") == [(b"?list@", owner), (b":owner-list@", [b"&joe@x.y"])]


def test_lines_are_continued_over_empty_ones_and_so_are_comments() -> None:
    text = b"# a: b,\n c\n\n d\na:\n\n  b@x.y,\n\tc@x.y\n\n\n#\ne:f@x.y"
    assert compiled(text) == [(b":a@", [b"&c@x.y", b"&b@x.y"]), (b":e@", [b"&f@x.y"])]


def test_the_colon_may_be_anywhere_or_missing() -> None:
    for text in (b"a b@x.y", b"a\n : b@x.y", b": a, b@x.y", b"<a>b@x.y"):
        assert compiled(text) == [(b":a@", [b"&b@x.y"])]


def test_blank_lines_are_nothing() -> None:
    assert compiled(b"\n \n\t\n,,\n(c)\n\r\n") == []


@pytest.mark.parametrize(
    ("text", "complaint", "line"),
    [
        (b"a: b\nc\n", b"unable to parse this line: c", 2),
        (b"\n\nc:\n (\n", b"unable to parse this line: c:  (", 3),
        (b"a: b>\n", b"unable to parse this line: a: b>", 1),
        (b'"|x"\n', b'unable to parse this line: "|x"', 1),
        (b"a: )\n", b"unable to parse this line: a: )", 1),
        (b"a: \033[2J(\n", b"unable to parse this line: a: ^[[2J(", 1),
        (b"#\n\na: /x/y\n", b"file delivery /x/y not supported", 3),
        (b"a: <>\n", b"empty recipient addresses not permitted", 1),
        (b"a: :include:\n", b"empty :include: filenames not permitted", 1),
        (b"a: :include:x\0\n", b"NUL not permitted in :include: filenames", 1),
        (b"a: b\0\n", b"NUL not permitted in recipient addresses", 1),
        (b'a: "|b\0"\n', b"NUL not permitted in program names", 1),
        (b"x: y\na:\n " + b"b" * 801 + b"@x.y\n", b"addresses over 800 bytes are not permitted", 2),
    ],
)
def test_what_is_wrong_with_aliases_is_said_with_its_line(text: bytes, complaint: bytes, line: int) -> None:
    with pytest.raises(Wrong) as found:
        compiled(text)
    assert (found.value.complaint, found.value.line) == (complaint, line)
    assert found.value.for_ever == (b"800" in complaint)


def test_a_list_has_addresses_and_other_lists() -> None:
    text = b"# c\nJoe <a>, b@x.y\n\n<>\n:include:/etc/l\n :include:m.bin\n#last"
    wanted = [b"&b@x.y\0", b"&a@host.domain.example\0", b"/etc/l.bin\0", b"./m.bin\0"]
    assert list(list_items(text, NAMES)) == wanted


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"/f", b"file delivery /f not supported"),
        (b'"|p x"', b"program delivery |p x not supported"),
        (b"(", b"unable to parse this line: ("),
        (b":include:", b"empty :include: filenames not permitted"),
        (b":include:a\0", b"NUL not permitted in :include: filenames"),
        (b"a\0", b"NUL not permitted in recipient addresses"),
        (b"a" * 800, b"addresses must be under 800 bytes"),
        (b'a@"x.y "', b"spaces and tabs not permitted at ends of addresses"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_with_its_line(text: bytes, complaint: bytes) -> None:
    with pytest.raises(Wrong) as found:
        list(list_items(b"x@y.z\n\n" + text + b"\n", NAMES))
    assert (found.value.complaint, found.value.line, found.value.for_ever) == (complaint, 3, False)


def wanted(text: bytes, user: bytes = b"joe", host: bytes = b"x.y") -> list[Entry]:
    return list(forwarding(text, user, host, NAMES))


def test_a_forward_file_names_addresses_programs_and_its_user() -> None:
    text = b'# c\n\\Joe, "|run it"\nfred\nJOE@x.Y, joe@other.y\n'
    assert wanted(text) == [
        (PROGRAM, b"run it"),
        (DIRECT, b"Joe@"),
        (ADDRESS, b"fred@host.domain.example"),
        (ADDRESS, b"joe@other.y"),
        (DIRECT, b"JOE@x.Y"),
    ]


def test_a_forward_file_without_anything_wants_nothing() -> None:
    assert wanted(b"") == wanted(b"\n# x\n(c)\n<>\n") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [(b"joe\n/var/mail/joe", b"file delivery /var/mail/joe not supported"), (b"a\n(", b"unable to parse this line: (")],
)
def test_what_is_wrong_with_a_forward_file_is_said_with_its_line(text: bytes, complaint: bytes) -> None:
    with pytest.raises(Wrong) as found:
        wanted(text)
    assert (found.value.complaint, found.value.line) == (complaint, 2)


TEXTS = st.lists(
    st.sampled_from([
        b"joe", b"owner-", b"@", b".", b":", b",", b";", b"<", b">", b"(", b")", b'"', b"\\", b"|", b"/", b" ",
        b"\t", b"\n", b"#", b"[", b"]", b"include", b":include:", b"+", b"\0", b"\r", b"\xff", b"\033",
    ])
).map(b"".join)  # fmt: skip


@given(text=st.one_of(TEXTS, st.binary()))
def test_any_text_is_read_or_refused_with_a_line(text: bytes) -> None:
    for read in (
        lambda: list(records(text, NAMES)),
        lambda: list(list_items(text, NAMES)),
        lambda: wanted(text),
    ):
        try:
            read()
        except Wrong as e:
            assert 1 <= e.line <= text.count(b"\n") + 1
            assert not any(byte < 32 or byte > 126 for byte in e.complaint.replace(b"\t", b""))


@given(text=TEXTS)
def test_what_is_compiled_has_the_form_that_fastforward_reads(text: bytes) -> None:
    try:
        for key, data in records(text, NAMES):
            assert key[:1] in (b":", b"?")
            if key.startswith(b":"):
                assert data.endswith(b"\0")
                assert all(item[:1] in (b"&", b"!", b".", b"/") for item in items(data))
    except Wrong:
        pass
