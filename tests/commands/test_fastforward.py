"""fastforward beside the original: who gets a message, what runs, and how it ends."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmailpy.formats import cdb
from tests.forwarders import BOTH, EVERYBODY, ORIGINALS, program, run
from tests.helpers import BIN
from tests.helpers import run as run_in
from tests.queuehomes import QueueHome, queue_home
from tests.submissions import Done, Submissions, mail

__all__ = ["mail", "queue_home"]

MESSAGE = b"Subject: s\n\ntext\n"
SENT = b"Delivered-To: joe@host\n" + MESSAGE
UNKNOWN = b"Sorry, no mailbox here by that name. (#5.1.1)\n"
SETTINGS = {
    "RECIPIENT": "joe@host",
    "SENDER": "s@t",
    "HOST": "host",
    "DTLINE": "Delivered-To: joe@host\n",
    "RPLINE": "Return-Path: <s@t>\n",
    "UFLINE": "From s@t Thu Jan 01 00:00:00 1970\n",
}


def database(mail: Submissions, table: dict[bytes, bytes]) -> None:
    (mail.path / "data.cdb").write_bytes(b"".join(cdb.make(table.items())))


def deliver(which: str, mail: Submissions, *options: str, **changes: str | None) -> Done:
    """MESSAGE as qmail-local hands it over: a file, at its beginning."""
    (mail.path / "mess").write_bytes(MESSAGE)
    argv = ["sh", "-c", 'exec "$@" < mess', "sh", *program(which, "fastforward", mail), *options, "data.cdb"]
    return mail.run(argv, b"", **{**SETTINGS, **changes})


def said_qp(done: Done) -> bool:
    return done.stderr.startswith(b"fastforward: qp ") and done.stderr[16:-1].isdigit()


@BOTH
def test_a_message_is_forwarded_behind_its_line(mail: Submissions, which: str) -> None:
    database(mail, {b":joe@": b"&a@b\0&c@d\0"})
    done = deliver(which, mail)
    assert (done.returncode, done.stdout, said_qp(done)) == (0, b"", True)
    taken = mail.taken()
    assert taken is not None
    assert taken == (SENT, b"s@t", [b"a@b", b"c@d"])


@BOTH
def test_without_a_line_there_is_none(mail: Submissions, which: str) -> None:
    database(mail, {b":joe@": b"&a@b\0"})
    assert deliver(which, mail, DTLINE=None).returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert taken.message == MESSAGE


@BOTH
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [((), 100, UNKNOWN), (("-p",), 0, b""), (("-pP",), 100, UNKNOWN), (("-p", "-n"), 0, b"")],
)
def test_a_recipient_that_is_not_found(
    mail: Submissions, which: str, options: tuple[str, ...], code: int, said: bytes
) -> None:
    database(mail, {b":other@": b"&a@b\0"})
    done = deliver(which, mail, *options)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", said)
    assert mail.taken() is None


@BOTH
def test_after_one_that_is_found_the_other_lines_may_be_skipped(mail: Submissions, which: str) -> None:
    database(mail, {b":joe@": b"&a@b\0"})
    assert deliver(which, mail, "-p").returncode == 99
    database(mail, {b":joe@": b"|true\0"})
    done = deliver(which, mail, "-p")
    assert (done.returncode, done.stderr) == (99, b"")


@BOTH
def test_the_recipient_may_be_what_the_word_default_stands_for(mail: Submissions, which: str) -> None:
    database(mail, {b":x-y@host": b"&a@b\0", b":z@": b"&c@d\0"})
    assert deliver(which, mail, "-d", DEFAULT="X-y").returncode == 0
    assert deliver(which, mail, "-d", DEFAULT=None, EXT="z").returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert taken.recipients == [b"c@d"]
    assert deliver(which, mail, "-dD", DEFAULT="z").returncode == 100


@BOTH
@pytest.mark.parametrize(
    ("options", "unset", "said"),
    [
        ((), "RECIPIENT", b"$RECIPIENT must be set"),
        (("-d",), "DEFAULT", b"$DEFAULT or $EXT must be set"),
        (("-d",), "HOST", b"$HOST must be set"),
    ],
)
def test_what_is_not_set_is_named(
    mail: Submissions, which: str, options: tuple[str, ...], unset: str, said: bytes
) -> None:
    database(mail, {})
    changes = {"DEFAULT": "x", "EXT": None, unset: None}
    done = deliver(which, mail, *options, **changes)
    assert (done.returncode, done.stderr) == (100, b"fastforward: fatal: " + said + b"\n")


@BOTH
def test_fastforward_says_its_usage(mail: Submissions, which: str) -> None:
    usage = b"fastforward: usage: fastforward [ -nNpP ] data.cdb\n"
    done = run(which, mail, ["fastforward"])
    assert (done.returncode, done.stderr) == (100, usage)
    done = run(which, mail, ["fastforward", "-x", "data.cdb"])
    assert (done.returncode, done.stderr.endswith(usage)) == (100, True)


@BOTH
def test_a_database_that_is_trouble_is_named(mail: Submissions, which: str) -> None:
    done = deliver(which, mail)
    said = b"fastforward: fatal: unable to read data.cdb: file does not exist\n"
    assert (done.returncode, done.stderr) == (111, said)
    (mail.path / "data.cdb").write_bytes(b"x" * 100)
    done = deliver(which, mail)
    assert (done.returncode, done.stderr) == (111, b"fastforward: fatal: unable to read data.cdb: input/output error\n")


@BOTH
def test_an_owner_becomes_the_sender_but_not_of_a_bounce(mail: Submissions, which: str) -> None:
    database(mail, {b"?joe@": b"owner@x", b":joe@": b"&a@b\0"})
    for sender, wanted in (("s@t", b"owner@x"), ("", b""), ("#@[]", b"#@[]")):
        assert deliver(which, mail, SENDER=sender).returncode == 0
        taken = mail.taken()
        assert taken is not None
        assert taken.sender == wanted


@BOTH
def test_programs_get_the_message_one_after_the_other(mail: Submissions, which: str) -> None:
    database(mail, {b":joe@": b"|cat > one; echo $SENDER >> one\0|cat > two\0&a@b\0"})
    assert deliver(which, mail).returncode == 0
    assert (mail.path / "one").read_bytes() == MESSAGE + b"s@t\n"
    assert (mail.path / "two").read_bytes() == MESSAGE
    taken = mail.taken()
    assert taken is not None
    assert taken.message == SENT


@BOTH
def test_a_program_may_have_the_lines_of_preline(mail: Submissions, which: str) -> None:
    database(mail, {b":joe@": b"!cat > one\0"})
    done = deliver(which, mail)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = SETTINGS["UFLINE"] + SETTINGS["RPLINE"] + SETTINGS["DTLINE"]
    assert (mail.path / "one").read_bytes() == lines.encode() + MESSAGE


@BOTH
@pytest.mark.parametrize("how", ["|", "!"])
@pytest.mark.parametrize("code", [1, 64, 65, 70, 71, 74, 75, 76, 77, 78, 99, 100, 111, 112, 127])
def test_a_program_that_fails_ends_it(mail: Submissions, which: str, how: str, code: int) -> None:
    database(mail, {b":joe@": f"{how}exit {code}\0|touch two\0&a@b\0".encode()})
    done = deliver(which, mail)
    assert (done.returncode, done.stderr) == (100 if code in (64, 65, 70, 76, 77, 78, 100, 112) else 111, b"")
    assert not (mail.path / "two").exists()
    assert mail.taken() is None


@BOTH
def test_a_program_that_is_killed_is_trouble_for_now(mail: Submissions, which: str) -> None:
    database(mail, {b":joe@": b"|kill -9 $$\0"})
    done = deliver(which, mail)
    assert done.returncode == 111
    assert done.stderr.startswith(b"fastforward: fatal: child crashed in |kill -9 $$")


@BOTH
def test_a_program_that_cannot_be_run_is_trouble_for_now(mail: Submissions, which: str) -> None:
    database(mail, {b":joe@": b"!x\0"})
    (mail.path / "bin").mkdir()
    for name in ("sh", "env", "python3", "unshare", "mount"):
        found = next(path for folder in mail.env["PATH"].split(":") if (path := Path(folder, name)).exists())
        (mail.path / "bin" / name).symlink_to(found)
    done = deliver(which, mail, PATH=str(mail.path / "bin"))
    assert (done.returncode, done.stderr) == (111, b"fastforward: fatal: unable to run !x: file does not exist\n")


@BOTH
def test_lists_are_read(mail: Submissions, which: str) -> None:
    database(mail, {b":joe@": b"./l.bin\0"})
    (mail.path / "l.bin").write_bytes(b"&a@b\0./m.bin\0|touch one\0")
    (mail.path / "m.bin").write_bytes(b"&c@d\0./l.bin\0&a@b\0")
    assert deliver(which, mail).returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert sorted(taken.recipients) == [b"a@b", b"c@d"]
    assert not (mail.path / "one").exists()


@BOTH
def test_lists_that_not_everybody_may_read_are_refused(mail: Submissions, which: str) -> None:
    database(mail, {b":joe@": b"&a@b\0./l.bin\0"})
    done = deliver(which, mail)
    assert (done.returncode, done.stderr) == (
        111,
        b"fastforward: fatal: unable to read ./l.bin: file does not exist\n",
    )
    (mail.path / "l.bin").write_bytes(b"&a@b\0")
    (mail.path / "l.bin").chmod(0o640)
    done = deliver(which, mail)
    assert (done.returncode, done.stderr) == (111, b"fastforward: fatal: ./l.bin is not world-readable\n")


def test_a_list_that_has_no_end_is_not_read(mail: Submissions) -> None:
    database(mail, {b":joe@": b"/dev/zero\0"})
    done = deliver("ours", mail)
    assert (done.returncode, done.stderr) == (111, b"fastforward: fatal: /dev/zero is not a regular file\n")


@BOTH
def test_what_would_be_done_is_shown(mail: Submissions, which: str) -> None:
    database(mail, {b"?joe@": b"o\x01w\xff@p\x7f", b":joe@": b"&a@b\0|touch one\0!x\ty\0&c@d\0", b":z@": b"|x\0"})
    done = deliver(which, mail, "-n")
    shown = b"run |touch one\nrun !x_y\nfrom <o_w_@p\x7f>\nto <a@b>\nto <c@d>\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", shown)
    done = deliver(which, mail, "-np", RECIPIENT="z@z")
    assert (done.returncode, done.stderr) == (99, b"run |x\nno forwarding\n")
    assert not (mail.path / "one").exists()
    assert mail.taken() is None


@BOTH
@pytest.mark.parametrize(("code", "exit_code", "why"), [(31, 100, b"permanently"), (71, 111, b"temporarily")])
def test_trouble_with_the_queue_is_told(mail: Submissions, which: str, code: int, exit_code: int, why: bytes) -> None:
    mail.recorder(code)
    database(mail, {b":joe@": b"&a@b\0"})
    done = deliver(which, mail)
    assert done.returncode == exit_code
    if which == "ours":  # the original has other words for these codes: it is older
        said = b"mail server " + why + b" rejected message (#"
        assert done.stderr.startswith(b"fastforward: fatal: " + said)


def test_a_message_that_cannot_be_read_is_trouble_for_now(mail: Submissions) -> None:
    database(mail, {b":joe@": b"&a@b\0"})
    for redirection in ("<&-", "0> out"):
        done = mail.run(["sh", "-c", f'exec "$0" data.cdb {redirection}', BIN / "fastforward"], b"", **SETTINGS)
        said = b"fastforward: fatal: unable to read message: file descriptor not open\n"
        assert (done.returncode, done.stderr) == (111, said)


def test_a_message_gets_into_the_queue_of_the_home(queue_home: QueueHome) -> None:
    data = queue_home.path / "data.cdb"
    data.write_bytes(b"".join(cdb.make([(b":joe@", b"&a@b\0")])))
    done = run_in([BIN / "fastforward", data], MESSAGE, env=queue_home.env(**SETTINGS))
    assert (done.returncode, said_qp(done)) == (0, True)
    queued = queue_home.message()
    assert (queued.sender, queued.recipients, queued.body) == (b"s@t", [b"a@b"], SENT)
    assert done.stderr == b"fastforward: qp %d\n" % queued.pid


ITEMS = st.sampled_from([
    b"&a@b", b"&C@d", b"&joe@host", b"./l", b"./m", b"|exit 0", b"|exit 3", b"|exit 100", b"", b"x", b"&",
    b"&" + b"x" * 899,
])  # fmt: skip
DATA = st.lists(ITEMS, max_size=5).map(lambda items: b"".join([item + b"\0" for item in items]))
KEYS = st.sampled_from([b":joe@", b":a@b", b":c@d", b"?a@b", b":joe@host", b":@host", b"?joe@", b"?@host"])

if ORIGINALS:

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(table=st.dictionaries(KEYS, DATA, max_size=5), one=DATA, two=st.one_of(DATA, st.binary(max_size=20)))
    def test_any_database_is_followed_as_the_original_does(
        mail: Submissions, table: dict[bytes, bytes], one: bytes, two: bytes
    ) -> None:
        database(mail, table)
        (mail.path / "l").write_bytes(one)
        (mail.path / "m").write_bytes(two.replace(b"/", b""))
        for options in ((), ("-pn",)):
            found = []
            for which in EVERYBODY:
                done = deliver(which, mail, *options)
                found.append((done.returncode, said_qp(done) or done.stderr, mail.taken()))
            assert found[0] == found[1]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spoilt_database_is_trouble_for_now_or_none(mail: Submissions, data: st.DataObject) -> None:
    file = bytearray(b"".join(cdb.make([(b":joe@", b"&a@b\0"), (b":a@b", b"&c@d\0"), (b"?joe@", b"o@p")])))
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    del file[data.draw(st.integers(0, len(file))) :]
    (mail.path / "data.cdb").write_bytes(file)
    done = deliver("ours", mail, "-n", "-d", DEFAULT="joe")
    assert done.returncode in (0, 100, 111)
    assert b"bug" not in done.stderr
