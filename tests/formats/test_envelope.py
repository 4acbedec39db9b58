"""envelope: built, parsed in pieces of any size, refused where the original refuses."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import envelope

ADDRESS = st.binary(max_size=1002).filter(lambda address: b"\0" not in address)
# Bytes that matter, and records that are right or nearly so.
PIECES = st.sampled_from([b"F", b"T", b"\0", b"a@b", b"FF", b"x" * 1001, b"x" * 1002, b"Fa\0", b"Tb\0", b"\xff\n"])


def original(text: bytes) -> int | bytes:
    """What qmail-queue would do with all of text, byte by byte as reference/queue.md has it: an exit code, or what it
    stores."""
    at = 0
    stored = b""
    letter = b"F"
    while True:
        if at == len(text):
            return 54
        if letter == b"T" and text[at : at + 1] == b"\0":
            return stored
        if text[at : at + 1] != letter:
            return 91
        address = text[at + 1 : at + 1 + 1003]
        if b"\0" not in address:
            return 11 if len(address) == 1003 else 54
        length = address.index(b"\0")
        stored += text[at : at + length + 2]
        at += length + 2
        letter = b"T"


def ours(blocks: list[bytes]) -> int | bytes:
    parser = envelope.Parser()
    stored = b""
    try:
        for block in blocks:
            stored += parser.feed(block)
            if parser.finished:
                return stored
    except envelope.EnvelopeError as e:
        return e.code
    return 54


def test_an_envelope_as_qmail_queue_reads_it() -> None:
    assert envelope.build(b"joe@a", [b"mary@b", b"x"]) == b"Fjoe@a\0Tmary@b\0Tx\0\0"
    assert envelope.build(b"", []) == b"F\0\0"


def test_a_nul_ends_an_address_and_begins_no_other() -> None:
    assert envelope.build(b"a\0Tb", [b"c\0\0Fd"]) == b"Fa\0Tc\0\0"


@given(sender=ADDRESS, recipients=st.lists(ADDRESS, max_size=5), data=st.data())
def test_what_is_built_is_stored_without_the_last_nul(
    sender: bytes, recipients: list[bytes], data: st.DataObject
) -> None:
    text = envelope.build(sender, recipients)
    cut = data.draw(st.integers(0, len(text)))
    assert ours([text[:cut], text[cut:] + b"junk"]) == text[:-1]
    records = list(envelope.records(text[:-1]))
    assert records == [(b"F", sender), *((b"T", recipient) for recipient in recipients)]


@given(pieces=st.lists(PIECES, max_size=12))
def test_any_bytes_are_taken_as_the_original_takes_them(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    assert ours([text]) == original(text)
    assert ours(pieces) == original(text)
    assert ours([text[at : at + 1] for at in range(len(text))]) == original(text)


@given(text=st.binary(max_size=50))
def test_no_bytes_make_it_fail_otherwise(text: bytes) -> None:
    assert ours([text]) == original(text)
    list(envelope.records(text))


@pytest.mark.parametrize(("size", "code"), [(1002, None), (1003, 11), (5000, 11)])
@pytest.mark.parametrize("first", [b"F", b"Fa\0T"])
def test_an_address_has_1002_bytes_at_most(size: int, code: int | None, first: bytes) -> None:
    result = ours([first + b"x" * size + b"\0\0"])
    assert (result == code) if code else isinstance(result, bytes)


def test_memory_is_bounded_by_the_longest_address() -> None:
    parser = envelope.Parser()
    with pytest.raises(envelope.EnvelopeError):
        for _ in range(2000):
            parser.feed(b"F")


@given(sender=ADDRESS, recipients=st.lists(st.binary(max_size=5), max_size=5))
def test_packed_recipients_are_as_good_as_a_list(sender: bytes, recipients: list[bytes]) -> None:
    packed = envelope.Recipients()
    packed.add(b"of another message")
    packed.clear()
    for recipient in recipients:
        packed.add(recipient)
    assert envelope.build(sender, packed) == envelope.build(sender, recipients)
    assert list(packed) == [recipient.partition(b"\0")[0] for recipient in recipients]


def test_many_recipients_take_little_more_memory_than_their_bytes() -> None:
    tracemalloc.start()
    try:
        packed = envelope.Recipients()
        for _ in range(200_000):
            packed.add(b"")
        parser = envelope.Parser()
        size = sum(len(parser.feed(block)) for block in envelope.blocks(b"me", packed))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (size, parser.finished) == (400_004, True)
    assert peak < 3 * size


def test_blocks_are_no_larger_than_they_say() -> None:
    packed = envelope.Recipients()
    for number in range(50_000):
        packed.add(b"%d" % number)
    for recipients in (packed, list(packed)):
        blocks = list(envelope.blocks(b"me", recipients))
        assert len(blocks) > 2
        assert all(len(block) < 2 * envelope.BLOCK for block in blocks)
        assert b"".join(blocks) == envelope.build(b"me", packed)


def test_the_records_of_the_invoker() -> None:
    assert envelope.invoker(1000, 4711) == b"u1000\0p4711\0"


def test_a_record_without_its_nul_is_none() -> None:
    assert list(envelope.records(b"u1\0p2\0Fa@b\0Thal")) == [(b"u", b"1"), (b"p", b"2"), (b"F", b"a@b")]
