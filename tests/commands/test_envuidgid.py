"""envuidgid beside Debian's, and with it in one chain."""

import os
import pwd

import pytest

from tests.commands import loaders

NAME = "envuidgid"


def test_envuidgid_sets_uid_and_gid_and_nothing_else_in_every_chain() -> None:
    root = loaders.same_in_every_chain(NAME, "root", env={"UID": "7", "USER": "someone"})
    nobody = loaders.same_in_every_chain(NAME, "nobody", env={"USER": "someone"})
    assert nobody["ids"][0] == os.getresuid()
    entry = pwd.getpwnam("nobody")
    before = loaders.variables(root["env"])
    after = loaders.variables(nobody["env"])
    assert (before[b"UID"], before[b"GID"]) == (b"0", b"0")
    assert after == {**before, b"UID": b"%d" % entry.pw_uid, b"GID": b"%d" % entry.pw_gid}
    assert after[b"USER"] == b"someone"


@pytest.mark.parametrize("words", [(), ("root",), ("no-such-account",)])
def test_envuidgid_says_its_usage_as_debians(words: tuple[str, ...]) -> None:
    assert loaders.same_as_debians(NAME, *words).returncode == 100


@pytest.mark.parametrize("account", [b"no-such-account", b"", b"\xff", b"0"])
def test_envuidgid_refuses_an_unknown_account_as_debians(account: bytes) -> None:
    done = loaders.same_as_debians(NAME, account, "true")
    assert (done.stderr, done.returncode) == (b"envuidgid: fatal: unknown account %s\n" % account, 111)


@pytest.mark.parametrize("program", [("./missing",), ("missing",), ("sh", "-c", "exit 7"), ("cat",)])
def test_envuidgid_ends_as_debians(program: tuple[str, ...]) -> None:
    loaders.same_as_debians(NAME, "root", *program, input=b"text")
