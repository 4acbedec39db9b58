"""vchkrcpt: who is taken at RCPT, by itself and behind qmail-smtpd."""

import subprocess
from pathlib import Path

import pytest

from tests.helpers import BIN, run
from tests.servers import reachable_python
from tests.virtual import GID, OWNER, ROOT, Virtual, virtual

__all__ = ["virtual"]

NO_MAILBOX = b"sorry, no mailbox here by that name (#5.1.1)\n"
DEFAULT = "| /home/vpopmail/bin/vdelivermail '' {}\n"


@pytest.fixture
def home(virtual: Virtual) -> Virtual:
    folder = virtual.domain("one.example", "fred:x", "locked:x:1:16:locked:DIR/locked:NOQUOTA")
    virtual.domain("alias.example", alias="one.example")
    (folder / ".qmail-sales").write_text("x@y\n")
    (folder / ".qmail-default").write_text(DEFAULT.format("bounce-no-mailbox"))
    all_ = virtual.domain("all.example", "fred:x")
    (all_ / ".qmail-default").write_text(DEFAULT.format("fred@all.example"))
    return virtual


@pytest.mark.parametrize(
    ("recipient", "code", "said"),
    [
        ("fred@one.example", 0, b""),
        ("Fred-x@Alias.example", 0, b""),
        ("sales@one.example", 0, b""),
        ("nobody@one.example", 100, NO_MAILBOX),
        ("nobody@alias.example", 100, NO_MAILBOX),
        ("a%b@one.example", 100, NO_MAILBOX),
        ("locked@one.example", 100, b"sorry, that mailbox is locked (#5.2.1)\n"),
        ("nobody@all.example", 0, b""),
        ("joe@host.example", 0, b""),
        ("joe", 0, b""),
        ("", 0, b""),
        ("a@b@one.example", 100, NO_MAILBOX),
        ("-r@one.example", 100, NO_MAILBOX),
    ],
)
def test_who_is_taken(home: Virtual, recipient: str, code: int, said: bytes) -> None:
    done = home.run("vchkrcpt", "s@b.example", recipient)
    assert (done.returncode, done.stdout, done.stderr) == (code, said, b"")


def test_the_domains_text_says_why(home: Virtual) -> None:
    (home.folder / "domains" / ".no-user.msg").write_bytes(b"Nobody of that name.")
    assert home.run("vchkrcpt", "", "nobody@one.example").stdout == b"Nobody of that name.\n"


@pytest.mark.parametrize("words", [[], ["a"], ["a", "b", "c"]])
def test_wrong_usage_refuses_nobody(home: Virtual, words: list[str]) -> None:
    done = home.run("vchkrcpt", *words)
    assert (done.returncode, done.stderr) == (111, b"vchkrcpt: usage: vchkrcpt sender recipient\n")


@pytest.mark.parametrize("away", ["the domain", "the mail system"])
def test_what_cannot_be_read_is_try_later(home: Virtual, away: str) -> None:
    env = home.env()
    if away == "the mail system":
        env["QMAILHOME"] = "/nowhere"
    else:
        (home.folder / "domains" / "one.example").rename(home.folder / "away")
    for user in ("fred", "nobody"):
        done = run(["vchkrcpt", "", f"{user}@one.example"], env=env)
        assert (done.returncode, done.stdout) == (111, b"unable to look for that mailbox now (#4.3.0)\n")
        assert done.stderr == b"vchkrcpt: fatal: unable to look for the recipient: file does not exist\n"


def test_vdelivermail_delivers_to_whom_it_takes(home: Virtual) -> None:
    for user in ("fred", "fred-x", "nobody", "locked", "FRED", "-fred", "fred-", "a%b", "x" * 300):
        taken = home.run("vchkrcpt", "", f"{user}@one.example").returncode
        with (home.folder / "message").open("w+b") as message:
            done = subprocess.run(
                [BIN / "vdelivermail", "", "bounce-no-mailbox"], stdin=message, capture_output=True, check=False,
                env=home.env(EXT=user, HOST="one.example"),
            )  # fmt: skip
        assert done.returncode == taken, user


SESSION = b"".join(
    b"%s\r\n" % line
    for line in (
        b"HELO x",
        b"MAIL FROM:<s@b.example>",
        b"RCPT TO:<fred@one.example>",
        b"RCPT TO:<nobody@one.example>",
        b"RCPT TO:<sales@alias.example>",
        b"RCPT TO:<x@elsewhere.example>",
        b"QUIT",
    )
)


def smtp(home: Virtual, uid: int, gid: int) -> list[bytes]:
    """The replies to RCPT of a qmail-smtpd that runs as uid, and its log."""
    (home.folder / "control" / "me").write_text("me.example\n")
    (home.folder / "control" / "rcpthosts").write_text("one.example\nalias.example\nhost.example\n")
    (home.folder / "control" / "rcptcheck").write_text("vchkrcpt\n")
    prefix = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"] if ROOT else []
    done = run([*prefix, BIN / "qmail-smtpd"], SESSION, env={**home.env(), **reachable_python()})
    return [*done.stdout.split(b"\r\n")[3:-2], done.stderr]


def test_smtpd_refuses_who_is_not_there(home: Virtual) -> None:
    assert smtp(home, OWNER.pw_uid, GID) == [
        b"250 ok",
        b"550 sorry, no mailbox here by that name (#5.1.1)",
        b"250 ok",
        b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
        b"",
    ]


@pytest.mark.skipif(not ROOT, reason="only root can be led astray")
def test_root_tells_clients_nothing_that_a_domains_owner_could_not(home: Virtual, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "precious").chmod(0o600)
    (home.folder / "domains" / "one.example" / ".no-user.msg").symlink_to(tmp_path / "precious")
    assert home.run("vchkrcpt", "", "nobody@one.example").stdout == NO_MAILBOX
    (home.folder / "domains" / "one.example" / ".qmail-default").unlink()
    (home.folder / "domains" / "one.example" / ".qmail-default").symlink_to(tmp_path / "precious")
    assert home.run("vchkrcpt", "", "nobody@one.example").returncode == 111


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_smtpd_says_try_later_where_it_may_not_read(home: Virtual) -> None:
    (home.folder / "domains" / "one.example").chmod(0o700)
    *replies, log = smtp(home, 2, 2)
    assert replies[:3] == [b"451 unable to look for that mailbox now (#4.3.0)"] * 3
    assert log == b"vchkrcpt: fatal: unable to look for the recipient: access denied\n" * 3
