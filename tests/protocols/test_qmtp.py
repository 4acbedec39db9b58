"""QMTP on the server's side: the events of any stream, beside a slow reading of the specification."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.protocols import qmtp
from qmailpy.protocols.netstrings import DATA, END, MESSAGE, RECIPIENT, SENDER, Event, Malformed, TooLong

Events = list[Event]


def net(text: bytes) -> bytes:
    return b"%d:%s," % (len(text), text)


def heard(sent: bytes, step: int, longest: int = qmtp.LONGEST) -> tuple[Events, str]:
    """The events, with the data of a message in one, and how it ended."""
    conversation = qmtp.server(longest)
    events: Events = []
    try:
        for at in range(0, len(sent), step):
            for kind, value in conversation.feed(sent[at : at + step]):
                if kind == DATA:
                    assert value
                    if events[-1][0] == DATA:
                        value = events.pop()[1] + value
                events.append((kind, value))
    except (Malformed, TooLong) as e:
        return events, type(e).__name__
    return events, ""


class Ended(Exception):
    """The stream is over, for a reason."""


class Slow:
    """Reads a stream byte by byte, as qmail-qmtpd does."""

    def __init__(self, sent: bytes) -> None:
        self.sent = sent
        self.at = 0

    def get(self) -> int:
        if self.at == len(self.sent):
            raise Ended("")
        self.at += 1
        return self.sent[self.at - 1]

    def length(self) -> int:
        value = 0
        while (byte := self.get()) != ord(":"):
            if value > 200000000:
                raise Ended("TooLong")
            if byte not in b"0123456789":
                raise Ended("Malformed")
            value = 10 * value + byte - 48
        return value

    def text(self, size: int) -> bytes:
        return bytes(self.get() for _ in range(size))

    def comma(self) -> None:
        if self.get() != ord(","):
            raise Ended("Malformed")

    def string(self) -> bytes:
        text = self.text(self.length())
        self.comma()
        return text

    def request(self, events: Events) -> None:
        size = self.length()
        if size == 0 or (mode := self.get()) not in b"\n\r":
            raise Ended("Malformed")
        events.append((MESSAGE, b""))
        text = self.text(size - 1)
        self.comma()
        if mode == 13:
            text = text.replace(b"\r\n", b"\n")
        if text:
            events.append((DATA, text))
        sender = self.string()
        events.append((SENDER, sender))
        end = self.length()
        while end > 0:
            before = self.at
            size = 0
            while (byte := self.get()) != ord(":"):
                if byte not in b"0123456789" or self.at - before == end:
                    raise Ended("Malformed")
                size = 10 * size + byte - 48
            end -= self.at - before
            if size >= end:
                raise Ended("Malformed")
            recipient = self.text(size)
            self.comma()
            events.append((RECIPIENT, recipient))
            end -= size + 1
        self.comma()
        events.append((END, b""))


def expected(sent: bytes) -> tuple[Events, str]:
    slow = Slow(sent)
    events: Events = []
    try:
        while True:
            slow.request(events)
    except Ended as e:
        return events, str(e)


PIECES = st.sampled_from([b"\n", b"\r", b"\r\n", b"\rb\r\nc\r", b"x", b"a@b", b"\0", b"", b":", b",", b"1:", b"9"])
TEXTS = st.lists(PIECES, max_size=3).map(b"".join)
MAILS = st.tuples(TEXTS, TEXTS, st.lists(TEXTS, max_size=3)).map(
    lambda parts: net(b"\r" + parts[0]) + net(parts[1]) + net(b"".join(map(net, parts[2])))
)


@given(st.lists(st.one_of(MAILS, MAILS, PIECES), max_size=3).map(b"".join), st.integers(1, 9))
def test_any_stream_in_any_blocks_has_the_events_that_a_slow_reader_finds(sent: bytes, step: int) -> None:
    events, end = heard(sent, step)
    wanted, wanted_end = expected(sent)
    assert end == wanted_end
    if events and events[-1][0] == DATA:  # of an unfinished message, which the slow reader has not got yet
        events.pop()
    assert events == (wanted[:-1] if wanted and wanted[-1][0] == DATA else wanted)


def test_a_request_comes_at_once_or_byte_by_byte() -> None:
    sent = net(b"\nhello\n") + net(b"me") + net(net(b"you") + net(b""))
    events = [(MESSAGE, b""), (DATA, b"hello\n"), (SENDER, b"me"), (RECIPIENT, b"you"), (RECIPIENT, b""), (END, b"")]
    for step in (1, 3, 1000):
        assert heard(sent * 2, step) == (events * 2, "")


@pytest.mark.parametrize("longest", [999, 2, 0, -1])
def test_a_recipient_above_the_limit_is_a_nul(longest: int) -> None:
    sent = net(b"\n") + net(b"x" * 999) + net(net(b"abc") + net(b"")) + net(b"\n") + net(b"x" * 1000) + net(b"")
    events, _ = heard(sent, 7, longest)
    values = [value for kind, value in events if kind in (SENDER, RECIPIENT)]
    assert values == [b"x" * 999, b"abc" if longest >= 3 else b"\0", b"" if longest >= 0 else b"\0", b"\0"]


def test_each_verdict_has_its_answer() -> None:
    texts = (qmtp.accepted(17, 4711), qmtp.NO_RELAY, b"")
    assert b"".join(qmtp.answers(b"\0\1\2\0", texts)) == (
        b"14:Kok 17 qp 4711,66:Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1),0:,14:Kok 17 qp 4711,"
    )
    assert list(qmtp.answers(b"", texts)) == []


def test_many_answers_are_never_in_memory_together() -> None:
    parts = list(qmtp.answers(bytes(1300), (b"K",)))
    assert [len(part) for part in parts] == [4 * 512, 4 * 512, 4 * 276]
    assert set(parts) == {b"1:K," * 512, b"1:K," * 276}
