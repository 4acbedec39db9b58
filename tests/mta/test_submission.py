"""What becomes of a message's header and envelope. tests/commands/test_qmail_inject.py asks the original the same."""

import pytest

from qmailpy.formats.addresses822 import Unparsable
from qmailpy.mta.completion import Completion
from qmailpy.mta.submission import NO_RECIPIENTS, Submission, first_set, stamp

NOW = 1004950987  # 5 Nov 2001 09:03:07 GMT
PID = 4711
DATE = b"Date: 5 Nov 2001 09:03:07 -0000\n"
ID = b"Message-ID: <20011105090307.4711.qmail@id.example>\n"
FROM = b"From: joe@host.example\n"
WHOLE = (b"Date: now\n", b"Message-ID: <x@y>\n", b"From: a@b.c\n", b"To: r@s.t\n")


def submission(env: dict[bytes, bytes] | None = None, follow_up: tuple[bytes, ...] = ()) -> Submission:
    completion = Completion(b"host.example", b"example", b"plus.example")
    return Submission({b"USER": b"joe", **(env or {})}, completion, b"id.example", follow_up, NOW, PID)


def header(*fields: bytes, env: dict[bytes, bytes] | None = None) -> bytes:
    taken = submission(env)
    for field in fields:
        taken.field(field)
    return taken.finish()


def sender(*fields: bytes, env: dict[bytes, bytes] | None = None) -> bytes | None:
    taken = submission(env)
    for field in fields:
        taken.field(field)
    taken.finish()
    return taken.sender


def test_a_whole_header_is_kept() -> None:
    assert header(*WHOLE, b"Subject:  x  \n y\n", b"X: (\n") == b"".join(WHOLE) + b"Subject:  x  \n y\nX: (\n"


def test_missing_fields_are_added_in_front() -> None:
    assert header(b"X: y\n") == DATE + ID + FROM + NO_RECIPIENTS + b"X: y\n"
    assert header(b"TO: a\n") == DATE + ID + FROM + b"TO: a@host.example\n"
    assert header(b"Cc:\n") == DATE + ID + FROM + b"Cc:\n"


@pytest.mark.parametrize("letters", [b"", b"c"])
@pytest.mark.parametrize("name", [b"QMAILNAME", b"QMAILUSER", b"QMAILHOST"])
def test_a_newline_from_the_environment_begins_no_field(name: bytes, letters: bytes) -> None:
    env = {b"NAME": b"Joe", b"QMAILINJECT": letters, name: b"a\nBcc evil\r\n\nb"}
    lines = header(b"To: a\n", env=env).splitlines()
    assert [line[:5] for line in lines] == [b"Date:", b"Messa", b"From:", b"To: a"]
    assert b"a Bcc evil   b" in lines[2] or name == b"QMAILHOST"  # whose words are addresses of their own


def test_senders_are_of_one_line() -> None:
    taken = submission()
    taken.set_sender(b"a\nb\r@c.d")
    assert taken.sender == b"a b @c.d"
    assert sender(env={b"QMAILSUSER": b"a\nb", b"QMAILSHOST": b"c.d"}) == b"a b@c.d"


def test_a_message_that_was_resent_gets_other_fields_and_has_other_recipients() -> None:
    taken = submission()
    for field in (b"To: a\n", b"Resent-To: b\n", b"Resent-Bcc: c\n"):
        taken.field(field)
    added = b"".join(b"Resent-" + field for field in (DATE, ID, FROM))
    assert taken.finish() == added + b"To: a@host.example\nResent-To: b@host.example\n"
    assert taken.recipients(arguments_only=False) == [b"b@host.example", b"c@host.example"]
    assert header(b"Resent-Date: x\n").endswith(b"\nResent-Cc: recipient list not shown: ;\nResent-Date: x\n")


def test_fields_that_are_nobodys_business_are_left_out() -> None:
    removed = (b"Bcc: x\n", b"Resent-Bcc: x\n", b"Return-Path: <x>\n", b"Content-Length: 5\n")
    assert header(*WHOLE, *removed[:1], *removed[2:]) == b"".join(WHOLE)
    assert removed[1] not in header(*WHOLE, *removed)


def test_recipients_come_from_the_arguments_first_and_then_in_order() -> None:
    taken = submission()
    taken.add_recipient(b"arg")
    taken.add_recipient(b"a b@c.d")
    for field in (b"Bcc: d\n", b"To: a, b\n", b"Apparently-To: e (x)\n", b"Resent-X: f\n"):
        taken.field(field)
    found = taken.recipients(arguments_only=False)
    assert taken.recipients(arguments_only=True) == [b"arg@host.example", b"a b@c.d"]
    assert found[:2] == taken.recipients(arguments_only=True)
    assert sorted(found[2:]) == [b"a@host.example", b"b@host.example", b"d@host.example", b"e@host.example"]


def test_a_list_of_recipients_that_cannot_be_read_stays_as_it_is() -> None:
    assert header(*WHOLE[:3], b"To: a (\n") == b"".join(WHOLE[:3]) + b"To: a (\n"


@pytest.mark.parametrize("name", [b"From", b"Sender", b"Reply-To", b"Errors-To", b"Return-Path", b"Resent-From"])
def test_a_sender_that_cannot_be_read_is_an_error(name: bytes) -> None:
    with pytest.raises(Unparsable) as raised:
        submission().field(name + b": a (\n")
    assert raised.value.args == (name + b": a (\n",)


