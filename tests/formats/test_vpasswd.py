import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import vpasswd
from qmailpy.formats.vpasswd import Account

LINE = b"joe:$1$abc$xyz:1:3:Joe User:/v/domains/a.b/0/joe:10485760S,1000C"

FIELD = st.binary(max_size=20).map(lambda text: text.translate(None, b":\n\0"))
NAME = FIELD.filter(bool)


def fields(account: Account) -> dict[str, object]:
    return {name: getattr(account, name) for name in Account.__slots__}


def test_a_line_has_the_fields_of_the_reference() -> None:
    account = vpasswd.parse_line(LINE)
    assert fields(account) == {
        "name": b"joe",
        "password": b"$1$abc$xyz",
        "uid": 1,
        "gid": 3,
        "gecos": b"Joe User",
        "dir": b"/v/domains/a.b/0/joe",
        "quota": b"10485760S,1000C",
        "clear": None,
        "more": b"",
    }
    assert vpasswd.build(account) == LINE


@pytest.mark.parametrize("end", [b":", b":secret", b":secret:and:more", b"::x"])
def test_fields_behind_the_quota_survive(end: bytes) -> None:
    account = vpasswd.parse_line(LINE + end)
    assert account.clear == end[1:].partition(b":")[0]
    account.gecos = b"Joe"
    assert vpasswd.build(account) == LINE.replace(b"Joe User", b"Joe") + end


@pytest.mark.parametrize("line", [b"", b"joe", b"joe:x:1:0:gecos:dir"])
def test_a_line_with_too_few_fields_is_none(line: bytes) -> None:
    with pytest.raises(vpasswd.Malformed):
        vpasswd.parse_line(line)
    assert [account.name for account in vpasswd.every(line + b"\n" + LINE)] == [b"joe"]


def test_numbers_are_read_as_atoi_reads_them() -> None:
    account = vpasswd.parse_line(b"a:b:2x:-5:::")
    assert (account.uid, account.gid) == (2, -5)


@pytest.mark.parametrize("field", ["name", "password", "gecos", "dir", "quota", "clear"])
@pytest.mark.parametrize("bad", [b"a:b", b"a\nb", b"a\0b"])
def test_no_field_takes_what_would_make_it_two(field: str, bad: bytes) -> None:
    account = vpasswd.parse_line(LINE)
    setattr(account, field, bad)
    with pytest.raises(vpasswd.Malformed):
        vpasswd.build(account)


def test_a_line_that_the_originals_would_read_as_two_is_refused() -> None:
    account = vpasswd.parse_line(LINE)
    account.gecos = b"x" * (vpasswd.LONGEST - len(LINE) + len(account.gecos))
    assert len(vpasswd.build(account)) == 510
    account.gecos += b"x"
    with pytest.raises(vpasswd.TooLong):
        vpasswd.build(account)


@given(NAME, FIELD, st.integers(-9, 1 << 40), st.integers(-9, 1 << 40), FIELD, FIELD, FIELD, st.none() | FIELD)
def test_what_is_built_is_parsed_again(
    name: bytes, password: bytes, uid: int, gid: int, gecos: bytes, folder: bytes, quota: bytes, clear: bytes | None
) -> None:
    account = Account(name, password, uid, gid, gecos, folder, quota, clear)
    line = vpasswd.build(account)
    assert fields(vpasswd.parse_line(line)) == fields(account)
    assert list(vpasswd.records(line + b"\n")) == [(name, line[len(name) + 1 :])]


@given(st.binary(max_size=80))
def test_any_line_is_an_account_that_is_built_as_it_was_or_none(data: bytes) -> None:
    line = data.replace(b"\n", b"").replace(b"\0", b"")
    try:
        account = vpasswd.parse_line(line)
        built = vpasswd.build(account)
    except vpasswd.Malformed:
        return
    same = [a == b for a, b in zip(built.split(b":"), line.split(b":"), strict=True)]
    assert all(same[:2] + same[4:])  # but for numbers such as 007


NAMES = st.sampled_from([b"a", b"aa", b"a-b", b"a.b", b"ab", b"b", b"zz", b"\xff"])


@given(st.sets(NAMES), st.lists(NAMES, unique=True), st.sets(NAMES), st.booleans())
def test_a_change_keeps_the_rest_and_the_order(
    there: set[bytes], put: list[bytes], gone: set[bytes], cut: bool
) -> None:
    text = b"".join(name + b":old\n" for name in sorted(there))
    expected = dict.fromkeys(there - gone, b"old") | dict.fromkeys(put, b"new")
    changed = vpasswd.changed(text[: len(text) - cut], [name + b":new" for name in put], sorted(gone))
    assert changed == b"".join(name + b":" + expected[name] + b"\n" for name in sorted(expected))
    for name in (*there, *put, *gone):
        assert vpasswd.find(changed, name) == expected.get(name)
    assert vpasswd.names(changed) - {b""} == expected.keys()


@given(st.lists(NAMES), NAMES)
def test_a_file_that_is_not_sorted_loses_nothing(there: list[bytes], name: bytes) -> None:
    text = b"".join(each + b":%d\n" % number for number, each in enumerate(there))
    kept = sorted(line for line in text.splitlines() if not line.startswith(name + b":"))
    assert sorted(vpasswd.changed(text, [name + b":new"], []).splitlines()) == sorted([*kept, name + b":new"])


def test_a_last_line_without_end_counts() -> None:
    assert list(vpasswd.records(b"a:1\nno\nb:2")) == [(b"a", b"1"), (b"b", b"2")]
    assert vpasswd.find(b"a:1\nb:2", b"b") == b"2"


def test_a_field_with_a_nul_is_none() -> None:
    with pytest.raises(vpasswd.Malformed):
        vpasswd.parse_line(LINE.replace(b"/v", b"/v\0"))


def test_a_name_that_stands_there_a_hundred_thousand_times_is_one_change() -> None:
    text = b"joe:x\n" * 100_000 + b"max:y\n"
    assert vpasswd.changed(text, [b"joe:z"], []) == b"joe:z\nmax:y\n"
