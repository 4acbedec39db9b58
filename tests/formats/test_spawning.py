"""What qmail-send and its spawners say: the forms of the originals, in blocks of any size."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import spawning
from qmailpy.formats.spawning import Reports, Request, Requests

FIELD = st.binary(max_size=20).map(lambda text: text.replace(b"\0", b""))
WIDE = pytest.mark.parametrize("wide", [False, True])


def in_blocks(text: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def test_a_hello_is_one_byte_or_two() -> None:
    assert spawning.hello(120, False) == b"x"
    assert spawning.hello(300, True) == b"\x2c\x01"
    assert spawning.slots(b"x") == (120, False)
    assert spawning.slots(b"\x2c\x01") == (300, True)
    assert spawning.slots(b"\x14\x00") == (20, True)


def test_a_request_of_the_reference() -> None:
    request = Request(0, b"21/2220372", b"joe@a.example", b"mary@b.example")
    assert request.encode(False) == b"\x0021/2220372\0joe@a.example\0mary@b.example\0"
    assert request.encode(True) == b"\0" + request.encode(False)
    assert Request(258, b"1/1", b"", b"").encode(True) == b"\x02\x011/1\0\0\0"
    with pytest.raises(OverflowError):
        Request(256, b"1/1", b"", b"").encode(False)


@pytest.mark.parametrize(
    ("sender", "recipient", "result"),
    [
        (b"pre-@host-@[]", b"box@dom", b"pre-box=dom@host"),
        (b"pre-@host-@[]", b"b@x@dom", b"pre-b@x=dom@host"),
        (b"p@re-@host-@[]", b"box@dom", b"p@re-box=dom@host"),
        (b"pre-@-@[]", b"box@dom", b"pre-box=dom@"),
        (b"@host-@[]", b"@", b"=@host"),
        (b"pre-host-@[]", b"box@dom", b"pre-host-@[]"),
        (b"pre-@host-@[]", b"box", b"pre-@host-@[]"),
        (b"-@[]", b"box@dom", b"-@[]"),
        (b"#@[]", b"box@dom", b"#@[]"),
        (b"", b"box@dom", b""),
    ],
)
def test_a_sender_for_each_recipient(sender: bytes, recipient: bytes, result: bytes) -> None:
    assert spawning.envelope_sender(sender, recipient) == result


@WIDE
@given(
    requests=st.lists(st.tuples(st.integers(0, 255), FIELD, FIELD, FIELD), max_size=5),
    cuts=st.lists(st.integers(0, 500), max_size=5),
)
def test_requests_come_in_blocks_of_any_size(
    wide: bool, requests: list[tuple[int, bytes, bytes, bytes]], cuts: list[int]
) -> None:
    text = b"".join(Request(*request).encode(wide) for request in requests)
    parser = Requests(wide)
    found = [request for block in in_blocks(text, cuts) for request in parser.feed(block)]
    assert [(one.number, one.message, one.sender, one.recipient) for one in found] == requests


@WIDE
@given(
    reports=st.lists(st.tuples(st.integers(0, 255), FIELD), max_size=5), cuts=st.lists(st.integers(0, 500), max_size=5)
)
def test_reports_come_in_blocks_of_any_size(wide: bool, reports: list[tuple[int, bytes]], cuts: list[int]) -> None:
    text = b"".join(spawning.report(number, said, wide) for number, said in reports)
    parser = Reports(wide)
    assert [one for block in in_blocks(text, cuts) for one in parser.feed(block)] == reports


def test_a_report_ends_at_its_first_nul() -> None:
    assert spawning.report(7, b"Kdone\0more", False) == b"\x07Kdone\0"


@WIDE
@pytest.mark.parametrize("size", [1, 4096, 20000])
@pytest.mark.parametrize("length", [9997, 9998, 9999, 10000, 10001, 60000])
def test_a_report_that_is_too_long_is_cut(wide: bool, size: int, length: int) -> None:
    body = (b"Z" + b"0123456789" * 6000)[:length]
    text = spawning.report(3, body, wide) + spawning.report(4, b"K", wide)
    parser = Reports(wide)
    found = []
    for start in range(0, len(text), size):
        found += parser.feed(text[start : start + size])
        assert len(parser._rest) <= spawning.LONGEST
    assert found == [(3, body[: 9998 if wide else 9999]), (4, b"K")]


@WIDE
@given(blocks=st.lists(st.binary(), max_size=8))
def test_anything_may_come(wide: bool, blocks: list[bytes]) -> None:
    whole, parts = Reports(wide), Reports(wide)
    assert whole.feed(b"".join(blocks)) == [report for block in blocks for report in parts.feed(block)]
    requests, more = Requests(wide), Requests(wide)
    assert len(requests.feed(b"".join(blocks))) == sum(len(more.feed(block)) for block in blocks)
