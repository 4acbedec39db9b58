from pathlib import Path

import pytest

from tests.helpers import needs
from tests.virtual import SHA512, Virtual
from tests.vpopusers import home, logs_in, names, virtual

__all__ = ["home", "virtual"]


def folder(home: Virtual) -> Path:
    return home.folder / "domains/a.example"


def test_a_user_is_removed_with_all_mail(home: Virtual) -> None:
    (folder(home) / "old/Maildir/new/1").write_text("mail")
    (folder(home) / ".qmail-old").write_text("&x@y.example\n")
    done = home.run("vdeluser", "-v", "OLD@b.example")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"version: ")
    assert names(home) == []
    assert not logs_in(home, "old@a.example", "secret")
    assert {path.name for path in folder(home).iterdir()} == {
        "vpasswd", "vpasswd.cdb", ".vpasswd.lock", ".dir-control", ".qmail-old",
    }  # fmt: skip


def test_one_name_in_two_domains_is_two_accounts(home: Virtual) -> None:
    home.domain("c.example", f"old:{SHA512}")
    assert home.run("vdeluser", "old@a.example").returncode == 0
    assert logs_in(home, "old@c.example", "secret")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["max@a.example"], 246, "Error: User does not exist"),
        (["old@d.example"], 245, "Error: Domain does not exist"),
        (["old"], 245, "Error: Domain does not exist"),
        (["..@a.example"], 246, "Error: User does not exist"),
        (["a:b@a.example"], 255, "Error: Illegal username"),
        ([], 255, "vdeluser: usage: [options] email_address\noptions: -v (print version number)"),
    ],
)
def test_whom_there_is_not_is_not_removed(
    home: Virtual,
    words: list[str],
    code: int,
    said: str,
) -> None:
    done = home.run("vdeluser", *words)
    assert (done.returncode, done.stdout.decode()) == (code, said + "\n")
    assert names(home) == ["old"]


@pytest.mark.parametrize("action", ["old@a.example", "'&Old@b.example'", "DIR/old", "DIR/old/Maildir/"])
def test_the_account_that_gets_all_mail_stays(home: Virtual, action: str) -> None:
    line = f"| /v/bin/vdelivermail '' {action.replace('DIR', str(folder(home)))}\n"
    (folder(home) / ".qmail-default").write_text(line)
    done = home.run("vdeluser", "old@a.example")
    assert (done.returncode, done.stdout) == (201, b"Error: can't delete catchall account\n")
    assert logs_in(home, "old@a.example", "secret")


@pytest.mark.parametrize("action", ["bounce-no-mailbox", "delete", "other@a.example", "old@c.example", "/var/old"])
def test_another_catch_all_keeps_nobody(home: Virtual, action: str) -> None:
    (folder(home) / ".qmail-default").write_text(f"| /v/bin/vdelivermail '' {action}\n")
    assert home.run("vdeluser", "old@a.example").returncode == 0


def test_a_folder_elsewhere_is_named_and_left(home: Virtual, tmp_path: Path) -> None:
    assert home.run("vmoduser", "-D", str(tmp_path), "old@a.example").returncode == 0
    done = home.run("vdeluser", "old@a.example")
    assert (done.returncode, done.stdout) == (253, b"Error: Unable to chdir to vpopmail directory\n")
    assert done.stderr == f"could not remove {tmp_path}\n".encode()
    assert names(home) == []
    assert tmp_path.is_dir()


def test_the_program_itself_may_be_killed(home: Virtual) -> None:
    """tests/stores/vpopmail/test_accounts.py does it at each call of the module."""
    for call, when in (("rename", 2), ("rename", 4)):
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
        home.run(needs("strace"), "-o", "/dev/null", *inject, "vdeluser", "old@a.example")
        assert home.run("vdeluser", "old@a.example").returncode in (0, 246)
        assert names(home) == []
        assert not [path for path in folder(home).iterdir() if path.is_dir()]
        assert home.run("vadduser", "-n", "old@a.example").returncode == 0
