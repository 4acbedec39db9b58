"""The client's side of SMTP, without a network: what is said to whom, what becomes of the answers, the message on the
wire."""

import base64
import hashlib
import hmac
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.protocols import smtp_client
from qmailpy.protocols.smtp_client import (
    MAY,
    MESSAGE,
    MUST,
    OVER,
    REPLY,
    TLS,
    Body,
    Conversation,
    Login,
    Mail,
    PartialLine,
    Security,
)

PLACE = b"192.0.2.7"
EHLO = (
    b"250-there\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-AUTH PLAIN LOGIN CRAM-MD5\r\n250 SIZE 1000\r\n"
)
BODY = b"Subject: hello\r\n\r\nhello\r\n"

# What is said to a fair server up to the message, and what it answers: (said, answered)
OLD = [
    (b"", b"220 hello\r\n"),
    (b"EHLO me\r\n", b"502 no\r\n"),
    (b"HELO me\r\n", b"250 hello\r\n"),
    (b"MAIL FROM:<me@here>\r\n", b"250 ok\r\n"),
    (b"RCPT TO:<you@there>\r\n", b"250 ok\r\n"),
    (b"DATA\r\n", b"354 go\r\n"),
]


def mail(sender: bytes = b"me@here", *recipients: bytes) -> Mail:
    return Mail(sender, list(recipients or (b"you@there",)))


def say(conversation: Conversation) -> bytes:
    said = bytes(conversation.output)
    conversation.output.clear()
    return said


def talk(conversation: Conversation, *answers: bytes) -> list[bytes]:
    """What the client says, before the first of these answers and behind each; [MESSAGE] where it sends the message."""
    said = [say(conversation)]
    for answer in answers:
        assert conversation.wants == REPLY
        conversation.feed(answer)
        if conversation.wants == MESSAGE:
            said.append(b"[MESSAGE]" + conversation.end())
        else:
            said.append(say(conversation))
    return said


def new(what: Mail | None = None, login: Login | None = None, extended: bool = True) -> Conversation:
    return Conversation(PLACE, b"me", what or mail(), login, extended)


def after(answers: int, *more: bytes) -> Conversation:
    """The conversation with an old server after so many answers of OLD, and then these."""
    conversation = new()
    talk(conversation, *[answer for _, answer in OLD[:answers]], *more)
    return conversation


def test_an_old_server_finds_the_conversation_of_old() -> None:
    conversation = new()
    said = talk(conversation, *[answer for _, answer in OLD], b"250 queued\r\n")
    assert said == [*[words for words, _ in OLD], b"[MESSAGE].\r\n", b"QUIT\r\n"]
    assert conversation.wants == OVER
    assert conversation.reports == [b"r", b"K192.0.2.7 accepted message.\nRemote host said: 250 queued\n"]


def test_a_server_that_has_hung_up_on_ehlo_is_greeted_by_helo() -> None:
    assert talk(new(extended=False), b"220 hello\r\n") == [b"", b"HELO me\r\n"]


def test_what_is_offered_is_used() -> None:
    what = mail(b"me@here", b"you@there", b"him@there")
    what.size, what.eight_bit = 123, True
    conversation = new(what)
    said = talk(conversation, b"220 hi\r\n", EHLO, b"250 a\r\n250 b\r\n550 c\r\n", b"354 go\r\n", b"250 ok\r\n")
    assert said == [
        b"",
        b"EHLO me\r\n",
        b"MAIL FROM:<me@here> SIZE=123 BODY=8BITMIME\r\nRCPT TO:<you@there>\r\nRCPT TO:<him@there>\r\n",
        b"DATA\r\n",
        b"[MESSAGE].\r\n",
        b"QUIT\r\n",
    ]
    assert conversation.reports == [
        b"r",
        b"h192.0.2.7 does not like recipient.\nRemote host said: 550 c\n",
        b"K192.0.2.7 accepted message.\nRemote host said: 250 ok\n",
    ]


def test_what_is_not_needed_is_not_used() -> None:
    assert talk(new(), b"220 hi\r\n", EHLO)[-1] == b"MAIL FROM:<me@here>\r\nRCPT TO:<you@there>\r\n"


