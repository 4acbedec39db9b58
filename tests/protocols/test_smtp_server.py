"""smtp_server: the end of a message and what is stored of it, beside a byte-by-byte model of the original; sessions
whole and in pieces, from anybody's bytes. Single sessions are in tests/dialogues."""

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmailpy.protocols import smtp_server
from qmailpy.protocols.smtp_server import VERBS, Body, Login, Recipient, Rules, Session, status_code
from tests.dialogues import FOLDER, Dialogue
from tests.smtp import Engine


class Original:
    """A message as the original reads it: one byte after the other, by what stands before it."""

    def __init__(self, wire: bytes) -> None:
        self.stored = b""
        self.stray = False
        self.rest: bytes | None = None  # behind the end
        self.hops = 0
        line = b""  # as it stands on the wire
        header = True
        for at in range(len(wire)):
            byte = wire[at : at + 1]
            line += byte
            if byte != b"\n":
                continue
            if not line.endswith(b"\r\n"):
                self.stray = True
                return
            if line == b".\r\n":
                self.rest = wire[at + 1 :]
                return
            header = header and line != b"\r\n"
            self.hops += header and line.lower().startswith((b"received", b"delivered"))
            dot = line.startswith(b".") and not line.startswith(b".\r")
            self.stored += line[dot:-2] + b"\n"
            line = b""


def pieces(wire: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    yield from (wire[start:end] for start, end in itertools.pairwise(edges))


WORDS = [b"\r\n", b"\r", b"\n", b".", b"..", b"\r\n.\r\n", b"\r\n.", b"x", b"\0", b"Received:", b"delivered", b" "]
WIRE = st.lists(st.sampled_from([*WORDS, *WORDS[:1] * 6]), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(0, 200), max_size=8)


@given(WIRE, CUTS)
@example(b".\r\n", [1, 2])
@example(b"\r\n.\r\r\n.\r\n", [])
@example(b"x\r.\r\n.\r\n", [4])
@example(b"Received\r\nDelivered\r\n\r\nReceived\r\n.\r\n", [3, 8, 12])
def test_a_message_is_read_as_the_original_reads_it_in_whatever_pieces(wire: bytes, cuts: list[int]) -> None:
    original = Original(wire)
    body = Body()
    stored = b""
    rest = b""
    for piece in pieces(wire, cuts):
        if body.done:
            rest += piece
            continue
        stored += body.feed(piece)
        rest = body.rest
        if body.stray:
            break
    assert body.stray == original.stray
    if body.stray:
        return
    assert body.done == (original.rest is not None)
    if body.done:
        assert (stored, rest, body.hops, body.size) == (original.stored, original.rest, original.hops, len(stored))
    else:
        assert stored[: len(original.stored)] == original.stored[: len(stored)]


def lone_dot(wire: bytes) -> bool:
    """Whether a dot stands alone between any two line ends, of which one is a bare CR."""
    wire = b"\r\n" + wire[: wire.index(b"\r\n.\r\n") + 2 if b"\r\n.\r\n" in wire else None]
    marked = wire.replace(b"\r\n", b"\n")
    return any(dot in marked for dot in (b"\r.\r", b"\r.\n", b"\n.\r"))


@given(WIRE, CUTS)
@example(b"x\r.\r\ny", [3, 4])
@example(b"x\r.\ry", [2])
@example(b".\ry", [1])
def test_a_lone_dot_beside_a_bare_cr_is_seen_in_whatever_pieces(wire: bytes, cuts: list[int]) -> None:
    wire = wire.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + b"x\r\n.\r\n"
    body = Body()
    for piece in pieces(wire, cuts):
        if not body.done:
            body.feed(piece)
    assert body.done
    assert body.lone_dot == lone_dot(wire)


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))))
def test_what_a_careful_client_sends_is_stored_as_it_was(lines: list[bytes]) -> None:
    text = b"".join(line + b"\n" for line in lines)
    wire = (b"\n" + text).replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")[2:] + b".\r\n"
    body = Body()
    assert body.feed(wire) == text
    assert (body.done, body.lone_dot, body.rest) == (True, False, b"")


def test_of_a_long_message_only_a_few_bytes_are_held_back() -> None:
    body = Body()
    block = b"x" * 78 + b"\r\n"
    stored = sum(len(body.feed(block * 100)) for _ in range(10))
    assert 0 <= 79 * 1000 - stored < 5


# Sessions

FRAGMENTS = [
    *(name + b" " for name in VERBS),
    b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"AUTH PLAIN AG1heABzZWNyZXQ=\r\n", b"AUTH LOGIN\r\n",
    b"AUTH PLAIN AG1heABhYQ==\r\n", b"bWF4\r\n", b"c2VjcmV0\r\n", b"=", b"*", b"\r\n", b"\n", b"\r", b".", b"\0", b"<",
    b">", b" ", b"\\", b'"', b"SIZE=99", b"\xff", b"\r\n.\r\n", b"x" * 1000, b"x" * 13000,
]  # fmt: skip
SESSION = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=5)), max_size=25).map(b"".join)


