"""domains: found by users/cdb, or users/assign; and only what can be a domain."""

import errno
from pathlib import Path

import pytest

from qmailpy.formats import assign, cdb
from qmailpy.stores.vpopmail import domains
from qmailpy.stores.vpopmail.vhome import Vhome

ASSIGN = b"""\
=joe:joe:503:78:/home/joe:::
+joe-:joe:503:78:/home/joe:-::
+a.example-:a.example:89:90:/d/a.example:-::
+alias.example-:a.example:89:90:/d/a.example:-::
+alias.example-:b.example:89:90:/d/b.example:-::
+plain-:a.example:89:90:/d/a.example:-::
+root.example-:root.example:0:0:/d/root.example:-::
+odd.example-:odd.example:89:90:d/odd.example:-::
+dash.example-:dash.example:89:90:/d/dash.example:::
+:alias:504:78:/var/qmail/alias:-::
.
+late.example-:late.example:89:90:/d/late.example:-::
"""


@pytest.fixture
def home(tmp_path: Path) -> Vhome:
    (tmp_path / "users").mkdir()
    (tmp_path / "users/assign").write_bytes(ASSIGN)
    (tmp_path / "users/cdb").write_bytes(b"".join(cdb.make(assign.records(ASSIGN))))
    return Vhome(b"/v", bytes(tmp_path))


@pytest.mark.parametrize("source", ["cdb", "text"])
def test_a_domain_is_found_by_its_name_and_its_aliases(home: Vhome, source: str) -> None:
    if source == "text":
        Path(home.qmail.decode(), "users/cdb").unlink()
    domain = domains.find(home, b"A.Example")
    assert domain is not None
    assert (domain.name, domain.alias, domain.dir, domain.uid, domain.gid, domain.is_alias) == (
        b"a.example", b"a.example", b"/d/a.example", 89, 90, False
    )  # fmt: skip
    for name in b"alias.example", b"plain":
        alias = domains.find(home, name)
        assert alias is not None
        assert (alias.name, alias.alias, alias.is_alias) == (b"a.example", name, True)
    for name in b"joe", b"b.example", b"root.example", b"odd.example", b"dash.example", b"", b"../x", b"a.example-":
        assert domains.find(home, name) is None, name
    assert domains.find(home, b"a.example\n") is domains.find(home, b"\0") is None


def test_all_are_listed_in_the_order_of_the_file(home: Vhome) -> None:
    assert [each.alias for each in domains.every(home)] == [b"a.example", b"alias.example", b"plain"]
    assert [each.alias for each in domains.every(home, b"b.example")] == []
    domain = domains.find(home, b"a.example")
    assert domain is not None
    assert domains.aliases(home, domain) == [b"alias.example", b"plain"]


def test_without_any_file_there_is_no_domain(tmp_path: Path) -> None:
    home = Vhome(b"/v", bytes(tmp_path))
    assert domains.find(home, b"a.example") is None
    with pytest.raises(FileNotFoundError):
        list(domains.every(home))


def test_a_cdb_that_is_none_is_an_error(home: Vhome) -> None:
    Path(home.qmail.decode(), "users/cdb").write_bytes(b"x" * 3000)
    with pytest.raises(OSError) as caught:
        domains.find(home, b"a.example")
    assert caught.value.errno == errno.EPROTO