def test_what_is_not_offered_is_not_used() -> None:
    what = mail()
    what.size, what.eight_bit, what.utf8 = 123, True, True
    said = talk(new(what), b"220 hi\r\n", b"250 there\r\n", b"250 ok\r\n")
    assert said[2:] == [b"MAIL FROM:<me@here>\r\n", b"RCPT TO:<you@there>\r\n"]


def test_many_recipients_are_named_in_groups() -> None:
    conversation = new(mail(b"me@here", *[b"%d@there" % number for number in range(250)]))
    said = talk(conversation, b"220 hi\r\n", EHLO, b"250 ok\r\n" * 101, b"250 ok\r\n" * 100, b"250 ok\r\n" * 50)
    assert [words.count(b"RCPT") for words in said] == [0, 0, 100, 100, 50, 0]
    assert conversation.reports == [b"r"] * 250


@pytest.mark.parametrize(
    ("answers", "answer", "report"),
    [
        (0, b"421 busy", b"ZConnected to 192.0.2.7 but greeting failed."),
        (0, b"554 go away", b"ZConnected to 192.0.2.7 but greeting failed."),
        (0, b"250 ok", b"ZConnected to 192.0.2.7 but greeting failed."),
        (2, b"550 go away", b"ZConnected to 192.0.2.7 but my name was rejected."),
        (2, b"251 ok", b"ZConnected to 192.0.2.7 but my name was rejected."),
        (3, b"550 go away", b"DConnected to 192.0.2.7 but sender was rejected."),
        (3, b"450 later", b"ZConnected to 192.0.2.7 but sender was rejected."),
        (3, b"no reply", b"ZConnected to 192.0.2.7 but sender was rejected."),
        (5, b"554 no", b"D192.0.2.7 failed on DATA command."),
        (5, b"451 later", b"Z192.0.2.7 failed on DATA command."),
        (5, b"250 send it", b"Z192.0.2.7 failed on DATA command."),
        (6, b"554 spam", b"D192.0.2.7 failed after I sent the message."),
        (6, b"451 later", b"Z192.0.2.7 failed after I sent the message."),
        (6, b"354 go on", b"Z192.0.2.7 failed after I sent the message."),
        (6, b"", b"Z192.0.2.7 failed after I sent the message."),
        (6, b"250 ok", b"K192.0.2.7 accepted message."),
        (6, b"299 ok", b"K192.0.2.7 accepted message."),
    ],
)
def test_a_reply_ends_the_conversation(answers: int, answer: bytes, report: bytes) -> None:
    conversation = after(answers, answer + b"\r\n")
    assert conversation.wants == OVER
    assert conversation.reports[-1] == report + b"\nRemote host said: " + answer + b"\n"
    assert conversation.reports[:-1] == [b"r"] * (answers >= 5)


@pytest.mark.parametrize(
    ("answer", "letter"), [(b"550 no", b"h"), (b"450 later", b"s"), (b"what?", b"s"), (b"150 well", b"s")]
)
def test_without_recipients_there_is_no_message(answer: bytes, letter: bytes) -> None:
    conversation = after(4, answer + b"\r\n")
    assert conversation.reports == [
        letter + b"192.0.2.7 does not like recipient.\nRemote host said: " + answer + b"\n",
        b"DGiving up on 192.0.2.7.\n",
    ]


def test_all_lines_of_a_reply_are_in_the_report_without_cr_and_nul() -> None:
    conversation = after(0, b"421-one\r\n421-\0two\r\n\r421 three\r\n")
    assert conversation.reports[0].endswith(b"Remote host said: 421-one\n421-?two\n421 three\n")


def test_a_long_reply_is_cut_in_the_report() -> None:
    conversation = after(0, b"421-" + b"x" * 50 + b"\r\n" + b"421-y\r\n" * 2000 + b"421 end\r\n")
    text = conversation.reports[0].partition(b"Remote host said: ")[2]
    assert len(text) == 5000
    assert text.startswith(b"421-xxx")


@pytest.mark.parametrize("flood", [b"2" * 70000, b"250-x\r\n" * 10000])
def test_a_reply_without_end_is_none(flood: bytes) -> None:
    conversation = after(6)
    for at in range(0, len(flood), 4096):
        if conversation.wants != OVER:
            conversation.feed(flood[at : at + 4096])
    assert conversation.reports[-1] == (
        b"ZConnected to 192.0.2.7 but connection died. Possible duplicate! (#4.4.2)\n"
    )  # fmt: skip


