import json

import pytest

from qmailpy.formats import vpasswd
from tests.virtual import ROOT, SHA512, Virtual
from tests.vpopusers import account, home, logs_in, virtual

__all__ = ["home", "virtual"]

# Each letter and its bit, as the reference has them.
BITS = {
    "d": 0x01, "p": 0x02, "w": 0x04, "i": 0x08, "b": 0x10, "r": 0x20, "u": 0x40, "0": 0x80, "1": 0x100, "2": 0x200,
    "3": 0x400, "s": 0x800, "a": 0x1000, "o": 0x2000, "f": 0x4000, "F": 0x8000,
    "S": 0x10000, "E": 0x20000, "m": 0x40000,
}  # fmt: skip


def test_each_letter_sets_its_bit_and_x_clears_all(home: Virtual) -> None:
    expected = sum(bit for letter, bit in BITS.items() if ROOT or letter not in "SE")
    done = home.run("vmoduser", "-" + "".join(BITS), "old@b.example")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert account(home, "old").gid == expected
    assert home.run("vmoduser", "-x", "old@a.example", "-s").returncode == 0
    assert account(home, "old").gid == vpasswd.NO_SMTP
    assert home.run("vmoduser", "-p", "old@a.example").returncode == 0
    assert account(home, "old").gid == vpasswd.NO_SMTP | vpasswd.NO_POP


@pytest.mark.parametrize(("letter", "bit"), BITS.items())
def test_letters_and_bits_are_those_of_the_reference(letter: str, bit: int) -> None:
    from qmailpy.commands import vmoduser

    assert vmoduser.FLAGS[letter.encode()] == bit


def test_flags_hold_at_the_next_login(home: Virtual) -> None:
    assert home.run("vmoduser", "-s", "old@a.example").returncode == 0
    assert not logs_in(home, "old@a.example", "secret", 25)
    assert logs_in(home, "old@a.example", "secret", 110)


def test_fields_are_changed(home: Virtual) -> None:
    done = home.run("vmoduser", "-c", "Old One", "-q", "1M", "-C", "other", "-D", "/x/y", "-n", "old@a.example")
    assert (done.returncode, done.stderr) == (0, b"")
    found = account(home, "old")
    assert (found.gecos, found.quota, found.dir, found.uid) == (b"Old One", b"1048576S", b"/x/y", 1)
    assert found.password != SHA512.encode()
    home.accounts(home.folder / "domains/a.example", "old:x:2:0:old:DIR/old:NOQUOTA:clear")
    assert home.run("vmoduser", "-e", "$6$hash$", "old@a.example").returncode == 0
    found = account(home, "old")
    assert (found.password, found.clear, found.uid) == (b"$6$hash$", b"", 2)


def test_a_domain_is_all_its_users(home: Virtual) -> None:
    home.accounts(home.folder / "domains/a.example", "old:x", "max:x")
    assert home.run("vmoduser", "-b", "B.example").returncode == 0
    told = home.run("vuserinfo", "-j", "-n", "-g", "-D", "a.example").stdout.splitlines()
    assert [json.loads(line) for line in told] == [{"name": "max", "gid": 16}, {"name": "old", "gid": 16}]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-p", "max@a.example"], 255, "no such user max@a.example"),
        (["-p", "max@d.example"], 245, "Error: Domain does not exist"),
        (["-p", "d.example"], 245, "Error: Domain does not exist"),
        (["-c", "a:b", "old@a.example"], 236, "Error: bad character"),
        (["-c", "x" * 65, "old@a.example"], 228, "Error: gecos too long (max=64)"),
        (["-D", "/x/../y", "old@a.example"], 253, "Error: Unable to chdir to vpopmail directory"),
        (["-D", "/x\ny", "old@a.example"], 236, "Error: bad character"),
        (["-D", "x/y", "old@a.example"], 253, "Error: Unable to chdir to vpopmail directory"),
        (["-D", "/" + "x" * 160, "old@a.example"], 226, "Error: dir too long (max=160)"),
        (["-q", "lots", "old@a.example"], 255, "Error: quota not understood: say 10M, 10485760S,1000C or NOQUOTA"),
        (["-e", "x" * 129, "old@a.example"], 229, "Error: password too long (max=128)"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(home: Virtual, words: list[str], code: int, said: str) -> None:
    before = (home.folder / "domains/a.example/vpasswd").read_bytes()
    done = home.run("vmoduser", *words)
    assert (done.returncode, done.stdout.decode()) == (code, said + "\n")
    assert (home.folder / "domains/a.example/vpasswd").read_bytes() == before


def test_usage_is_told(home: Virtual) -> None:
    first = b"vmoduser: usage: [options] email_addr or domain (for each user in domain)\n"
    for words, code in (([], 255), (["-h"], 0), (["-Z"], 255)):
        done = home.run("vmoduser", *words)
        assert (done.returncode, done.stdout.startswith(first)) == (code, True)
