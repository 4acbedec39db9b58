"""dot-forward beside the original: what becomes of a message by a .forward file."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.forwarders import BOTH, EVERYBODY, ORIGINALS, program, run
from tests.helpers import BIN
from tests.helpers import run as run_in
from tests.queuehomes import QueueHome, queue_home
from tests.submissions import Done, Submissions, mail

__all__ = ["mail", "queue_home"]

MESSAGE = b"Subject: s\n\ntext\n"
SETTINGS: dict[str, str | None] = {
    "USER": "joe",
    "HOST": "host.example",
    "SENDER": "s@t",
    "NEWSENDER": "new@s",
    "DTLINE": "Delivered-To: joe@host\n",
    "RPLINE": "Return-Path: <s@t>\n",
    "UFLINE": "From s@t Thu Jan 01 00:00:00 1970\n",
    # The original knows control files alone.
    "QMAILDEFAULTHOST": None,
    "QMAILDEFAULTDOMAIN": None,
    "QMAILPLUSDOMAIN": None,
}


def deliver(which: str, mail: Submissions, text: bytes | None, *words: str, **changes: str | None) -> Done:
    """MESSAGE, as qmail-local hands it over, to a user with this .forward, or none."""
    (mail.path / ".forward").unlink(missing_ok=True)
    if text is not None:
        (mail.path / ".forward").write_bytes(text)
    (mail.path / "mess").write_bytes(MESSAGE)
    argv = ["sh", "-c", 'exec "$@" < mess', "sh", *program(which, "dot-forward", mail), *(words or (".forward",))]
    return mail.run(argv, b"", **{**SETTINGS, **changes})


@BOTH
def test_a_message_is_forwarded_and_the_other_lines_are_skipped(mail: Submissions, which: str) -> None:
    done = deliver(which, mail, b"# away\nMary, Fred <fred@x.y>\nlast@box+")
    assert (done.returncode, done.stdout) == (99, b"")
    assert done.stderr.startswith(b"dot-forward: info: qp ")
    taken = mail.taken()
    assert taken is not None
    assert taken.message == b"Delivered-To: joe@host\n" + MESSAGE
    assert (taken.sender, taken.recipients) == (b"new@s", [b"fred@x.y", b"Mary@me.example", b"last@box.me.example"])


@BOTH
@pytest.mark.parametrize("own", [b"JOE", b"\\joe", b"Joe@HOST.example", b'"joe"', b"joe (me)"])
def test_the_user_himself_gets_the_message_by_the_other_lines(mail: Submissions, which: str, own: bytes) -> None:
    done = deliver(which, mail, own)
    assert (done.returncode, done.stderr) == (0, b"")
    assert mail.taken() is None
    assert deliver(which, mail, own + b", mary@x.y\n").returncode == 0
    taken = mail.taken()
    assert taken is not None
    assert taken.recipients == [b"mary@x.y"]


@BOTH
@pytest.mark.parametrize("text", [None, b"", b"# x\n\n  (c)\n"])
def test_without_a_file_that_says_something_the_other_lines_count(
    mail: Submissions, which: str, text: bytes | None
) -> None:
    done = deliver(which, mail, text)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (mail.path / "second").write_bytes(b"mary@x.y")
    assert deliver(which, mail, text, ".forward", "second").returncode == 99
    assert mail.taken() is not None


@BOTH
def test_programs_get_the_lines_and_the_message(mail: Submissions, which: str) -> None:
    done = deliver(which, mail, b'"|cat > two", "|cat > one"\nmary@x.y\n')
    assert done.returncode == 99
    lines = "".join(str(SETTINGS[name]) for name in ("UFLINE", "RPLINE", "DTLINE")).encode()
    assert (mail.path / "one").read_bytes() == (mail.path / "two").read_bytes() == lines + MESSAGE
    taken = mail.taken()
    assert taken is not None
    assert taken.message == b"Delivered-To: joe@host\n" + MESSAGE


@BOTH
def test_a_program_need_not_read(mail: Submissions, which: str) -> None:
    (mail.path / "mess").write_bytes(MESSAGE * 20000)
    (mail.path / ".forward").write_bytes(b'"|true"')
    argv = ["sh", "-c", 'exec "$@" < mess', "sh", *program(which, "dot-forward", mail), ".forward"]
    assert mail.run(argv, b"", **SETTINGS).returncode == 99


@BOTH
@pytest.mark.parametrize("code", [1, 64, 65, 70, 71, 74, 75, 76, 77, 78, 99, 100, 111, 112, 127])
def test_a_program_that_fails_ends_it(mail: Submissions, which: str, code: int) -> None:
    done = deliver(which, mail, f'mary@x.y, "|exit {code}"\n"|touch two"\n'.encode())
    assert (done.returncode, done.stderr) == (100 if code in (64, 65, 70, 76, 77, 78, 100, 112) else 111, b"")
    assert not (mail.path / "two").exists()
    assert mail.taken() is None


@BOTH
def test_a_program_that_is_killed_is_trouble_for_now(mail: Submissions, which: str) -> None:
    done = deliver(which, mail, b'"|kill -9 $$"')
    assert (done.returncode, done.stderr) == (111, b"dot-forward: fatal: child crashed\n")


@BOTH
def test_what_a_file_says_is_shown(mail: Submissions, which: str) -> None:
    done = deliver(which, mail, b'joe, "|run it", mary\n', "-n", ".forward")
    shown = b"forward mary@me.example\npipe through run it\ndirect delivery\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", shown)
    done = deliver(which, mail, b"mary", "-n", ".forward")
    assert (done.returncode, done.stderr) == (99, b"forward mary@me.example\n")
    done = deliver(which, mail, b"", "-n", ".forward", "missing")
    assert (done.returncode, done.stderr) == (0, b"skipping empty file .forward\ndirect delivery\n")
    assert mail.taken() is None


@BOTH
def test_a_file_that_is_trouble_is_named(mail: Submissions, which: str) -> None:
    (mail.path / "folder").mkdir()
    done = deliver(which, mail, None, "folder")
    said = b"dot-forward: fatal: unable to read folder: is a directory\n"
    assert (done.returncode, done.stderr) == (111, said)
    (mail.path / "loop").symlink_to("loop")
    done = deliver(which, mail, None, "loop")
    assert (done.returncode, done.stderr) == (111, b"dot-forward: fatal: unable to open loop: symbolic link loop\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"/var/mail/joe", b"file delivery /var/mail/joe not supported (line 2)"),
        (b"joe (", b"unable to parse this line: joe ( (line 2)"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_nothing_is_done(mail: Submissions, line: bytes, said: bytes) -> None:
    done = deliver("ours", mail, b'"|touch one"\n' + line + b"\nmary@x.y\n")
    assert (done.returncode, done.stderr) == (111, b"dot-forward: fatal: " + said + b"\n")
    assert not (mail.path / "one").exists()
    assert mail.taken() is None


@BOTH
def test_dot_forward_says_its_usage(mail: Submissions, which: str) -> None:
    done = run(which, mail, ["dot-forward", "-x"])
    assert done.returncode == 100
    assert done.stderr.endswith(b"dot-forward: usage: dot-forward [ -nN ] file ...\n")
    assert run(which, mail, ["dot-forward"], b"", **SETTINGS).returncode == 0


def test_trouble_with_the_queue_is_told(mail: Submissions) -> None:
    for code, exit_code, why in ((31, 100, b"permanently"), (71, 111, b"temporarily")):
        mail.recorder(code)
        done = deliver("ours", mail, b"mary@x.y")
        said = b"dot-forward: fatal: unable to forward message: mail server " + why + b" rejected message (#"
        assert (done.returncode, done.stderr[: len(said)]) == (exit_code, said)


def test_a_message_that_cannot_be_read_is_trouble_for_now(mail: Submissions) -> None:
    (mail.path / ".forward").write_bytes(b"mary@x.y")
    done = mail.run(["sh", "-c", 'exec "$0" .forward <&-', BIN / "dot-forward"], b"", **SETTINGS)
    said = b"dot-forward: fatal: unable to read message: file descriptor not open\n"
    assert (done.returncode, done.stderr) == (111, said)


def test_a_message_gets_into_the_queue_of_the_home(queue_home: QueueHome) -> None:
    (queue_home.path / ".forward").write_bytes(b"mary")
    env = queue_home.env(**{name: value for name, value in SETTINGS.items() if value is not None})
    done = run_in([BIN / "dot-forward", queue_home.path / ".forward"], MESSAGE, env=env)
    assert done.returncode == 99, done.stderr
    queued = queue_home.message()
    assert (queued.sender, queued.recipients) == (b"new@s", [b"mary@me.example"])


TEXTS = st.lists(
    st.sampled_from([
        b"joe", b"mary", b"@h", b"h.i", b":", b",", b";", b"<", b">", b"(", b")", b'"', b"\\", b"|p", b"/", b" ",
        b"\n", b"#", b"[1.2]", b":include:", b"+", b"@host.example", b"\t", b"\xff",
    ]),
    max_size=12,
).map(b"".join)  # fmt: skip

if ORIGINALS:

    @settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=TEXTS)
    def test_any_file_says_what_it_says_to_the_original(mail: Submissions, text: bytes) -> None:
        ours, theirs = (deliver(which, mail, text, "-n", ".forward") for which in EVERYBODY)
        assert ours.returncode == theirs.returncode
        if ours.returncode != 111:
            assert ours.stderr == theirs.stderr
