import os

from qmailpy.formats import cdb
from tests.helpers import needs, run
from tests.virtual import OWNER, SHA512, Virtual
from tests.vpopusers import home, logs_in, virtual

__all__ = ["home", "virtual"]


def test_an_edit_by_hand_counts_afterwards(home: Virtual) -> None:
    folder = home.folder / "domains/a.example"
    text = (folder / "vpasswd").read_text()
    (folder / "vpasswd").write_text(text.replace("old:", "new:").rstrip("\n"))
    os.utime(folder / "vpasswd.cdb")
    assert not logs_in(home, "new@a.example", "secret")
    done = home.run("vmkpasswd", "B.example")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert logs_in(home, "new@a.example", "secret")
    status = (folder / "vpasswd.cdb").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o600, OWNER.pw_uid)


def test_other_readers_of_cdb_find_what_the_reference_says(home: Virtual) -> None:
    folder = home.folder / "domains/a.example"
    (folder / "vpasswd.cdb").unlink()
    assert home.run("vmkpasswd", "a.example").returncode == 0
    found = run([needs("cdb"), "-q", folder / "vpasswd.cdb", "old"]).stdout
    assert found == f"{SHA512}:1:0:old:{folder}/old:NOQUOTA".encode()
    assert (folder / "vpasswd.cdb").read_bytes() == b"".join(cdb.make([(b"old", found)]))


def test_wrong_usage_is_told(home: Virtual) -> None:
    for words in ([], ["a.example", "b.example"]):
        done = home.run("vmkpasswd", *words)
        assert (done.returncode, done.stdout) == (255, b"vmkpasswd: usage: domain \n")
    done = home.run("vmkpasswd", "../x")
    assert (done.returncode, done.stdout) == (245, b"Error: Domain does not exist\n")
