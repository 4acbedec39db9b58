"""forward: what is queued, from whom; the original has to pass the same where QMAIL_BIN names it."""

import subprocess

import pytest

from tests.commands.localuser import MESSAGE, User, anonymous, user
from tests.helpers import BIN
from tests.queuehomes import QueueHome, queue_home
from tests.submissions import everybodys

__all__ = ["queue_home", "user"]

SET = {"NEWSENDER": "s@t", "DTLINE": "Delivered-To: x\n"}

both = pytest.mark.parametrize("program", everybodys("forward"))


@both
@pytest.mark.parametrize("addresses", [[], ["a@b"], ["a@b", "c d", "", "-x"]])
def test_the_message_goes_on(user: User, program: str, addresses: list[str]) -> None:
    done = user.run([program, *addresses], **SET)
    assert (done.returncode, done.stdout, anonymous(done.stderr)) == (0, b"", b"forward: qp PID\n")
    envelope = "Fs@t\0" + "".join(f"T{address}\0" for address in addresses) + "\0"
    assert user.forwarded() == (b"Delivered-To: x\n" + MESSAGE, envelope.encode())


@both
def test_only_what_is_left_of_the_message_goes_on(user: User, program: str) -> None:
    done = user.run(["sh", "-c", 'head -c 5 >/dev/null; exec "$0" a', program], b"x" * 100_000, **SET)
    assert done.returncode == 0
    forwarded = user.forwarded()
    assert forwarded is not None and len(forwarded[0]) < 100_000 + len(SET["DTLINE"])


@both
@pytest.mark.parametrize(("missing", "said"), [
    (["NEWSENDER", "DTLINE"], b"forward: fatal: NEWSENDER not set\n"),
    (["DTLINE"], b"forward: fatal: DTLINE not set\n"),
])  # fmt: skip
def test_what_is_not_set_is_said(user: User, program: str, missing: list[str], said: bytes) -> None:
    done = user.run([program, "a"], **{name: value for name, value in SET.items() if name not in missing})
    assert (done.returncode, done.stderr, user.forwarded()) == (100, said, None)


@both
def test_an_empty_sender_is_one(user: User, program: str) -> None:
    assert user.run([program, "a"], **{**SET, "NEWSENDER": "", "DTLINE": ""}).returncode == 0
    assert user.forwarded() == (MESSAGE, b"F\0Ta\0\0")


@both
@pytest.mark.parametrize(("code", "exit_code", "text"), [
    (31, 100, b"mail server permanently rejected message (#5.3.0)"), (53, 111, b"qq write error or disk full (#4.3.0)"),
])  # fmt: skip
def test_trouble_with_the_queue_is_told(user: User, program: str, code: int, exit_code: int, text: bytes) -> None:
    user.queue(code)
    done = user.run([program, "a"], **SET)
    assert (done.returncode, done.stderr) == (exit_code, b"forward: fatal: " + text + b"\n")


@both
@pytest.mark.parametrize("how", ["<&-", ">out 0>&1"])
def test_a_message_that_cannot_be_read_is_not_queued(user: User, program: str, how: str) -> None:
    """Not even an empty one in its place. The original tells of a failure that is another one's, if 0 is closed."""
    done = user.run(["sh", "-c", f'exec "$0" a {how}', program], **SET)
    said = b"forward: fatal: unable to read message: file descriptor not open\n"
    if how == "<&-" and program != str(BIN / "forward"):
        assert done.returncode == 111
    else:
        assert (done.returncode, done.stderr) == (111, said)
    found = user.forwarded()
    assert found is None or not found[1].endswith(b"\0\0")


def test_the_message_gets_into_the_queue_of_the_home(user: User, queue_home: QueueHome) -> None:
    for closed in ("", ">&-", "2>&-", ">&- 2>&-"):
        with user.message.open("rb") as message:
            done = subprocess.run(
                ["sh", "-c", f'exec "$0" a@b c@d {closed}', BIN / "forward"], stdin=message, capture_output=True,
                env=queue_home.env(**SET), check=False,
            )  # fmt: skip
        queued = queue_home.message()
        said = b"" if "2>" in closed else b"forward: qp %d\n" % queued.pid
        assert (done.returncode, done.stderr) == (0, said)
        assert (queued.sender, queued.recipients) == (b"s@t", [b"a@b", b"c@d"])
        assert queued.body == b"Delivered-To: x\n" + MESSAGE
        queue_home.empty()
