"""printmaillist beside the original: lists as text, and files that are none."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.forwarders import BOTH, EVERYBODY, ORIGINALS, run, set_list
from tests.submissions import Submissions, mail

__all__ = ["mail"]

LIST = b"&joe@x.y\0./l.bin\0/etc/m.bin\0& x\0"


@BOTH
def test_a_list_is_printed_and_comes_back(mail: Submissions, which: str) -> None:
    done = run(which, mail, ["printmaillist"], LIST)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"&joe@x.y\n./l.bin\n/etc/m.bin\n& x\n", b"")
    assert set_list(which, mail, done.stdout).file == LIST


@BOTH
def test_a_file_of_something_else_is_refused(mail: Submissions, which: str) -> None:
    for file in (b"joe", b"\0", b"joe@x.y\0", b"&a\nb\0"):
        done = run(which, mail, ["printmaillist"], file)
        said = b"printmaillist: fatal: bad mailing list format\n"
        assert (done.returncode, done.stdout, done.stderr) == (100, b"", said)


ITEMS = st.lists(st.sampled_from([b"&a\0", b"./b\0", b"/c\0", b"x", b"\0", b"\n", b" ", b"&" + b"a" * 898]), max_size=6)

if ORIGINALS:

    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(file=ITEMS.map(b"".join))
    def test_any_list_is_printed_as_the_original_prints_it(mail: Submissions, file: bytes) -> None:
        ours, theirs = (run(which, mail, ["printmaillist"], file) for which in EVERYBODY)
        assert ours.returncode == theirs.returncode
        if ours.returncode == 0:
            assert ours.stdout == theirs.stdout