@pytest.mark.parametrize(
    ("env", "shown"),
    [
        ({}, b"joe@host.example"),
        ({b"LOGNAME": b"x", b"MAILUSER": b"max"}, b"max@host.example"),
        ({b"QMAILUSER": b"q", b"MAILUSER": b"max"}, b"q@host.example"),
        ({b"QMAILUSER": b""}, b'""@host.example'),
        ({b"USER": b"a b"}, b'"a b"@host.example'),
        ({b"MAILHOST": b"m"}, b"joe@m.example"),
        ({b"QMAILHOST": b"q.x", b"MAILHOST": b"m"}, b"joe@q.x"),
        ({b"NAME": b"Joe"}, b'"Joe" <joe@host.example>'),
        ({b"NAME": b'J "Q" P', b"MAILNAME": b"M"}, b'"M" <joe@host.example>'),
        ({b"QMAILNAME": b'J "Q" P'}, b'"J \\"Q\\" P" <joe@host.example>'),
        ({b"NAME": b"Joe", b"QMAILINJECT": b"c"}, b"joe@host.example (Joe)"),
    ],
)
def test_the_environment_names_the_author(env: dict[bytes, bytes], shown: bytes) -> None:
    assert b"\nFrom: " + shown + b"\n" in header(env=env)


def test_without_any_name_the_author_is_anonymous() -> None:
    taken = Submission({}, Completion(b"h", b"d", b"p"), b"i", (), NOW, PID)
    assert b"From: anonymous@h.d\n" in taken.finish()


@pytest.mark.parametrize(
    ("env", "fields", "expected"),
    [
        ({}, [], b"joe@host.example"),
        ({b"QMAILSUSER": b"s"}, [], b"s@host.example"),
        ({b"QMAILSHOST": b"s.x", b"QMAILHOST": b"h"}, [], b"joe@s.x"),
        ({b"QMAILHOST": b"h"}, [], b"joe@h.example"),
        ({}, [b"From: someone@else.x\n"], b"joe@host.example"),
        ({}, [b"Return-Path: <r>\n"], b"r@host.example"),
        ({}, [b"Return-Path: <>\n"], b""),
        ({}, [b"Return-Path:\n"], b"joe@host.example"),
        ({}, [b"Return-Path: a, b\n", b"Return-Path: c\n"], b"b@host.example"),
        ({b"QMAILINJECT": b"s"}, [b"Return-Path: <r>\n"], b"joe@host.example"),
        ({b"QMAILINJECT": b"r"}, [], b"joe-@host.example-@[]"),
        ({b"QMAILINJECT": b"r"}, [b"Return-Path: <r>\n"], b"r@host.example-@[]"),
        ({b"QMAILINJECT": b"m"}, [], b"joe-1004950987.4711@host.example"),
        ({b"QMAILINJECT": b"rm"}, [], b"joe-1004950987.4711-@host.example-@[]"),
    ],
)
def test_the_envelope_sender_is_decided_once(env: dict[bytes, bytes], fields: list[bytes], expected: bytes) -> None:
    assert sender(*fields, env=env) == expected


def test_a_sender_from_the_command_line_beats_all_others() -> None:
    taken = submission({b"QMAILINJECT": b"rm"})
    taken.set_sender(b"f f")
    taken.field(b"Return-Path: <r>\n")
    taken.finish()
    assert taken.sender == b"f f@host.example"


def test_letters_delete_fields() -> None:
    assert header(*WHOLE, env={b"QMAILINJECT": b"fi"}) == ID + FROM + WHOLE[0] + WHOLE[3]


def test_a_follow_up_goes_to_everybody() -> None:
    lists = (b"list@x.example",)
    taken = submission(follow_up=lists)
    for field in (*WHOLE[:3], b"To: LIST@x, a\n", b"Cc: b b@c.d\n", b"Bcc: e\n"):
        taken.field(field)
    assert taken.finish().startswith(
        b"Mail-Followup-To: b@host.example,\n  b@c.d,\n  LIST@x.example,\n  a@host.example\nDate: now\n"
    )
    for fields in ([b"To: a\n"], [b"To: list@x\n", b"Mail-Followup-To: z\n"], [b"Bcc: list@x\n"]):
        taken = submission(follow_up=lists)
        for field in fields:
            taken.field(field)
        assert taken.finish().count(b"Mail-Followup-To") == fields[-1].count(b"Mail-Followup-To")


def test_a_nul_ends_an_address_in_the_envelope() -> None:
    taken = submission()
    for field in (b'To: "a\0b"@c\n', b'Return-Path: <"d\0"@e>\n'):
        taken.field(field)
    assert (taken.recipients(arguments_only=False), taken.sender) == ([b"a"], b"d")


def test_a_stamp_is_the_time_in_digits() -> None:
    assert [stamp(seconds) for seconds in (0, NOW, 951782399)] == [
        b"19700101000000",
        b"20011105090307",
        b"20000228235959",
    ]


def test_a_variable_that_is_set_to_nothing_is_set() -> None:
    assert first_set({b"B": b"", b"C": b"c"}, b"A", b"B", b"C") == b""
    assert first_set({}, b"A") is None
