"""datemail: sendmail behind predate; the original, a script, has to pass the same where QMAIL_BIN names it."""

import re

import pytest

from tests.helpers import BIN
from tests.submissions import Submissions, everybodys, mail

__all__ = ["mail"]

both = pytest.mark.parametrize("datemail", everybodys("datemail"))


@both
def test_datemail_sends_a_message_with_a_local_date(mail: Submissions, datemail: str) -> None:
    done = mail.run([datemail, "-t", "-f", "s@t.u", "a b@c.d"], b"To: h@h.h\n\nbody\n", TZ="XXX-2")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)
    taken = mail.taken()
    assert taken is not None
    rest = b"From: s@t.u\nDate: DATE +0200\nTo: h@h.h\n\nbody\n"
    assert taken.message == b"Message-ID: <ID@id.example>\n" + rest
    assert (taken.sender, taken.recipients) == (b"s@t.u", [b"a b@c.d", b"h@h.h"])


@both
def test_datemail_ends_as_sendmail_ends(mail: Submissions, datemail: str) -> None:
    mail.recorder(31)
    done = mail.run([datemail, "a@b.c"])
    said = b"qmail-inject: fatal: mail server permanently rejected message (#5.3.0)\n"
    assert (done.stdout, done.stderr, done.returncode) == (b"", said, 100)


def test_datemail_runs_the_programs_of_the_home(mail: Submissions) -> None:
    (mail.path / "bin").mkdir()
    (mail.path / "bin" / "sendmail").write_text('#!/bin/sh\necho "$@"; cat\n')
    (mail.path / "bin" / "sendmail").chmod(0o755)
    done = mail.run([BIN / "datemail", "-x", "y"], b"\n", TZ="XXX+1")
    assert re.fullmatch(rb"-x y\nDate: .* -0100\n\n", done.stdout)
