import json
import os

import pytest

from tests.virtual import SHA512, Virtual
from tests.vpopusers import home, virtual

__all__ = ["home", "virtual"]


def test_all_fields_are_shown_as_the_original_shows_them(home: Virtual) -> None:
    folder = home.folder / "domains/a.example"
    os.utime(folder / "old", (0, 0))
    done = home.run("vuserinfo", "Old@b.example", TZ="UTC")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == (
        f"name:   old\npasswd: {SHA512}\nclear passwd: \ncomment/gecos: old\nuid:    1\ngid:    0\nflags:  0\n"
        f"gecos: old\nlimits: No user limits set.\ndir:       {folder}/old\nquota:     NOQUOTA\nusage:     NOQUOTA\n"
        "last auth: Never logged in\n"
    )


def test_flags_are_named_and_the_domains_are_marked(home: Virtual) -> None:
    home.run("vmoduser", "-d", "-b", "old@a.example")
    (home.etc / "vlimits.default").write_text("disable_pop\n")
    shown = home.run("vuserinfo", "-a", "old@a.example").stdout.decode()
    assert "gid:    17\nflags:  19\n" in shown
    assert (
        "limits:\n        password can not be changed by user\n        pop access closed (*)\n"
        "        mail will be bounced back to sender\n        * = set by domain-wide limits\ndir: "
    ) in shown


def test_the_last_login_is_shown(home: Virtual) -> None:
    file = home.folder / "domains/a.example/old/lastauth"
    file.write_text("0.0.0.0")
    os.utime(file, (1001234567, 1001234567))
    shown = home.run("vuserinfo", "-l", "old@a.example", TZ="UTC").stdout
    assert shown == b"account created: Sun Sep 23 08:42:47 2001\nlast auth: Never logged in\n"
    file.write_text("192.0.2.1")
    os.utime(file, (1001234567, 1001234567))
    shown = home.run("vuserinfo", "-l", "old@a.example", TZ="Asia/Tokyo").stdout
    assert shown == b"last auth: Sun Sep 23 17:42:47 2001\nlast auth ip: 192.0.2.1\n"
    told = json.loads(home.run("vuserinfo", "-j", "-l", "old@a.example").stdout)
    assert told == {"last_login": {"time": 1001234567, "ip": "192.0.2.1"}}


def test_fields_are_shown_alone_in_one_order(home: Virtual) -> None:
    folder = home.folder / "domains/a.example"
    home.accounts(folder, "old:hash:2:5:Old One:DIR/old:100S:clear", "max:x")
    (folder / "old/Maildir/cur/1,S=50:2,").write_text("x" * 50)
    shown = home.run("vuserinfo", "-Qqdcgup", "-C", "-n", "old@a.example").stdout.decode()
    assert shown.splitlines() == ["old", "hash", "clear", "2", "5", "Old One", f"{folder}/old", "100S", "50%"]
    rule = "-" * 42
    assert home.run("vuserinfo", "-n", "-D", "b.example").stdout.decode().splitlines() == [rule, "max", rule, "old"]


def test_json_has_all_fields(home: Virtual) -> None:
    folder = home.folder / "domains/a.example"
    assert json.loads(home.run("vuserinfo", "-j", "old@a.example").stdout) == {
        "domain": "a.example",
        "flags": 0,
        "name": "old",
        "passwd": SHA512,
        "clear": None,
        "uid": 1,
        "gid": 0,
        "gecos": "old",
        "dir": f"{folder}/old",
        "quota": "NOQUOTA",
        "usage": None,
        "last_login": None,
    }


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["max@a.example"], 255, "no such user max@a.example"),
        (["max@d.example"], 255, "no such user max@d.example"),
        (["max"], 255, "no such user max"),
        (["-D", "d.example"], 245, "Error: Domain does not exist"),
        (["a:b@a.example"], 255, "Error: Illegal username"),
        ([], 255, "vuserinfo: usage: [options] email_address\n"),
        (["-z", "old@a.example"], 255, "vuserinfo: usage: [options] email_address\n"),
    ],
)
def test_whom_there_is_not_is_told(home: Virtual, words: list[str], code: int, said: str) -> None:
    done = home.run("vuserinfo", *words)
    assert (done.returncode, done.stdout.decode()[: len(said)]) == (code, said)
