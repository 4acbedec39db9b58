"""printforward beside the original: databases as text, and files that are none."""

import subprocess

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.formats import cdb
from tests.forwarders import BOTH, EVERYBODY, ORIGINALS, compile_aliases, run, set_forward
from tests.helpers import BIN
from tests.submissions import Submissions, mail

__all__ = ["mail"]

TABLE = [(b":a b@", b"&x@y\0|c \xff\0./l\0"), (b"?a@", b"o@p")]
SHOWN = b"a\\ b@:\n, &x@y\n, |c\\ \\\xff\n, ./l\n;\na@: ?o@p;\n"


@BOTH
def test_a_database_is_printed(mail: Submissions, which: str) -> None:
    done = run(which, mail, ["printforward"], b"".join(cdb.make(TABLE)))
    assert (done.returncode, done.stdout, done.stderr) == (0, SHOWN, b"")


@BOTH
def test_what_newaliases_makes_comes_back_from_setforward(mail: Submissions, which: str) -> None:
    made = compile_aliases("ours", mail, b'a: b, "|c, d;:#", <"x y"@z>\nowner-a: a\nfoo: ' + b"x" * 790 + b"@a.b\n")
    assert made.file is not None
    printed = run(which, mail, ["printforward"], made.file).stdout
    assert set_forward(which, mail, printed).file == made.file


def test_an_address_of_800_bytes_comes_back_too(mail: Submissions) -> None:
    made = compile_aliases("ours", mail, b"foo: " + b"x" * 796 + b"@a.b\n")
    assert made.file is not None
    printed = run("ours", mail, ["printforward"], made.file).stdout
    assert set_forward("ours", mail, printed).file == made.file


@BOTH
def test_a_file_of_something_else_is_refused(mail: Submissions, which: str) -> None:
    for file in (b"", b"x" * 4000, b"".join(cdb.make([(b"key", b"data")]))):
        done = run(which, mail, ["printforward"], file)
        who = b"printforward" if which == "ours" else b"printmaillist"  # so it says
        assert (done.returncode, done.stdout) == (100, b"")
        assert done.stderr == who + b": fatal: bad database format\n"


def test_what_cannot_be_written_is_trouble_for_now(mail: Submissions) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [BIN / "printforward"], input=b"".join(cdb.make(TABLE)), stdout=full, stderr=subprocess.PIPE, env=mail.env,
            check=False,
        )  # fmt: skip
    said = b"printforward: fatal: unable to write output: out of disk space\n"
    assert (done.returncode, done.stderr) == (111, said)


TABLES = st.lists(
    st.tuples(
        st.sampled_from([b":a", b"?b", b":\xff ", b"", b"x", b":"]),
        st.lists(st.sampled_from([b"&a\0", b"|b c\0", b"./l\0", b"x\0", b"\0", b"&n", b"\n\0"])).map(b"".join),
    ),
    max_size=4,
)

if ORIGINALS:

    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(table=TABLES, cut=st.integers(0, 60), change=st.tuples(st.integers(0, 3), st.integers(0, 255)))
    def test_any_database_is_printed_as_the_original_prints_it(
        mail: Submissions, table: list[tuple[bytes, bytes]], cut: int, change: tuple[int, int]
    ) -> None:
        whole = b"".join(cdb.make(table))
        other = bytearray(whole)
        other[change[0]] = change[1]
        for file in (whole, whole[: max(0, len(whole) - cut)], bytes(other)):
            ours, theirs = (run(which, mail, ["printforward"], file) for which in EVERYBODY)
            assert ours.returncode == theirs.returncode
            if ours.returncode == 0:
                assert ours.stdout == theirs.stdout
