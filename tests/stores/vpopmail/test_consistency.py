"""consistency: what does not fit together is found, mended where that loses nothing, and then all is well."""

import os
import shutil
from collections.abc import Callable

import pytest

from qmailpy.formats.vpasswd import Account
from qmailpy.stores.vpopmail import accounts, changes, consistency, journal
from qmailpy.stores.vpopmail.changes import Change
from qmailpy.stores.vpopmail.consistency import Finding
from tests.servers import GID, UID
from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]

NAME, ALIAS = b"b.example", b"c.example"


@pytest.fixture
def home(vpopmail_home: VpopmailHome) -> VpopmailHome:
    """With a domain, an account joe besides postmaster, and an alias."""
    with Change(vpopmail_home.value) as change:
        account = Account(b"postmaster", b"$6$salt$hash")
        domain = change.add(NAME, bytes(vpopmail_home.vhome), (UID, GID), changes.BOUNCE, account)
        change.add_alias(ALIAS, domain)
    with accounts.Change(domain) as added:
        added.add([Account(b"joe", b"$6$salt$hash")])
    return vpopmail_home


def found(home: VpopmailHome, *names: bytes) -> list[Finding]:
    return list(consistency.Check(home.value, None).findings(list(names)))


def mended(home: VpopmailHome) -> list[Finding]:
    with Change(home.value) as change:
        return list(consistency.Check(home.value, change).findings([]))


def edit(home: VpopmailHome, name: str, old: str, new: str) -> None:
    text = home.text(name)
    assert old in text
    (home.path / name).write_text(text.replace(old, new))


def owned(home: VpopmailHome, name: str, *folders: str) -> None:
    """Make folders below domains, their owner's."""
    for folder in (name, *folders):
        (home.domains / folder).mkdir(parents=True, exist_ok=True)
        os.chown(home.domains / folder, UID, GID)


def leave(home: VpopmailHome) -> None:
    owned(home, "gone.example")
    (home.domains / "gone.example/vpasswd").touch()


def test_all_is_well_in_what_the_commands_make(home: VpopmailHome) -> None:
    assert found(home) == mended(home) == []


MENDABLE: dict[str, Callable[[VpopmailHome], object]] = {
    "in control/locals": lambda home: (home.path / "control/locals").write_text("B.example\n"),
    "not in control/virtualdomains": lambda home: edit(home, "control/virtualdomains", "b.example:b.example\n", ""),
    "in neither control/rcpthosts nor morercpthosts": lambda home: (home.path / "control/rcpthosts").write_text(""),
    "users/cdb says something else": lambda home: (home.path / "users/cdb").unlink(),
    "its cdb says something else": lambda home: (home.path / "control/morercpthosts").write_text("x.example\n"),
    "no .qmail-default": lambda home: (home.domains / "b.example/.qmail-default").unlink(),
    "a change of accounts is unfinished": lambda home: (home.domains / "b.example/vpasswd.cdb").unlink(),
    "no Maildir, or not all of it": lambda home: shutil.rmtree(home.domains / "b.example/joe/Maildir"),
    "not removed to the end": lambda home: owned(home, ".deleted.x", ".deleted.x/y"),
}


@pytest.mark.parametrize("what", MENDABLE)
def test_what_can_be_mended_is(home: VpopmailHome, what: str) -> None:
    MENDABLE[what](home)
    seen = found(home)
    assert what.encode() in [each.what for each in seen] and not any(each.is_mended for each in seen)
    assert [each.what for each in mended(home)] == [each.what for each in seen]
    assert found(home) == []


def test_vpasswd_that_was_edited_is_compiled(home: VpopmailHome) -> None:
    edit(home, "vpopmail/domains/b.example/vpasswd", ":NOQUOTA", ":5S")
    compiled = home.domains / "b.example/vpasswd.cdb"
    newer = (home.domains / "b.example/vpasswd").stat().st_mtime_ns + 1
    os.utime(compiled, ns=(newer, newer))
    assert b"vpasswd.cdb says something else" in [each.what for each in found(home)]
    assert all(each.is_mended for each in mended(home) if b"cdb" in each.what)
    assert found(home) == []


