"""newaliases beside the original: the database it makes, and what is left after trouble."""

import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.formats import cdb
from tests.forwarders import BOTH, EVERYBODY, ORIGINALS, compile_aliases, inside
from tests.helpers import BIN, needs
from tests.submissions import Submissions, mail

__all__ = ["mail"]

TEXT = b"""\
# who gets what
root: joe,
  mary@there.example

Fred: "|cat -", :include:/etc/list
owner-fred: joe
joe@net.example: joe@box+
@net.example: Some Body <some.body>
"""
TABLE = [
    (b":root@", b"&mary@there.example\0&joe@me.example\0"),
    (b":fred@", b"/etc/list.bin\0!cat -\0"),
    (b"?fred@", b"owner-fred@me.example"),
    (b":owner-fred@", b"&joe@me.example\0"),
    (b":joe@net.example", b"&joe@box.me.example\0"),
    (b":@net.example", b"&some.body@me.example\0"),
]


@BOTH
def test_aliases_become_a_database(mail: Submissions, which: str) -> None:
    made = compile_aliases(which, mail, TEXT)
    assert (made.code, made.said) == (0, b"")
    assert made.file == b"".join(cdb.make(TABLE))
    assert not (mail.path / "etc" / "aliases.tmp").exists()


@BOTH
def test_the_names_that_complete_are_those_of_control(mail: Submissions, which: str) -> None:
    for name in ("defaulthost", "defaultdomain", "plusdomain"):
        (mail.path / "control" / name).write_text(name.removeprefix("default") + "\n")
    made = compile_aliases(which, mail, b"a: b, c@d, e@f+\n")
    assert made.file == b"".join(cdb.make([(b":a@", b"&e@f.plusdomain\0&c@d.domain\0&b@host.domain\0")]))


@BOTH
def test_everybody_may_read_the_database_whatever_the_umask(mail: Submissions, which: str) -> None:
    before = os.umask(0o077)
    try:
        assert compile_aliases(which, mail, TEXT).code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((mail.path / "etc" / "aliases.cdb").stat().st_mode) == 0o644


@BOTH
def test_aliases_that_are_not_there_are_named(mail: Submissions, which: str) -> None:
    compile_aliases(which, mail, b"")
    (mail.path / "etc" / "aliases").unlink()
    path = mail.path / "etc" / "aliases" if which == "ours" else "/etc/aliases"
    argv = (
        [BIN / "newaliases", path] if which == "ours" else inside(mail, [os.environ["FASTFORWARD_BIN"] + "/newaliases"])
    )
    done = mail.run(argv)
    wanted = f"newaliases: fatal: unable to read {path}: file does not exist\n".encode()
    assert (done.returncode, done.stderr) == (111, wanted)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (b"a: b\n\nc: /f\n", 111, b"file delivery /f not supported (line 3)"),
        (b"a: b\nc\n", 111, b"unable to parse this line: c (line 2)"),
        (b"a:\n " + b"b" * 800, 100, b"addresses over 800 bytes are not permitted (line 1)"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_the_old_database_stays(
    mail: Submissions, text: bytes, code: int, said: bytes
) -> None:
    (mail.path / "aliases.cdb").write_bytes(b"old")
    (mail.path / "aliases").write_bytes(text)
    done = mail.run([BIN / "newaliases", "aliases"])
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"newaliases: fatal: " + said + b"\n")
    assert (mail.path / "aliases.cdb").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("aliases.tmp", b"unable to create aliases.tmp: is a directory"),
        ("aliases.cdb", b"unable to move aliases.tmp to aliases.cdb: is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(mail: Submissions, name: str, complaint: bytes) -> None:
    (mail.path / "aliases").write_bytes(TEXT)
    (mail.path / name).mkdir()
    done = mail.run([BIN / "newaliases", "aliases"])
    assert (done.returncode, done.stderr) == (111, b"newaliases: fatal: " + complaint + b"\n")


def test_a_last_line_without_an_end_counts(mail: Submissions) -> None:
    assert compile_aliases("ours", mail, b"a: b@c.d").file == b"".join(cdb.make([(b":a@", b"&b@c.d\0")]))


def test_an_ipv6_address_is_left_alone(mail: Submissions) -> None:
    made = compile_aliases("ours", mail, b"a: b@[IPv6:2001:db8::1]\n")
    assert made.file == b"".join(cdb.make([(b":a@", b"&b@[IPv6:2001:db8::1]\0")]))


def test_without_a_home_it_fails(mail: Submissions) -> None:
    done = mail.run([BIN / "newaliases", "aliases"], QMAILHOME="/nowhere")
    assert (done.returncode, done.stderr) == (
        111,
        b"newaliases: fatal: unable to chdir to /nowhere: file does not exist\n",
    )


def test_without_the_name_of_this_host_its_name_is_me(mail: Submissions) -> None:
    (mail.path / "control" / "me").unlink()
    made = compile_aliases("ours", mail, b"a: b\n")
    assert made.file == b"".join(cdb.make([(b":a@", b"&b@me.me\0")]))


def test_a_control_file_that_cannot_be_read_is_trouble(mail: Submissions) -> None:
    (mail.path / "control" / "me").unlink()
    (mail.path / "control" / "me").mkdir()
    made = compile_aliases("ours", mail, b"a: b\n")
    assert (made.code, made.said) == (111, b"newaliases: fatal: unable to read controls: is a directory\n")


def test_options_of_sendmail_mean_nothing(mail: Submissions) -> None:
    (mail.path / "aliases").write_bytes(TEXT)
    assert mail.run([BIN / "newaliases", "-v", "-oQ", "aliases"]).returncode == 0
    assert (mail.path / "aliases.cdb").read_bytes() == b"".join(cdb.make(TABLE))


def test_a_kill_at_any_system_call_leaves_the_old_database_or_the_new_one(mail: Submissions) -> None:
    (mail.path / "aliases").write_bytes(TEXT)
    new = b"".join(cdb.make(TABLE))
    reached = set()
    for call in ("openat", "write", "fsync", "close", "rename"):
        for when in range(1, 400):
            (mail.path / "aliases.cdb").write_bytes(b"old")
            inject = [
                "-e",
                f"trace={call}",
                "-P",
                str(mail.path / "aliases.tmp"),
                "-e",
                f"inject={call}:signal=KILL:when={when}",
            ]
            argv = [needs("strace"), "-o", "/dev/null", *inject, str(BIN / "newaliases"), str(mail.path / "aliases")]
            done = mail.run(argv)
            found = (mail.path / "aliases.cdb").read_bytes()
            if done.returncode == 0:
                assert found == new
                break
            assert found == b"old"
            reached.add(call)
    assert reached == {"openat", "write", "fsync", "close", "rename"}


LINES = st.lists(
    st.sampled_from([
        b"joe", b"owner-x", b"x", b"@", b"h.i", b": ", b":", b",", b";", b"<", b">", b"(", b")", b'"', b"\\", b"|p",
        b"/", b" ", b"\n", b"\n ", b"\n", b"#", b"[1.2]", b":include:", b"+", b"\0", b"\r", b"\xff",
    ]),
    max_size=14,
).map(lambda parts: b"".join(parts) + b"\n")  # fmt: skip

if ORIGINALS:

    @settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=LINES)
    def test_any_aliases_become_what_the_original_makes_of_them(mail: Submissions, text: bytes) -> None:
        ours, theirs = (compile_aliases(which, mail, text) for which in EVERYBODY)
        assert ours.same(theirs), (ours.said, theirs.said)
