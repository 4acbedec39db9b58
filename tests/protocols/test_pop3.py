"""pop3: both conversations, without I/O, beside the model of qmail-pop3d; the dialogues show single sessions."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmailpy.protocols import pop3, sasl
from tests import pop3_original

BLOCK = 65536
VERBS = ["STAT", "LIST", "UIDL", "DELE", "RETR", "TOP", "LAST", "RSET", "NOOP", "Quit", "list", "XTND", ""]
ARGUMENTS = [
    "",
    " 1",
    " 2",
    " 3",
    "  4",
    " 0",
    " 99",
    " 1 0",
    " 2 1",
    " 3 2",
    " 2x",
    " +1",
    " 2\0",
    "\t1",
    " 1 1 1",
    " ",
]
LINES = st.tuples(st.sampled_from(VERBS), st.sampled_from(ARGUMENTS), st.sampled_from(["\r\n", "\n", "\r\r\n", "\0\n"]))
INPUTS = st.lists(LINES.map("".join).map(str.encode), max_size=15).map(b"".join)
TEXTS = st.text("a.\n\r:\0", max_size=20).map(str.encode)


def sent(text: bytes, limit: int | None, sizes: list[int]) -> bytes:
    """A message through Body, in blocks of the sizes in turn and a last one."""
    body = pop3.Body(limit)
    wire = b""
    for size in sizes:
        block, text = text[:size], text[size:]
        if block and not body.done:
            wire += body.feed(block)
    if text and not body.done:
        wire += body.feed(text)
    return wire + body.end()


@given(TEXTS, st.one_of(st.none(), st.integers(0, 6)), st.lists(st.integers(1, 4), max_size=20))
@example(b"a\n\nb\n.", 1, [2, 1])
@example(b"\n", 0, [])
def test_a_message_goes_out_the_same_in_blocks_of_any_size(text: bytes, limit: int | None, sizes: list[int]) -> None:
    assert sent(text, limit, sizes) == pop3_original.transfer(text, limit)


@pytest.mark.parametrize("middle", [b"\n.", b".", b"\n\n", b"\r\n", b"\n.\n.\n", b"x\n\n.", b"\n..\n"])
@pytest.mark.parametrize("limit", [None, 0, 1, 2])
def test_dots_and_line_ends_at_the_border_of_two_blocks(middle: bytes, limit: int | None) -> None:
    for before in range(BLOCK - len(middle) - 1, BLOCK + 1):
        text = b"A: " + b"x" * (before - 3) + middle + b"end\nof\nit"
        assert sent(text, limit, [BLOCK]) == pop3_original.transfer(text, limit)


def converse(messages: list[tuple[bytes, bytes]], input: bytes) -> bytes:
    session = pop3.Transaction([path for path, _ in messages], [len(text) for _, text in messages])
    out = pop3.OKAY
    for line in input.split(b"\n")[:-1]:
        pieces, wanted = session.line(line)
        reply = b"".join(pieces)
        out += reply if wanted is None else pop3.OKAY + sent(messages[wanted.index][1], wanted.limit, [])
        if session.ended:
            return out + pop3.OKAY
    return out


@given(st.lists(TEXTS, max_size=4), INPUTS)
def test_a_session_is_that_of_the_original(texts: list[bytes], input: bytes) -> None:
    messages = [(b"new/%d:2,S" % number, text) for number, text in enumerate(texts)]
    assert converse(messages, input) == pop3_original.pop3d(messages, input)[0]


@given(st.lists(st.binary(max_size=30)))
def test_any_line_after_the_login_has_a_reply(lines: list[bytes]) -> None:
    session = pop3.Transaction([b"new/a"], [5])
    for line in lines:
        pieces, wanted = session.line(line)
        reply = b"".join(pieces)
        assert wanted is not None or session.ended or re.match(rb"(\+OK|-ERR) [^\r\n]*\r\n", reply)


@given(st.lists(st.binary(max_size=30)))
def test_any_line_before_the_login_has_a_reply_or_is_one(lines: list[bytes]) -> None:
    session = pop3.Authorization()
    for line in lines:
        if session.login is None and not session.ended:
            reply = session.line(bytearray(line))
            assert (not reply) if session.login else re.match(rb"(\+OK|-ERR|\+) [^\r\n]*\r\n", reply)


@given(st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"")))
def test_the_password_is_the_whole_argument(text: bytes) -> None:
    session = pop3.Authorization()
    session.line(bytearray(b"USER max"))
    session.line(bytearray(b"PASS " + text + b"\r"))
    wanted = text.partition(b"\0")[0].lstrip(b" ")
    assert (session.login is not None) == bool(wanted)
    assert session.login is None or (session.login.name, bytes(session.login.password)) == (b"max", wanted)


@pytest.mark.parametrize(
    ("line", "name", "digest"),
    [(b"APOP max abc", b"max", b"abc"), (b"APOP max  a b ", b"max", b" a b "), (b"apop   x ", b"x", b"")],
)
def test_apop_is_split_at_its_first_blank(line: bytes, name: bytes, digest: bytes) -> None:
    session = pop3.Authorization()
    assert session.line(bytearray(line)) == b""
    assert session.login is not None
    assert (session.login.name, bytes(session.login.password)) == (name, digest)


def test_a_line_before_the_login_is_overwritten() -> None:
    session = pop3.Authorization()
    for text in (b"USER max", b"PASS secret\r", b"AUTH PLAIN AG1heABzZWNyZXQ=", b"x" * 20000):
        line = bytearray(text)
        session.line(line)
        assert not any(line)


def test_a_line_that_is_too_long_is_refused_and_ends_an_exchange() -> None:
    session = pop3.Authorization()
    long = b"A" * (sasl.LINE_LIMIT + 1)
    assert session.line(bytearray(b"USER " + long)) == pop3.TOO_LONG
    assert session.line(bytearray(b"PASS x")) == pop3.USER_FIRST
    assert session.line(bytearray(b"AUTH LOGIN")) == b"+ VXNlcm5hbWU6\r\n"
    assert session.line(bytearray(long)) == pop3.TOO_LONG
    assert session.line(bytearray(b"NOOP")) == pop3.OKAY
    assert reply(pop3.Transaction([], []), b"NOOP " + b"x" * 1020) == pop3.TOO_LONG


@pytest.mark.parametrize(
    ("code", "coded", "plain"),
    [
        (0, b"", b""),
        (1, b"-ERR [AUTH] authorization failed\r\n", b"-ERR authorization failed\r\n"),
        (3, b"-ERR [AUTH] authorization failed\r\n", b"-ERR authorization failed\r\n"),
        (2, b"-ERR [SYS/PERM] authorization failed\r\n", b"-ERR authorization failed\r\n"),
        (111, b"-ERR [SYS/TEMP] authorization failed\r\n", b"-ERR authorization failed\r\n"),
        (None, b"-ERR [SYS/PERM] aack, child crashed\r\n", b"-ERR aack, child crashed\r\n"),
    ],
)
def test_a_failed_login_has_a_code_for_who_knows_of_codes(code: int | None, coded: bytes, plain: bytes) -> None:
    for first, reply in ((b"NOOP", plain), (b"CAPA", coded), (b"AUTH", coded), (b"AUTH X", coded)):
        session = pop3.Authorization()
        session.line(bytearray(first))
        assert session.verdict(code) == reply


def reply(session: pop3.Transaction, line: bytes) -> bytes:
    """The reply to a line that asks for no message."""
    pieces, wanted = session.line(line)
    assert wanted is None
    return b"".join(pieces)


def test_the_count_is_kept_when_ten_thousand_messages_are_deleted_and_reset() -> None:
    session = pop3.Transaction([b"new/%d" % n for n in range(10000)], [7] * 10000)
    for number in range(1, 10001):
        assert reply(session, b"DELE %d" % number) == pop3.OKAY
    assert reply(session, b"STAT") == b"+OK 10000 0\r\n"
    assert reply(session, b"LIST") == b"+OK \r\n.\r\n"
    assert reply(session, b"LAST") == b"+OK 10000\r\n"
    session.line(b"RSET")
    assert reply(session, b"STAT") == b"+OK 10000 70000\r\n"


# STLS


def said(session: pop3.Authorization, *lines: bytes) -> bytes:
    return b"".join([session.line(bytearray(line)) for line in lines])


def test_stls_is_unknown_where_it_is_not_offered() -> None:
    session = pop3.Authorization()
    assert said(session, b"STLS") == pop3.AUTHORIZATION_FIRST
    assert not session.starting
    assert b"STLS" not in said(session, b"CAPA")


def test_stls_comes_before_tls_and_not_behind_it() -> None:
    session = pop3.Authorization(stls=True)
    assert said(session, b"CAPA").endswith(b"\r\nSTLS\r\n.\r\n")
    assert said(session, b"STLS x") == pop3.SYNTAX
    assert not session.starting
    assert said(session, b"stls") == pop3.STARTING
    assert session.starting
    session.secured()
    assert not session.starting
    assert said(session, b"STLS") == pop3.NO_STLS
    assert b"STLS" not in said(session, b"CAPA")


def test_where_tls_cannot_begin_stls_is_gone() -> None:
    session = pop3.Authorization(stls=True, refused=pop3.PASSWORDS)
    said(session, b"STLS")
    assert session.unable() == pop3.NO_STLS
    assert not session.starting
    assert said(session, b"STLS") == pop3.NO_STLS
    assert said(session, b"USER max") == pop3.TLS_FIRST


WORDS = [b"USER evil", b"PASS x", b"CAPA", b"AUTH", b"AUTH LOGIN", b"AUTH PLAIN", b"APOP x", b"NOOP", b"XTND", b"bWF4"]


@given(before=st.lists(st.sampled_from(WORDS), max_size=6), after=st.lists(st.sampled_from(WORDS), max_size=6))
def test_what_was_said_before_tls_makes_no_difference_behind_it(before: list[bytes], after: list[bytes]) -> None:
    session, fresh = pop3.Authorization(stls=True), pop3.Authorization(stls=True)
    said(session, *before)
    if session.login is not None or not said(fresh, b"STLS"):
        return
    session.secured()
    fresh.secured()
    for line in after:
        assert said(session, line) == said(fresh, line)
        if fresh.login is not None:
            assert session.login is not None
            assert (session.login.name, session.login.password) == (fresh.login.name, fresh.login.password)
            break
    assert session.verdict(1) == fresh.verdict(1)


@pytest.mark.parametrize(("refused", "apop"), [(pop3.PASSWORDS, False), (pop3.LOGINS, True)])
def test_a_refused_verb_is_refused_whatever_stands_behind_it(refused: frozenset[bytes], apop: bool) -> None:
    session = pop3.Authorization(stls=True, refused=refused)
    for line in (b"USER", b"user x", b"PASS x", b"AUTH", b"AUTH PLAIN AG1heABzZWNyZXQ=", b"auth x"):
        assert said(session, line) == pop3.TLS_FIRST
    assert session.login is None
    assert (said(session, b"APOP max 01") == pop3.TLS_FIRST) is apop
    capabilities = said(session, b"CAPA")
    assert b"\r\nUSER\r\n" not in capabilities
    assert b"SASL" not in capabilities
