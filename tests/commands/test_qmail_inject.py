"""qmail-inject: header, envelope, messages and exit codes. Where QMAIL_BIN names its folder, the original has to pass
what is its own too, and to do the same with messages that hypothesis makes up."""

import os
import re
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import BIN, PYTHON, eventually, run
from tests.queuehomes import QueueHome, queue_home
from tests.submissions import Submissions, everybodys, mail, normal

__all__ = ["mail", "queue_home"]

INJECT = BIN / "qmail-inject"
ADDED = b"Date: DATE -0000\nMessage-ID: <ID@id.example>\nFrom: joe@host.domain.example\n"

both = pytest.mark.parametrize("inject", everybodys("qmail-inject"))


def shown(mail: Submissions, inject: str, *words: str, input: bytes = b"", **changes: str | None) -> bytes:
    """What is printed, without errors."""
    done = mail.run([inject, "-n", *words], input, **changes)
    assert (done.stderr, done.returncode) == (b"", 0)
    return normal(done.stdout)


@both
def test_a_message_is_completed_and_queued(mail: Submissions, inject: str) -> None:
    done = mail.run([inject], b"To: a, B <b@c> (x)\nBcc: d+\nSubject: hi\n\nbody\n.\nwithout end")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)
    taken = mail.taken()
    assert taken is not None
    text = b"To: a@host.domain.example, B <b@c.domain.example>(x)\nSubject: hi\n\nbody\n.\nwithout end\n"
    assert taken.message == ADDED + text
    assert taken.sender == b"joe@host.domain.example"
    assert sorted(taken.recipients) == [b"a@host.domain.example", b"b@c.domain.example", b"d+@host.domain.example"]


@both
@pytest.mark.parametrize(
    ("words", "recipients"),
    [
        ([], [b"h@h.h"]),
        (["a@b.c"], [b"a@b.c"]),
        (["-A", "a@b.c"], [b"a@b.c"]),
        (["-a"], []),
        (["-a", "a@b.c"], [b"a@b.c"]),
        (["-h", "a@b.c"], [b"h@h.h"]),
        (["-H", "a@b.c", "d@e.f"], [b"a@b.c", b"d@e.f", b"h@h.h"]),
        (["-aH"], [b"h@h.h"]),
        (["-h", "--", "-x"], [b"h@h.h"]),
        (["--", "-x"], [b"-x@host.domain.example"]),
        (["a b@c"], [b"a b@c.domain.example"]),
        ([""], [b""]),
    ],
)
def test_options_say_who_gets_it(mail: Submissions, inject: str, words: list[str], recipients: list[bytes]) -> None:
    assert mail.run([inject, *words], b"To: h@h.h\n\n").returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert taken.recipients == recipients


@both
@pytest.mark.parametrize(
    ("words", "sender"),
    [
        (["-f", "s@t"], b"s@t.domain.example"),
        (["-fs"], b"s@host.domain.example"),
        (["-f", ""], b""),
        (["-f", "a b@c.d", "-f", "e@f.g"], b"e@f.g"),
        (["-f", "#@[]"], b"#@[]"),
    ],
)
def test_the_sender_on_the_command_line_beats_the_message(
    mail: Submissions, inject: str, words: list[str], sender: bytes
) -> None:
    assert mail.run([inject, *words, "r"], b"Return-Path: <x@y.z>\n\n", QMAILINJECT="rm").returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert taken.sender == sender


@both
def test_printing_shows_the_sender_and_queues_nothing(mail: Submissions, inject: str) -> None:
    text = shown(mail, inject, "-f", "a b@c.d", "r", input=b"To: x@y.z\n\nbody")
    assert text == b'Return-Path: <"a b"@c.d>\n' + ADDED + b"To: x@y.z\n\nbody\n"
    assert mail.taken() is None
    assert mail.run([inject, "-nN", "r"]).returncode == 0
    assert mail.taken() is not None


