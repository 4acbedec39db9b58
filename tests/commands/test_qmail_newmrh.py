"""qmail-newmrh: the cdb it makes, and what is left after trouble."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.formats import cdb
from tests.helpers import BIN, needs, run
from tests.smtp import FOLDER, Mailhost, made, mailhost, original_control

__all__ = ["mailhost"]

NEWMRH = BIN / "qmail-newmrh"


def make(host: Mailhost, text: bytes) -> bytes:
    host.control(morercpthosts=text)
    done = host.run([NEWMRH])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return (host.path / "control" / "morercpthosts.cdb").read_bytes()


def test_each_line_is_a_key_in_lower_case(mailhost: Mailhost) -> None:
    made = make(mailhost, b"A.Test \t\n\n# comment\n.b.test\n\xff x\n \nlast")
    assert made == b"".join(cdb.make((key, b"") for key in (b"a.test", b".b.test", b"\xff x", b"last")))
    dump = run([needs("cdb"), "-d", mailhost.path / "control" / "morercpthosts.cdb"]).stdout
    assert dump == b"+6,0:a.test->\n+7,0:.b.test->\n+3,0:\xff x->\n+4,0:last->\n\n"


def test_the_cdb_may_be_read_by_all_whatever_the_umask(mailhost: Mailhost) -> None:
    os.umask(old := os.umask(0o077))
    mailhost.control(morercpthosts=b"a")
    try:
        os.umask(0o077)
        mailhost.run([NEWMRH])
    finally:
        os.umask(old)
    assert stat.S_IMODE((mailhost.path / "control" / "morercpthosts.cdb").stat().st_mode) == 0o644


def test_without_a_file_it_fails_and_leaves_the_old_cdb(mailhost: Mailhost) -> None:
    before = make(mailhost, b"a")
    (mailhost.path / "control" / "morercpthosts").unlink()
    done = mailhost.run([NEWMRH])
    wanted = b"qmail-newmrh: fatal: unable to read control/morercpthosts: file does not exist\n"
    assert (done.returncode, done.stderr) == (111, wanted)
    assert (mailhost.path / "control" / "morercpthosts.cdb").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("morercpthosts.tmp", b"unable to write to control/morercpthosts.tmp: is a directory"),
        ("morercpthosts.cdb", b"unable to move control/morercpthosts.tmp to control/morercpthosts.cdb: is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(name: str, complaint: bytes, mailhost: Mailhost) -> None:
    mailhost.control(morercpthosts=b"a")
    (mailhost.path / "control" / name).mkdir()
    done = mailhost.run([NEWMRH])
    assert (done.returncode, done.stderr) == (111, b"qmail-newmrh: fatal: " + complaint + b"\n")


def test_without_a_home_it_fails(mailhost: Mailhost) -> None:
    done = mailhost.run([NEWMRH], env=mailhost.environment(QMAILHOME="/nowhere"))
    wanted = b"qmail-newmrh: fatal: unable to chdir to /nowhere: file does not exist\n"
    assert (done.returncode, done.stderr) == (111, wanted)


if FOLDER and Path(FOLDER, "qmail-newmrh").is_file():

    @settings(max_examples=30)
    @given(
        text=st.lists(st.sampled_from([b"A.b", b"\n", b" ", b"\t", b"#", b"\0", b"\r", b"\xc4"]), max_size=12).map(
            b"".join
        )
    )
    def test_the_cdb_is_that_of_the_original(text: bytes) -> None:
        with made() as host:
            ours = make(host, text)
            with original_control(host):
                there = Path(str(FOLDER)).parent / "control"
                (there / "morercpthosts.cdb").unlink()
                assert run([Path(str(FOLDER), "qmail-newmrh")]).returncode == 0
                assert (there / "morercpthosts.cdb").read_bytes() == ours
