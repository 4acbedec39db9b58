import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmailpy.commands import vconvert
from qmailpy.formats import vpasswd
from qmailpy.formats.vpasswd import Account
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.stores.vpopmail.domains import Domain
from tests.virtual import SHA512, Virtual
from tests.vpopusers import account, home, logs_in, names, virtual

__all__ = ["home", "virtual"]

PASSWD = """root:x:0:0:root:/root:/bin/sh
joe:x:1000:1000:Joe User,,,:/home/joe:/bin/sh
max:x:1001:1001::/home/max:/bin/sh
locked:x:1002:1002::/home/locked:/bin/sh
old:x:1003:1003::/home/old:/bin/sh
strange$:x:1004:1004::/home/strange:/bin/sh
bad name:x:1005:1005::/home/bad:/bin/sh
short:x:1006
"""
SHADOW = f"""root:{SHA512}:1::::::
joe:{SHA512}:1::::::
max:$1$salt$hash:1::::::
locked:!{SHA512}:1::::::
old:{SHA512}:1::::::
strange$:{SHA512}:1::::::
bad name:{SHA512}:1::::::
"""


@pytest.fixture
def system(tmp_path: Path) -> list[str]:
    """Options for accounts of a system that has these."""
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "shadow").write_text(SHADOW)
    return ["-e", "-c", "-f", str(tmp_path / "passwd"), "-s", str(tmp_path / "shadow")]


def test_accounts_of_the_system_keep_their_hashes(home: Virtual, system: list[str]) -> None:
    done = home.run("vconvert", *system, "a.example")
    assert done.returncode == 255
    assert done.stdout.decode().splitlines() == [
        "skipping locked",
        "user bad name did not add: Illegal username",
        "user old did not add: Username exists",
        "converting a.example done",
    ]
    assert names(home) == ["joe", "max", "old", "strange$"]
    assert (account(home, "joe").gecos, account(home, "max").password) == (b"Joe User,,,", b"$1$salt$hash")
    assert logs_in(home, "joe@a.example", "secret")


def test_a_dry_run_says_all_and_does_nothing(home: Virtual, system: list[str]) -> None:
    before = sorted(path.name for path in home.folder.rglob("*"))
    done = home.run("vconvert", "-N", "-u", "0", *system, "a.example")
    assert done.returncode == 255
    assert done.stdout.decode().splitlines() == [
        "skipping locked",
        "user bad name did not add: Illegal username",
        "would add root@a.example, comment root, quota NOQUOTA, hash $6$",
        "would add joe@a.example, comment Joe User,,,, quota NOQUOTA, hash $6$",
        "would add max@a.example, comment max, quota NOQUOTA, hash $1$",
        "user old did not add: Username exists",
        "would add strange$@a.example, comment strange$, quota NOQUOTA, hash $6$",
    ]
    assert sorted(path.name for path in home.folder.rglob("*")) == before


