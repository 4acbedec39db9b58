"""Whom to ask next and what an answer is worth: the conversation with several servers, without a network."""

import errno

from qmailpy.formats import dns
from qmailpy.protocols.dns import Attempt, Question

NAME = dns.from_dots(b"mail.example")
WAITS = (3.0, 11.0, 45.0)
RIGHT = 0x8180


def reply(query: bytes, flags: int = RIGHT) -> bytes:
    return query[:2] + flags.to_bytes(2, "big") + query[4:]


def begun(servers: int = 2) -> Question:
    return Question(NAME, dns.A, servers, WAITS)


def following(question: Question) -> Attempt:
    attempt = question.next()
    assert attempt is not None
    return attempt


def test_each_server_is_asked_in_three_rounds_with_growing_waits() -> None:
    question = begun()
    order = []
    while (attempt := question.next()) is not None:
        order.append((attempt.server, attempt.wait_s, attempt.tcp))
        assert question.fail(errno.ETIMEDOUT) is not attempt.patient
    assert order == [(server, wait_s, False) for wait_s in WAITS for server in (0, 1)]
    assert (question.answer, question.error) == (None, errno.ETIMEDOUT)


def test_no_server_is_an_input_output_error() -> None:
    question = begun(servers=0)
    assert question.next() is None
    assert question.error == errno.EIO


def test_an_answer_ends_the_question() -> None:
    question = begun()
    following(question)
    answer = reply(question.packet(515))
    assert question.hear(answer)
    assert question.answer == answer
    assert question.next() is None


def test_no_such_name_is_an_answer() -> None:
    question = begun()
    following(question)
    assert question.hear(reply(question.packet(515), RIGHT | dns.NO_SUCH_NAME))
    assert question.answer is not None


def test_a_stray_packet_is_as_if_it_had_never_come() -> None:
    question = begun()
    following(question)
    query = question.packet(515)
    for stray in (b"", b"x", query, reply(begun().packet(516)), reply(query)[:-1]):
        assert not question.hear(stray)
    assert question.answer is None
    assert question.hear(reply(query))


def test_a_server_that_fails_is_left_at_once_but_in_the_round_before_the_last() -> None:
    question = begun(servers=1)
    over = []
    while question.next() is not None:
        over.append(question.hear(reply(question.packet(515), RIGHT | 2)))
    assert over == [True, False, True]
    assert question.error == errno.EAGAIN


def test_a_cut_answer_starts_again_over_tcp() -> None:
    question = begun()
    following(question)
    following(question)
    assert question.hear(reply(question.packet(515), RIGHT | dns.TRUNCATED))
    attempt = following(question)
    assert (attempt.server, attempt.tcp, attempt.wait_s) == (0, True, 10.0)
    question.packet(516)
    assert question.hear(b"nonsense")  # over TCP nothing better can follow
    attempt = following(question)
    assert (attempt.server, attempt.tcp) == (1, True)
    answer = reply(question.packet(517))
    assert question.hear(answer)
    assert question.answer == answer


def test_an_answer_cut_over_tcp_too_leaves_the_question_open() -> None:
    question = begun(servers=1)
    following(question)
    question.hear(reply(question.packet(515), RIGHT | dns.TRUNCATED))
    following(question)
    assert question.hear(reply(question.packet(516), RIGHT | dns.TRUNCATED))
    assert question.next() is None
    assert question.answer is None


def test_a_referral_without_an_answer_is_a_failure_and_the_next_server_is_asked() -> None:
    question = begun()
    following(question)
    assert question.hear(reply(question.packet(515), 0x8000))
    assert (question.answer, question.error) == (None, errno.EAGAIN)
    following(question)
    assert question.hear(reply(question.packet(516), 0x8400))  # from who owns the zone
    assert question.answer is not None
