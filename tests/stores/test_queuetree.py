"""queuetree: the table of the queue's directory, and who owns it."""

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from qmailpy.stores import queuetree
from qmailpy.stores.safeio import Failed


def paths(node: queuetree.Node, path: str = "queue") -> list[tuple[str, bytes, int]]:
    inner = [each for name, one in node.inside.items() for each in paths(one, f"{path}/{name.decode()}")]
    return [(path, node.account, node.mode), *inner]


def test_the_table_is_that_of_the_reference() -> None:
    found = {path: (account, mode) for path, account, mode in paths(queuetree.tree(2, False))}
    queue, send, remote = b"qmailq", b"qmails", b"qmailr"
    split = {
        f"queue/{folder}{place}": (account, mode)
        for folder, account, mode in (
            ("mess", queue, 0o750), ("info", send, 0o700), ("local", send, 0o700), ("remote", send, 0o700)
        )
        for place in ("", "/0", "/1")
    }  # fmt: skip
    assert found == {
        "queue": (queue, 0o750),
        "queue/pid": (queue, 0o700),
        "queue/intd": (queue, 0o700),
        "queue/todo": (queue, 0o750),
        "queue/bounce": (send, 0o700),
        "queue/last": (send, 0o700),
        "queue/lock": (queue, 0o750),
        "queue/lock/sendmutex": (send, 0o600),
        "queue/lock/tcpto": (remote, 0o644),
        "queue/lock/trigger": (send, 0o622),
        **split,
    }


def test_big_todo_splits_todo_and_intd() -> None:
    plain, big = ({path for path, _, _ in paths(queuetree.tree(3, split))} for split in (False, True))
    assert big - plain == {f"queue/{folder}/{place}" for folder in ("todo", "intd") for place in range(3)}


def test_the_last_directory_is_made_first() -> None:
    """By its number the split of a queue is known, also if its making was interrupted."""
    assert next(iter(queuetree.tree(23, False).inside[b"mess"].inside)) == b"22"


def test_root_gives_things_to_the_accounts_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def user(name: str) -> Any:
        return pwd.struct_passwd((name, "x", {"qmailq": 7, "qmails": 8}[name], 1, "", "/", "/"))

    def group(name: str) -> Any:
        return grp.struct_group((name, "x", {"qmail": 9}[name], []))

    monkeypatch.setattr(pwd, "getpwnam", user)
    monkeypatch.setattr(grp, "getgrnam", group)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    owners = queuetree.Owners(os.fsencode(tmp_path))
    uids = [owners.uid(account) for account in (b"qmailq", b"qmails", b"qmailr")]
    assert (uids, owners.gid) == ([7, 8, tmp_path.stat().st_uid], 9)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1001)
    owners = queuetree.Owners(os.fsencode(tmp_path))
    assert (owners.uid(b"qmailq"), owners.uid(b"qmailr"), owners.gid) == (1000, 1000, 1001)


def test_what_the_system_refuses_has_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "")

    mason = queuetree.Mason(queuetree.Owners(os.fsencode(tmp_path)), False, lambda *_: None, lambda *_: None)
    monkeypatch.setattr(os, "mkfifo", refuse)
    with pytest.raises(Failed) as raised:
        mason.work(os.fsencode(tmp_path), queuetree.tree(1, False))
    assert (raised.value.complaint, raised.value.errno) == (b"unable to make or mend queue/lock/trigger", 28)


def test_what_is_put_in_the_place_of_a_new_file_is_not_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    make_fifo = os.mkfifo

    def make_and_swap(name: bytes, mode: int, dir_fd: int) -> None:
        make_fifo(name, mode, dir_fd=dir_fd)
        os.unlink(name, dir_fd=dir_fd)
        os.link(secret, name, dst_dir_fd=dir_fd)

    (tmp_path / "home").mkdir()
    place = os.fsencode(tmp_path / "home")
    mason = queuetree.Mason(queuetree.Owners(place), False, lambda *_: None, lambda *_: None)
    monkeypatch.setattr(os, "mkfifo", make_and_swap)
    with pytest.raises(Failed) as raised:
        mason.work(place, queuetree.tree(1, False))
    assert raised.value.complaint == b"unable to make or mend queue/lock/trigger"
    assert secret.stat().st_mode & 0o777 == 0o600