def test_lines_of_names_and_hashes(home: Virtual, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text(f"joe:{SHA512}\n\nmax:x:more\nnothing\n")
    done = home.run("vconvert", "-d", "-p", str(tmp_path / "lines"), "-c", "b.example")
    assert (done.returncode, done.stdout.decode().splitlines()) == (
        0,
        [
            "adding joe@a.example, comment joe, quota NOQUOTA, hash $6$",
            "adding max@a.example, comment max, quota NOQUOTA, hash DES",
            "converting a.example done",
        ],
    )
    assert logs_in(home, "joe@a.example", "secret")


def test_a_table_is_read(home: Virtual) -> None:
    home.domain("c.example", f"old:{SHA512}")
    table = (
        "\ufeffAddress,password,crypt,gecos,quota,gid,uid,clear\r\n"
        'joe@a.example,"a:b,""c""",,"Joe, the first",10M,2,2,\r\n'
        f"max@c.example,,{SHA512},,,,,plain\r\n\r\n"
    )
    done = home.run("vconvert", "-t", "-", "-c", input=table.encode())
    assert (done.returncode, done.stdout) == (0, b"converting a.example done\nconverting c.example done\n")
    assert logs_in(home, "joe@a.example", 'a:b,"c"')
    joe, max = account(home, "joe"), account(home, "max", "c.example")
    assert (joe.gecos, joe.quota, joe.gid, joe.uid, joe.clear) == (b"Joe, the first", b"10485760S", 2, 2, None)
    assert (max.gecos, max.clear) == (b"max", b"plain")


def test_each_row_that_is_wrong_is_named(home: Virtual) -> None:
    rows = [
        "address,password,quota,gid",
        "..,x,,",
        "joe,x,lots,",
        "joe,x,,7x",
        "joe,x,,,more",
        "joe@c.example,x,,",
        "old,x,,",
        "good,x,,",
        "good,x,,",
        "long," + "x" * 200 + ",,",
        "a\x1b[2Jb,x,,",
    ]
    done = home.run("vconvert", "-t", "-", "-c", "a.example", input="\n".join(rows).encode())
    assert done.returncode == 255
    assert sorted(done.stdout.decode().splitlines()) == sorted(
        [
            "line 2: user .. did not add: Illegal username",
            "line 3: user joe did not add: quota not understood: say 10M, 10485760S,1000C or NOQUOTA",
            "line 4: user joe did not add: uid and gid are numbers",
            "line 5: user joe did not add: more fields than columns",
            "line 6: user joe@c.example did not add: Domain does not exist",
            "line 7: user old did not add: Username exists",
            "line 9: user good did not add: Username exists",
            "line 10: user long did not add: password too long (max=128)",
            "line 11: user a^[[2Jb did not add: Illegal username",
            "converting a.example done",
        ]
    )
    assert names(home) == ["good", "old"]


@pytest.mark.parametrize(
    "table", ["", "name,crypt\njoe,x\n", "address,shoe size\n", "address,address\n", 'address\n"joe\n']
)
def test_what_is_no_table_is_refused(home: Virtual, table: str) -> None:
    done = home.run("vconvert", "-t", "-", "-c", "a.example", input=table.encode())
    assert (done.returncode, done.stdout[:7]) == (255, b"Error: ")
    assert names(home) == ["old"]


def test_what_is_written_is_read_again(home: Virtual, tmp_path: Path) -> None:
    folder = home.domain("c.example")
    home.accounts(home.folder / "domains/a.example", 'old:x:2:5:Old, "One":DIR/old:7C:clear', "max:y")
    table = tmp_path / "table"
    assert home.run("vconvert", "-c", "-t", str(table), "a.example").returncode == 0
    assert table.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert rows[1] == {
        "address": "old@a.example", "crypt": "x", "uid": "2", "gid": "5", "gecos": 'Old, "One"',
        "dir": f"{home.folder}/domains/a.example/old", "quota": "7C", "clear": "clear",
    }  # fmt: skip
    moved = table.read_bytes().replace(b"a.example", b"c.example")
    assert home.run("vconvert", "-t", "-", "-c", input=moved).returncode == 0
    old, new = (home.folder / "domains/a.example/vpasswd").read_bytes(), (folder / "vpasswd").read_bytes()
    assert new == old.replace(b"a.example", b"c.example")
    assert home.run("vconvert", "-c", "-t", "-").stdout.count(b"old@") == 2


def test_wrong_usage_is_told(home: Virtual) -> None:
    for words, said in (
        ([], b"vconvert: usage\n The first option"),
        (["-c"], b"vconvert: usage\n"),
        (["-e", "-m", "a.example"], b"unknown conversion\n"),
        (["-e", "-c"], b"vconvert: usage\n"),
        (["-e", "-c", "d.example"], b"Error: Domain does not exist\n"),
    ):
        done = home.run("vconvert", *words)
        assert (done.returncode in (245, 255), done.stdout[: len(said)]) == (True, said)


FIELD = st.binary(max_size=12).map(lambda text: text.translate(None, b":\n\0\r"))


@given(st.binary(min_size=1, max_size=9).map(lambda text: b"u" + text.hex().encode()), FIELD, FIELD, FIELD)
def test_any_account_survives_a_table(name: bytes, password: bytes, gecos: bytes, clear: bytes) -> None:
    account = Account(name, b"p" + password, 2, 77, gecos, b"/d", b"5S", b"c" + clear)
    text = vconvert.table([(Domain(b"a.example", b"/a", 1, 1), account)])
    (row,) = vconvert.table_rows(text, kept=False)
    assert row.name == name + b"@a.example"
    row.account.name, row.account.dir = name, b"/d"
    assert (row.wrong, vpasswd.build(row.account)) == (b"", vpasswd.build(account))


@given(st.binary(max_size=200))
def test_any_table_is_rows_or_refused(text: bytes) -> None:
    try:
        vconvert.table_rows(b"address,gid,quota\n" + text, kept=False)
    except Stop:
        pass
