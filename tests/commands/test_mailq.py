"""mailq lists the queue; the original, sendmail by another name, has to pass the same where QMAIL_BIN names it."""

import os
from pathlib import Path

import pytest

from tests.helpers import BIN, run
from tests.pop3_original import originals
from tests.queuehomes import QueueHome, queue_home
from tests.submissions import Submissions, mail

__all__ = ["mail", "queue_home"]

USAGE = b"sendmail: usage: sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]\n"


@pytest.fixture(params=["ours", *(["original"] if originals("sendmail") else [])])
def mailq(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "ours":
        return str(BIN / "mailq")
    (tmp_path / "mailq").symlink_to(originals("sendmail")[0])
    return str(tmp_path / "mailq")


@pytest.mark.parametrize("words", [[], ["-v"], ["-Fx", "joe"]])
def test_mailq_shows_what_qmail_qread_shows(queue_home: QueueHome, words: list[str]) -> None:
    env = queue_home.env(USER="joe")
    assert run([BIN / "qmail-inject", "a@b.c"], b"Subject: hi\n\nbody\n", env=env).returncode == 0
    done = run([BIN / "mailq", *words], env=env)
    assert (done.stdout, done.stderr, done.returncode) == (run([BIN / "qmail-qread"], env=env).stdout, b"", 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["-Z"], b"mailq: illegal option -- Z\n"), (["-vf"], b"mailq: option requires an argument -- f\n")],
)
def test_mailq_refuses_wrong_options_as_sendmail(mail: Submissions, mailq: str, words: list[str], said: bytes) -> None:
    done = mail.run([mailq, *words])
    assert (done.stdout, done.stderr, done.returncode) == (b"", said + USAGE, 100)


def test_mailq_runs_the_program_of_the_home(mail: Submissions) -> None:
    (mail.path / "bin").mkdir()
    (mail.path / "bin" / "qmail-qread").write_text("#!/bin/sh\npwd; exit 7\n")
    done = mail.run([BIN / "mailq"])
    said = b"sendmail: fatal: unable to run qmail-qread: access denied\n"
    assert (done.stdout, done.stderr, done.returncode) == (b"", said, 111)
    os.chmod(mail.path / "bin" / "qmail-qread", 0o755)
    done = mail.run([BIN / "mailq"])
    assert (done.stdout, done.stderr, done.returncode) == (bytes(mail.path) + b"\n", b"", 7)


def test_mailq_without_a_home_says_so(mail: Submissions) -> None:
    done = mail.run([BIN / "mailq"], QMAILHOME=str(mail.path / "nowhere"))
    said = b"sendmail: fatal: unable to switch to qmail home directory: file does not exist\n"
    assert (done.stdout, done.stderr, done.returncode) == (b"", said, 111)
