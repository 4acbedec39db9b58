"""changes: a domain is there as a whole or not at all, whoever is killed when, and however many are at it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qmailpy.formats import vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores import maildir
from qmailpy.stores.vpopmail import accounts, changes, consistency, domains, journal
from qmailpy.stores.vpopmail.changes import Change
from qmailpy.stores.vpopmail.domains import Domain
from tests.servers import GID, UID
from tests.vpopkills import killed_at
from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]

NAME = b"b.example"
OTHER = b"a.example"
ALIAS = b"c.example"


def postmaster() -> Account:
    return Account(b"postmaster", b"$6$salt$hash", gecos=b"Postmaster")


def add(home: VpopmailHome, name: bytes = NAME) -> Domain:
    with Change(home.value) as change:
        return change.add(name, bytes(home.vhome), (UID, GID), changes.BOUNCE, postmaster())


def add_alias(home: VpopmailHome) -> None:
    with Change(home.value) as change:
        domain = change.find(NAME)
        assert domain is not None
        change.add_alias(ALIAS, domain)


def delete(home: VpopmailHome, name: bytes = NAME) -> None:
    with Change(home.value) as change:
        domain = change.find(name)
        assert domain is not None
        change.delete(domain)


def findings(home: VpopmailHome) -> list[bytes]:
    return [found.where + b": " + found.what for found in consistency.Check(home.value, None).findings([])]


def known(home: VpopmailHome) -> set[bytes]:
    """The domains that everything says are there."""
    assert findings(home) == []
    names = {domain.alias for domain in domains.every(home.value)}
    lines = home.text("control/virtualdomains").encode().split()
    assert set(lines) == {b"%s:%s" % (name, name) for name in names}
    assert set(home.text("control/rcpthosts").encode().split()) == names
    folders = {domain.dir for domain in domains.every(home.value)}
    assert {bytes(path) for path in home.domains.iterdir() if not path.name.startswith(".")} == folders
    counter = vpopmail.DirControl((home.domains / ".dir-control").read_bytes())
    assert counter.users == len(folders)
    assert journal.read(bytes(home.path)) is None
    for domain in domains.every(home.value):
        account = accounts.get(domain, b"postmaster")
        assert account is not None and account.password == b"$6$salt$hash"
        assert all(os.path.isdir(account.dir + b"/Maildir/" + part) for part in maildir.FOLDERS)
    return names


def kept(home: VpopmailHome, folder: Path) -> Callable[[], None]:
    """A function that has all as it is now."""
    places = (home.domains, home.path / "users", home.path / "control")
    for place in places:
        shutil.copytree(place, folder / place.relative_to(home.path), symlinks=True)

    def restore() -> None:
        for place in places:
            shutil.rmtree(place)
            shutil.copytree(folder / place.relative_to(home.path), place, symlinks=True)
        if os.geteuid() == 0:
            for path in (home.domains, *home.domains.rglob("*")):
                os.chown(path, UID, GID)

    return restore


@pytest.mark.parametrize("what", ["add", "alias", "delete", "delete all"])
def test_a_kill_at_any_call_leaves_what_the_next_one_completes(
    vpopmail_home: VpopmailHome, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = vpopmail_home
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # the system goes on
    add(home, OTHER)
    before = {OTHER}
    if what != "add":
        add(home)
        before |= {NAME}
    if what == "delete all":
        add_alias(home)
        before |= {ALIAS}
    after = {"add": {OTHER, NAME}, "alias": {OTHER, NAME, ALIAS}}.get(what, {OTHER})
    acts: dict[str, Callable[[VpopmailHome], object]] = {"add": add, "alias": add_alias}
    act = acts.get(what, delete)
    restore = kept(home, tmp_path / "kept")
    reached = []
    call = 1
    while killed_at(call, lambda: act(home)):
        with Change(home.value):  # what every command does first
            pass
        for left in home.domains.glob(".deleted.*"):
            shutil.rmtree(left)  # vcheck's, as tests/stores/vpopmail/test_consistency.py shows
        state = known(home)
        assert state in (before, after), call
        reached.append(state == after)
        restore()
        call += 1
    assert known(home) == after
    assert reached == sorted(reached) and set(reached) == {False, True}  # from one call on it is done
    assert len(reached) > 20


def test_names_that_are_taken_are_refused(vpopmail_home: VpopmailHome) -> None:
    add(vpopmail_home)
    with pytest.raises(vpopmail.Invalid, match="-13"):
        add(vpopmail_home)
    add_alias(vpopmail_home)
    with pytest.raises(vpopmail.Invalid, match="-13"):
        add_alias(vpopmail_home)
    with pytest.raises(vpopmail.Invalid, match="-13"):
        add(vpopmail_home, ALIAS)
    assert known(vpopmail_home) == {NAME, ALIAS}


def test_a_folder_that_is_there_is_nobodys_new_domain(vpopmail_home: VpopmailHome) -> None:
    (vpopmail_home.domains / NAME.decode()).mkdir()
    with pytest.raises(vpopmail.Invalid, match="-14"):
        add(vpopmail_home)
    assert vpopmail_home.text("users/assign") == "absent"


def test_a_domain_without_postmaster_is_none(vpopmail_home: VpopmailHome) -> None:
    account = postmaster()
    account.quota = b"1" * 30
    with Change(vpopmail_home.value) as change, pytest.raises(changes.NoPostmaster) as caught:
        change.add(NAME, bytes(vpopmail_home.vhome), (UID, GID), changes.BOUNCE, account)
    assert caught.value.text == b"quota too long (max=20)"
    assert vpopmail_home.text("users/assign") == "absent"
    assert list(vpopmail_home.domains.iterdir()) == []
    add(vpopmail_home)
    assert known(vpopmail_home) == {NAME}


def test_the_hundredth_domain_has_a_hashed_directory(vpopmail_home: VpopmailHome) -> None:
    counter = vpopmail.DirControl()
    counter.users = 98
    (vpopmail_home.domains / ".dir-control").write_bytes(counter.build())
    assert add(vpopmail_home, OTHER).dir == bytes(vpopmail_home.domains / "a.example")
    domain = add(vpopmail_home)
    assert domain.dir == bytes(vpopmail_home.domains / "0" / "b.example")
    assert findings(vpopmail_home) == []
    delete(vpopmail_home)
    assert list((vpopmail_home.domains / "0").iterdir()) == []


def test_only_a_folder_that_a_domain_is_made_in_is_removed(vpopmail_home: VpopmailHome) -> None:
    precious = vpopmail_home.path / "precious"
    precious.mkdir()
    line = vpopmail.assign_line(NAME, NAME, UID, GID, bytes(precious))
    with Change(vpopmail_home.value) as change:
        change.controls.assign(NAME, line)
        domain = change.find(NAME)
        assert domain is not None
        with pytest.raises(changes.Unsafe):
            change.delete(domain)
        assert change.find(NAME) is None
    assert precious.is_dir()


@pytest.mark.parametrize(
    ("folder", "root"),
    [
        (b"/v/domains/a.example", b"/v/domains"),
        (b"/v/domains/0/A/a.example", b"/v/domains"),
        (b"/v/domains/0/1/2/3/a.example", b""),
        (b"/v/domains/../a.example", b""),
        (b"/v/domains//a.example", b""),
        (b"/v/../domains/a.example", b""),
        (b"/v/domains/b.example", b""),
        (b"/v/a.example", b""),
        (b"/a.example", b""),
        (b"/0/a.example", b""),
    ],
)
def test_such_folders_are_made_for_a_domain(folder: bytes, root: bytes) -> None:
    assert changes.root_of(Domain(b"a.example", folder, 1, 1)) == root


def test_many_at_once_lose_nothing(vpopmail_home: VpopmailHome) -> None:
    """Each in a process of its own: half of them remove what they have added."""
    names = [b"d%d.example" % number for number in range(12)]
    pids = []
    for number, name in enumerate(names):
        pid = os.fork()
        if pid == 0:
            try:
                add(vpopmail_home, name)
                if number % 2:
                    delete(vpopmail_home, name)
                os._exit(0)
            finally:
                os._exit(99)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)
    assert known(vpopmail_home) == set(names[::2])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is kept out")
@pytest.mark.parametrize("closed", [0o500, 0])
def test_an_owner_who_closes_his_folder_keeps_nobody_from_changes(vpopmail_home: VpopmailHome, closed: int) -> None:
    folder = add(vpopmail_home).dir
    vpopmail_home.domains.chmod(closed)
    with Change(vpopmail_home.value) as change:
        domain = change.find(NAME)
        assert domain is not None
        with pytest.raises(changes.Unsafe):
            change.delete(domain)
    assert journal.read(bytes(vpopmail_home.path)) is None
    assert "b.example" not in vpopmail_home.text("users/assign") + vpopmail_home.text("control/rcpthosts")
    assert os.path.isdir(folder)
    vpopmail_home.domains.chmod(0o755)
    assert [found.what for found in consistency.Check(vpopmail_home.value, None).findings([])] == [
        b"a folder of no domain"
    ]
    add(vpopmail_home, OTHER)


def test_what_cannot_be_completed_is_undone(
    vpopmail_home: VpopmailHome, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A killed vadddomain, and an owner who has something else in the place of the folder."""
    pid = os.fork()
    if pid == 0:
        try:
            monkeypatch.setattr(Change, "_make_tree", lambda *_: os._exit(0))
            add(vpopmail_home)
        finally:
            os._exit(99)
    assert os.waitpid(pid, 0)[1] == 0 and journal.read(bytes(vpopmail_home.path)) is not None
    (vpopmail_home.domains / NAME.decode()).write_text("")
    with Change(vpopmail_home.value) as change:
        change.warn(b"program")
    assert (
        capfdbinary.readouterr().err == b"program: warning: undone what an earlier command had begun: add b.example\n"
    )
    add(vpopmail_home)
    assert known(vpopmail_home) == {NAME}


@pytest.mark.parametrize("name", [b"/a:b", b"/a\nb", b"/c/../c", b"//c"])
def test_a_folder_that_no_line_can_hold_is_none(vpopmail_home: VpopmailHome, name: bytes) -> None:
    root = bytes(vpopmail_home.vhome) + name
    os.makedirs(os.path.normpath(root), exist_ok=True)
    os.chown(os.path.normpath(root), UID, GID)
    with Change(vpopmail_home.value) as change, pytest.raises(vpopmail.Invalid, match="-6"):
        change.add(NAME, root, (UID, GID), changes.BOUNCE, postmaster())


def test_an_action_with_a_blank_is_one_word(vpopmail_home: VpopmailHome) -> None:
    with Change(vpopmail_home.value) as change:
        line = change.default_line(b"./joe", b"/a b/domains/b.example")
    assert line == b"| vdelivermail '' '/a b/domains/b.example/joe'\n"
