"""predate: the date in local time before the input; the original has to pass the same where QMAIL_BIN names it."""

import re
import time
from email.utils import parsedate_to_datetime

import pytest

from tests.helpers import BIN, environment, run
from tests.submissions import everybodys

both = pytest.mark.parametrize("predate", everybodys("predate"))


@both
@pytest.mark.parametrize(
    ("zone", "shown"),
    [("", b"+0000"), ("XXX-1", b"+0100"), ("XXX+5:30", b"-0530"), ("XXX-5:45:31", b"+0546"), ("XXX+0:0:29", b"-0000")],
)
def test_predate_shows_the_date_in_the_zone_of_its_environment(predate: str, zone: str, shown: bytes) -> None:
    before = int(time.time())
    done = run([predate, "cat"], b"To: a\n\nbody", env=environment(TZ=zone))
    assert (done.stderr, done.returncode) == (b"", 0)
    found = re.fullmatch(rb"Date: (\d+ \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4})\nTo: a\n\nbody", done.stdout)
    assert found is not None
    assert found[1].endswith(b" " + shown)
    if b":" not in zone.encode() or zone == "XXX+5:30":
        assert before <= parsedate_to_datetime(found[1].decode()).timestamp() <= time.time()


def test_predate_follows_a_zone_that_an_earlier_program_has_set() -> None:
    """Also if that was no exec."""
    done = run([BIN / "argv0", "predate", "predate", "cat"], env=environment(TZ="XXX-3"))
    assert done.stdout.endswith(b" +0300\n")


def test_predate_follows_a_zone_from_a_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("env")
    (folder / "TZ").write_text("XXX-4\n")
    for cold in ("", "1"):
        env = environment(TZ="XXX-3", QMAILPY_COLD=cold)
        assert run([BIN / "envdir", folder, "predate", "cat"], env=env).stdout.endswith(b" +0400\n")
    (folder / "TZ").write_text("")
    assert run([BIN / "envdir", folder, "predate", "cat"], env=environment(TZ="XXX-3")).stdout.endswith(b" +0000\n")


@both
def test_predate_ends_as_the_program_ends(predate: str) -> None:
    assert run([predate, "sh", "-c", "exit 7"], b"x" * 200000).returncode == 7
    done = run([predate, "sh", "-c", "kill -TERM $$"])
    assert (done.stderr, done.returncode) == (b"predate: fatal: child crashed\n", 111)


@both
def test_predate_names_what_it_cannot_run(predate: str) -> None:
    done = run([predate, "./missing"])
    assert (done.stderr, done.returncode) == (b"predate: fatal: unable to run ./missing: file does not exist\n", 111)


@both
def test_predate_says_its_usage(predate: str) -> None:
    done = run([predate])
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"predate: usage: predate child\n", 100)