@both
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", b"Cc: recipient list not shown: ;\n"),
        (b"To: a@b.c", b"To: a@b.c\n"),
        (b"To: a@b.c\n\n", b"To: a@b.c\n\n"),
        (b"To: a@b.c\nno field\nX: y", b"To: a@b.c\n\nno field\nX: y\n"),
        (b"From x y\nTo: a@b.c\n", b"MBOX-Line: From x y\nTo: a@b.c\n"),
        (b"To: (\n", b"To: (\n"),
        (b"To: " + b"a@b.c " * 20, b"To: " + b",\n  ".join([b", ".join([b"a@b.c"] * 10)] * 2) + b"\n"),
    ],
)
def test_headers_are_shown_as_the_original_shows_them(
    mail: Submissions, inject: str, message: bytes, expected: bytes
) -> None:
    sender = b"Return-Path: <joe@host.domain.example>\n"
    found = shown(mail, inject, input=message)
    if message.startswith(b"To: a@b.c a"):
        assert max(map(len, found.split(b"\n"))) <= 80
        found, expected = found.replace(b"\n ", b""), expected.replace(b"\n ", b"")
    assert found == sender + ADDED + expected


@both
def test_mailing_lists_get_a_follow_up(mail: Submissions, inject: str) -> None:
    (mail.path / "lists").write_text("# ours\n\nother@x.y\nList@Domain.Example \t\n")
    for path in ("lists", str(mail.path / "lists")):
        text = shown(mail, inject, input=b"To: LIST@domain.example, a\nCc: b\n", QMAILMFTFILE=path)
        follow_up = b"b@host.domain.example,\n  LIST@domain.example,\n  a@host.domain.example\n"
        assert b"\nMail-Followup-To: " + follow_up in text
    for path in ("nowhere", ""):
        assert b"Followup" not in shown(mail, inject, input=b"To: list@domain.example\n", QMAILMFTFILE=path)


@both
@pytest.mark.parametrize(
    ("words", "message", "env", "said"),
    [
        (["-Z"], b"", {}, b"qmail-inject: illegal option -- Z\n"),
        (["-f"], b"", {}, b"qmail-inject: option requires an argument -- f\n"),
        (["a@("], b"", {}, b"qmail-inject: fatal: unable to parse address: a@(\n"),
        (["-fa@("], b"", {}, b"qmail-inject: fatal: unable to parse this line:\na@("),
        ([], b"X: y\nFrom: a (\n b\n\n", {}, b"qmail-inject: fatal: unable to parse this line:\nFrom: a (\n b\n"),
        ([], b"", {"QMAILDEFAULTHOST": "("}, b"qmail-inject: fatal: unable to parse this line:\n@("),
        ([], b"", {"QMAILPLUSDOMAIN": ")"}, b"qmail-inject: fatal: unable to parse this line:\n.)"),
        ([], b"", {"QMAILSHOST": ":"},
         b'qmail-inject: fatal: unable to parse this line:\nReturn-Path: "joe"@:\n'),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_for_good(
    mail: Submissions, inject: str, words: list[str], message: bytes, env: dict[str, str | None], said: bytes
) -> None:
    done = mail.run([inject, *words], message, **env)
    assert (done.stdout, done.stderr, done.returncode) == (b"", said, 100)
    assert mail.taken() is None


@both
@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        (31, 100, b"mail server permanently rejected message (#5.3.0)"),
        (11, 100, b"envelope address too long for qq (#5.1.3)"),
        (53, 111, b"qq write error or disk full (#4.3.0)"),
        (99, 111, b"qq temporary problem (#4.3.0)"),
    ],
)
def test_what_the_queue_says_is_said(mail: Submissions, inject: str, code: int, exit_code: int, said: bytes) -> None:
    mail.recorder(code)
    done = mail.run([inject, "r"], b"To: a\n\n")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"qmail-inject: fatal: " + said + b"\n", exit_code)