def test_a_lost_connection_is_told_and_whether_the_message_had_gone() -> None:
    for answers in range(7):
        conversation = after(answers)
        conversation.lost()
        assert conversation.wants == OVER
        if answers == 2:  # it does not like to be greeted at all
            assert conversation.reports == [
                b"ZConnected to 192.0.2.7 but my name was rejected.\nRemote host said: 502 no\n"
            ]
        else:
            duplicate = b"Possible duplicate! " if answers == 6 else b""
            text = b"ZConnected to 192.0.2.7 but connection died. " + duplicate + b"(#4.4.2)\n"
            assert conversation.reports[-1] == text
        assert not conversation.output


def test_a_connection_that_is_lost_after_all_changes_nothing() -> None:
    conversation = after(6, b"250 ok\r\n")
    conversation.lost()
    assert conversation.reports == [b"r", b"K192.0.2.7 accepted message.\nRemote host said: 250 ok\n"]


def test_only_a_connection_that_is_lost_before_the_answer_to_ehlo_may_be_due_to_it() -> None:
    assert [after(answers).hung_up_on_ehlo for answers in range(4)] == [False, True, False, False]
    conversation = after(1)
    conversation.feed(b"250-")
    assert not conversation.hung_up_on_ehlo


@pytest.mark.parametrize(("answer", "letter"), [(b"552 too big", b"D"), (b"452 later", b"Z"), (b"250 taken", b"Z")])
def test_what_is_said_before_the_end_of_the_message_does_not_accept_it(answer: bytes, letter: bytes) -> None:
    said = b"192.0.2.7 failed after I sent the message.\nRemote host said: " + answer + b"\n"
    conversation = after(5)
    conversation.feed(b"354 go\r\n" + answer + b"\r\n")
    assert (conversation.wants, conversation.reports) == (OVER, [b"r", letter + said])
    conversation = after(5)
    conversation.feed(b"354 go\r\n")
    assert conversation.wants == MESSAGE
    conversation.feed(answer)
    assert conversation.wants == REPLY
    conversation.feed(b"\r\n")
    assert (conversation.wants, conversation.reports) == (OVER, [b"r", letter + said])


def test_addresses_are_quoted_where_they_need_it() -> None:
    what = mail(b"", b"a b@there", b'"@there', b"plain", b"x@y@there", b".a@there", b"sp ace")
    said = b"".join(talk(new(what), b"220 hi\r\n", b"250 hi\r\n", *[b"250 ok\r\n"] * 7))
    assert said.split(b"\r\n")[1:-2] == [
        b"MAIL FROM:<>",
        b'RCPT TO:<"a b"@there>',
        b'RCPT TO:<"\\""@there>',
        b"RCPT TO:<plain>",
        b'RCPT TO:<"x@y"@there>',
        b'RCPT TO:<".a"@there>',
        b"RCPT TO:<sp ace>",
    ]


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_no_address_is_a_second_command(end: bytes) -> None:
    what = mail(b"me@here", b"you" + end + b"DATA@there", b"you@there" + end + b"DATA", b"you@there")
    conversation = new(what)
    said = talk(conversation, b"220 hi\r\n", EHLO, b"250 ok\r\n" * 2)
    assert said[2:] == [b"MAIL FROM:<me@here>\r\nRCPT TO:<you@there>\r\n", b"DATA\r\n"]
    assert conversation.reports == [smtp_client.BROKEN_RECIPIENT] * 2 + [b"r"]
    conversation = new(mail(b"me" + end + b"@here"))
    assert talk(conversation, b"220 hi\r\n", EHLO)[2:] == [b"QUIT\r\n"]
    assert conversation.reports == [smtp_client.BROKEN_SENDER]


UTF8 = "jöran@bücher.example".encode()
UTF8_HOST = "me@bücher.example".encode()


def test_addresses_in_utf8_go_by_smtputf8() -> None:
    conversation = new(mail(UTF8_HOST, UTF8, "ö ä@x".encode()))
    assert talk(conversation, b"220 hi\r\n", EHLO)[-1].split(b"\r\n")[:-1] == [
        b"MAIL FROM:<" + UTF8_HOST + b"> SMTPUTF8",
        b"RCPT TO:<" + UTF8 + b">",
        b'RCPT TO:<"' + "ö ä".encode() + b'"@x>',
    ]


