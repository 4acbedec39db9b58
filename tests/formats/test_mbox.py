"""mbox: dates, the From_ line, and quoting in blocks of any size."""

import mailbox
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import mbox

PIECES = st.lists(
    st.sampled_from([b"From ", b"From", b"Fro", b"F", b">", b">>", b"\n", b"x", b"\0", b" "]), max_size=30
)


def quoted(text: bytes) -> bytes:
    """By a regular expression, over all of it."""
    end = b"" if not text or text.endswith(b"\n") else b"\n"
    return re.sub(rb"^(>*From )", rb">\1", text, flags=re.MULTILINE) + end + b"\n"


def by_blocks(blocks: list[bytes]) -> bytes:
    quoter = mbox.Quoter()
    return b"".join([quoter.feed(block) for block in blocks] + [quoter.finish()])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, b"Thu Jan 01 00:00:00 1970"),
        (1004950987, b"Mon Nov 05 09:03:07 2001"),
        (951782400, b"Tue Feb 29 00:00:00 2000"),
        (4102444799, b"Thu Dec 31 23:59:59 2099"),
    ],
)
def test_times_are_those_of_qmail(seconds: int, shown: bytes) -> None:
    assert mbox.ctime(seconds) == shown


@given(st.integers(0, 1 << 40))
def test_any_time_is_as_ctime_has_it_but_for_the_blank(seconds: int) -> None:
    assert mbox.ctime(seconds) == time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(seconds)).encode()


@pytest.mark.parametrize(
    ("sender", "shown"),
    [(b"a@b", b"a@b"), (b"", b"MAILER-DAEMON"), (b"a b\tc\nd\r\xff", b"a-b-c-d\r\xff"), (b"\n", b"-")],
)
def test_the_from_line_is_one_line_of_words(sender: bytes, shown: bytes) -> None:
    assert mbox.from_line(sender, 0) == b"From " + shown + b" Thu Jan 01 00:00:00 1970\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"", b"\n"),
        (b"x", b"x\n\n"),
        (b"\n", b"\n\n"),
        (b"From", b"From\n\n"),
        (b"From \n", b">From \n\n"),
        (b">>From x\n>From\n> From x\nxFrom \n", b">>>From x\n>From\n> From x\nxFrom \n\n"),
        (b"x\nFrom a\nFrom b", b"x\n>From a\n>From b\n\n"),
        (b"x\r\nFrom \r\n", b"x\r\n>From \r\n\n"),
        (b">From >From ", b">>From >From \n\n"),
    ],
    ids=range(9),
)
def test_lines_that_could_be_taken_for_another_message_get_one_more_mark(text: bytes, shown: bytes) -> None:
    assert by_blocks([text]) == quoted(text) == shown
    assert by_blocks([text[at : at + 1] for at in range(len(text))]) == shown


@given(PIECES, st.data())
def test_blocks_of_any_size_give_the_same(pieces: list[bytes], data: st.DataObject) -> None:
    text = b"".join(pieces)
    blocks = []
    at = 0
    while at < len(text):
        size = data.draw(st.integers(1, 12))
        blocks.append(text[at : at + size])
        at += size
    assert by_blocks(blocks) == quoted(text)


@given(st.lists(PIECES.map(b"".join), max_size=4))
def test_a_reader_finds_the_messages_again(tmp_path_factory: pytest.TempPathFactory, texts: list[bytes]) -> None:
    """What is quoted reads back with one mark less, and no message is taken for two."""
    path = tmp_path_factory.mktemp("mbox") / "box"
    path.write_bytes(b"".join(mbox.from_line(b"s", 0) + b"A: b\n\n" + by_blocks([text]) for text in texts))
    found = [message.as_bytes() for message in mailbox.mbox(path)]
    assert len(found) == len(texts)
    for text, message in zip(texts, found, strict=True):
        body = message.partition(b"\n\n")[2]
        assert re.sub(rb"^>(>*From )", rb"\1", body, flags=re.MULTILINE).rstrip(b"\n") == text.rstrip(b"\n")


@pytest.mark.parametrize("line", [b">" * 65536, b">From " * 11000, b"\n>From " * 9000, b"F" * 65536])
def test_no_message_makes_it_slow(line: bytes) -> None:
    """25 MB of the worst lines take a fraction of what any test may take."""
    quoter = mbox.Quoter()
    size = 0
    for _ in range(25_000_000 // len(line)):
        size += len(quoter.feed(line))
    assert size + len(quoter.finish()) >= 24_000_000


def test_memory_is_that_of_a_block(tmp_path: Path) -> None:
    quoter = mbox.Quoter()
    for _ in range(100):
        assert len(quoter.feed(b">" * 65536)) == 65536
