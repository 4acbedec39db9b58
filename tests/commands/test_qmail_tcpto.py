"""qmail-tcpto: a line for each host that is in the table, as the original."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from qmailpy.commands import qmail_tcpto
from tests.helpers import BIN, run
from tests.queuehomes import BOTH, QueueHome, nobody, open_to_all, program, queue_home

__all__ = ["queue_home"]


def record(ip: bytes, count: int, when: int) -> bytes:
    return ip + bytes((count,)) + b"abc" + when.to_bytes(4, "little") + b"defg"


@BOTH
def test_hosts_are_shown_with_their_times(which: str, queue_home: QueueHome) -> None:
    now = int(time.time())
    table = (
        record(b"\xc0\0\2\7", 3, now - 345) + record(b"\xc0\0\2\x08", 0, now) + record(b"\0\0\0\xff", 10, now - 5000)
    )
    (queue_home.queue / "lock" / "tcpto").write_bytes(table + bytes(1024 - len(table)))
    done = run(program(which, "qmail-tcpto", queue_home), env=queue_home.env())
    assert (done.returncode, done.stderr) == (0, b"")
    seconds = [int(number) for number in re.findall(rb"(\d+) seconds", done.stdout)]
    assert all(0 <= found - expected < 30 for found, expected in zip(seconds, (345, 5000), strict=True))
    assert re.sub(rb"\d+ seconds", b"N seconds", done.stdout) == (
        b"192.0.2.7 timed out N seconds ago; # recent timeouts: 3\n"
        b"0.0.0.255 timed out N seconds ago; # recent timeouts: 10\n"
    )


@BOTH
def test_an_empty_table_is_no_line(which: str, queue_home: QueueHome) -> None:
    done = run(program(which, "qmail-tcpto", queue_home), env=queue_home.env())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_host_of_the_future_is_shown_as_the_original_shows_it() -> None:
    assert qmail_tcpto.lines(record(b"\1\2\3\4", 1, 1001), 1000) == (
        b"1.2.3.4 timed out 18446744073709551615 seconds ago; # recent timeouts: 1\n"
    )


@BOTH
@pytest.mark.parametrize(
    ("missing", "complaint"), [("queue/lock/tcpto", b"open tcpto"), ("queue/lock", b"chdir"), ("queue", b"chdir")]
)
def test_what_is_missing_is_said_on_the_output(
    which: str, queue_home: QueueHome, missing: str, complaint: bytes
) -> None:
    if which != "ours" and missing == "queue":
        return  # its own would be found
    argv = program(which, "qmail-tcpto", queue_home)
    (queue_home.path / missing).rename(queue_home.path / "elsewhere")
    done = run(argv, env=queue_home.env())
    assert (done.returncode, done.stderr) == (111, b"")
    assert done.stdout == b"fatal: unable to %s: file does not exist\n" % complaint


def test_who_may_not_write_it_may_not_read_it(queue_home: QueueHome, tmp_path: Path) -> None:
    uid, gid = nobody()
    open_to_all(tmp_path)
    for folder in (queue_home.queue, queue_home.queue / "lock"):
        folder.chmod(0o755)
    done = subprocess.run(
        [BIN / "qmail-tcpto"], env=queue_home.env(), user=uid, group=gid, extra_groups=[], capture_output=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (111, b"fatal: unable to open tcpto: access denied\n")
