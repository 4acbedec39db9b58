"""maildirsize: quotas as they are given and as they stand there, and the sums of the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import maildirsize


@pytest.mark.parametrize(
    ("text", "size", "count", "shown"),
    [
        (b"NOQUOTA", 0, 0, b"NOQUOTA"),
        (b"NO", 0, 0, b"NOQUOTA"),
        (b"", 0, 0, b"NOQUOTA"),
        (b"1048576", 1 << 20, 0, b"1048576S"),
        (b"1M", 1 << 20, 0, b"1048576S"),
        (b"1mb", 1 << 20, 0, b"1048576S"),
        (b"1024KB", 1 << 20, 0, b"1048576S"),
        (b"1mbs,1000C", 1 << 20, 1000, b"1048576S,1000C"),
        (b"1000C,10MBS", 10 << 20, 1000, b"10485760S,1000C"),
        (b"500k", 512000, 0, b"512000S"),
        (b"7C", 0, 7, b"7C"),
        (b"x", 0, 0, b"NOQUOTA"),
        (b"99999999999999999999M", (1 << 63) - 1, 0, b"9223372036854775807S"),
    ],
)
def test_a_quota_is_read_as_the_originals_read_it(text: bytes, size: int, count: int, shown: bytes) -> None:
    found = maildirsize.quota(text)
    assert (found.size, found.count, found.text()) == (size, count, shown)
    assert bool(found) == (shown != b"NOQUOTA")


@pytest.mark.parametrize("text", [b"10M", b"500k", b"1MBS,5c", b"noquota", b"3", b"9S"])
def test_a_quota_that_can_be_meant_is_taken(text: bytes) -> None:
    assert maildirsize.checked(text).text() == maildirsize.quota(text.upper()).text()


@pytest.mark.parametrize(
    "text",
    [b"", b"M", b"-5", b"5G", b"5M,6M", b"5C,6C", b"5M,,6C", b"5M 6C", b"0", b"0S,0C", b"5M\n", b"5:6", b"\xff", b"NO",
     b"9" * 19, b"9" * 300],
)  # fmt: skip
def test_a_quota_that_cannot_be_meant_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        maildirsize.checked(text)


@pytest.mark.parametrize(
    ("size", "count", "over", "percent"),
    [(100, 10, False, 100), (101, 1, True, 100), (1, 11, True, 100), (0, 0, False, 0), (50, 9, False, 90),
     (90, 1, False, 90), (-5, -5, False, 0)],
)  # fmt: skip
def test_a_quota_is_exceeded_in_bytes_or_in_messages(size: int, count: int, over: bool, percent: int) -> None:
    quota = maildirsize.Quota(100, 10)
    assert (quota.exceeded(size, count), quota.percent(size, count)) == (over, percent)


def test_no_quota_is_never_exceeded() -> None:
    assert not maildirsize.Quota().exceeded(1 << 70, 1 << 70)
    assert maildirsize.Quota().percent(5, 5) == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"100S\n5 1\n", (b"100S", 5, 1, 1)),
        (b"100S,5C\n5 1\n7 1\n-5 -1\n", (b"100S,5C", 7, 1, 3)),
        (b"100S\n        5            1\n", (b"100S", 5, 1, 1)),
        (b"\n5 1\n", (b"", 5, 1, 1)),
        (b"", None),
        (b"100S", None),
        (b"100S\n", None),
        (b"100S\n5 1", None),
        (b"100S\n5\n", None),
        (b"100S\n5 1 1\n", None),
        (b"100S\n5 x\n", None),
        (b"100S\n5 --1\n", None),
        (b"100S\n\n5 1\n", None),
        (b"100S\n" + b"5 1\n" * 1278, (b"100S", 6390, 1278, 1278)),
        (b"100S\n" + b"5 1\n" * 1279, None),
    ],
    ids=range(15),
)
def test_the_sum_is_that_of_all_lines_or_there_is_none(text: bytes, found: tuple[bytes, int, int, int] | None) -> None:
    usage = maildirsize.parse(text)
    assert (usage and (usage.quota, usage.size, usage.count, usage.lines)) == found


@given(st.binary())
def test_any_text_has_a_sum_or_none(text: bytes) -> None:
    usage = maildirsize.parse(text)
    assert usage is None or usage.lines == text.count(b"\n") - 1
    found = maildirsize.quota(text)
    assert min(found.size, found.count) >= 0 and max(found.size, found.count) < 1 << 63
    assert maildirsize.quota(found.text()).text() == found.text()


@given(st.binary(max_size=12) | st.text(alphabet="0123456789SCKMBcskmb,", max_size=12).map(str.encode))
def test_what_is_taken_means_the_same_when_it_is_read_again(text: bytes) -> None:
    try:
        found = maildirsize.checked(text)
    except ValueError:
        return
    again = maildirsize.quota(found.text())
    assert (again.size, again.count) == (found.size, found.count)


Change = st.tuples(st.integers(-(1 << 62), 1 << 62), st.integers(-999, 999))


@given(Change, st.lists(Change, max_size=60))
def test_what_is_written_is_what_is_read(first: tuple[int, int], changes: list[tuple[int, int]]) -> None:
    text = maildirsize.build(b"1S", *first) + b"".join(maildirsize.entry(*change) for change in changes)
    usage = maildirsize.parse(text)
    assert usage is not None
    assert (usage.size, usage.count) == tuple(map(sum, zip(first, *changes, strict=True)))