def test_what_has_come_by_smtputf8_goes_on_by_it() -> None:
    what = mail()
    what.utf8 = True
    assert talk(new(what), b"220 hi\r\n", EHLO)[-1].startswith(b"MAIL FROM:<me@here> SMTPUTF8\r\n")


def test_without_smtputf8_only_a_domain_can_be_said_in_ascii() -> None:
    conversation = new(mail(UTF8_HOST, UTF8, UTF8_HOST, b"you@there"))
    said = talk(conversation, b"220 hi\r\n", b"250-x\r\n250 PIPELINING\r\n", b"250 ok\r\n" * 3)
    assert said[2].split(b"\r\n")[:-1] == [
        b"MAIL FROM:<me@xn--bcher-kva.example>",
        b"RCPT TO:<me@xn--bcher-kva.example>",
        b"RCPT TO:<you@there>",
    ]
    assert conversation.reports == [
        b"h192.0.2.7 does not support SMTPUTF8, which the recipient's address needs. (#5.6.7)\n",
        b"r",
        b"r",
    ]


def test_a_sender_that_cannot_be_said_ends_it() -> None:
    conversation = new(mail(UTF8))
    assert talk(conversation, b"220 hi\r\n", b"250 hi\r\n")[-1] == b"QUIT\r\n"
    assert conversation.reports == [
        b"DConnected to 192.0.2.7 but it does not support SMTPUTF8, which the sender's address needs. (#5.6.7)\n"
    ]


def test_other_eight_bit_addresses_go_as_ever() -> None:
    said = talk(new(mail(b"\xf6@here")), b"220 hi\r\n", EHLO)
    assert said[-1].startswith(b'MAIL FROM:<"\xf6"@here>\r\n')


def encoded(text: bytes) -> bytes:
    return base64.b64encode(text) + b"\r\n"


CHALLENGE = b"<1.2@there>"
DIGEST = hmac.new(b"secret", CHALLENGE, hashlib.md5).hexdigest().encode()


@pytest.mark.parametrize(
    ("offered", "said", "answers", "rejected"),
    [
        (b"AUTH PLAIN", [b"AUTH PLAIN\r\n", encoded(b"\0me\0secret")], [b"334 "], b"plain"),
        (
            b"AUTH LOGIN",
            [b"AUTH LOGIN\r\n", encoded(b"me"), encoded(b"secret")],
            [b"334 VXNlcm5hbWU6", b"334 UGFzc3dvcmQ6"],
            b"password",
        ),
        (
            b"AUTH=LOGIN PLAIN CRAM-MD5",
            [b"AUTH CRAM-MD5\r\n", encoded(b"me " + DIGEST)],
            [b"334 " + base64.b64encode(CHALLENGE)],
            b"username+digest",
        ),
    ],
)
def test_a_login_is_by_the_best_that_is_offered(
    offered: bytes, said: list[bytes], answers: list[bytes], rejected: bytes
) -> None:
    begin = [b"220 hi\r\n", b"250-there\r\n250 " + offered + b"\r\n"]
    conversation = new(login=Login(b"me", b"secret", True))
    steps = [answer + b"\r\n" for answer in answers]
    assert talk(conversation, *begin, *steps, b"235 ok\r\n")[2:] == [*said, b"MAIL FROM:<me@here>\r\n"]
    for at in range(len(steps) + 1):
        conversation = new(login=Login(b"me", b"secret", True))
        assert talk(conversation, *begin, *steps[:at], b"535 wrong\r\n")[-1] == b"QUIT\r\n"
        what = rejected if at == len(steps) else [said[0].strip(), b"username"][at]
        assert conversation.reports == [
            b"ZConnected to 192.0.2.7 but authentication was rejected (%s).\nRemote host said: 535 wrong\n" % what
        ]
    conversation = new(login=Login(b"me", b"secret", True))
    talk(conversation, *begin, *steps, b"432 old\r\n")
    assert conversation.reports == [b"ZConnected to 192.0.2.7 but password expired.\nRemote host said: 432 old\n"]


@pytest.mark.parametrize("offered", [b"250 hi\r\n", b"250-hi\r\n250 AUTH GSSAPI\r\n"])
def test_without_a_way_to_log_in_mail_waits(offered: bytes) -> None:
    conversation = new(login=Login(b"me", b"secret", True))
    talk(conversation, b"220 hi\r\n", offered)
    assert conversation.reports == [b"ZConnected to 192.0.2.7 but it offers no authentication that I know.\n"]