@both
def test_a_queue_that_is_missing_is_trouble_for_now(mail: Submissions, inject: str) -> None:
    done = mail.run([inject, "r"], b"", QMAILQUEUE=str(mail.path / "nowhere"))
    assert (done.stderr, done.returncode) == (b"qmail-inject: fatal: unable to exec qq (#4.3.0)\n", 111)


@both
def test_an_input_that_cannot_be_read_is_trouble_for_now(mail: Submissions, inject: str) -> None:
    for before in ("<&-", f"0> {mail.path}/out"):
        done = mail.run(["sh", "-c", f'exec "$0" r {before}', inject])
        assert (done.stdout, done.stderr, done.returncode) == (b"", b"qmail-inject: fatal: read error\n", 111)
    assert mail.taken() is None


def test_the_controls_are_those_of_the_home(mail: Submissions) -> None:
    for variable in list(mail.env):
        if variable.startswith("QMAIL") and variable != "QMAILHOME":
            del mail.env[variable]
    (mail.path / "control" / "defaultdomain").write_text("d.example \n")
    (mail.path / "control" / "defaulthost").write_text("dh\n")
    (mail.path / "control" / "plusdomain").write_text("p.example\n")
    text = shown(mail, str(INJECT), input=b"To: a, b@c+\n")
    assert b"Message-ID: <ID@me.example>\nFrom: joe@dh.d.example\nTo: a@dh.d.example, b@c.p.example\n" in text
    (mail.path / "control" / "defaulthost").write_text("")
    assert b"\nTo: a@.d.example\n" in shown(mail, str(INJECT), input=b"To: a\n")  # an empty file is an empty value
    for name in ("me", "defaulthost", "defaultdomain", "plusdomain"):
        (mail.path / "control" / name).unlink()
    text = shown(mail, str(INJECT), input=b"To: a, b@c+\n")
    assert b"@idhost>\nFrom: joe@defaulthost.defaultdomain\n" in text
    assert b"b@c.plusdomain" in text


def test_controls_that_cannot_be_read_are_trouble_for_now(mail: Submissions) -> None:
    (mail.path / "control" / "idhost").mkdir()
    done = mail.run([INJECT, "-n"], QMAILIDHOST=None)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"qmail-inject: fatal: read error\n", 111)
    done = mail.run([INJECT, "-n"], QMAILMFTFILE=str(mail.path))
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"qmail-inject: fatal: read error\n", 111)
    done = mail.run([INJECT, "-n"], QMAILHOME=str(mail.path / "nowhere"))
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"qmail-inject: fatal: internal bug\n", 111)


def test_an_output_that_cannot_be_written_is_trouble_for_now(mail: Submissions) -> None:
    done = mail.run(["sh", "-c", 'exec "$0" -n > /dev/full', INJECT])
    said = b"qmail-inject: fatal: unable to write output: out of disk space\n"
    assert (done.stderr, done.returncode) == (said, 111)


def test_a_home_may_have_a_relative_name(mail: Submissions) -> None:
    assert mail.run([INJECT, "-a", "r"], b"To: a\n", QMAILHOME=".").returncode == 0
    assert mail.taken() is not None
    assert (mail.path / "folder").read_text() == str(mail.path)


def test_the_body_is_not_kept_in_memory(mail: Submissions) -> None:
    """64 MB through a process that may have no more than 48."""
    size = 64 << 20
    script = 'head -c "$1" /dev/zero | tr "\\0" x | (echo; cat) | (ulimit -d 49152; exec "$0" r)'
    assert mail.run(["sh", "-c", script, INJECT, str(size)]).returncode == 0
    assert (mail.path / "message").stat().st_size > size


def test_it_starts_with_few_modules(queue_home: QueueHome) -> None:
    """Also behind sendmail, in the same process."""
    for command in ("qmail-inject", "sendmail"):
        done = run([PYTHON, "-ISXimporttime", BIN / command, "a@b.c"], b"\nbody\n", env=queue_home.env(USER="joe"))
        loaded = {line.rpartition(b"|")[2].strip().decode() for line in done.stderr.splitlines()}
        assert "qmailpy.mta.submission" in loaded
        assert loaded & {"re", "enum", "typing", "collections", "dataclasses", "socket", "email", "subprocess"} == set()


