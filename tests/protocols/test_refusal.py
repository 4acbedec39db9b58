"""The conversation with a client whose mail is refused."""

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.protocols.refusal import ACCEPTED, GOODBYE, Refusal

REASON = b"451 not now\r\n"


def refusal() -> Refusal:
    return Refusal(b"451 not now")


def test_recipients_and_unknown_verbs_are_answered_with_the_reason() -> None:
    lines = b"HELO me\r\nmail from:<>\nRCPT TO:<x>\r\nDATA\r\nQUITE\r\n\r\n quit\r\nrset \r\nnoop\0\r\n"
    assert refusal().feed(lines) == [ACCEPTED, ACCEPTED, *[REASON] * 5, ACCEPTED, REASON]


def test_nothing_behind_quit_is_answered() -> None:
    conversation = refusal()
    assert conversation.feed(b"NOOP\r\nQuit now\r\nNOOP\r\n") == [ACCEPTED, GOODBYE]
    assert conversation.over


def test_of_a_line_without_end_only_the_verb_is_kept() -> None:
    conversation = refusal()
    assert conversation.feed(b"EHLO ") == []
    for _ in range(100):
        assert conversation.feed(b"x" * 10_000) == []
    assert conversation.feed(b"\r\n" + b"x" * 100_000 + b"\r\n") == [ACCEPTED, REASON]


@given(st.lists(st.sampled_from([b"HELO", b"quit", b"QUI", b"T", b" ", b"\r", b"\n", b"\0", b"x" * 300]), max_size=20))
def test_pieces_of_any_size_give_the_same_replies(pieces: list[bytes]) -> None:
    whole, cut = refusal(), refusal()
    replies: list[bytes] = []
    for piece in pieces:
        if not cut.over:
            replies += cut.feed(piece)
    assert replies == whole.feed(b"".join(pieces))
    assert cut.over == whole.over
