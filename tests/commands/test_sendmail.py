"""sendmail: what it runs, for every way of calling it; the original has to pass the same where QMAIL_BIN names it."""

from pathlib import Path

import pytest

from tests.helpers import BIN, environment, run
from tests.queuehomes import QueueHome, queue_home
from tests.submissions import Submissions, everybodys, mail

__all__ = ["mail", "queue_home"]

SENDMAIL = BIN / "sendmail"
USAGE = b"sendmail: usage: sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]\n"
ADDED = b"Date: DATE -0000\nMessage-ID: <ID@id.example>\n"
JOE = b"joe@host.domain.example"

both = pytest.mark.parametrize("sendmail", everybodys("sendmail"))

SHOW = '#!/bin/sh\necho "$(basename "$0") $#"; for word; do echo "<$word>"; done; env | sort; pwd\n'


def shows(folder: Path, *names: str) -> None:
    """Programs in folder that tell how they were run."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(SHOW)
        (folder / name).chmod(0o755)


@both
@pytest.mark.parametrize(
    ("words", "sender", "author", "recipients"),
    [
        (["a@b.c"], JOE, JOE, [b"a@b.c"]),
        (["-oi", "a@b.c", "d@e.f"], JOE, JOE, [b"a@b.c", b"d@e.f"]),
        (["-t"], JOE, JOE, [b"h@h.h"]),
        (["-oi", "-t", "a@b.c"], JOE, JOE, [b"a@b.c", b"h@h.h"]),
        ([], JOE, JOE, []),
        (["-f", "s@t.u", "a@b.c"], b"s@t.u", b"s@t.u", [b"a@b.c"]),
        (["-fs", "a@b.c"], b"s@host.domain.example", b"s@host.domain.example", [b"a@b.c"]),
        (["-f", "s@x@t.u", "a@b.c"], b"s@x@t.u", b'"s@x"@t.u', [b"a@b.c"]),
        (["-f", "", "a@b.c"], b"", b'""@host.domain.example', [b"a@b.c"]),
        (["-F", "Joe P", "a@b.c"], JOE, b'"Joe P" <joe@host.domain.example>', [b"a@b.c"]),
        (["-FJoe P", "-fs@t.u", "a@b.c"], b"s@t.u", b"s@t.u", [b"a@b.c"]),
        (["-FCronDaemon", "-i", "-odi", "-oem", "root"], JOE, b'"CronDaemon" <joe@host.domain.example>',
         [b"root@host.domain.example"]),
        (["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"], JOE, b'"CronDaemon" <joe@host.domain.example>',
         [b"root@host.domain.example"]),
        (["-t", "-i", "-f", "www@t.u"], b"www@t.u", b"www@t.u", [b"h@h.h"]),
        (["-bm", "-v", "-m", "-em", "-x", "-p", "SMTP:h", "-Edef", "-J", "a@b.c"], JOE, JOE, [b"a@b.c"]),
        (["--", "-a@b.c"], JOE, JOE, [b"-a@b.c"]),
    ],
)  # fmt: skip
def test_a_message_is_sent_as_the_words_say(
    mail: Submissions, sendmail: str, words: list[str], sender: bytes, author: bytes, recipients: list[bytes]
) -> None:
    done = mail.run([sendmail, *words], b"To: h@h.h\n\nbody\n.\nmore\n")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)
    taken = mail.taken()
    assert taken is not None
    assert taken.message == ADDED + b"From: " + author + b"\nTo: h@h.h\n\nbody\n.\nmore\n"
    assert (taken.sender, taken.recipients) == (sender, recipients)


@pytest.mark.parametrize(
    ("words", "author"),
    [
        (["-F", "Joe\nBcc: x@y.z\r\n\nP", "a@b.c"], b'"Joe Bcc: x@y.z   P" <joe@host.domain.example>'),
        (["-f", "s\nBcc: x@t.u", "a@b.c"], b'"s Bcc: x"@t.u'),
    ],
)
def test_a_newline_begins_no_field(mail: Submissions, words: list[str], author: bytes) -> None:
    assert mail.run([SENDMAIL, *words], b"To: h@h.h\n\nbody\n").returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert taken.message == ADDED + b"From: " + author + b"\nTo: h@h.h\n\nbody\n"
    assert b"\n" not in taken.sender


@pytest.mark.parametrize(
    "words", [["-N", "success,failure"], ["-Nnever"], ["-R", "hdrs", "-V", "id"], ["-n", "-G", "-U"], ["-Am"],
              ["-O", "DeliveryMode=b"], ["-h", "5"], ["-L", "tag"]]
)  # fmt: skip
def test_what_newer_sendmails_know_is_accepted(mail: Submissions, words: list[str]) -> None:
    done = mail.run([SENDMAIL, *words, "a@b.c"])
    assert (done.stderr, done.returncode) == (b"", 0)
    taken = mail.taken()
    assert taken is not None
    assert taken.recipients == [b"a@b.c"]


def test_an_old_name_of_the_sender_is_known(mail: Submissions) -> None:
    assert mail.run([SENDMAIL, "-r", "s@t.u", "a@b.c"]).returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert taken.sender == b"s@t.u"


@both
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-Z"], b"sendmail: illegal option -- Z\n"),
        (["-t", "-:"], b"sendmail: illegal option -- :\n"),
        (["-f"], b"sendmail: option requires an argument -- f\n"),
        (["-bd"], b""),
        (["-bi", "-Z"], b""),
    ],
)
def test_a_wrong_option_is_told_with_the_usage(mail: Submissions, sendmail: str, words: list[str], said: bytes) -> None:
    done = mail.run([sendmail, *words])
    assert (done.stdout, done.stderr, done.returncode) == (b"", said + USAGE, 100)
    assert mail.taken() is None


def test_smtp_is_spoken_with_a_local_client(mail: Submissions) -> None:
    shows(mail.path / "bin", "qmail-smtpd")
    lines = mail.run([SENDMAIL, "-bs", "-Z"]).stdout.decode().splitlines()
    assert lines[0] == "qmail-smtpd 0"
    assert lines[-1] == str(mail.path)
    assert {
        "RELAYCLIENT=", "DATABYTES=0", "PROTO=TCP", "TCPLOCALIP=127.0.0.1", "TCPLOCALHOST=localhost",
        "TCPREMOTEIP=127.0.0.1", "TCPREMOTEHOST=localhost", "TCPREMOTEINFO=sendmail-bs",
    } <= set(lines)  # fmt: skip


def test_a_local_client_of_smtp_may_send_anywhere(queue_home: QueueHome) -> None:
    dialogue = b"HELO x\r\nMAIL FROM:<s@t.u>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n\r\nbody\r\n.\r\nQUIT\r\n"
    queue_home.control(rcpthosts="here.example")
    done = run([SENDMAIL, "-bs"], dialogue, env=queue_home.env())
    assert (done.stderr, [line[:3] for line in done.stdout.split(b"\r\n")]) == (
        b"",
        [b"220", b"250", b"250", b"250", b"354", b"250", b"221", b""],
    )
    queued = queue_home.message()
    assert (queued.sender, queued.recipients) == (b"s@t.u", [b"a@b.c"])
    assert b"Received: from localhost (HELO x) (sendmail-bs@127.0.0.1)\n" in queued.body


def test_smtp_with_a_network_client_gives_no_rights(mail: Submissions) -> None:
    shows(mail.path / "bin", "qmail-smtpd")
    lines = mail.run([SENDMAIL, "-bs"], PROTO="TCP", TCPREMOTEIP="192.0.2.1").stdout.decode()
    assert "RELAYCLIENT" not in lines
    assert "TCPREMOTEIP=192.0.2.1" in lines


def test_the_programs_of_the_home_are_run_before_those_on_path(mail: Submissions) -> None:
    shows(mail.path / "other", "qmail-inject", "qmail-qread")
    path = f"{mail.path}/other:{environment()['PATH']}"
    lines = mail.run([SENDMAIL, "-FJ", "-fs@t", "-t", "x y"], PATH=path, NAME="N").stdout.decode().splitlines()
    assert lines[:6] == ["qmail-inject 5", "<-H>", "<-f>", "<s@t>", "<-->", "<x y>"]
    assert {"QMAILUSER=s", "QMAILHOST=t"} <= set(lines)
    assert not any(line.startswith(("NAME=", "MAILNAME=")) for line in lines)
    shows(mail.path / "bin", "qmail-inject")
    (mail.path / "bin" / "qmail-inject").write_text("#!/bin/sh\necho home\n")
    assert mail.run([SENDMAIL, "x"], PATH=path).stdout == b"home\n"
    assert mail.run([SENDMAIL, "-bp"], PATH=path).stdout.startswith(b"qmail-qread 0\n")


def test_what_cannot_be_run_is_named(mail: Submissions) -> None:
    (mail.path / "bin").mkdir()
    for name, words in (("qmail-inject", ["x"]), ("qmail-qread", ["-bp"]), ("qmail-smtpd", ["-bs"])):
        (mail.path / "bin" / name).write_text("")
        done = mail.run([SENDMAIL, *words])
        said = b"sendmail: fatal: unable to run %s: access denied\n" % name.encode()
        assert (done.stdout, done.stderr, done.returncode) == (b"", said, 111)


def test_a_home_that_is_missing_is_trouble_for_now(mail: Submissions) -> None:
    done = mail.run([SENDMAIL, "x"], QMAILHOME=str(mail.path / "nowhere"))
    said = b"sendmail: fatal: unable to switch to qmail home directory: file does not exist\n"
    assert (done.stdout, done.stderr, done.returncode) == (b"", said, 111)


@pytest.mark.parametrize("cold", ["", "1"])
def test_a_home_with_a_relative_name_stays_the_same_one(queue_home: QueueHome, cold: str) -> None:
    env = {**queue_home.env(USER="joe", QMAILPY_COLD=cold), "QMAILHOME": "home"}
    assert run([SENDMAIL, "a@b.c"], b"\nbody\n", env=env, cwd=queue_home.path.parent).returncode == 0
    assert queue_home.message().recipients == [b"a@b.c"]


@pytest.mark.parametrize("inject", everybodys("qmail-inject"))
def test_either_qmail_inject_stands_behind_it(mail: Submissions, inject: str) -> None:
    (mail.path / "bin").mkdir()
    (mail.path / "bin" / "qmail-inject").symlink_to(inject)
    assert mail.run([SENDMAIL, "-f", "s@t.u", "a"], b"Subject: x\n\n").returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert (taken.sender, taken.recipients) == (b"s@t.u", [b"a@host.domain.example"])
