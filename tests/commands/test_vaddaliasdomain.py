"""vaddaliasdomain: one more name for a domain."""

import pytest

from qmailpy.stores.vpopmail import domains
from tests.servers import GID, UID
from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]

USAGE = (
    b"vaddaliasdomain: usage: [options] real_domain alias_domain\noptions: -v (print version number)\n"
    b"note: for backward compatability, you can swap real_domain and alias_domain.\n"
)


@pytest.mark.parametrize("words", [("a.example", "B.Example"), ("b.example", "A.example")])
def test_an_alias_is_the_domain_by_another_name(vpopmail_home: VpopmailHome, words: tuple[str, str]) -> None:
    folder = vpopmail_home.add("a.example")
    result = vpopmail_home.run("vaddaliasdomain", *words)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    rest = f":a.example:{UID}:{GID}:{folder}:-::\n"
    assert vpopmail_home.text("users/assign") == f"+a.example-{rest}+b.example-{rest}.\n"
    assert vpopmail_home.text("control/virtualdomains") == "a.example:a.example\nb.example:b.example\n"
    assert vpopmail_home.text("control/rcpthosts") == "a.example\nb.example\n"
    alias = domains.find(vpopmail_home.value, b"b.example")
    assert alias is not None and (alias.name, alias.dir) == (b"a.example", bytes(folder))


def test_an_alias_of_an_alias_is_one_of_the_domain(vpopmail_home: VpopmailHome) -> None:
    vpopmail_home.add("a.example")
    vpopmail_home.run("vaddaliasdomain", "a.example", "b.example")
    assert vpopmail_home.run("vaddaliasdomain", "b.example", "c.example").returncode == 0
    alias = domains.find(vpopmail_home.value, b"c.example")
    assert alias is not None and alias.name == b"a.example"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("a.example", "b.example"), 255, b"Error: Both domains already exist, unable to create alias.\n"),
        (("x.example", "y"), 255, b"Error: Neither 'x.example' or 'y'  exist, unable to create alias.\n"),
        (("a.example", "A.example"), 255, b"Error: real domain and alias domain are the same!\n" + USAGE),
        (("a.example",), 255, USAGE),
        (("a.example", ""), 255, USAGE),
        (("a.example", "../x"), 244, b"Error: Invalid domain name\n"),
        (("a.example", "x:y.example"), 244, b"Error: Invalid domain name\n"),
        (("a.example", "x\ny.example"), 244, b"Error: Invalid domain name\n"),
        (("a.example", "\xfc.example"), 244, b"Error: Invalid domain name\n"),
        (("a.example", "x" * 300), 230, b"Error: domain name too long (max=96)\n"),
    ],
)
def test_what_cannot_be_is_refused(vpopmail_home: VpopmailHome, words: tuple[str, ...], code: int, text: bytes) -> None:
    vpopmail_home.add("a.example")
    vpopmail_home.add("b.example")
    before = vpopmail_home.text("users/assign")
    result = vpopmail_home.run("vaddaliasdomain", *words)
    assert (result.returncode, result.stdout) == (code, text)
    assert vpopmail_home.text("users/assign") == before


def test_the_version_is_printed(vpopmail_home: VpopmailHome) -> None:
    assert vpopmail_home.run("vaddaliasdomain", "-v").stdout.startswith(b"version: ")
