"""Programs that send mail by running sendmail: procmail and mail(1), as s-nail has it; and the way that cron and web
applications do."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from tests.helpers import BIN, PYTHON, needs, run
from tests.queuehomes import QueueHome, queue_home

__all__ = ["queue_home"]

SHORT_PATH = f"{Path(PYTHON).parent}:/usr/bin:/bin"  # of many a daemon; the launchers need their Python
ME = pwd.getpwuid(os.geteuid()).pw_name

MESSAGE = b"From: a@b.c\nTo: h@h.h\nSubject: hi\n\nbody\n.\n>From here\n"


@pytest.fixture
def installed(queue_home: QueueHome) -> QueueHome:
    """A home whose folder bin leads to the programs, as the originals' does: PATH need not."""
    (queue_home.path / "bin").symlink_to(BIN)
    return queue_home


def test_procmail_forwards_with_it(installed: QueueHome, tmp_path: Path) -> None:
    (tmp_path / "rc").write_text(
        f"PATH={SHORT_PATH}\nSENDMAIL={BIN}/sendmail\nDEFAULT={tmp_path}/left\n"
        f":0 c\n! max@x.y other@x.y\n\n:0 c\n| $SENDMAIL -oi -f s@t.u last@x.y\n\n:0\n| cat > /dev/null\n"
    )
    env = installed.env(USER="joe", HOME=str(tmp_path))
    done = run([needs("procmail"), "-p", "-f", "a@b.c", f"{tmp_path}/rc"], MESSAGE, env=env, cwd=tmp_path)
    assert (b"fatal" in done.stderr, done.returncode) == (False, 0)  # it may complain of its user's home
    assert not (tmp_path / "left").exists()
    first, second = sorted(installed.messages(), key=lambda queued: len(queued.recipients), reverse=True)
    assert first.recipients == [b"max@x.y", b"other@x.y"]
    assert (second.sender, second.recipients) == (b"s@t.u", [b"last@x.y"])
    assert b"\nTo: h@h.h\nSubject: hi\n\nbody\n.\n>From here\n" in first.body


def test_mail_sends_with_it(installed: QueueHome, tmp_path: Path) -> None:
    env = installed.env(USER=ME, LOGNAME=ME, HOME=str(tmp_path), MAILRC="/dev/null")
    words = ["-:/", "-S", f"mta={BIN}/sendmail", "-S", "sendwait", "-s", "hi there", "-r", "joe@x.y", "max@x.y"]
    done = run([needs("s-nail"), *words], b"body\n", env=env, cwd=tmp_path)
    assert (done.stderr, done.returncode) == (b"", 0)
    queued = installed.message()
    assert (queued.sender, queued.recipients) == (b"joe@x.y", [b"max@x.y"])
    assert b"\nSubject: hi there\n" in queued.body
    assert queued.body.endswith(b"\n\nbody\n")


def test_a_web_application_sends_with_it(installed: QueueHome) -> None:
    """As PHP's mail() and many a Python program do: a shell's command line, and the recipients in the header."""
    env = {**installed.env(USER="www-data"), "PATH": SHORT_PATH}
    text = b"To: max@x.y\nBcc: u@x.y\n\n.\nbody\n"
    done = run(["sh", "-c", f"{BIN}/sendmail -t -i -f www@x.y"], text, env=env)
    assert (done.stderr, done.returncode) == (b"", 0)
    queued = installed.message()
    assert (queued.sender, sorted(queued.recipients)) == (b"www@x.y", [b"max@x.y", b"u@x.y"])
    assert b"\nTo: max@x.y\n\n.\nbody\n" in queued.body
    assert b"Bcc" not in queued.body


def test_cron_sends_the_output_of_a_job_with_it(installed: QueueHome) -> None:
    """Debian's cron opens a pipe to this, as the job's user, and writes header and output."""
    text = b"From: root (Cron Daemon)\nTo: joe\nSubject: Cron <joe@host> job\nX-Cron-Env: <LOGNAME=joe>\n\noutput\n"
    words = ["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "joe"]
    env = {"QMAILHOME": str(installed.path), "LOGNAME": "joe", "HOME": "/", "PATH": SHORT_PATH}
    sendmail = subprocess.Popen([BIN / "sendmail", *words], stdin=subprocess.PIPE, env=env, cwd="/")
    assert sendmail.stdin is not None
    for at in range(0, len(text), 10):
        os.write(sendmail.stdin.fileno(), text[at : at + 10])
    sendmail.stdin.close()
    assert sendmail.wait(20) == 0
    queued = installed.message()
    assert (queued.sender, queued.recipients) == (b"joe@me.example", [b"joe@me.example"])
    assert b"\nFrom: root@me.example (Cron Daemon)\nTo: joe@me.example\n" in queued.body
    assert queued.body.endswith(b"\n\noutput\n")