def test_no_password_is_said_where_others_could_hear_it() -> None:
    conversation = new(login=Login(b"me", b"secret", False))
    assert talk(conversation, b"220 hi\r\n", EHLO) == [b"", b"EHLO me\r\n", b"QUIT\r\n"]
    assert conversation.reports[0].startswith(
        b"ZConnected to 192.0.2.7 but I would have to send my password in clear; see control/clearauthhosts"
    )


def test_a_challenge_that_is_none_is_answered_nevertheless() -> None:
    conversation = new(login=Login(b"me", b"secret", True))
    said = talk(conversation, b"220 hi\r\n", EHLO, b"334 !\r\n")
    assert said[-1] != b"QUIT\r\n"


PIECES = st.lists(
    st.sampled_from([b"220", b"250", b"354", b"4", b"550", b"-", b" ", b"\r\n", b"\r\n", b"\n", b"\0", b"x", EHLO]),
    max_size=40,
)


def fed(pieces: Sequence[bytes]) -> tuple[list[bytes], bytes, int]:
    conversation = new()
    said = b""
    for piece in pieces:
        if conversation.wants != OVER:
            conversation.feed(piece)
            said += say(conversation)
    return conversation.reports, said, conversation.wants


@given(PIECES)
def test_any_replies_in_any_pieces_make_the_same_reports(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert fed(pieces)[:2] == fed([whole])[:2] == fed([whole[at : at + 1] for at in range(len(whole))])[:2]
    reports, _, wants = fed(pieces)
    assert (wants == OVER) == bool(reports and reports[-1][:1] in (b"K", b"Z", b"D"))
    assert not any(report.startswith(b"K") for report in reports)  # as the message has not been sent


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_survived(greeting: bytes, hello: bytes) -> None:
    conversation = new()
    for data in (greeting, b"220 hi\r\n", hello, b"250 hi\r\n"):
        if conversation.wants == REPLY:
            conversation.feed(data)
    conversation.lost()
    assert conversation.reports[-1][:1] in (b"Z", b"D")


# The message


class Wire:
    """A message as it goes to the wire, by its bytes one after the other."""

    def __init__(self, message: bytes) -> None:
        lines = [b""]
        at = 0
        while at < len(message):
            byte = message[at : at + 1]
            at += 1
            if byte == b"\r" and message[at : at + 1] == b"\n":
                at += 1
                byte = b"\n"
            if byte in (b"\r", b"\n"):
                lines.append(b"")
            else:
                lines[-1] += byte
        self.partial = lines.pop() != b""
        self.text = b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines)


def wire(pieces: Sequence[bytes]) -> bytes:
    body = Body()
    return b"".join([body.feed(piece) for piece in pieces]) + body.finish()


MESSAGES = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b".", b"..", b"x", b"\n.\n", b"\0", b"\xff"]), max_size=30)


@given(MESSAGES)
def test_a_message_is_the_same_on_the_wire_in_whatever_pieces(pieces: list[bytes]) -> None:
    message = b"".join(pieces)
    expected = Wire(message)
    for cut in (pieces, [message], [message[at : at + 1] for at in range(len(message))]):
        if expected.partial:
            with pytest.raises(PartialLine):
                wire(cut)
        else:
            assert wire(cut) == expected.text


@given(MESSAGES)
def test_nothing_in_a_message_can_be_taken_for_its_end(pieces: list[bytes]) -> None:
    try:
        text = wire(pieces)
    except PartialLine:
        return
    for before, after_ in itertools.product((b"\r\n", b"\n", b"\r"), repeat=2):
        assert before + b"." + after_ not in b"\r\n" + text


def test_an_empty_message_is_just_its_end() -> None:
    assert wire([]) == wire([b""]) == b""


# STARTTLS

OFFER = b"250-there\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"


def offered(start: int, login: Login | None = None, *answers: bytes) -> Conversation:
    """With a server that offers TLS, after these answers."""
    conversation = Conversation(PLACE, b"me", mail(), login, security=Security(start, b"the test"))
    talk(conversation, b"220 hi\r\n", *answers)
    return conversation


