"""mailboxes: an account gets a folder when mail comes for it."""

import os

import pytest

from qmailpy.formats import vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores.vpopmail import accounts, mailboxes
from qmailpy.stores.vpopmail.domains import Domain
from tests.virtual import GID, OWNER, Virtual, virtual

__all__ = ["virtual"]


@pytest.fixture
def domain(virtual: Virtual) -> Domain:
    folder = virtual.domain("one.example", "fred:x", "homeless:x:1:0:homeless::NOQUOTA", "x:x:1:0:x::NOQUOTA")
    return Domain(b"one.example", bytes(folder), OWNER.pw_uid, GID)


def test_a_record_without_a_folder_gets_one(domain: Domain) -> None:
    account = accounts.get(domain, b"homeless")
    assert account is not None and account.dir == b""
    for _ in range(2):
        assert mailboxes.settle(domain, account).dir == domain.dir + b"/homeless"
    again = accounts.get(domain, b"homeless")
    assert again is not None and again.dir == domain.dir + b"/homeless"
    before = accounts.get(domain, b"fred")
    assert before is not None and mailboxes.settle(domain, before) is before


def test_who_is_gone_or_has_the_name_of_a_hashed_folder_gets_none(domain: Domain) -> None:
    for name in (b"x", b"nobody"):
        with pytest.raises(vpopmail.Invalid):
            mailboxes.settle(domain, Account(name, b""))


@pytest.mark.parametrize("there", [b"", b"/a", b"/a/b", b"/a/b/joe", b"/a/b/joe/Maildir", b"/a/b/joe/Maildir/new"])
def test_what_is_missing_is_made(domain: Domain, there: bytes) -> None:
    os.makedirs(domain.dir + there, exist_ok=True)
    mailboxes.make(domain, Account(b"joe", b"", dir=domain.dir + b"/a/b/joe"))
    assert sorted(os.listdir(domain.dir + b"/a/b/joe/Maildir")) == [b"cur", b"new", b"tmp"]


def test_nothing_is_made_above_the_domain_or_elsewhere(domain: Domain, virtual: Virtual) -> None:
    for folder in (b"/elsewhere/joe", b"/domains/two.example/joe"):
        with pytest.raises(FileNotFoundError):
            mailboxes.make(domain, Account(b"joe", b"", dir=bytes(virtual.folder) + folder))
    gone = Domain(b"two.example", bytes(virtual.folder) + b"/domains/two.example", OWNER.pw_uid, GID)
    with pytest.raises(FileNotFoundError):
        mailboxes.make(gone, Account(b"joe", b"", dir=gone.dir + b"/joe"))
