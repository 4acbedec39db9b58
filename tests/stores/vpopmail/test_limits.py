import os

import pytest

from qmailpy.formats import vpasswd, vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores.vpopmail import limits
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.stores.vpopmail.vhome import Vhome
from tests.virtual import GID, OWNER, ROOT, Virtual, virtual

__all__ = ["virtual"]


def test_a_domains_own_limits_come_before_the_common_ones(virtual: Virtual) -> None:
    folder = virtual.domain("a.example")
    domain = Domain(b"a.example", os.fsencode(folder), OWNER.pw_uid, GID)
    home = Vhome(os.fsencode(virtual.folder), os.fsencode(virtual.folder))
    assert limits.default_quota(limits.read(home, domain)) == b"NOQUOTA"
    (virtual.etc / "vlimits.default").write_text("default_quota 5\n")
    assert limits.default_quota(limits.read(home, domain)) == b"5S"
    (folder / ".qmailadmin-limits").write_text("default_maxmsgcount: 7\n")
    assert limits.default_quota(limits.read(home, domain)) == b"7C"


def test_flags_are_the_accounts_and_the_domains_unless_it_is_above_them() -> None:
    allowed = vpopmail.Limits(b"disable_pop\n")
    account = Account(b"joe", b"", gid=vpasswd.NO_IMAP)
    assert limits.flags(account, allowed) == vpasswd.NO_IMAP | vpasswd.NO_POP
    account.gid |= vpasswd.V_OVERRIDE
    assert limits.flags(account, allowed) == vpasswd.NO_IMAP | vpasswd.V_OVERRIDE


@pytest.mark.parametrize("target", ["/dev/zero", "huge"])
def test_limits_without_end_are_not_read(virtual: Virtual, target: str) -> None:
    folder = virtual.domain("a.example")
    (folder / "huge").write_bytes(b"#" * (limits.LARGEST + 1))
    (folder / ".qmailadmin-limits").symlink_to(target)
    with pytest.raises(OSError):
        limits.read(Vhome(b"/v", b"/v"), Domain(b"a.example", os.fsencode(folder), OWNER.pw_uid, GID))


@pytest.mark.skipif(not ROOT, reason="only root can be led astray")
def test_limits_are_read_as_the_domains_owner_may(virtual: Virtual) -> None:
    folder = virtual.domain("a.example")
    secret = folder / ".qmailadmin-limits"
    secret.write_text("default_quota 5\n")
    secret.chmod(0o600)
    os.chown(secret, 0, 0)
    with pytest.raises(PermissionError):
        limits.read(Vhome(b"/v", b"/v"), Domain(b"a.example", os.fsencode(folder), OWNER.pw_uid, GID))
