"""vhome: where the domains are, whose they are, and the default domain."""

import os
from pathlib import Path

import pytest

from qmailpy.formats import vpopmail
from qmailpy.stores.vpopmail import vhome
from qmailpy.stores.vpopmail.vhome import Vhome
from tests.servers import GID, UID
from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]


def test_the_home_is_named_or_an_accounts_or_the_mail_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    home = vhome.vhome({b"VPOPMAILHOME": b"/v/", b"QMAILHOME": b"/q"})
    assert (home.path, home.domains, home.etc, home.qmail) == (b"/v", b"/v/domains", b"/v/etc", b"/q")
    assert vhome.vhome({b"VPOPMAILHOME": b"v"}).path == os.getcwdb() + b"/v"
    for odd in b"/", b"//", b"/v//w", b"/v/../w", b"/v/./w", b"/v/.w", b"/v/w/..", b"/v.w/x", b"./v", b"/v/w//":
        assert vhome.vhome({b"VPOPMAILHOME": odd}).path == os.path.abspath(odd)
    monkeypatch.setattr("qmailpy.unix.nss.passwd", lambda name: None)
    assert vhome.vhome({b"QMAILHOME": b"/q"}).path == b"/q"
    entry = (b"vpopmail", b"x", 89, 89, b"", b"/home/vpopmail", b"")
    monkeypatch.setattr("qmailpy.unix.nss.passwd", lambda name: entry)
    assert vhome.vhome({}).path == b"/home/vpopmail"


def test_domains_belong_to_the_account_or_to_the_owner_of_the_home(
    vpopmail_home: VpopmailHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qmailpy.unix.nss.passwd", lambda name: None)
    assert vpopmail_home.value.owner() == (UID, GID)
    if os.geteuid() == 0:
        os.chown(vpopmail_home.vhome, 0, 0)
        with pytest.raises(vpopmail.Invalid, match="-22"):
            vpopmail_home.value.owner()
        monkeypatch.setattr("qmailpy.unix.nss.passwd", lambda name: (name, b"x", 89, 90, b"", b"/x", b""))
        monkeypatch.setattr("qmailpy.unix.ids.group", lambda name: 91)
        assert vpopmail_home.value.owner() == (89, 91)


def test_a_name_without_a_domain_has_the_default_domain(tmp_path: Path) -> None:
    home = Vhome(bytes(tmp_path), bytes(tmp_path))
    for folder in "etc", "control":
        (tmp_path / folder).mkdir()
    assert home.split(b"Joe", {}) == (b"joe", b"")
    (tmp_path / "etc/defaultdomain").write_text("Default.example \n")
    assert home.split(b"joe", {}) == (b"joe", b"default.example")
    assert home.split(b"joe@a.example", {}) == (b"joe", b"a.example")
    (tmp_path / "etc/ip_alias_map").write_text("192.0.2.1 Mapped.example\n2001:DB8:0::1 six.example\nodd\n")
    assert home.default_domain({b"TCPLOCALIP": b"192.0.2.1"}) == b"mapped.example"
    assert home.default_domain({b"TCPLOCALIP": b"::ffff:192.0.2.1"}) == b"mapped.example"
    assert home.default_domain({b"TCPLOCALIP": b"2001:db8::1"}) == b"six.example"
    assert home.default_domain({b"TCPLOCALIP": b"192.0.2.2"}) == b"default.example"
    (tmp_path / "control/locals").write_text("MAPPED.example\n")
    assert home.default_domain({b"TCPLOCALIP": b"192.0.2.1"}) == b"default.example"
    assert home.default_domain({b"VPOPMAIL_DOMAIN": b"En/v.example", b"TCPLOCALIP": b"192.0.2.1"}) == b"en_v.example"