def test_the_queue_of_the_home_takes_the_message_in_this_process(queue_home: QueueHome) -> None:
    done = run([INJECT, "a@b.c"], b"Subject: hi\n\nbody", env=queue_home.env(USER="joe"))
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)
    queued = queue_home.message()
    assert (queued.sender, queued.recipients, queued.uid) == (b"joe@me.example", [b"a@b.c"], os.getuid())
    assert queued.body.endswith(b"\nSubject: hi\n\nbody\n")
    pid = re.search(rb"\.(\d+)\.qmail@me\.example>", queued.body)
    assert pid is not None
    assert int(pid[1]) == queued.pid


def test_nothing_stays_in_the_queue_of_a_message_that_breaks_off(queue_home: QueueHome) -> None:
    """A terminal that hangs up gives an error behind the header."""
    ours, terminal = os.openpty()
    child = subprocess.Popen([INJECT, "a@b.c"], stdin=terminal, stderr=subprocess.PIPE, env=queue_home.env())
    os.close(terminal)
    os.write(ours, b"To: a@b.c\n\nbody\n")
    assert eventually(lambda: queue_home.files() != set())
    os.close(ours)
    _, said = child.communicate(timeout=20)
    assert (said, child.returncode) == (b"qmail-inject: fatal: read error\n", 111)
    assert queue_home.files() == set()


# What messages are made of.

NAMES = st.sampled_from([
    b"To", b"Cc", b"Bcc", b"From", b"Sender", b"Reply-To", b"Return-Path", b"Apparently-To", b"Resent-To", b"Resent-Cc",
    b"Resent-Bcc", b"Resent-From", b"Errors-To", b"Subject", b"Date", b"Message-ID", b"Content-Length", b"tO",
    b"Mail-Followup-To", b"Resent-Date", b"From ", b"X \t", b"no name", b"\xe9", b"",
])  # fmt: skip
PIECES = st.sampled_from([
    b"joe", b"a.b", b"@h", b"@h.example", b"@h+", b"@", b".", b",", b", ", b"<", b">", b"<u@h>", b"<@a,@b:u@h>", b"<>",
    b"Full Name <u@h>", b"g: a, b;", b":", b";", b" ", b"\t", b"\n ", b"(c)", b"(a(b)c)", b"(", b")", b'"q r"', b'"',
    b"[1.2]", b"[", b"]", b"\\", b'\\"', b"\\\n", b"\r", b"+", b"\xe9", b"\0", b"\x7f", b"verylong" * 5, b"x@[]",
])  # fmt: skip
VALUES = st.lists(PIECES, max_size=12).map(b"".join)
FIELDS = st.tuples(NAMES, st.sampled_from([b":", b": ", b" : "]), VALUES).map(b"".join)
BODIES = st.sampled_from([b"", b"\n", b"\n\n", b"\n\nbody\n", b"\nno field\nmore", b"\n x"])
MESSAGES = st.tuples(st.lists(FIELDS, max_size=5).map(b"\n".join), BODIES).map(b"".join)
WORDS = st.lists(VALUES.map(lambda word: word.replace(b"\0", b"").lstrip(b"-")), max_size=2)
LETTERS = st.text("csfirm", max_size=3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=MESSAGES, words=WORDS, letters=LETTERS, option=st.sampled_from(["-A", "-a", "-h", "-H"]))
def test_any_message_becomes_what_the_original_makes_of_it(
    mail: Submissions, message: bytes, words: list[bytes], letters: str, option: str
) -> None:
    found = []
    for inject in everybodys("qmail-inject"):
        done = mail.run([inject, option, "--", *words], message, QMAILINJECT=letters.replace("m", ""))
        found.append((done.returncode, done.stdout, done.stderr, mail.taken()))
    assert found[0][0] in (0, 100)
    assert found == found[:1] * len(found)
