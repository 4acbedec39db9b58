"""trees: folders are made and removed for others, and no link leads out of them."""

import errno
import os
from pathlib import Path

import pytest

from qmailpy.stores.vpopmail import trees
from tests.servers import GID, UID
from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]

ROOT = os.geteuid() == 0


def test_a_folder_is_made_for_its_owner(vpopmail_home: VpopmailHome) -> None:
    parent = bytes(vpopmail_home.domains)
    for _ in range(2):
        trees.make(parent, b"new", 0o700, (UID, GID))
    status = (vpopmail_home.domains / "new").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (UID, GID, 0o700)
    if ROOT:
        trees.make(parent, b"other", 0o700, (54321, 54322))
        assert (vpopmail_home.domains / "other").stat().st_uid == 54321
        trees.make(parent, b"same", 0o700)
        assert (vpopmail_home.domains / "same").stat().st_uid == UID


def test_what_is_no_folder_is_not_taken_for_one(vpopmail_home: VpopmailHome) -> None:
    (vpopmail_home.domains / "file").write_text("")
    (vpopmail_home.domains / "link").symlink_to(vpopmail_home.path)
    for name in b"file", b"link":
        with pytest.raises(OSError):
            trees.make(bytes(vpopmail_home.domains), name, 0o700, (UID, GID))


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_root_goes_through_no_link_that_another_has_made(vpopmail_home: VpopmailHome) -> None:
    place = vpopmail_home.domains / "place"
    place.symlink_to(vpopmail_home.path / "control")
    os.lchown(place, UID, GID)
    with pytest.raises(OSError):
        trees.make(bytes(place), b"new", 0o700, (UID, GID))
    place.unlink()
    place.symlink_to(vpopmail_home.etc)  # root's own
    trees.make(bytes(place), b"new", 0o700, (UID, GID))
    assert (vpopmail_home.etc / "new").is_dir()


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_link_on_the_way_leads_root_nowhere_either(vpopmail_home: VpopmailHome) -> None:
    theirs = vpopmail_home.path / "theirs"
    (theirs / "0").mkdir(parents=True)
    home = vpopmail_home.path / "joe"
    home.mkdir()
    os.chown(home, UID, GID)
    (home / "domains").symlink_to(theirs)
    for owner in 0, 54321:  # of what the link leads to; and the link itself may be root's: its folder is joe's
        os.chown(theirs / "0", owner, GID)
        with pytest.raises(OSError) as caught:
            trees.make(bytes(home / "domains/0"), b"b.example", 0o700, (UID, GID))
        assert caught.value.errno == errno.ELOOP
    assert list((theirs / "0").iterdir()) == []
    os.chown(theirs / "0", UID, GID)  # his own
    trees.make(bytes(home / "domains/0"), b"b.example", 0o700, (UID, GID))


def planted(top: Path) -> None:
    """A folder with all that may be in one."""
    (top / "joe/Maildir/new").mkdir(parents=True)
    (top / "joe/Maildir/new/1").write_text("mail")
    (top / ".qmail-default").write_text("")
    (top / b"\xff\n".decode("utf-8", "surrogateescape")).write_text("")
    (top / "joe/link").symlink_to("/etc")
    (top / "joe/up").symlink_to("../..")
    os.mkfifo(top / "fifo")
    closed = top / "closed/closed"
    closed.mkdir(parents=True)
    (closed / "file").write_text("")
    closed.chmod(0o500)
    closed.parent.chmod(0)
    if ROOT:
        for path, folders, files in os.walk(top):
            for name in (".", *folders, *files):
                os.lchown(os.path.join(path, name), UID, GID)


def test_a_folder_is_removed_with_all_that_is_in_it_and_nothing_else(vpopmail_home: VpopmailHome) -> None:
    domains = vpopmail_home.domains
    (domains / "example.com").mkdir()
    planted(domains / "example.com")
    (domains / "other").mkdir()
    aside = trees.REMOVED + b"x"
    trees.set_aside(bytes(domains), b"example.com", aside)
    assert trees.left(bytes(domains)) == [aside]
    assert trees.sweep(bytes(domains)) == []
    assert [path.name for path in domains.iterdir()] == ["other"]
    assert Path("/etc/passwd").exists()
    trees.set_aside(bytes(domains), b"example.com", aside)  # once more: there is nothing


def test_a_link_in_place_of_a_folder_is_removed_and_not_followed(vpopmail_home: VpopmailHome) -> None:
    elsewhere = vpopmail_home.path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("")
    (vpopmail_home.domains / "example.com").symlink_to(elsewhere)
    (vpopmail_home.domains / ".deleted.link").symlink_to(elsewhere)
    (vpopmail_home.domains / ".deleted.file").touch()
    trees.set_aside(bytes(vpopmail_home.domains), b"example.com", trees.REMOVED + b"x")
    trees.sweep(bytes(vpopmail_home.domains))
    assert list(vpopmail_home.domains.iterdir()) == []
    assert (elsewhere / "file").exists()


def test_a_thousand_levels_are_removed(vpopmail_home: VpopmailHome) -> None:
    top = vpopmail_home.domains / (trees.REMOVED + b"deep").decode()
    top.mkdir()
    os.chown(top, UID, GID)
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=fd)
        os.chown("d", UID, GID, dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert trees.sweep(bytes(vpopmail_home.domains)) == []


def test_a_folder_that_fills_as_fast_is_left(vpopmail_home: VpopmailHome, monkeypatch: pytest.MonkeyPatch) -> None:
    top = vpopmail_home.domains / ".deleted.x"
    top.mkdir()
    os.chown(top, UID, GID)
    monkeypatch.setattr(trees, "MOST_PASSES", 20)
    listdir = os.listdir
    made = iter(range(1000))

    def filling(where: bytes | int) -> list[str] | list[bytes]:
        (top / str(next(made))).touch()
        return listdir(where)

    monkeypatch.setattr(os, "listdir", filling)
    trees.remove(bytes(vpopmail_home.domains), b".deleted.x")
    assert next(made) < 100


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_what_its_owner_cannot_remove_is_left(vpopmail_home: VpopmailHome) -> None:
    top = vpopmail_home.domains / ".deleted.x"
    (top / "roots").mkdir(parents=True)
    (top / "roots/file").write_text("")
    os.chown(top, UID, GID)
    assert trees.sweep(bytes(vpopmail_home.domains)) == [b".deleted.x"]
    assert (top / "roots/file").exists()
