"""addressees: whose mail it is, in the order of qmail-local and vdelivermail."""

import errno
import os

import pytest

from qmailpy.stores.vpopmail import accounts, addressees
from qmailpy.stores.vpopmail.addressees import ACCOUNT, ALIAS, CATCHALL, NOBODY
from tests.virtual import Virtual, virtual

__all__ = ["virtual"]

DEFAULT = "| /home/vpopmail/bin/vdelivermail '' {}\n"


def env(virtual: Virtual) -> dict[bytes, bytes]:
    return {b"QMAILHOME": bytes(virtual.folder), b"VPOPMAILHOME": bytes(virtual.folder)}


def resolve(virtual: Virtual, local: bytes, host: bytes = b"one.example") -> addressees.Found | None:
    return addressees.resolve(env(virtual), host, local)


def kind(virtual: Virtual, local: bytes) -> tuple[str, bytes | None, bytes]:
    found = resolve(virtual, local)
    assert found is not None
    return found.kind, None if found.account is None else found.account.name, found.ext


def test_of_aliases_accounts_and_everybody_else_the_first_counts(virtual: Virtual) -> None:
    folder = virtual.domain("one.example", "fred:x", "jean:x", "jean-luc:x", "list-x:x")
    for name in (".qmail-sales", ".qmail-list-default", ".qmail-first:last"):
        (folder / name).write_text("x@y\n")
    (folder / ".qmail-folder").mkdir()
    (folder / ".qmail-jean-x").symlink_to("nowhere")
    (folder / ".qmail-default").write_text(DEFAULT.format("bounce-no-mailbox"))
    assert kind(virtual, b"FRED") == (ACCOUNT, b"fred", b"")
    assert kind(virtual, b"fred-a-b") == (ACCOUNT, b"fred", b"a-b")
    assert kind(virtual, b"jean-x") == (ACCOUNT, b"jean", b"x")
    assert kind(virtual, b"jean-luc-x") == (ACCOUNT, b"jean-luc", b"x")
    for local in (b"Sales", b"list-x", b"list-", b"first.last"):
        assert kind(virtual, local) == (ALIAS, None, b"")
    for local in (b"sales-x", b"folder", b"list", b"default", b"", b"-fred", b"a%b", b"x" * 300, b"\xff", b"a/../fred"):
        assert kind(virtual, local) == (NOBODY, None, b"")


@pytest.mark.parametrize("action", ["delete", "x@y", "/home/x", "|x"])
def test_an_action_but_one_takes_mail_for_all_names(virtual: Virtual, action: str) -> None:
    folder = virtual.domain("one.example", "fred:x")
    (folder / ".qmail-default").write_text(DEFAULT.format(f"'{action}'"))
    found = resolve(virtual, b"nobody")
    assert found is not None
    assert (found.kind, found.action) == (CATCHALL, action.encode())
    assert kind(virtual, b"fred")[0] == ACCOUNT
    assert kind(virtual, b"a:b")[0] == NOBODY


@pytest.mark.parametrize("text", ["./Maildir/\n", "# nothing\n", "", '| vdelivermail "" $X\n'])
def test_other_lines_take_mail_for_everybody(virtual: Virtual, text: str) -> None:
    folder = virtual.domain("one.example", "fred:x")
    (folder / ".qmail-default").write_text(text)
    for local in (b"fred", b"nobody"):
        assert kind(virtual, local) == (CATCHALL, None, b"")


def test_without_the_file_there_is_nobody_but_aliases(virtual: Virtual) -> None:
    folder = virtual.domain("one.example", "fred:x")
    (folder / ".qmail-sales").touch()
    assert [kind(virtual, local)[0] for local in (b"fred", b"sales")] == [NOBODY, ALIAS]


def test_alias_domains_have_the_users_of_the_real_one(virtual: Virtual) -> None:
    folder = virtual.domain("one.example", "fred:x")
    virtual.domain("alias.example", alias="one.example")
    (folder / ".qmail-default").write_text(DEFAULT.format("bounce-no-mailbox"))
    found = resolve(virtual, b"fred", b"Alias.Example")
    assert found is not None and found.account is not None
    assert (found.kind, found.domain.name) == (ACCOUNT, b"one.example")
    assert resolve(virtual, b"fred", b"two.example") is None


def test_a_name_of_nothing_but_hyphens_costs_no_look_up_for_each(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = "x" * 64
    virtual.domain("one.example", f"{user}:x")
    domain = addressees.domain_of(env(virtual), b"one.example")
    assert domain is not None
    account, ext = addressees.account_of(domain, user.encode() + b"-a-b")
    assert (account is not None and account.name.decode(), ext) == (user, b"a-b")
    assert addressees.account_of(domain, user.encode() + b"x-a") == (None, b"")
    asked = []
    monkeypatch.setattr(accounts, "get", lambda _, name: asked.append(name))
    assert addressees.account_of(domain, b"-" * 900) == (None, b"")
    assert len(asked) == 64


@pytest.mark.parametrize("name", ["vpasswd", "."])
def test_what_is_away_is_not_nothing(virtual: Virtual, name: str) -> None:
    folder = virtual.domain("one.example", "fred:x")
    (folder / ".qmail-default").write_text(DEFAULT.format("bounce-no-mailbox"))
    if name == ".":
        folder.rename(virtual.folder / "away")
    else:
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError):
        resolve(virtual, b"nobody")


def test_what_cannot_be_read_is_not_nothing(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    virtual.domain("one.example", "fred:x")

    def stat(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "")

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(PermissionError):
        resolve(virtual, b"nobody")


def test_a_text_is_the_domains_or_all_domains(virtual: Virtual) -> None:
    folder = virtual.domain("one.example", "fred:x")
    domain = addressees.domain_of(env(virtual), b"one.example")
    assert domain is not None
    assert addressees.text(env(virtual), domain, b".x.msg") is None
    (virtual.folder / "domains" / ".x.msg").write_bytes(b"all")
    assert addressees.text(env(virtual), domain, b".x.msg") == b"all"
    (folder / ".x.msg").write_bytes(b"one")
    assert addressees.text(env(virtual), domain, b".x.msg") == b"one"
