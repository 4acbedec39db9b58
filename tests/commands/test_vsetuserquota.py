import fcntl
import os

import pytest

from tests.virtual import Virtual
from tests.vpopusers import account, home, virtual

__all__ = ["home", "virtual"]


@pytest.mark.parametrize(
    ("quota", "kept"),
    [
        ("10485760S", b"10485760S"),
        ("10m", b"10485760S"),
        ("500kb", b"512000S"),
        ("1000c,10mbs", b"10485760S,1000C"),
        ("5", b"5S"),
        ("noquota", b"NOQUOTA"),
    ],
)
def test_a_quota_is_kept_in_one_form(home: Virtual, quota: str, kept: bytes) -> None:
    done = home.run("vsetuserquota", "old@b.example", quota)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert account(home, "old").quota == kept


def test_the_old_count_goes_with_the_old_quota(home: Virtual) -> None:
    sizes = home.folder / "domains/a.example/old/Maildir/maildirsize"
    sizes.write_text("5S\n9999 9\n")
    (sizes.parent / "new/1,S=30").write_text("x" * 30)
    assert home.run("vsetuserquota", "old@a.example", "100S").returncode == 0
    assert home.run("vuserinfo", "-Q", "old@a.example").stdout == b"30%\n"
    assert not sizes.exists() or sizes.read_text().startswith("100S\n")


def test_no_mailbox_holds_up_the_change(home: Virtual) -> None:
    maildir = home.folder / "domains/a.example/old/Maildir"
    (maildir / "maildirsize").write_text("5S\n9999 9\n")
    lock = os.open(maildir, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert home.run("vsetuserquota", "old@a.example", "100S").returncode == 0
        maildir.chmod(0)
        assert home.run("vsetuserquota", "old@a.example", "200S").returncode == 0
        assert home.run("vsetuserquota", "old@a.example", "300S").returncode == 0
    finally:
        maildir.chmod(0o700)
        os.close(lock)


def test_a_domain_is_all_its_users(home: Virtual) -> None:
    home.accounts(home.folder / "domains/a.example", "old:x", "max:x")
    assert home.run("vsetuserquota", "a.example", "7C").returncode == 0
    assert [account(home, user).quota for user in ("max", "old")] == [b"7C", b"7C"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["max@a.example", "1M"], 246, "Error: User does not exist"),
        (["old@d.example", "1M"], 245, "Error: Domain does not exist"),
        (["d.example", "1M"], 245, "Error: Domain does not exist"),
        (["old@a.example", "9999999999999S,10000C"], 227, "Error: quota too long (max=20)"),
        (["old@a.example", "1M:1"], 255, "Error: quota not understood: say 10M, 10485760S,1000C or NOQUOTA"),
        (["old@a.example", "1\n2"], 255, "Error: quota not understood: say 10M, 10485760S,1000C or NOQUOTA"),
        (["old@a.example", "-5"], 255, "vsetuserquota: [options] email_address|domain_name quota\n"),
        (["old@a.example"], 255, "vsetuserquota: [options] email_address|domain_name quota\n"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(home: Virtual, words: list[str], code: int, said: str) -> None:
    done = home.run("vsetuserquota", *words)
    assert (done.returncode, done.stdout.decode()[: len(said)]) == (code, said)
    assert account(home, "old").quota == b"NOQUOTA"
