"""lines: whatever the blocks, the same lines; and bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.protocols.lines import Lines

LIMIT = 5
BLOCKS = st.lists(st.text("ab\n\r\0", max_size=12).map(str.encode))


@given(BLOCKS)
def test_blocks_make_the_lines_of_their_whole_each_cut_behind_its_limit(blocks: list[bytes]) -> None:
    lines = Lines(LIMIT)
    got = [line for block in blocks for line in lines.feed(block)]
    assert got == [line[: LIMIT + 1] for line in b"".join(blocks).split(b"\n")[:-1]]


def test_a_line_that_is_too_long_shows_by_its_length() -> None:
    assert Lines(LIMIT).feed(b"12345\n123456\n1234567\n") == [b"12345", b"123456", b"123456"]


def test_a_line_without_an_end_needs_no_more_memory_than_the_limit() -> None:
    lines = Lines(LIMIT)
    for _ in range(1000):
        assert lines.feed(b"x" * 1000) == []
        assert len(lines._partial) == LIMIT + 1
    assert lines.feed(b"\nnext\n") == [b"x" * (LIMIT + 1), b"next"]
