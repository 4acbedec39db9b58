import os
from pathlib import Path

import pytest

from qmailpy.unix import ids
from tests.helpers import BIN, run

DROP = (
    "import os, sys; sys.path.insert(0, sys.argv[1])\n"
    "from qmailpy.unix import ids\n"
    "try: ids.drop(int(sys.argv[2]), int(sys.argv[3]))\n"
    "except OSError as e: sys.exit(e.errno)\n"
    "print(os.getresuid(), os.getresgid(), os.getgroups())\n"
)


def test_names_and_numbers_are_found() -> None:
    assert (ids.user(b"root"), ids.group(b"root")) == (0, 0)
    assert (ids.user(b"604"), ids.group(b"0601")) == (604, 601)
    assert ids.user(b"4294967294") == 4294967294


@pytest.mark.parametrize("word", [b"", b"no-such-name", b"-1", b"4294967295", b"9" * 5000, b"\xff", b"604x"])
def test_what_is_neither_is_a_lookup_error(word: bytes) -> None:
    for find in ids.user, ids.group:
        with pytest.raises(LookupError):
            find(word)


def test_drop_leaves_nothing_of_root() -> None:
    result = run(["python3", "-IS", "-c", DROP, str(BIN.parent), "54321", "54322"])
    if os.geteuid() == 0:
        assert result.stdout == b"(54321, 54321, 54321) (54322, 54322, 54322) [54322]\n"
    else:
        assert (result.returncode, result.stdout) == (1, b"")  # EPERM


ACT = (
    "import os, sys; sys.path.insert(0, sys.argv[1])\n"
    "from qmailpy.unix import ids\n"
    "before = os.getresuid(), os.getresgid(), os.getgroups()\n"
    "with ids.Acting(54321, 54322):\n"
    "    print(os.getresuid(), os.getresgid(), os.getgroups())\n"
    "assert (os.getresuid(), os.getresgid(), os.getgroups()) == before\n"
)


OPEN = (
    "import os, sys; sys.path.insert(0, sys.argv[1])\n"
    "from qmailpy.unix import ids\n"
    "before = os.getresuid(), os.getresgid(), os.getgroups()\n"
    "os.chdir(sys.argv[2])\n"
    "for path in sys.argv[3:]:\n"
    "    try:\n"
    "        os.close(ids.open_as(54321, 54322, os.fsencode(path), os.O_RDONLY))\n"
    "        print('opened')\n"
    "    except OSError as e:\n"
    "        print(e.strerror)\n"
    "    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before\n"
)


def test_root_opens_what_another_may_and_stays_root(tmp_path: Path) -> None:
    for name, mode in ("anybody's", 0o644), ("mine", 0o600):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    tmp_path.chmod(0o755)  # those above it are for nobody else, so the paths are relative
    result = run(["python3", "-IS", "-c", OPEN, str(BIN.parent), str(tmp_path), "anybody's", "mine", "absent"])
    assert (result.returncode, result.stderr) == (0, b"")
    mine = b"Permission denied" if os.geteuid() == 0 else b"opened"
    assert result.stdout.splitlines() == [b"opened", mine, b"No such file or directory"]


def test_root_acts_as_another_for_a_while_and_nobody_else_does() -> None:
    result = run(["python3", "-IS", "-c", ACT, str(BIN.parent)])
    assert (result.returncode, result.stderr) == (0, b"")
    if os.geteuid() == 0:
        assert result.stdout == b"(0, 54321, 0) (0, 54322, 0) [54322]\n"
