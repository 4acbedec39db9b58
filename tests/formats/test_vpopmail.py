"""vpopmail: names, orders of lines, the counter of directories, limits."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmailpy.formats import assign, vpasswd, vpopmail


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (b"Joe@Example.COM", (b"joe", b"example.com")),
        (b"joe%example.com", (b"joe", b"example.com")),
        (b"joe/example.com", (b"joe", b"example.com")),
        (b"a/b@example.com", (b"a/b", b"example.com")),
        (b"joe", (b"joe", b"")),
        (b"", (b"", b"")),
        (b"joe@", (b"joe", b"")),
        (b"!#$&'*+-.=?^_`{|}~@x.example", (b"!#$&'*+-.=?^_`{|}~", b"x.example")),
    ],
)
def test_a_name_is_split_at_the_first_of_the_separators_that_occurs(name: bytes, found: tuple[bytes, bytes]) -> None:
    assert vpopmail.split(name) == found


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        (b"a@b@c", vpopmail.INVALID_DOMAIN, b"domain invalid b@c"),
        (b"a%b/c", vpopmail.INVALID_DOMAIN, b"domain invalid b/c"),
        (b"a%b@c", vpopmail.ILLEGAL_USERNAME, b"user invalid a%b"),
        (b"a b@c", vpopmail.ILLEGAL_USERNAME, b"user invalid a b"),
        (b"a:b@c", vpopmail.ILLEGAL_USERNAME, b"user invalid a:b"),
        (b"a\n@c", vpopmail.ILLEGAL_USERNAME, b"user invalid a\n"),
        (b"a\0@c", vpopmail.ILLEGAL_USERNAME, b"user invalid a\0"),
        (b"\xc3\xbc@c", vpopmail.ILLEGAL_USERNAME, b"user invalid \xc3\xbc"),
        (b"a@c:d", vpopmail.INVALID_DOMAIN, b"domain invalid c:d"),
        (b"a" * 65 + b"@c", vpopmail.USER_TOO_LONG, b""),
        (b"a@" + b"c" * 97, vpopmail.DOMAIN_TOO_LONG, b""),
        (b"a" * 300, vpopmail.USER_TOO_LONG, b""),
    ],
)
def test_a_name_with_characters_that_have_no_place_there_is_refused(name: bytes, code: int, said: bytes) -> None:
    with pytest.raises(vpopmail.Invalid) as caught:
        vpopmail.split(name)
    assert (caught.value.code, caught.value.said, caught.value.text) == (code, said, vpopmail.TEXT[code])


@pytest.mark.parametrize("name", [b"joe", b"Joe.Doe", b"a+b", b"a-b", b"xy", b"a" * 64, b"vpasswd2", b"1st"])
def test_a_new_account_may_have_such_names(name: bytes) -> None:
    assert vpopmail.user(name) == name.lower()


@pytest.mark.parametrize(
    "name",
    [
        b"", b"a", b".", b"..", b"../x", b"a/b", b".joe", b".qmail-default", b"a:b", b"a\nb", b"a\0b", b"a b", b"a@b",
        b"\xff\xfe", b"vpasswd", b"vpasswd.cdb", b"cdb.tmp", b"VPASSWD", b"a" * 65, b"x" * 300,
    ],
)  # fmt: skip
def test_a_new_account_may_not_have_such_names(name: bytes) -> None:
    with pytest.raises(vpopmail.Invalid):
        vpopmail.user(name)


@pytest.mark.parametrize(
    "name", [b"example.com", b"EXAMPLE.com", b"a.bc", b"1.example", b"x-y.z1", b"xn--bcher-kva.example"]
)
def test_a_domain_may_have_such_names(name: bytes) -> None:
    assert vpopmail.domain(name) == vpopmail.alias(name) == name.lower()


@pytest.mark.parametrize(
    "name",
    [
        b"", b"ab", b"abc", b"example", b"-a.example", b"a.example-", b"a..example", b".example.com", b"example.com.",
        b"a.b", b"../a.example", b"a/b.example", b"a:b.example", b"a\n.example", b"a\0.example", b"\xfc.example",
        b"a." + b"b" * 64, b"x" * 64 + b".example", b"a b.example", b"..", b"a_b.example",
    ],
)  # fmt: skip
def test_a_domain_may_not_have_such_names(name: bytes) -> None:
    with pytest.raises(vpopmail.Invalid) as caught:
        vpopmail.domain(name)
    assert caught.value.text == b"Invalid domain name"


def test_too_long_a_domain_has_a_text_of_its_own() -> None:
    for check in vpopmail.domain, vpopmail.alias:
        with pytest.raises(vpopmail.Invalid, match="-26") as caught:
            check(b"a" * 300)
        assert caught.value.text == b"domain name too long (max=96)"


def test_an_alias_may_be_without_a_dot() -> None:
    assert vpopmail.alias(b"Mail") == b"mail"
    for name in b"", b"-x", b"a_b", b"a/b":
        with pytest.raises(vpopmail.Invalid):
            vpopmail.alias(name)


@given(st.binary(max_size=200))
def test_no_name_that_is_taken_can_leave_its_folder(name: bytes) -> None:
    try:
        found = [vpopmail.user(name)]
    except vpopmail.Invalid:
        found = []
    try:
        found.append(vpopmail.domain(name))
    except vpopmail.Invalid:
        pass
    for word in found:
        assert word not in (b"", b".", b"..") and not set(word) & set(b"/:\n\0\t ") and word == word.lower()
        assert word.isascii() and len(word) <= vpopmail.DOMAIN_LENGTH


@given(st.binary(max_size=400))
def test_splitting_takes_any_bytes(name: bytes) -> None:
    try:
        user, domain = vpopmail.split(name)
    except vpopmail.Invalid:
        return
    assert not set(user + domain) & set(b":\n\0@ ")


def test_a_domain_of_the_environment_has_no_odd_characters() -> None:
    assert vpopmail.from_environment(b"Exa/mple.com\n") == b"exa_mple.com_"
    assert len(vpopmail.from_environment(b"a" * 300)) == 96


# What the original makes of names, extract_domain of vpopmail.c run on them.
@pytest.mark.parametrize(
    ("line", "is_assign", "key"),
    [
        (b"example.com", False, b"example.com"),
        (b"b.example.com:b.example.com", False, b"example.com.b"),
        (b"a.b.example.com", False, b"example.com.a.b"),
        (b"a.b.c.example.com", False, b"example.com.a.b.a"),
        (b".example.com", False, b"example.com"),
        (b"localhost", False, b"localhost"),
        (b"+b.example.com-:x", True, b"example.com.b"),
        (b"=joe:joe", True, b"jo"),
        (b"", False, b""),
        (b"+", True, b""),
    ],
)
def test_lines_are_ordered_by_domains_with_their_last_labels_first(line: bytes, is_assign: bool, key: bytes) -> None:
    assert vpopmail.sort_key(line, is_assign) == key


def test_a_line_gets_into_its_place() -> None:
    text = b"a.example\nc.example\n"
    assert vpopmail.inserted(text, b"b.example") == (b"a.example\nb.example\nc.example\n", False)
    assert vpopmail.inserted(text, b"d.example") == (b"a.example\nc.example\nd.example\n", False)
    assert vpopmail.inserted(text, b"c.example") == (text, False)
    assert vpopmail.inserted(b"", b"c.example") == (b"c.example\n", False)
    assert vpopmail.inserted(b"x.example", b"a.example") == (b"a.example\nx.example\n", False)


def test_lines_out_of_order_are_sorted() -> None:
    assert vpopmail.inserted(b"c.example\na.example\n", b"b.example") == (b"a.example\nb.example\nc.example\n", True)
    assert vpopmail.inserted(b"z:z\na:a\n", b"z:z") == (b"z:z\na:a\n", True)


def test_users_assign_keeps_its_end() -> None:
    line = b"+b.example-:b.example:1:1:/b:-::"
    assert vpopmail.inserted(b"", line, True) == (line + b"\n.\n", False)
    other = b"+c.example-:c.example:1:1:/c:-::\n"
    assert vpopmail.inserted(other + b".\nnotes\n", line, True)[0] == line + b"\n" + other + b".\nnotes\n"
    assert vpopmail.without(line + b"\n" + other + b".\n", [b"+b.example-"], True) == other + b".\n"
    assert vpopmail.assigned(line + b"\n" + other + b".\n", b"b.example") == [line]


def test_lines_are_removed_whatever_their_case() -> None:
    assert vpopmail.without(b"A.Example \nb.example\n", [b"a.example"]) == b"b.example\n"
    assert vpopmail.without(b"b.example", [b"a.example"]) == b"b.example"


LINES = st.lists(st.sampled_from([b"a.example", b"b.a.example", b"#x", b"", b".", b"z", b"+q.example-:q", b"=joe:j"]))


@given(LINES, st.sampled_from([b"c.example", b"a.example"]), st.booleans())
def test_no_other_line_is_lost_by_a_change(lines: list[bytes], line: bytes, is_assign: bool) -> None:
    text = b"".join(each + b"\n" for each in lines)
    after, _ = vpopmail.inserted(text, line, is_assign)
    assert after.split(b"\n").count(line) >= 1
    assert vpopmail.inserted(after, line, is_assign)[0] == after
    left = vpopmail.without(after, [b"c.example"], is_assign).split(b"\n")
    for each in set(lines) - {b"c.example", b"."}:
        assert left.count(each) >= text.split(b"\n").count(each) - (each == b"")


def test_the_line_of_a_domain_is_read_by_qmail_newu() -> None:
    line = vpopmail.assign_line(b"a.example", b"b.example", 89, 90, b"/d/b.example")
    assert line == b"+a.example-:b.example:89:90:/d/b.example:-::"
    (key, data), _ = assign.records(line + b"\n.\n")
    assert (key, data) == (b"!a.example-", b"b.example\x0089\x0090\0/d/b.example\0-\0")


NEW = b"0\n0\n3\n0 0 0\n61 61 61\n0 2 4\n0 0 0\n\n"


def test_a_new_counter_is_the_originals() -> None:
    assert vpopmail.DirControl().build() == NEW
    assert vpopmail.DirControl(NEW).build() == NEW


def test_each_hundred_has_the_next_directory() -> None:
    """As the C functions count: compared with them for 25 million."""
    counter = vpopmail.DirControl()
    places = [counter.add() for _ in range(100 * (62 + 62 * 62 + 3))]
    names = [bytes((byte,)) for byte in vpopmail.HASHES]
    assert places[:99] == [b""] * 99 and places[99:199] == [b"0"] * 100
    each = places[99::100]
    assert each[:62] == names
    assert each[62 : 62 + 62 * 62] == [one + b"/" + other for one in names for other in names]
    assert each[62 + 62 * 62 :] == [b"0/0/0", b"0/0/1", b"0/0/2"]
    assert counter.build() == b"390900\n2\n3\n0 0 0\n61 61 61\n0 2 4\n0 0 3\n0/0/2\n"
    counter.remove()
    assert counter.build().startswith(b"390899\n")


def test_a_counter_that_c_has_written_is_understood() -> None:
    counter = vpopmail.DirControl(b"6299\n0\n3\n0 0 0\n61 61 61\n0 2 2\n61 0 0\nz\n")
    assert counter.add() == b"0/0"
    assert counter.build() == b"6300\n1\n3\n0 0 0\n61 61 61\n0 2 4\n0 1 0\n0/0\n"
    assert vpopmail.DirControl(b"9\n2\n3\n0 0 0\n61 61 61\n0 2 2\n0 1 1\n0/1/\n").add() == b"0/1"


@given(
    st.one_of(
        st.binary(max_size=120),
        st.lists(st.sampled_from([b"5", b"-1", b"..", b"/", b"z/z/z", b"", b"9" * 99])).map(b"\n".join),
    )
)
@example(b"\n\n\n\n\n\n62\n0")
def test_no_counter_leads_out_of_its_folder(data: bytes) -> None:
    counter = vpopmail.DirControl(data)
    for _ in range(101):
        parts = counter.add().split(b"/")
        assert parts == [b""] or all(len(part) == 1 and part in vpopmail.HASHES for part in parts)
    assert vpopmail.DirControl(counter.build()).build() == counter.build()


def test_limits_are_numbers_and_words() -> None:
    limits = vpopmail.Limits(
        b"# quota 1\nmaxaliases: 5\nquota\t100\r\ndefault_quota : 10\ndisable_pop\ndelete_spam 1\nx 2\n quota 9\n"
    )
    assert (limits.numbers[b"maxaliases"], limits.numbers[b"quota"], limits.numbers[b"default_quota"]) == (5, 100, 10)
    assert limits.numbers[b"maxpopaccounts"] == vpopmail.UNLIMITED
    assert limits.forbidden == vpasswd.NO_POP | vpasswd.DELETE_SPAM


@given(st.binary(max_size=200))
def test_limits_take_any_bytes(data: bytes) -> None:
    assert set(vpopmail.Limits(data).numbers) == set(vpopmail.LIMITS)


def test_codes_have_the_originals_texts() -> None:
    assert vpopmail.text(vpopmail.NO_DOMAIN) == b"Domain does not exist"
    assert vpopmail.text(-999) == b"Unknown error"
