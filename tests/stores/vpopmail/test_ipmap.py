"""ipmap: one domain for each address, however that is spelled."""

from pathlib import Path

import pytest

from qmailpy.stores.vpopmail import ipmap
from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (b"192.0.2.1", b"192.0.2.1"),
        (b"::ffff:192.0.2.1", b"192.0.2.1"),
        (b"2001:DB8:0:0::1", b"2001:db8::1"),
        (b"fe80::1%eth0", b"fe80::1"),
        (b"192.0.2.256", None),
        (b"", None),
        (b"../x", None),
        (b"1.2.3.4\n", None),
    ],
)
def test_an_address_has_one_form(text: bytes, form: bytes | None) -> None:
    assert ipmap.address(text) == form


def test_lines_are_replaced_and_removed(vpopmail_home: VpopmailHome) -> None:
    home = vpopmail_home.value
    file: Path = vpopmail_home.etc / "ip_alias_map"
    assert ipmap.pairs(home) == []
    ipmap.add(home, b"192.0.2.1", b"a.example")
    ipmap.add(home, b"2001:db8::1", b"b.example")
    ipmap.add(home, b"192.0.2.1", b"c.example")
    assert file.read_text() == "2001:db8::1 b.example\n192.0.2.1 c.example\n"
    ipmap.remove(home, b"192.0.2.1", b"a.example")
    assert len(ipmap.pairs(home)) == 2
    ipmap.remove(home, b"2001:db8::1", b"b.example")
    assert file.read_text() == "192.0.2.1 c.example\n"