REPORTED: dict[str, Callable[[VpopmailHome], object]] = {
    "line 1: 0 colons, not 7": lambda home: (home.path / "users/assign").write_text("nonsense\n.\n"),
    "in control/virtualdomains, and not in users/assign": lambda home: edit(
        home, "control/virtualdomains", "c.ex", "x.example:x.example\nc.ex"
    ),
    "in control/virtualdomains for joe, too": lambda home: edit(
        home, "control/virtualdomains", "c.", "b.example:joe\nc."
    ),
    "in etc/ip_alias_map for 192.0.2.1, and no domain": lambda home: (home.etc / "ip_alias_map").write_text(
        "192.0.2.1 x.example\n"
    ),
    "alias of b.example, which is no domain": lambda home: edit(home, "users/assign", "+b.example-", "+d.example-"),
    "another folder or owner than b.example": lambda home: edit(
        home, "users/assign", "+c.example-:b.example:", "+c.example-:b.example:9"
    ),
    "no vpasswd": lambda home: (home.domains / "b.example/vpasswd").unlink(),
    "a folder of no domain": leave,
}


@pytest.mark.parametrize("what", REPORTED)
def test_what_cannot_be_mended_is_reported(home: VpopmailHome, what: str) -> None:
    REPORTED[what](home)
    assert what.encode() in [each.what for each in found(home)]
    assert {each.is_mended for each in mended(home) if each.what == what.encode()} == {False}


def test_folders_that_are_missing_or_too_many_are_reported(home: VpopmailHome) -> None:
    owned(home, "b.example/ghost", "b.example/ghost/Maildir")
    assert [each.what for each in found(home)] == [b"a folder of no account: %s/b.example/ghost" % bytes(home.domains)]
    shutil.move(home.domains / "b.example", home.path / "away")
    assert [each.what for each in found(home)] == [b"no folder %s/b.example" % bytes(home.domains)]
    assert found(home, b"other.example") == []


def test_another_owner_is_reported(home: VpopmailHome) -> None:
    edit(home, "users/assign", f":{UID}:{GID}:", f":{UID}:12345:")
    assert any(each.what.endswith(b", not of %d:12345" % UID) for each in found(home))


def test_what_is_unfinished_is_completed(home: VpopmailHome) -> None:
    record = {b"kind": journal.DELETE, b"names": ALIAS}
    journal.write(bytes(home.path), record)
    assert [(each.where, each.what) for each in found(home)] == [(ALIAS, b"unfinished: delete")]
    assert [each.is_mended for each in mended(home)] == [True]
    assert found(home) == []
    assert "c.example" not in home.text("users/assign")


@pytest.mark.parametrize("name", ["vpasswd", "vpasswd.cdb", ".vpasswd.journal"])
@pytest.mark.parametrize("target", ["/dev/zero", "fifo"])
def test_what_an_owner_plants_is_reported_and_holds_nobody_up(home: VpopmailHome, name: str, target: str) -> None:
    folder = home.domains / "b.example"
    os.mkfifo(folder / "fifo")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    assert NAME in [each.where for each in mended(home)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led astray")
def test_a_domain_is_looked_at_as_its_owner_may(home: VpopmailHome) -> None:
    os.chown(home.domains / "b.example/vpasswd", 0, 0)
    (seen,) = found(home)
    assert (seen.where, seen.what.endswith(b"vpasswd: access denied")) == (NAME, True)
    assert os.geteuid() == 0


def test_an_account_with_a_folder_that_cannot_be_hides_no_other(home: VpopmailHome) -> None:
    edit(home, "vpopmail/domains/b.example/vpasswd", "b.example/joe:", "b.example/.qmail-default/joe:")
    shutil.rmtree(home.domains / "b.example/postmaster/Maildir")
    seen = {each.where: each.is_mended for each in mended(home) if each.what.startswith(b"no Maildir")}
    assert seen == {b"joe@b.example": False, b"postmaster@b.example": True}
