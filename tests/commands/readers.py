"""What elq, pinq and qail have in common: a mail reader behind maildir2mbox."""

import os
from pathlib import Path

import pytest

from tests.helpers import BIN, PYTHON, environment, needs, run


class Reader:
    """A Maildir with a message, and a folder for mail readers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("tmp", "new", "cur"):
            (path / "Maildir" / name).mkdir(parents=True)
        (path / "Maildir" / "new" / "1").write_bytes(b"Subject: one\n\n")
        (path / "bin").mkdir()
        self.env = environment(
            MAIL=str(path / "mbox"), MAILTMP=str(path / "tmp"), MAILDIR=str(path / "Maildir"), QMAILHOME=str(path)
        )
        self.env["PATH"] += f":{path / 'readers'}"
        (path / "readers").mkdir()
        os.utime(path / "Maildir" / "new" / "1", (1, 1))  # one of this very second would wait

    def program(self, folder: str, name: str, text: str) -> None:
        file = self.path / folder / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def check_that_mail_is_moved_first(self, command: str, name: str) -> None:
        self.program("readers", name, 'cat "$MAIL"; echo "$@"; exit 7')
        done = run([BIN / command, "-f", "a b"], env=self.env)
        assert done.returncode == 7
        assert done.stdout == b"From XXX Thu Jan 01 00:00:01 1970\nSubject: one\n\n\n-f a b\n"
        assert done.stderr == b""

    def check_that_a_failure_ends_it(self, command: str, name: str) -> None:
        self.program("readers", name, "echo read")
        done = run([BIN / command], env={**self.env, "MAILDIR": "/nowhere"})
        said = b"maildir2mbox: fatal: unable to chdir to /nowhere: file does not exist\n"
        assert (done.returncode, done.stdout, done.stderr) == (111, b"", said)
        for end, code, said in (
            ("exit 3", 3, b""),
            ("kill -9 $$", 111, f"{command}: fatal: child crashed\n".encode()),
        ):
            self.program("bin", "maildir2mbox", end)  # that of the home comes first
            done = run([BIN / command], env=self.env)
            assert (done.returncode, done.stdout, done.stderr) == (code, b"", said)

    def check_that_a_missing_program_is_named(self, command: str, name: str) -> None:
        env = {**self.env, "PATH": f"{BIN}:{self.path / 'none'}"}
        (self.path / "none").mkdir()
        for tool in ("env", "python3"):
            (self.path / "none" / tool).symlink_to(needs("env") if tool == "env" else PYTHON)
        done = run([BIN / command], env=env)
        said = f"{command}: fatal: unable to run {name}: file does not exist\n".encode()
        assert (done.returncode, done.stdout, done.stderr) == (111, b"", said)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)
