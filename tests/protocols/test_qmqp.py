"""QMQP, both sides: what one writes the other reads, in any blocks; and what is neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.protocols import qmqp
from qmailpy.protocols.netstrings import DATA, END, MESSAGE, RECIPIENT, SENDER, Event, Malformed, TooLong

ADDRESSES = st.lists(st.binary(max_size=20).filter(lambda text: b"\0" not in text), min_size=1, max_size=5)


def heard(sent: bytes, step: int) -> tuple[list[Event], str]:
    """The events, with the data of the message in one, and how it ended."""
    conversation = qmqp.server()
    events: list[Event] = []
    try:
        for at in range(0, len(sent), step):
            for kind, value in conversation.feed(sent[at : at + step]):
                if kind == DATA and events[-1][0] == DATA:
                    value = events.pop()[1] + value
                events.append((kind, value))
    except (Malformed, TooLong) as e:
        return events, type(e).__name__
    return events, ""


def envelope(addresses: list[bytes]) -> bytes:
    return b"F" + b"\0T".join(addresses) + b"\0\0"


def read(text: bytes, step: int) -> qmqp.Envelope:
    found = qmqp.Envelope()
    for at in range(0, len(text), step):
        if not found.done:
            found.feed(text[at : at + step])
    return found


@given(st.binary(max_size=200), ADDRESSES, st.integers(1, 50), st.binary(max_size=3))
def test_a_server_reads_what_a_client_makes_of_an_envelope(
    message: bytes, addresses: list[bytes], step: int, more: bytes
) -> None:
    found = read(envelope(addresses) + more, step)
    assert found.done
    head, tail = qmqp.frame(len(message), found.netstrings)
    sender, *recipients = addresses
    data = [(DATA, message)] if message else []
    wanted = [(MESSAGE, b""), *data, (SENDER, sender), *[(RECIPIENT, each) for each in recipients], (END, b"")]
    assert heard(head + message + tail + more, step) == (wanted, "")


@given(st.binary(max_size=60), st.integers(1, 60))
def test_any_bytes_are_an_envelope_or_none_or_the_beginning_of_one(text: bytes, step: int) -> None:
    def outcome(step: int) -> object:
        try:
            found = read(text, step)
        except Malformed:
            return "malformed"
        return found.done, bytes(found.netstrings)

    assert outcome(step) == outcome(60)


@pytest.mark.parametrize("text", [b"\0", b"me\0", b"Tyou\0", b"Fme\0Fyou\0", b"Fme\0x\0"])
def test_records_of_other_kinds_are_no_envelope(text: bytes) -> None:
    with pytest.raises(Malformed):
        qmqp.Envelope().feed(text)


NETS = st.sampled_from([b"0:,", b"3:abc,", b"1:\0,", b"2:", b":", b",", b"x", b"9" * 12, b"1000:" + b"y" * 1000 + b","])


@given(st.lists(NETS, max_size=5).map(b"".join), st.integers(-2, 2), st.integers(1, 30))
def test_the_blocks_of_a_request_do_not_matter(inner: bytes, off: int, step: int) -> None:
    sent = b"%d:%s," % (max(0, len(inner) + off), inner)
    assert heard(sent, step) == heard(sent, 10_000)


@pytest.mark.parametrize("address", [b"x" * 1000, b"x" * 70_000])
def test_an_address_above_the_limit_is_a_nul(address: bytes) -> None:
    head, tail = qmqp.frame(0, read(envelope([b"y" * 999, address]), 100).netstrings)
    assert heard(head + tail, 1000)[0] == [(MESSAGE, b""), (SENDER, b"y" * 999), (RECIPIENT, b"\0"), (END, b"")]


def test_the_length_of_a_request_has_a_limit_of_its_own() -> None:
    assert heard(b"0" * 98 + b"6:0:,0:,,", 1)[1] == ""
    assert heard(b"0" * 99 + b"6:0:,0:,,", 1)[1] == "Malformed"


@pytest.mark.parametrize(
    ("answer", "verdict"), [(b"3:Kok,", b"K"), (b"9:ZD", b"Z"), (b"x Dkz", b"D"), (b"12:kzd,", b""), (b"", b"")]
)
def test_the_first_of_three_letters_is_the_verdict(answer: bytes, verdict: bytes) -> None:
    assert qmqp.verdict(answer) == verdict
