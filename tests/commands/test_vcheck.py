"""vcheck: what it prints, and how it ends; what it finds is in tests/stores/vpopmail/test_consistency.py."""

import json

import pytest

from tests.vpopmailhomes import VpopmailHome, vpopmail_home

__all__ = ["vpopmail_home"]


@pytest.fixture
def home(vpopmail_home: VpopmailHome) -> VpopmailHome:
    vpopmail_home.add("a.example")
    return vpopmail_home


def test_it_is_silent_where_all_is_well(home: VpopmailHome) -> None:
    for words in ([], ["-n"], ["a.example"]):
        result = home.run("vcheck", *words)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_what_is_wrong_is_printed_and_mended(home: VpopmailHome) -> None:
    (home.path / "control/rcpthosts").write_text("")
    line = b"a.example: in neither control/rcpthosts nor morercpthosts"
    result = home.run("vcheck", "-n")
    assert (result.returncode, result.stdout) == (1, line + b"\n")
    assert home.text("control/rcpthosts") == ""
    result = home.run("vcheck")
    assert (result.returncode, result.stdout) == (0, line + b": mended\n")
    assert home.text("control/rcpthosts") == "a.example\n"
    assert home.run("vcheck").stdout == b""


def test_what_is_left_is_a_code_of_its_own(home: VpopmailHome) -> None:
    (home.path / "control/virtualdomains").write_text("a.example:a.example\nb.example:b.example\n")
    result = home.run("vcheck", "-j")
    assert result.returncode == 1
    assert json.loads(result.stdout) == {
        "where": "b.example", "what": "in control/virtualdomains, and not in users/assign", "mended": False
    }  # fmt: skip


def test_odd_bytes_are_made_visible(home: VpopmailHome) -> None:
    (home.path / "control/virtualdomains").write_bytes(b"a.example:a.example\n\x1b[2J.x:\x1b[2J.x\n")
    assert home.run("vcheck").stdout == b"^[[2j.x: in control/virtualdomains, and not in users/assign\n"


def test_an_empty_home_is_consistent(vpopmail_home: VpopmailHome) -> None:
    assert vpopmail_home.run("vcheck", "-n").returncode == vpopmail_home.run("vcheck").returncode == 0


def test_wrong_usage_prints_the_usage(vpopmail_home: VpopmailHome) -> None:
    result = vpopmail_home.run("vcheck", "-Z")
    assert result.returncode == 255 and result.stdout.startswith(b"vcheck: usage: [options] [domain] ...\n")
