"""vdelivermail: whose mail it is, what is done with it, quotas, and what a kill leaves."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands.localuser import RECORDER
from tests.helpers import BIN, needs
from tests.servers import reachable_python
from tests.virtual import OWNER, ROOT, Virtual, virtual

__all__ = ["virtual"]

PROGRAM = BIN / "vdelivermail"
MESSAGE = b"Received: (qmail 1 invoked by uid 0); 5 Nov 2001 09:03:07 -0000\nSubject: test\n\ntext\n"
RPLINE = b"Return-Path: <s@b.example>\n"
BOUNCE = "bounce-no-mailbox"
SYNTAX = b"vdelivermail: invalid syntax in .qmail-default file\n"
NO_MAILBOX = b"Sorry, no mailbox here by that name. (#5.1.1)\n"


class Mail:
    """A domain with users, and what has become of mail for them."""

    def __init__(self, virtual: Virtual) -> None:
        self.virtual = virtual
        self.folder = virtual.domain(
            "one.example", "fred:x", "jean-luc:x", "jean:x", "locked:x:1:16:locked:DIR/locked:NOQUOTA",
            "ten:x:1:0:ten:DIR/ten:10C", "small:x:1:0:small:DIR/small:400S,50C", "new:x:1:0:new:DIR/0/new:NOQUOTA",
            "homeless:x:1:0:homeless::NOQUOTA",
        )  # fmt: skip
        virtual.domain("alias.example", alias="one.example")
        recorder = virtual.folder / "recorder"
        recorder.write_text(RECORDER.format(folder=virtual.folder, code=0))
        recorder.chmod(0o755)
        self.message = virtual.folder / "message"
        self.message.write_bytes(MESSAGE)

    def write(self, name: str, text: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(text)
        return path

    def env(self, local: str, host: str, **changes: str | None) -> dict[str, str]:
        env = {
            "EXT": local, "HOST": host, "DTLINE": f"Delivered-To: {host}-{local}@{host}\n", "RPLINE": RPLINE.decode(),
            "SENDER": "s@b.example", "QMAILQUEUE": str(self.virtual.folder / "recorder"), **changes,
        }  # fmt: skip
        return self.virtual.env(**{name: value for name, value in env.items() if value is not None})

    def deliver(  # type: ignore[no-untyped-def]
        self,
        local: str,
        action: str = BOUNCE,
        host: str = "one.example",
        message: bytes = MESSAGE,
        argv=None,
        **changes,
    ) -> tuple[int, bytes]:
        """Exit code and what it says; on descriptor 2 nothing."""
        self.message.write_bytes(message)
        with self.message.open("rb") as file:
            done = subprocess.run(
                [PROGRAM, "", action] if argv is None else argv, stdin=file, capture_output=True, check=False,
                env=self.env(local, host, **changes), cwd=self.folder, timeout=60,
            )  # fmt: skip
        self.said = done.stderr
        return done.returncode, done.stdout

    def texts(self, user: str = "fred", folder: str = "Maildir") -> list[bytes]:
        new = self.folder / user / folder / "new"
        return [path.read_bytes() for path in sorted(new.iterdir(), key=lambda path: path.stat().st_mtime_ns)]

    def forwarded(self) -> tuple[bytes, bytes] | None:
        envelope = self.virtual.folder / "envelope"
        if not envelope.exists():
            return None
        found = (self.virtual.folder / "message-of-queue").read_bytes(), envelope.read_bytes()
        envelope.unlink()
        return found


@pytest.fixture
def mail(virtual: Virtual) -> Mail:
    return Mail(virtual)


def to(address: str, message: bytes = MESSAGE) -> bytes:
    return RPLINE + b"Delivered-To: " + address.encode() + b"\n" + message


@pytest.mark.parametrize(
    ("local", "host", "user"),
    [("fred", "one.example", "fred"), ("FRED", "One.Example", "fred"), ("fred", "alias.example", "fred"),
     ("fred-x-y", "one.example", "fred"), ("jean-luc", "one.example", "jean-luc"),
     ("jean-luc-lists", "one.example", "jean-luc"), ("jean-x", "one.example", "jean")],
)  # fmt: skip
def test_mail_goes_to_the_users_maildir(mail: Mail, local: str, host: str, user: str) -> None:
    assert (mail.deliver(local, host=host), mail.said) == ((0, b""), b"")
    assert mail.texts(user) == [to(f"{user}@one.example")]
    (name,) = os.listdir(mail.folder / user / "Maildir" / "new")
    assert re.fullmatch(rf"\d{{10}}\.\d+\.{re.escape(os.uname().nodename)},S={len(mail.texts(user)[0])}", name)
    status = (mail.folder / user / "Maildir" / "new" / name).stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o600, OWNER.pw_uid)
    assert os.listdir(mail.folder / user / "Maildir" / "tmp") == []


@pytest.mark.parametrize(
    ("argv", "changes", "code", "said"),
    [
        (["", BOUNCE, "x"], {}, 111, SYNTAX),
        ([""], {}, 111, SYNTAX),
        (["", ""], {}, 111, SYNTAX),
        (["", "&"], {}, 111, SYNTAX),
        (["", BOUNCE], {"EXT": None}, 100, b"vdelivermail: no EXT environment varilable\n"),
        (["", BOUNCE], {"HOST": None}, 100, b"vdelivermail: no HOST environment varilable\n"),
        (["", "delete"], {"EXT": "a%b"}, 100, b"invalid username\n"),
        (["", "delete"], {"EXT": "a:b"}, 100, b"invalid username\n"),
        (["", "delete"], {"EXT": "\u00fc"}, 100, b"invalid username\n"),
        (["", "delete"], {"HOST": "a/b"}, 100, b"invalid domain name\n"),
        (["", "delete"], {"HOST": "two.example"}, 111, b"vdelivermail: no such domain: two.example\n"),
        (["", BOUNCE], {"EXT": "../fred"}, 100, NO_MAILBOX),
        (["", BOUNCE], {"EXT": "x" * 3000}, 100, NO_MAILBOX),
        (["", BOUNCE], {"EXT": ""}, 100, NO_MAILBOX),
        (["", BOUNCE], {"EXT": "-fred"}, 100, NO_MAILBOX),
    ],
)  # fmt: skip
def test_what_cannot_be_delivered(  # type: ignore[no-untyped-def]
    mail: Mail, argv: list[str], changes, code: int, said: bytes
) -> None:
    assert mail.deliver("nobody", argv=[PROGRAM, *argv], **changes) == (code, said)


def test_a_locked_account_gets_nothing(mail: Mail) -> None:
    said = b"vdelivermail: account is locked email bounced locked@one.example\n"
    assert mail.deliver("locked") == (100, said)
    assert mail.texts("locked") == []


@pytest.mark.parametrize("header", ["Delivered-To: fred@one.example", "delivered-to: FRED@ONE.example"])
def test_a_message_that_was_there_is_looping(mail: Mail, header: str) -> None:
    assert mail.deliver("fred", message=b"A: b\n" + header.encode() + b"\n\nx") == (100, b"mail is looping\n")
    assert mail.deliver("fred", DTLINE=header + "\n") == (100, b"mail is looping\n")
    assert mail.deliver("fred", message=b"A: b\n\n" + header.encode() + b"\n") == (0, b"")


# Nobody's mail


def test_mail_for_nobody_is_returned_with_the_domains_text(mail: Mail) -> None:
    assert mail.deliver("nobody") == (100, NO_MAILBOX)
    (mail.virtual.folder / "domains" / ".no-user.msg").write_bytes(b"All domains.\n")
    assert mail.deliver("nobody") == (100, b"All domains.\n")
    mail.write(".no-user.msg", b"No such\nuser.\n")
    assert mail.deliver("nobody") == (100, b"No such\nuser.\n")
    assert mail.deliver("fred") == (0, b"")


def test_mail_for_nobody_is_deleted(mail: Mail) -> None:
    assert mail.deliver("nobody", "delete") == (0, b"")
    assert mail.forwarded() is None


@pytest.mark.parametrize("action", ["x@y", "&x@y"])
def test_mail_for_nobody_is_forwarded(mail: Mail, action: str) -> None:
    assert mail.deliver("Nobody", action, host="alias.example") == (0, b"")
    assert mail.forwarded() == (b"Delivered-To: Nobody@alias.example\n" + MESSAGE, b"Fs@b.example\0Tx@y\0\0")
    assert mail.deliver("nobody", action, message=b"Delivered-To: X@y\n\n") == (100, b"mail is looping\n")


@pytest.mark.parametrize("slash", ["", "/"])
def test_mail_for_nobody_goes_into_a_folder(mail: Mail, slash: str) -> None:
    folder = f"{mail.folder}/fred"
    said = f"user does not exist, but will deliver to {folder}/\n".encode()
    assert mail.deliver("nobody", folder + slash) == (0, said)
    assert mail.texts() == [to("nobody@one.example")]
    mail.write("fred/.qmail", b"&x@y\n")
    assert mail.deliver("nobody", folder + slash) == (0, said)
    assert (len(mail.texts()), mail.forwarded() is None) == (1, False)
    assert mail.deliver("nobody", f"{folder}/none")[0] == 111
    assert b"unable to go to" in mail.said


def test_mail_for_nobody_is_given_to_a_program(mail: Mail) -> None:
    assert mail.deliver("nobody", "|grep Subject; echo $EXT $SHELL") == (0, b"Subject: test\nnobody /bin/sh\n")


def test_a_user_wins_over_every_action(mail: Mail) -> None:
    for action in (BOUNCE, "delete", "x@y", "|exit 100", str(mail.folder / "jean")):
        assert mail.deliver("fred", action) == (0, b"")
    assert len(mail.texts()) == 5


def test_without_its_accounts_a_domain_has_mail_wait(mail: Mail) -> None:
    for name in ("vpasswd", "vpasswd.cdb"):
        (mail.folder / name).unlink()
    for local in ("fred", "nobody"):
        assert mail.deliver(local) == (111, b"system error\n")
        assert b"vdelivermail: fatal: unable to look for the account: file does not exist\n" in mail.said


# Lines of users


LINES: list[tuple[bytes, int, bytes, int]] = [
    (b"", 0, b"", 1),
    (b"\n  \n", 0, b"", 1),
    (b"# nothing\n", 0, b"", 0),
    (b"./Maildir/", 0, b"", 1),
    (b"# both\n\n./Maildir/\n./Maildir/\n", 0, b"", 2),
    (b"|echo $EXT; pwd >&2\n", 0, b"fred-lists\n", 0),
    (b"|exit 99\n./Maildir/\n", 99, b"", 0),
    (b"./Maildir/\n|exit 100\n./Maildir/\n", 100, b"", 1),
    (b"|exit 64\n", 100, b"", 0),
    (b"|exit 1\n", 111, b"", 0),
    (b"|kill -9 $$\n", 111, b"", 0),
    (b"./Mailbox\n", 111, b"can't handle mbox delivery for ./Mailbox\n", 0),
    (b"|  || echo x\n", 0, b"x\n", 0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "said", "messages"), LINES, ids=range(len(LINES)))
def test_the_lines_of_a_user_are_followed(mail: Mail, text: bytes, code: int, said: bytes, messages: int) -> None:
    mail.write("fred/.qmail", text)
    assert mail.deliver("fred-lists") == (code, said)
    assert len(mail.texts()) == messages
    assert mail.forwarded() is None


def test_a_user_forwards(mail: Mail) -> None:
    mail.write("fred/.qmail", b"&x@y\nz@y  \n./Maildir/\n")
    assert mail.deliver("fred-lists") == (0, b"")
    assert mail.texts() == [to("fred@one.example")]
    envelope = b"Fs@b.example\0Tx@y\0Tz@y\0\0"
    assert mail.forwarded() == (b"Delivered-To: fred-lists@one.example\n" + MESSAGE, envelope)
    mail.write("fred/.qmail", b"x@y\n|exit 99\nz@y\n")
    assert mail.deliver("fred", DTLINE=None, SENDER=None)[0] == 99
    assert mail.forwarded() == (b"Delivered-To: x@y\n" + MESSAGE, b"Fs@b.example\0Tx@y\0\0")


@pytest.mark.parametrize(("code", "exit_code"), [(31, 100), (81, 111)])
def test_what_cannot_be_forwarded_is_tried_again_or_returned(mail: Mail, code: int, exit_code: int) -> None:
    mail.write("fred/.qmail", b"x@y\n")
    (mail.virtual.folder / "recorder").write_text(RECORDER.format(folder=mail.virtual.folder, code=code))
    assert mail.deliver("fred") == (exit_code, b"system error calling qmail-inject\n")
    assert mail.said.startswith(b"vdelivermail: fatal: unable to forward message: ")


def test_an_extension_has_its_own_lines(mail: Mail) -> None:
    names = [".qmail-a:b-c", ".qmail-a:b-default", ".qmail-default", ".qmail"]
    for name in names:
        mail.write(f"fred/{name}", b"|echo %s\n" % name.encode())
    for name in names:
        assert mail.deliver("fred-A.b-c") == (0, name.encode() + b"\n")
        (mail.folder / "fred" / name).unlink()
    assert mail.deliver("fred-a.b-c") == (0, b"")
    assert len(mail.texts()) == 1


def test_a_folder_that_is_no_accounts_has_the_quota_of_its_file(mail: Mail) -> None:
    sub = mail.folder / "fred" / "Maildir" / ".Lists"
    for part in ("cur", "new", "tmp"):
        (sub / part).mkdir(parents=True)
    (sub / "maildirsize").write_bytes(b"1C\n0 0\n")
    mail.virtual._give(mail.folder)
    mail.write("fred/.qmail", b"./Maildir/.Lists/\n")
    assert [mail.deliver("fred") for _ in range(2)] == [(0, b""), (100, b"user is over quota\n")]


def test_a_filter_may_stand_in_front(mail: Mail) -> None:
    argv = ["sh", "-c", f"sed s/test/seen/ | '{PROGRAM}' '' {BOUNCE}"]
    assert mail.deliver("fred", argv=argv) == (0, b"")
    assert mail.texts() == [to("fred@one.example", MESSAGE.replace(b"test", b"seen"))]


def test_it_may_go_to_descriptor_1(mail: Mail) -> None:
    assert mail.deliver("fred", DELIVER_TO_STDOUT="") == (0, to("fred@one.example"))
    assert mail.texts() == []


# Folders


@pytest.mark.parametrize("gone", ["0/new", "0", "0/new/Maildir", "0/new/Maildir/tmp", "0/new/Maildir/new"])
def test_what_is_missing_of_a_users_folder_is_made(mail: Mail, gone: str) -> None:
    (mail.folder / "0" / "new" / "Maildir").mkdir(parents=True)
    for part in ("cur", "new", "tmp"):
        (mail.folder / "0" / "new" / "Maildir" / part).mkdir()
    mail.virtual._give(mail.folder)
    subprocess.run(["rm", "-r", mail.folder / gone], check=True)
    assert mail.deliver("new") == (0, b"")
    assert mail.texts("0/new") == [to("new@one.example")]
    assert (mail.folder / gone).stat().st_mode & 0o777 == 0o700


def test_an_account_without_a_folder_gets_one(mail: Mail) -> None:
    assert mail.deliver("homeless") == (0, b"")
    assert mail.texts("homeless") == [to("homeless@one.example")]
    assert f"homeless:x:1:0:homeless:{mail.folder}/homeless:NOQUOTA\n" in (mail.folder / "vpasswd").read_text()


def test_a_folder_that_cannot_be_made_has_mail_wait(mail: Mail) -> None:
    mail.write("0", b"a file")
    assert mail.deliver("new")[0] == 111
    (mail.folder / "fred" / "Maildir" / "new").rename(mail.folder / "elsewhere")
    mail.write("fred/Maildir/new", b"a file")
    assert mail.deliver("fred") == (111, b"system error\n")


# Quotas


def test_of_twenty_deliveries_at_once_as_many_are_taken_as_there_is_room_for(mail: Mail) -> None:
    env = mail.env("ten", "one.example")
    processes = []
    for _ in range(20):
        with mail.message.open("rb") as file:
            processes.append(subprocess.Popen(
                [PROGRAM, "", BOUNCE], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
            ))  # fmt: skip
    said = [process.communicate(timeout=60)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert (codes.count(0), codes.count(100)) == (10, 10), said
    assert sorted(said) == [b""] * 10 + [b"user is over quota\n"] * 10
    assert len(mail.texts("ten")) == 10
    assert os.listdir(mail.folder / "ten" / "Maildir" / "tmp") == []


def test_bytes_count_with_the_fields_in_front(mail: Mail) -> None:
    size = len(to("small@one.example"))
    body = b"x" * (400 - 2 * size)
    assert mail.deliver("small") == (0, b"")
    assert mail.deliver("small", message=MESSAGE + body + b"x") == (100, b"user is over quota\n")
    assert mail.deliver("small", message=MESSAGE + body) == (0, b"")
    assert mail.deliver("small", message=b"") == (100, b"user is over quota\n")
    text = (mail.folder / "small" / "Maildir" / "maildirsize").read_bytes()
    assert text == b"400S,50C\n%d 1\n%d 1\n" % (size, size + len(body)) or text == b"400S,50C\n400 2\n"


def test_mail_for_nobody_counts_for_the_account_that_gets_it(mail: Mail) -> None:
    action = str(mail.folder / "ten")
    codes = [mail.deliver("nobody", action)[0] for _ in range(11)]
    assert codes == [0] * 10 + [100]
    assert set(mail.texts("ten")) == {to("nobody@one.example")}


def test_what_a_reader_has_removed_makes_room(mail: Mail) -> None:
    for _ in range(10):
        assert mail.deliver("ten") == (0, b"")
    assert mail.deliver("ten") == (100, b"user is over quota\n")
    new = mail.folder / "ten" / "Maildir" / "new"
    for name in os.listdir(new)[:3]:
        (new / name).unlink()
    assert [mail.deliver("ten")[0] for _ in range(4)] == [0, 0, 0, 100]


def test_one_that_is_over_quota_is_told_once_a_day(mail: Mail) -> None:
    mail.write(".quotawarn.msg", b"From: postmaster\nSubject: full\n\nYour mailbox is full.\n")
    mail.write(".over-quota.msg", b"The mailbox is full.\n")
    for _ in range(9):
        assert mail.deliver("ten") == (0, b"")
    assert len(mail.texts("ten")) == 9
    assert mail.deliver("ten") == (0, b"")  # 90 percent were used
    (warning,) = [text for text in mail.texts("ten") if b"Your mailbox is full" in text]
    day = rb"\w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d \+0000"
    assert re.match(rb"Delivered-To: ten@one.example\nDate: " + day + rb"\nFrom: postmaster\n", warning)
    assert [mail.deliver("ten") for _ in range(2)] == [(100, b"The mailbox is full.\n")] * 2
    assert len(mail.texts("ten")) == 11
    old = time.time() - 86500
    os.utime(mail.folder / "ten" / "Maildir" / "quotawarn", (old, old))
    assert mail.deliver("ten") == (100, b"The mailbox is full.\n")
    assert len(mail.texts("ten")) == 12


def test_a_kill_at_any_system_call_loses_nothing_and_lets_nobody_in(mail: Mail) -> None:
    """Whoever has not exited with 0 is tried again, and what was counted for nothing is counted anew before anything is
    refused."""
    strace = needs("strace")
    maildir = mail.folder / "ten" / "Maildir"
    (maildir / "cur" / "1:2,").write_bytes(b"x")
    mail.virtual._give(mail.folder)
    reached = set()
    for call in ("openat", "write", "fsync", "linkat", "unlinkat", "rename,renameat,renameat2", "utimensat", "flock"):
        for when in range(1, 40):
            (maildir / "maildirsize").unlink(missing_ok=True)
            inject = [strace, "-f", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={when}"]
            if call == "openat":  # Python has many others
                inject += ["-P", str(maildir), "-P", str(maildir / "tmp"), "-P", str(maildir / "new")]
            code, _ = mail.deliver("ten", argv=[*inject, str(PROGRAM), "", BOUNCE])
            texts = mail.texts("ten")
            assert texts in ([], [to("ten@one.example")])
            for name in os.listdir(maildir / "new"):
                (maildir / "new" / name).unlink()
            if code == 0:
                assert texts
                break
            reached.add((call[:6], when))
    assert {("write", 3), ("fsync", 2), ("linkat", 1), ("unlink", 2), ("rename", 1), ("flock", 2)} <= reached
    assert [mail.deliver("ten")[0] for _ in range(10)] == [0] * 9 + [100]


def test_a_filter_that_has_died_in_front_loses_no_mail(mail: Mail) -> None:
    env = mail.env("fred", "one.example")
    done = subprocess.run([PROGRAM, "", BOUNCE], input=b"", capture_output=True, check=False, env=env)
    assert (done.returncode, done.stdout) == (111, b"system error\n")
    assert mail.texts("fred") == []


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_root_delivers_as_the_domains_owner(mail: Mail) -> None:
    mail.write("fred/.qmail", b"|id -u; id -G\n")
    assert mail.deliver("fred") == (0, b"%d\n%d\n" % (OWNER.pw_uid, OWNER.pw_gid))


# Behind qmail-local


def local(mail: Mail, line: bytes, user: str, prefix: tuple[str, ...] = (), **changes: str) -> tuple[object, ...]:
    """What qmail-local says of mail for a user, whose Maildir it empties first."""
    new = mail.folder / "fred" / "Maildir" / "new"
    for name in os.listdir(new):
        (new / name).unlink()
    mail.write(".qmail-default", line)
    words = ["one.example", str(mail.folder), f"one.example-{user}", "-", user, "one.example", "s@b.example", "./x"]
    ids = ["setpriv", f"--reuid={OWNER.pw_uid}", f"--regid={OWNER.pw_gid}", "--clear-groups"] if ROOT else []
    env = {name: value for name, value in mail.env(user, "", **changes).items() if name not in ("EXT", "DTLINE")}
    with mail.message.open("rb") as file:
        done = subprocess.run(
            [*prefix, *ids, BIN / "qmail-local", "--", *words], stdin=file, capture_output=True, check=False,
            env={**env, **reachable_python()},
        )  # fmt: skip
    forwarded = mail.forwarded()
    return done.returncode, re.sub(rb"qp \d+", b"", done.stdout), done.stderr, mail.texts(), forwarded


@pytest.mark.parametrize("action", ["bounce-no-mailbox", "delete", "'x@y'", "/nowhere"])
@pytest.mark.parametrize("user", ["fred", "fred-program", "nobody", "locked"])
def test_qmail_local_runs_it_in_a_process_that_is_there_as_behind_a_shell(mail: Mail, action: str, user: str) -> None:
    mail.write("fred/.qmail-program", b"|pwd; umask; ls /proc/self/fd; cat | wc -c\n&z@y\n|exit 99\n")
    mail.write("fred/.qmail", b"./Maildir/\n")
    (mail.virtual.folder / "bin").mkdir()
    (mail.virtual.folder / "bin" / "vdelivermail").symlink_to(PROGRAM)
    line = f"| {mail.virtual.folder}/bin/vdelivermail '' {action}".encode()
    warm = local(mail, line + b"\n", user)
    assert warm == local(mail, line + b";\n", user)
    assert warm == local(mail, line + b"\n", user, QMAILPY_COLD="1")
    assert warm[0] in (0, 99, 100, 111)


def test_qmail_local_starts_no_shell_and_no_interpreter_for_it(mail: Mail) -> None:
    strace = needs("strace")
    log = mail.virtual.folder / "log"
    prefix = (strace, "-f", "-e", "trace=execve", "-e", "status=successful", "-o", str(log))
    line = f"| {PROGRAM} '' 'bounce-no-mailbox'\n".encode()
    assert local(mail, line, "fred", prefix)[:4] == (0, b"did 0+0+1\n", b"", [to("fred@one.example")])
    started = re.findall(r'execve\("([^"]*)"', log.read_text())
    assert started[-1].endswith(("qmail-local", "/python3"))
    assert "/bin/sh" not in started and str(PROGRAM) not in started