def dialogue(*rows: str) -> Dialogue:
    """A dialogue's surroundings, without a file."""
    found = Dialogue(FOLDER / "smtp-auth.dialogue")
    found.variables = dict(row.split("=") for row in rows)
    return found


@given(SESSION, CUTS)
@example(b"AUTH CRAM-MD5\r\nbWF4\r\n", [3])
def test_a_session_does_not_depend_on_the_pieces_it_comes_in(sent: bytes, cuts: list[int]) -> None:
    around = dialogue("SMTPAUTH=+cram", "MAXERRORS=9", "DATABYTES=50")
    whole = Engine(around)
    whole.feed(sent)
    parted = Engine(around)
    for piece in pieces(sent, cuts):
        parted.feed(piece)
    assert (parted.answered, parted.queued) == (whole.answered, whole.queued)
    assert parted.session.exit_code == whole.session.exit_code


@given(SESSION)
def test_every_reply_is_a_line_with_a_code(sent: bytes) -> None:
    engine = Engine(dialogue())
    engine.feed(sent)
    *replies, last = engine.answered.split(b"\r\n")
    assert last == b""
    for reply in replies:
        assert reply[:3].isdigit()
        assert reply[3:4] in (b" ", b"-")
        assert b"\n" not in reply
        assert b"\r" not in reply


def session(sent: bytes = b"", **rules: object) -> Session:
    made = Rules(b"host")
    for name, value in rules.items():
        setattr(made, name, value)
    found = Session(made)
    found.output.clear()
    found.feed(sent)
    return found


def test_a_line_too_long_is_refused_whole_and_the_next_one_is_heard() -> None:
    found = session(b"NOOP " + b"x" * 20000 + b"\r\nNOOP\r\n")
    assert found.step() is None
    assert found.output == b"500 line too long (#5.5.2)\r\n250 ok\r\n"


def test_a_line_that_never_ends_takes_no_memory() -> None:
    found = session()
    for _ in range(100):
        found.feed(b"x" * 4096)
        assert found.step() is None
        assert len(found._input) <= 3 * 4096 + smtp_server.LINE_LIMIT


@pytest.mark.parametrize("sent", [b"AUTH PLAIN AG1heABzZWNyZXQ=\r\n", b"AUTH PLAIN\r\nAG1heABzZWNyZXQ=\r\n"])
def test_a_password_stays_in_the_event_alone(sent: bytes) -> None:
    found = session(sent, knows_auth=True, mechanisms=(b"PLAIN",))
    event = found.step()
    assert isinstance(event, Login)
    assert (event.credentials.name, bytes(event.credentials.password)) == (b"max", b"secret")
    assert b"AG1heABz" not in bytes(found._input)
    assert found.last == b"AUTH"


def test_cram_md5_gives_the_checker_the_digest_and_the_challenge() -> None:
    answer = b"bWF4IDAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm\r\n"
    found = session(b"AUTH CRAM-MD5\r\n" + answer, knows_auth=True, mechanisms=(b"CRAM-MD5",), stamp=b"<1.2@host>")
    event = found.step()
    assert found.output == b"334 PDEuMkBob3N0Pg==\r\n"
    assert isinstance(event, Login)
    assert (event.mechanism, event.stamp) == (b"CRAM-MD5", b"<1.2@host>")
    assert (event.credentials.name, bytes(event.credentials.password)) == (b"max", b"0123456789abcdef" * 2)


@pytest.mark.parametrize(
    ("encrypted", "user", "parameter", "word"),
    [
        (False, None, b"", b"SMTP"),
        (False, b"max", b"", b"ESMTPA"),
        (True, None, b"", b"ESMTPS"),
        (True, b"max", b"", b"ESMTPSA"),
        (False, None, b" SMTPUTF8", b"UTF8SMTP"),
        (True, b"max", b" SMTPUTF8", b"UTF8SMTPSA"),
    ],
)
def test_the_word_for_received(encrypted: bool, user: bytes | None, parameter: bytes, word: bytes) -> None:
    found = session(b"EHLO x\r\nMAIL FROM:<a>%b\r\nRCPT TO:<b>\r\nDATA\r\n" % parameter, encrypted=encrypted)
    found.user = user
    event = found.step()
    assert isinstance(event, Recipient)
    found.accept(event.address)
    message = found.step()
    assert isinstance(message, smtp_server.Message)
    assert message.protocol == word


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"553 sorry (#5.7.1)", b"5.7.1"),
        (b"451 sorry (#5.7.1)", b""),
        (b"250 ok", b""),
        (b"554 5.1.1 no (#5.2.2)", b"5.1.1"),
        (b"554 5.1.1.1 no", b""),
        (b"554 (#5..1)", b""),
    ],
)
def test_a_status_code_is_found_where_it_is_one(reply: bytes, code: bytes) -> None:
    assert status_code(reply) == code


