"""newaliases says that another one is meant; so does the original, another sendmail, where QMAIL_BIN names it."""

from pathlib import Path

import pytest

from tests.helpers import BIN, run
from tests.pop3_original import originals


@pytest.mark.parametrize("which", ["ours", *(["original"] if originals("sendmail") else [])])
def test_newaliases_says_whose_is_meant(tmp_path: Path, which: str) -> None:
    newaliases = BIN / "newaliases"
    if which == "original":
        newaliases = tmp_path / "newaliases"
        newaliases.symlink_to(originals("sendmail")[0])
    for words in ([], ["-v"]):
        done = run([newaliases, *words])
        said = b"sendmail: fatal: please use fastforward/newaliases instead\n"
        assert (done.stdout, done.stderr, done.returncode) == (b"", said, 100)
