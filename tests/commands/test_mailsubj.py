"""mailsubj: a body with a subject and recipients; the original, a script, passes the same where QMAIL_BIN names it."""

import pytest

from tests.helpers import BIN
from tests.submissions import Submissions, everybodys, mail

__all__ = ["mail"]

ADDED = b"Date: DATE -0000\nMessage-ID: <ID@id.example>\nFrom: joe@host.domain.example\n"

both = pytest.mark.parametrize("mailsubj", everybodys("mailsubj"))


@both
def test_mailsubj_sends_a_body(mail: Submissions, mailsubj: str) -> None:
    done = mail.run([mailsubj, "two  words", "a@b.c", "d"], b"body\nwithout end")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)
    taken = mail.taken()
    assert taken is not None
    header = b"Subject: two  words\nTo: a@b.c, d@host.domain.example\n"
    assert taken.message == ADDED + header + b"\nbody\nwithout end\n"
    assert sorted(taken.recipients) == [b"a@b.c", b"d@host.domain.example"]


@both
def test_mailsubj_ends_as_qmail_inject_ends(mail: Submissions, mailsubj: str) -> None:
    mail.recorder(53)
    done = mail.run([mailsubj, "x", "a@b.c"])
    said = b"qmail-inject: fatal: qq write error or disk full (#4.3.0)\n"
    assert (done.stdout, done.stderr, done.returncode) == (b"", said, 111)


def test_mailsubj_loses_no_recipient_before_one_with_a_name(mail: Submissions) -> None:
    assert mail.run([BIN / "mailsubj", "x", "a@b.c", "Max <d@e.f>", "g@h.i,", "j@k.l"]).returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert b"\nTo: a@b.c, Max <d@e.f>, g@h.i, j@k.l\n" in taken.message
    assert sorted(taken.recipients) == [b"a@b.c", b"d@e.f", b"g@h.i", b"j@k.l"]


def test_mailsubj_shows_backslashes_as_they_are(mail: Submissions) -> None:
    assert mail.run([BIN / "mailsubj", r"a\nb\c", "a@b.c"], b"body\n").returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert b"\nSubject: a\\nb\\c\nTo: a@b.c\n\nbody\n" in taken.message


def test_mailsubj_sends_nothing_if_it_cannot_read_all(mail: Submissions) -> None:
    done = mail.run(["sh", "-c", 'exec "$0" x a@b.c 0> out', BIN / "mailsubj"])
    said = b"mailsubj: fatal: unable to read input: file descriptor not open\n"
    assert (done.stdout, done.stderr, done.returncode) == (b"", said, 111)
    assert mail.taken() is None


def test_mailsubj_names_what_it_cannot_run(mail: Submissions) -> None:
    (mail.path / "bin").mkdir()
    (mail.path / "bin" / "qmail-inject").mkdir()
    done = mail.run([BIN / "mailsubj", "x", "a@b.c"])
    said = b"mailsubj: fatal: unable to run %s/bin/qmail-inject: access denied\n" % bytes(mail.path)
    assert (done.stderr, done.returncode) == (said, 111)


@pytest.mark.parametrize("words", [[], ["subject"]])
def test_mailsubj_says_its_usage(mail: Submissions, words: list[str]) -> None:
    done = mail.run([BIN / "mailsubj", *words])
    said = b"mailsubj: usage: mailsubj subject recip [ recip ... ]\n"
    assert (done.stdout, done.stderr, done.returncode) == (b"", said, 100)
    assert mail.taken() is None
