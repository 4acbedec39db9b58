"""The accounts of a domain: files as the reference has them, whatever happens meanwhile."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qmailpy.formats import cdb, vpasswd, vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores.vpopmail import accounts
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.unix import recordlocks
from tests.virtual import GID, OWNER, ROOT, Virtual, virtual
from tests.vpopkills import deaths

__all__ = ["virtual"]

HASH = b"$6$sixteenlettersof$abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def domain(virtual: Virtual) -> Domain:
    folder = virtual.domain("a.example", f"old:{HASH.decode()}")
    return Domain(b"a.example", os.fsencode(folder), OWNER.pw_uid, GID)


def names(domain: Domain) -> list[bytes]:
    return [account.name for account in accounts.every(domain)]


def add(domain: Domain, *users: bytes) -> None:
    with accounts.Change(domain) as change:
        change.add([Account(user, HASH, gecos=user) for user in users])


def check(domain: Domain) -> list[bytes]:
    """After a change is complete: the names, all of whose files agree."""
    folder = Path(os.fsdecode(domain.dir))
    lines = (folder / "vpasswd").read_bytes().splitlines()
    records = [(line.partition(b":")[0], line.partition(b":")[2]) for line in lines]
    assert (folder / "vpasswd.cdb").read_bytes() == b"".join(cdb.make(records))
    assert lines == sorted(lines, key=lambda line: line.partition(b":")[0])
    found = [vpasswd.parse_line(line) for line in lines]
    for account in found:
        for part in ("cur", "new", "tmp"):
            assert (Path(os.fsdecode(account.dir)) / "Maildir" / part).is_dir()
    assert not accounts.unfinished(domain)
    assert not (folder / ".vpasswd.journal").exists()
    homes = {Path(os.fsdecode(account.dir)) for account in found}
    assert {path.parent for path in folder.rglob("Maildir")} == homes
    for path in folder.rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (OWNER.pw_uid, GID), path
    return [account.name for account in found]


def test_a_new_account_has_the_fields_and_modes_of_the_reference(domain: Domain) -> None:
    folder = Path(os.fsdecode(domain.dir))
    add(domain, b"joe")
    assert check(domain) == [b"joe", b"old"]
    line = b"joe:%s:1:0:joe:%s/joe:NOQUOTA\n" % (HASH, domain.dir)
    assert (folder / "vpasswd").read_bytes().startswith(line)
    assert (folder / ".dir-control").read_bytes() == b"1\n0\n3\n0 0 0\n61 61 61\n0 2 4\n0 0 0\n\n"
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in ("vpasswd", "vpasswd.cdb", ".vpasswd.lock")}
    assert set(modes.values()) == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (folder / "joe").rglob("*") if path.is_dir()} == {0o700}
    assert (folder / "joe" / "lastauth").read_bytes() == b"0.0.0.0"


def test_one_account_is_looked_up_in_the_cdb_alone(domain: Domain) -> None:
    add(domain, b"joe")
    os.unlink(domain.dir + b"/vpasswd")
    found = accounts.get(domain, b"joe")
    assert found is not None and found.gecos == b"joe"
    assert accounts.get(domain, b"nobody") is None


def test_without_a_cdb_vpasswd_is_read(domain: Domain) -> None:
    os.unlink(domain.dir + b"/vpasswd.cdb")
    found = accounts.get(domain, b"old")
    assert found is not None and found.password == HASH
    assert accounts.get(domain, b"ol") is None


def test_a_cdb_that_is_none_is_an_error(domain: Domain) -> None:
    Path(os.fsdecode(domain.dir), "vpasswd.cdb").write_bytes(b"x")
    with pytest.raises(OSError):
        accounts.get(domain, b"old")


def test_the_first_99_have_no_directory_and_the_next_hundred_one(domain: Domain) -> None:
    add(domain, *(b"u%04d" % number for number in range(250)))
    places = [account.dir[len(domain.dir) + 1 :] for account in accounts.every(domain) if account.name != b"old"]
    assert [places[at] for at in (0, 98, 99, 198, 199, 249)] == [
        b"u0000", b"u0098", b"0/u0099", b"0/u0198", b"1/u0199", b"1/u0249",
    ]  # fmt: skip
    assert len(check(domain)) == 251
    add(domain, b"one-more")
    assert accounts.get(domain, b"one-more").dir == domain.dir + b"/1/one-more"  # type: ignore[union-attr]


def test_a_place_that_has_become_free_is_used_first(domain: Domain) -> None:
    add(domain, *(b"u%04d" % number for number in range(150)))
    with accounts.Change(domain) as change:
        assert change.remove(b"u0120")
    free = Path(os.fsdecode(domain.dir), ".dir_control_free")
    assert free.read_bytes() == b"0\n"
    free.write_bytes(b"# a comment\n../../x\n0\n1\n")
    add(domain, b"next")
    assert accounts.get(domain, b"next").dir == domain.dir + b"/0/next"  # type: ignore[union-attr]
    assert free.read_bytes() == b"# a comment\n../../x\n1\n"
    assert Path(os.fsdecode(domain.dir), ".dir-control").read_bytes().startswith(b"150\n")


@pytest.mark.parametrize(
    ("account", "code"),
    [
        (Account(b"old", HASH), vpopmail.USERNAME_EXISTS),
        (Account(b"x", HASH), vpopmail.ILLEGAL_USERNAME),
        (Account(b"..", HASH), vpopmail.ILLEGAL_USERNAME),
        (Account(b"a/b", HASH), vpopmail.ILLEGAL_USERNAME),
        (Account(b"a:b", HASH), vpopmail.ILLEGAL_USERNAME),
        (Account(b"a\nb", HASH), vpopmail.ILLEGAL_USERNAME),
        (Account(b"j\xc3\xb6", HASH), vpopmail.ILLEGAL_USERNAME),
        (Account(b"vpasswd.cdb", HASH), vpopmail.ILLEGAL_USERNAME),
        (Account(b"a" * 300, HASH), vpopmail.USER_TOO_LONG),
        (Account(b"joe", HASH, gecos=b"a:b"), vpopmail.BAD_CHARACTER),
        (Account(b"joe", HASH, gecos=b"a\nb"), vpopmail.BAD_CHARACTER),
        (Account(b"joe", HASH, gecos=b"a" * 65), vpopmail.GECOS_TOO_LONG),
        (Account(b"joe", b"a" * 129), vpopmail.PASSWORD_TOO_LONG),
        (Account(b"joe", HASH, quota=b"1" * 21), vpopmail.QUOTA_TOO_LONG),
    ],
)
def test_an_account_that_cannot_be_is_refused_and_leaves_nothing(domain: Domain, account: Account, code: int) -> None:
    before = sorted(os.listdir(domain.dir))
    with pytest.raises(vpopmail.Invalid) as caught, accounts.Change(domain) as change:
        change.add([Account(b"good", HASH), account])
    assert caught.value.code == code
    assert sorted(set(os.listdir(domain.dir)) - {b".vpasswd.lock"}) == before
    assert check(domain) == [b"old"]


def test_a_folder_that_is_there_already_is_not_given_away(domain: Domain) -> None:
    os.mkdir(domain.dir + b"/joe")
    with pytest.raises(vpopmail.Invalid) as caught:
        add(domain, b"joe")
    assert caught.value.code == vpopmail.USER_DIR_EXISTS
    assert names(domain) == [b"old"]


def test_a_change_keeps_what_it_does_not_know(domain: Domain) -> None:
    path = Path(os.fsdecode(domain.dir), "vpasswd")
    path.write_bytes(path.read_bytes().replace(b"NOQUOTA", b"NOQUOTA:clear:more:of it") + b"zz:x:2:5:::NOQUOTA")
    with accounts.Change(domain) as change:
        account = change.get(b"old")
        assert account is not None
        account.gecos = b"Old"
        change.put([account])
    lines = path.read_bytes().splitlines()
    assert lines[0] == b"old:%s:1:0:Old:%s/old:NOQUOTA:clear:more:of it" % (HASH, domain.dir)
    assert lines[1:] == [b"zz:x:2:5:::NOQUOTA"]


def test_a_folder_elsewhere_survives_its_account(domain: Domain, virtual: Virtual) -> None:
    other = virtual.domain("b.example", f"old:{HASH.decode()}") / "old"
    for place in (os.fsencode(other), domain.dir, domain.dir + b"/.x", domain.dir + b"/a/../../b.example/old"):
        with accounts.Change(domain) as change:
            account = change.get(b"old") or Account(b"old", HASH)
            account.dir = place
            change.put([account])
            assert not change.remove(b"old")
    assert (other / "Maildir").is_dir()
    assert Path(os.fsdecode(domain.dir)).is_dir()


def test_a_link_in_place_of_a_folder_is_removed_and_not_followed(domain: Domain, virtual: Virtual) -> None:
    other = virtual.domain("b.example", f"old:{HASH.decode()}") / "old"
    folder = Path(os.fsdecode(domain.dir), "old")
    shutil.rmtree(folder)
    folder.symlink_to(other)
    with accounts.Change(domain) as change:
        assert change.remove(b"old")
    assert (other / "Maildir").is_dir()
    assert not folder.is_symlink()


@pytest.mark.skipif(not ROOT, reason="only root can be led astray")
@pytest.mark.parametrize("name", ["vpasswd", "vpasswd.tmp", "cdb.tmp", "vpasswd.cdb", ".dir-control.tmp", "joe"])
def test_a_link_that_the_owner_has_planted_leads_root_nowhere(domain: Domain, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"of root\n")
    secret.chmod(0o600)
    path = Path(os.fsdecode(domain.dir), name)
    path.unlink(missing_ok=True)
    path.symlink_to(secret)
    try:
        add(domain, b"joe")
    except (OSError, vpopmail.Invalid):
        pass
    assert (secret.read_bytes(), secret.stat().st_uid, os.geteuid()) == (b"of root\n", 0, 0)


def test_somebody_else_is_refused(domain: Domain) -> None:
    stranger = Domain(domain.name, domain.dir, domain.uid + 1, domain.gid)
    if not ROOT:
        with pytest.raises(vpopmail.Invalid) as caught, accounts.Change(stranger):
            pass
        assert caught.value.code == vpopmail.BAD_UID
    else:
        with pytest.raises(PermissionError), accounts.Change(stranger):
            pass
        assert os.geteuid() == 0


def test_a_cdb_that_is_older_is_made_anew(domain: Domain) -> None:
    folder = Path(os.fsdecode(domain.dir))
    text = (folder / "vpasswd").read_bytes()
    (folder / "vpasswd").write_bytes(text.replace(b"old:", b"new:"))
    os.utime(folder / "vpasswd.cdb", ns=(0, 0))
    assert accounts.stale(domain)
    assert accounts.get(domain, b"new") is None
    with accounts.Change(domain):
        pass
    assert accounts.get(domain, b"new") is not None
    assert not accounts.stale(domain)


def test_a_journal_that_is_none_is_an_error_and_stays(domain: Domain) -> None:
    path = Path(os.fsdecode(domain.dir), ".vpasswd.journal")
    path.write_bytes(b"4:what,1:x,")
    with pytest.raises(OSError) as caught:
        add(domain, b"joe")
    assert (caught.value.errno, path.exists(), os.geteuid()) == (errno.EPROTO, True, 0 if ROOT else os.getuid())


def test_a_c_program_that_has_the_lock_is_waited_for(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(domain.dir + b"/.vpasswd.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        os.chown(fd, domain.uid, domain.gid)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        os.write(writing, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(reading, 1)
    monkeypatch.setattr(recordlocks.acquire, "__defaults__", (0o600, 1))
    try:
        with pytest.raises(recordlocks.Busy):
            add(domain, b"joe")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
    add(domain, b"joe")
    assert check(domain) == [b"joe", b"old"]


def failing(name: str, at: int) -> Callable[..., Any]:
    real = getattr(os, name)
    count = 0

    def act(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise OSError(errno.ENOSPC, "")
        return real(*arguments, **options)

    return act


@pytest.mark.parametrize("call", ["mkdir", "rename", "fsync", "write"])
def test_a_full_disk_leaves_all_as_it_was_or_a_change_to_complete(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    outcomes = set()
    for at in range(1, 30):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(call, at))
            try:
                add(domain, b"joe")
            except OSError as e:
                assert e.errno == errno.ENOSPC
            else:
                break
        written = b"joe" in names(domain)
        with accounts.Change(domain):
            pass
        assert check(domain) == ([b"joe", b"old"] if written else [b"old"])
        outcomes.add(written)
        if written:
            with accounts.Change(domain) as change:
                change.remove(b"joe")
    assert False in outcomes


@pytest.fixture
def many(domain: Domain) -> Iterator[tuple[Domain, Callable[[], None]]]:
    """A domain, and how to have it as it was at the beginning."""
    add(domain, b"joe", b"max")
    saved = os.fsdecode(domain.dir) + ".saved"
    shutil.copytree(os.fsdecode(domain.dir), saved, symlinks=True)

    def again() -> None:
        shutil.rmtree(domain.dir)
        shutil.copytree(saved, os.fsdecode(domain.dir), symlinks=True)
        for path in (Path(os.fsdecode(domain.dir)), *Path(os.fsdecode(domain.dir)).rglob("*")):
            os.chown(path, OWNER.pw_uid, GID)

    again()
    yield domain, again


def seen(domain: Domain, user: bytes) -> bytes | None:
    """What a login goes by."""
    account = accounts.get(domain, user)
    return None if account is None else account.password


def put(domain: Domain) -> None:
    with accounts.Change(domain) as change:
        account = change.get(b"joe")
        assert account is not None
        account.password, account.quota = b"new", b"5S"
        change.put([account], resized=True)


def remove(domain: Domain) -> None:
    with accounts.Change(domain) as change:
        change.remove(b"joe")


BOTH = [b"joe", b"max", b"old"]


@pytest.mark.parametrize(
    ("act", "user", "before", "after"),
    [
        (
            lambda domain: add(domain, b"new", b"another"),
            b"new",
            (None, BOTH),
            (HASH, sorted([b"another", b"new", *BOTH])),
        ),
        (remove, b"joe", (HASH, BOTH), (None, [b"max", b"old"])),
        (put, b"joe", (HASH, BOTH), (b"new", BOTH)),
    ],
    ids=["add", "remove", "put"],
)
def test_a_kill_at_any_call_leaves_before_or_after_or_what_the_next_one_completes(
    many: tuple[Domain, Callable[[], None]],
    act: Callable[[Domain], None],
    user: bytes,
    before: tuple[bytes | None, list[bytes]],
    after: tuple[bytes | None, list[bytes]],
) -> None:
    domain, again = many
    found = []
    for _ in deaths(lambda: act(domain)):
        assert seen(domain, user) in (before[0], after[0])
        assert accounts.get(domain, b"old") is not None
        with accounts.Change(domain):  # the next command
            pass
        state = seen(domain, user), check(domain)
        assert state in (before, after)
        found.append(state == after)
        again()
    assert found == sorted(found)
    assert {False, True} == set(found)
    assert (seen(domain, user), check(domain)) == after


def test_a_kill_while_a_change_is_completed_is_completed_as_well(many: tuple[Domain, Callable[[], None]]) -> None:
    domain, again = many
    journal = Path(os.fsdecode(domain.dir), ".vpasswd.journal")

    def complete() -> None:
        with accounts.Change(domain):
            pass

    for _ in deaths(lambda: add(domain, b"new")):
        if journal.exists():
            break
        again()
    text = journal.read_bytes()
    for _ in deaths(complete):
        complete()
        assert b"new" in check(domain)
        again()
        journal.write_bytes(text)
        os.chown(journal, OWNER.pw_uid, GID)
    assert b"new" in check(domain)


def test_a_quota_that_changes_has_the_maildir_counted_anew(many: tuple[Domain, Callable[[], None]]) -> None:
    domain, _ = many
    sizes = Path(os.fsdecode(domain.dir), "joe/Maildir/maildirsize")
    sizes.write_bytes(b"9S\n0 0\n")
    os.chown(sizes, OWNER.pw_uid, GID)
    put(domain)
    assert not sizes.exists()


def test_accounts_are_the_lines_of_vpasswd(domain: Domain) -> None:
    assert accounts.count(domain) == 1
    os.unlink(domain.dir + b"/vpasswd")
    assert accounts.count(domain) == 0


@pytest.mark.parametrize("name", ["vpasswd", ".vpasswd.journal", ".dir-control", ".dir_control_free"])
@pytest.mark.parametrize("target", ["/dev/zero", "fifo"])
def test_what_is_no_file_is_not_read(domain: Domain, name: str, target: str) -> None:
    folder = Path(os.fsdecode(domain.dir))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / "fifo")
    (folder / name).symlink_to(target)
    with pytest.raises(OSError) as caught:
        add(domain, b"joe")
    assert caught.value.errno == errno.EPROTO
    if name == "vpasswd":
        with pytest.raises(OSError):
            accounts.count(domain)


def test_a_folder_that_two_accounts_share_stays_with_the_other(domain: Domain) -> None:
    add(domain, b"joe", b"joey")
    folder = domain.dir + b"/joe"
    for shared in folder, folder + b"/below":
        with accounts.Change(domain) as change:
            account = change.get(b"old")
            assert account is not None
            account.dir = shared
            change.put([account])
        with accounts.Change(domain) as change:
            assert not change.remove(b"joe")
            assert os.path.isdir(folder + b"/Maildir")
            change.put([Account(b"joe", HASH, gecos=b"joe", dir=folder)])
    with accounts.Change(domain) as change:
        assert change.remove(b"joey")


def test_a_folder_is_put_away_while_another_removes_what_was_there(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has no lock any more removes .deleted between its making and the move there."""
    add(domain, b"joe")
    rename = os.rename

    def late(source: bytes, target: bytes, **options: int) -> None:
        if source.endswith(b"/joe"):
            monkeypatch.setattr(os, "rename", rename)
            os.rmdir(os.path.dirname(target))
        rename(source, target, **options)

    monkeypatch.setattr(os, "rename", late)
    with accounts.Change(domain) as change:
        assert change.remove(b"joe")
    assert not os.path.lexists(domain.dir + b"/joe")
    add(domain, b"joe")