@pytest.mark.parametrize("start", [MAY, MUST])
def test_tls_begins_the_conversation_anew(start: int) -> None:
    conversation = Conversation(PLACE, b"me", mail(), security=Security(start))
    assert talk(conversation, b"220 hi\r\n", OFFER, b"220 go\r\n") == [b"", b"EHLO me\r\n", b"STARTTLS\r\n", b""]
    assert conversation.wants == TLS
    assert not conversation.early
    conversation.secured(b"TLSv1.3 X verified")
    assert conversation.wants == REPLY
    assert conversation.unproved
    said = talk(conversation, b"250 there\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 queued\r\n")
    assert said[0] == b"EHLO me\r\n"
    assert said[1] == b"MAIL FROM:<me@here>\r\n"  # PIPELINING is not offered any more, nor STARTTLS
    assert not conversation.unproved
    assert conversation.reports[-1] == (
        b"K192.0.2.7 accepted message.\nTLSv1.3 X verified.\nRemote host said: 250 queued\n"
    )


def test_a_password_is_protected_by_tls() -> None:
    conversation = offered(MAY, Login(b"me", b"secret", protected=False), OFFER, b"220 go\r\n")
    conversation.secured(b"X")
    assert talk(conversation, OFFER)[-1] == b"AUTH PLAIN\r\n"
    conversation = offered(MAY, Login(b"me", b"secret", protected=False), OFFER, b"454 no\r\n")
    assert conversation.reports[-1].startswith(b"ZConnected to 192.0.2.7 but I would have to send my password in clear")
    conversation = offered(MUST, Login(b"me", b"secret", protected=False), b"250 AUTH PLAIN\r\n")
    assert conversation.insecure
    assert conversation.reports[-1].startswith(b"ZConnected to 192.0.2.7 but I would have to send my password in clear")


@pytest.mark.parametrize("more", [b"250 fake\r\n", b"2", b"\r\n"])
@pytest.mark.parametrize("start", [MAY, MUST])
def test_what_comes_behind_the_answer_in_clear_is_seen(start: int, more: bytes) -> None:
    conversation = offered(start, None, OFFER)
    conversation.output.clear()
    conversation.feed(b"220 go\r\n" + more)
    assert conversation.wants == TLS
    assert conversation.early


def test_without_tls_it_goes_on_if_it_may() -> None:
    assert say(offered(MAY, None, b"250 there\r\n")) == b""
    for answer in (b"454 no\r\n", b"554 no\r\n", b"250 what?\r\n"):
        conversation = Conversation(PLACE, b"me", mail(), security=Security(MAY))
        assert talk(conversation, b"220 hi\r\n", OFFER, answer)[-1] == b"MAIL FROM:<me@here>\r\n"


def test_without_tls_it_ends_if_it_must() -> None:
    for answers, report in (
        ([b"250 there\r\n"], b"ZConnected to 192.0.2.7 but it does not offer TLS, which the test demands. (#4.7.10)\n"),
        (
            [OFFER, b"554 no\r\n"],
            b"ZConnected to 192.0.2.7 but STARTTLS was rejected, which the test demands. (#4.7.10)\n"
            b"Remote host said: 554 no\n",
        ),
    ):
        conversation = offered(MUST, None, *answers)
        assert (conversation.wants, conversation.insecure, conversation.reports) == (OVER, True, [report])


def test_with_tls_from_the_first_byte_there_is_no_starttls() -> None:
    conversation = Conversation(PLACE, b"me", mail(), security=Security(MUST))
    conversation.begun(b"X")
    assert talk(conversation, b"220 hi\r\n", OFFER)[-1] == b"MAIL FROM:<me@here>\r\n"


@given(st.lists(st.sampled_from([b"220 x\r\n", OFFER, b"250 ok\r\n", b"354 x\r\n", b"5", b"\r\n"]), max_size=12))
def test_nothing_but_greetings_goes_before_tls_that_must_be(parts: list[bytes]) -> None:
    conversation = Conversation(PLACE, b"me", mail(), security=Security(MUST))
    said = b""
    for part in parts:
        if conversation.wants != REPLY:
            break
        conversation.feed(part)
        said += say(conversation)
    assert {line.split()[0] for line in said.splitlines()} <= {b"EHLO", b"HELO", b"STARTTLS", b"QUIT"}
    assert b"r" not in conversation.reports
