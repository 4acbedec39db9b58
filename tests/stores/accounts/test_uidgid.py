import errno
import os
import pwd

import pytest

from qmailpy import strerr
from qmailpy.stores.accounts import Refusal, uidgid
from qmailpy.unix import nss


def test_the_numbers_are_those_of_getpwnam() -> None:
    for entry in pwd.getpwall()[:20]:
        assert uidgid.find(os.fsencode(entry.pw_name)) == (entry.pw_uid, entry.pw_gid)


def test_an_unknown_account_is_refused_by_name() -> None:
    with pytest.raises(Refusal) as refused:
        uidgid.find(b"no-such-account")
    assert (refused.value.code, refused.value.text) == (strerr.LATER, b"unknown account no-such-account")
    assert refused.value.error is None


def test_a_failed_look_up_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: bytes) -> None:
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr(nss, "passwd", fail)
    nss.prepare()  # leaves it to the look-up
    with pytest.raises(Refusal) as refused:
        uidgid.find(b"max")
    assert (refused.value.code, refused.value.text) == (strerr.LATER, b"unable to look up account max")
    assert refused.value.error is not None
    assert refused.value.error.errno == errno.EMFILE
