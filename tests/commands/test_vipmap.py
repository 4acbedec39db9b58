"""vipmap: default domains by local address."""

import json

import pytest

from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]

USAGE = b"vipmap: usage: [options] ip domain\n"


def test_addresses_are_added_printed_and_removed(vpopmail_home: VpopmailHome) -> None:
    for words in ("192.0.2.1", "a.example"), ("2001:DB8::0:1", "B.example"), ("192.0.2.1", "c.example"):
        result = vpopmail_home.run("vipmap", "-a", *words)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert vpopmail_home.run("vipmap", "-p").stdout == b"2001:db8::1 b.example\n192.0.2.1 c.example\n"
    lines = vpopmail_home.run("vipmap", "-pj").stdout.splitlines()
    assert json.loads(lines[0]) == {"ip": "2001:db8::1", "domain": "b.example"}
    assert vpopmail_home.run("vipmap", "-d", "2001:db8:0::1", "b.example").returncode == 0
    assert vpopmail_home.run("vipmap", "-d", "192.0.2.9", "b.example").returncode == 0
    assert vpopmail_home.run("vipmap", "-p").stdout == b"192.0.2.1 c.example\n"


def test_there_may_be_none(vpopmail_home: VpopmailHome) -> None:
    result = vpopmail_home.run("vipmap", "-p")
    assert (result.returncode, result.stdout) == (0, b"")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ((), 255, USAGE),
        (("-a", "192.0.2.1"), 255, USAGE),
        (("-Z",), 255, USAGE),
        (("-a", "192.0.2.300", "a.example"), 255, b"Error: not an IP address: 192.0.2.300\n"),
        (("-a", "1.2.3.4\n5.6.7.8", "a.example"), 255, b"Error: not an IP address: "),
        (("-a", "192.0.2.1", "a b"), 244, b"Error: Invalid domain name\n"),
        (("-a", "192.0.2.1", "a\nb.example"), 244, b"Error: Invalid domain name\n"),
    ],
)
def test_what_cannot_be_is_refused(vpopmail_home: VpopmailHome, words: tuple[str, ...], code: int, text: bytes) -> None:
    result = vpopmail_home.run("vipmap", *words)
    assert result.returncode == code and result.stdout.startswith(text)
    assert not (vpopmail_home.etc / "ip_alias_map").exists()
