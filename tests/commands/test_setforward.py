"""setforward beside the original: the database it makes, and what is left after trouble."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.formats import cdb
from tests.forwarders import BOTH, EVERYBODY, ORIGINALS, run, set_forward
from tests.helpers import BIN
from tests.submissions import Submissions, mail

__all__ = ["mail"]

TEXT = b"Root@: joe@x.y, # who\n &mary@x.y, |log it\\ now;\n\nlist@h: ?owner@h, ./list.bin;"
TABLE = [(b":root@", b"&joe@x.y\0&mary@x.y\0|logit now\0"), (b"?list@h", b"owner@h"), (b":list@h", b"./list.bin\0")]


@BOTH
def test_instructions_become_a_database(mail: Submissions, which: str) -> None:
    made = set_forward(which, mail, TEXT)
    assert (made.code, made.said, made.file) == (0, b"", b"".join(cdb.make(TABLE)))
    assert not (mail.path / "set.tmp").exists()


@BOTH
@pytest.mark.parametrize("words", [[], ["a.cdb"]])
def test_setforward_says_its_usage(mail: Submissions, which: str, words: list[str]) -> None:
    done = run(which, mail, ["setforward", *words])
    assert (done.returncode, done.stderr) == (100, b"setforward: usage: setforward data.cdb data.tmp\n")


@BOTH
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("set.tmp", b"unable to create set.tmp: is a directory"),
        ("set.cdb", b"unable to move set.tmp to set.cdb: is a directory"),
    ],
)
def test_a_file_that_is_trouble_is_named(mail: Submissions, which: str, name: str, complaint: bytes) -> None:
    (mail.path / name).mkdir()
    done = run(which, mail, ["setforward", "set.cdb", "set.tmp"], TEXT)
    assert (done.returncode, done.stderr) == (111, b"setforward: fatal: " + complaint + b"\n")


def test_input_that_cannot_be_read_is_trouble_for_now(mail: Submissions) -> None:
    done = mail.run(["sh", "-c", 'exec "$0" set.cdb set.tmp <&-', BIN / "setforward"])
    said = b"setforward: fatal: unable to read input: file descriptor not open\n"
    assert (done.returncode, done.stderr) == (111, said)


def test_a_line_that_is_wrong_is_named_and_the_old_database_stays(mail: Submissions) -> None:
    (mail.path / "set.cdb").write_bytes(b"old")
    done = mail.run([BIN / "setforward", "set.cdb", "set.tmp"], b"a: b;\n\nc:: d;")
    said = b"setforward: fatal: double colons are not permitted (line 3)\n"
    assert (done.returncode, done.stderr) == (100, said)
    assert (mail.path / "set.cdb").read_bytes() == b"old"


TEXTS = st.lists(
    st.sampled_from([
        b"A", b"x@y", b"@", b":", b": ", b",", b";", b";", b"#", b"\n", b" ", b"\\", b"|p", b"!q", b"?o@p", b"./l",
        b"&", b"\0", b"\xff", b"a: b, |c;", b"x" * 799,
    ]),
    max_size=14,
).map(b"".join)  # fmt: skip

if ORIGINALS:

    @settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=TEXTS.filter(lambda text: b"&" + b"x" * 799 not in text))
    def test_any_instructions_become_what_the_original_makes_of_them(mail: Submissions, text: bytes) -> None:
        ours, theirs = (set_forward(which, mail, text) for which in EVERYBODY)
        assert ours.same(theirs), (ours.said, theirs.said)