def test_a_hundred_hops_are_a_loop() -> None:
    for hops in (99, 100):
        sent = b"MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n" + b"received: x\r\n" * hops + b"\r\nReceived: x\r\n.\r\n"
        engine = Engine(dialogue("RELAYCLIENT="))
        engine.feed(sent)
        assert len(engine.queued) == (hops == 99)
        assert engine.answered.endswith(b"250 ok TIME qp PID\r\n" if hops == 99 else smtp_server.LOOPING + b"\r\n")


# STARTTLS


def secured(found: Session) -> None:
    assert isinstance(found.step(), smtp_server.Secure)
    found.ready()
    found.output.clear()
    found.secured()


def answer(found: Session, text: bytes) -> bytes:
    """What a session says to text; each recipient is taken, and each login refused."""
    found.output.clear()
    found.feed(text)
    while (event := found.step()) is not None:
        if isinstance(event, Recipient):
            found.accept(event.address)
        else:
            assert isinstance(event, Login)
            found.reject()
    return bytes(found.output)


def test_starttls_is_unknown_where_it_is_not_offered() -> None:
    found = session(b"STARTTLS\r\nEHLO x\r\n")
    assert found.step() is None
    assert bytes(found.output).startswith(b"502 unimplemented (#5.5.1)\r\n250-")
    assert b"STARTTLS" not in found.output


def test_starttls_is_offered_right_behind_the_name_and_not_under_tls() -> None:
    found = session(b"EHLO x\r\nSTARTTLS\r\n", starttls=True)
    assert isinstance(found.step(), smtp_server.Secure)
    assert bytes(found.output).split(b"\r\n")[1] == b"250-STARTTLS"
    found.ready()
    assert found.output.endswith(b"220 2.0.0 ready for tls\r\n")
    found.secured()
    assert b"STARTTLS" not in answer(found, b"EHLO x\r\n")
    assert answer(found, b"STARTTLS\r\n").startswith(b"502 ")


@pytest.mark.parametrize("behind", [b"EHLO evil\r\n", b"MAIL FROM:<evil>\r\nRCPT TO:<evil>\r\nDATA\r\n", b"RCPT TO:<"])
def test_what_stands_behind_starttls_is_gone(behind: bytes) -> None:
    found = session(b"STARTTLS\r\n" + behind, starttls=True)
    secured(found)
    assert found.step() is None
    assert found.output == b""
    assert answer(found, b"RCPT TO:<b>\r\n") == b"503 MAIL first (#5.5.1)\r\n"


def test_where_tls_cannot_begin_the_session_goes_on_in_clear() -> None:
    found = session(b"STARTTLS\r\nSTARTTLS\r\n", starttls=True)
    assert isinstance(found.step(), smtp_server.Secure)
    found.unable_to_secure()
    assert found.step() is None
    assert bytes(found.output).split(b"\r\n")[:2] == [smtp_server.NO_TLS, smtp_server.UNIMPLEMENTED]


CLEAR = [b"HELO evil\r\n", b"EHLO evil\r\n", b"MAIL FROM:<evil>\r\n", b"RCPT TO:<evil>\r\n", b"NOOP\n",
         b"AUTH LOGIN\r\n", b"*\r\n", b"MAIL FROM:<evil> SMTPUTF8 AUTH=<>\r\n"]  # fmt: skip
LATER = [b"HELO h\r\n", b"EHLO h\r\n", b"MAIL FROM:<a>\r\n", b"RCPT TO:<b>\r\n", b"AUTH LOGIN\r\n", b"*\r\n"]


@given(before=st.lists(st.sampled_from(CLEAR), max_size=6), after=st.lists(st.sampled_from(LATER), max_size=6))
def test_what_was_said_before_tls_makes_no_difference_behind_it(before: list[bytes], after: list[bytes]) -> None:
    rules = {"starttls": True, "knows_auth": True, "mechanisms": (b"LOGIN",)}
    found, fresh = session(b"", **rules), session(b"", **rules)
    answer(found, b"".join(before))
    if found._exchange is not None:
        answer(found, b"*\r\n")
    found.user = b"evil"
    for each in (found, fresh):
        each.feed(b"STARTTLS\r\n")
        secured(each)
    for line in after:
        assert answer(found, line) == answer(fresh, line)
    for name in ("helo", "user", "sender", "_strict"):
        assert getattr(found, name) == getattr(fresh, name)


def test_a_limit_goes_on_counting_under_tls() -> None:
    found = session(b"FOO\r\nSTARTTLS\r\n", starttls=True, max_unknown=2)
    secured(found)
    assert answer(found, b"FOO\r\n").endswith(smtp_server.MANY_UNKNOWN + b"\r\n")
