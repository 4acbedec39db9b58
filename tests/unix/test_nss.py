import errno
import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.unix import nss


def test_an_entry_is_that_of_getpwnam() -> None:
    for expected in pwd.getpwall()[:20]:
        found = nss.passwd(os.fsencode(expected.pw_name))
        assert found[2:4] == (expected.pw_uid, expected.pw_gid)
        assert found[4:] == tuple(os.fsencode(text) for text in expected[4:])


@given(st.binary(max_size=512).map(lambda b: b.replace(b"\0", b"0")))
def test_any_name_may_be_asked_for(name: bytes) -> None:
    found = nss.passwd(name)
    assert found is None or found[0]


def test_root_reads_shadow_and_nobody_else() -> None:
    if os.access("/etc/shadow", os.R_OK):
        entry = nss.shadow(b"root")
        assert entry is not None and entry[0] == b"root"
        assert nss.shadow(b"no-such-account") is None
    else:
        with pytest.raises(PermissionError):
            nss.shadow(b"root")


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EAGAIN, errno.EMFILE, errno.ECONNREFUSED])
def test_a_database_that_cannot_be_asked_is_no_unknown_name(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """ENOENT is what nslcd's module says without nslcd."""
    monkeypatch.setattr(nss, "_getpwnam_r", lambda *_: code)
    with pytest.raises(OSError, match=rf"\[Errno {code}\]"):
        nss.passwd(b"joe")
