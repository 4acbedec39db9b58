import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import flatfile

HASH = b"$6$salt$hash"

field = st.binary(max_size=12).map(lambda b: b.translate(None, b":\n\r\0"))
name = field.filter(lambda b: b and not b.startswith(b"#") and b"/" not in b and b not in (b".", b".."))


def find(data: bytes, name: bytes = b"max") -> flatfile.Entry | None:
    return flatfile.find(data, name)[0]


def test_a_short_line_leaves_the_rest_open() -> None:
    entry = find(b"max:" + HASH + b"\n")
    assert entry is not None
    assert (entry.name, entry.hash, entry.uid, entry.gid, entry.home, entry.shell) == (
        b"max",
        HASH,
        None,
        None,
        b"",
        b"",
    )


def test_a_whole_line_gives_everything() -> None:
    entry = find(b"joe:x\r\nmax:" + HASH + b":1000:100:Max:/home/max:/bin/sh\r\n")
    assert entry is not None and entry.line == 2
    assert (entry.hash, entry.uid, entry.gid, entry.home, entry.shell) == (HASH, 1000, 100, b"/home/max", b"/bin/sh")


def test_comments_and_empty_lines_are_nothing() -> None:
    entry, bad, _ = flatfile.find(b"# max:x\n\n#\nmax:" + HASH, b"max")
    assert entry is not None and entry.line == 4 and bad == []


def test_the_first_line_for_a_name_counts() -> None:
    entry = find(b"max:one\nmax:two\n")
    assert entry is not None and entry.hash == b"one"


@pytest.mark.parametrize(
    "line",
    [
        b"max",
        b":" + HASH,
        b"max:h:1000",
        b"max:h:1000:",
        b"max:h::1000",
        b"max:h:0:1000",
        b"max:h:1000:0",
        b"max:h:-1:1000",
        b"max:h:1000:users",
        b"max:h:4294967295:1000",
        b"max:h:99999999999999999999:1",
        b"max:h:1:2:g:h:s:more",
        b"m\0ax:h",
        b"../max:h",
        b"..:h",
        b"a/b:h:1:2:g::/bin/sh",
    ],
)
def test_a_bad_line_is_named_by_number_and_the_others_count(line: bytes) -> None:
    entry, bad, _ = flatfile.find(b"joe:h\n" + line + b"\nsue:" + HASH + b"\n", b"sue")
    assert bad == [2]
    assert entry is not None and entry.hash == HASH
    assert find(line, line.partition(b":")[0]) is None


def test_a_name_with_a_slash_may_have_a_home() -> None:
    assert find(b"a/b:h:1:2:g:/home/ab", b"a/b") is not None


@given(st.binary(max_size=300), st.binary(max_size=10))
def test_any_bytes_are_a_file(data: bytes, name: bytes) -> None:
    entry, bad, typical = flatfile.find(data, name)
    assert entry is None or entry.name == name
    assert all(1 <= number <= data.count(b"\n") + 1 for number in bad)
    assert typical in data


@given(st.dictionaries(name, st.tuples(field, st.integers(1, 65534), field, field, field), min_size=1))
def test_what_is_written_is_found(accounts: dict[bytes, tuple[bytes, int, bytes, bytes, bytes]]) -> None:
    lines = [
        b"%s:%s:%d:%d:%s:%s:%s" % (name, stored, number, number, gecos, home, shell)
        for name, (stored, number, gecos, home, shell) in accounts.items()
    ]
    for name, (stored, number, _, home, shell) in accounts.items():
        entry, bad, _ = flatfile.find(b"\n".join(lines), name)
        assert bad == [] and entry is not None
        assert (entry.hash, entry.uid, entry.gid) == (stored, number, number)
        assert (entry.home, entry.shell) == (home, shell)
