"""A folder of services under an svscan, for the tests of it."""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from qmailpy.formats import svstatus
from tests.helpers import BIN, environment, eventually, needs, run
from tests.servers import TIMEOUT, Log

# name -> svscan's words
SVSCANS: dict[str, list[str]] = {"ours": ["ours"], "ours -s": ["ours", "-s"], "Debian's": ["Debian's"]}


def script(path: Path, text: str) -> None:
    """An executable file, there at once and whole, for whoever is looking."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(0o700)
    new.rename(path)


class Scan:
    """svscan on folder, which is made if it is not there. `with` ends it, and everything below it."""

    def __init__(self, folder: Path, which: str = "ours", options: Sequence[str] = (), **env: str) -> None:
        self.folder = folder
        name, *own = SVSCANS[which]
        self.argv = [str(BIN / "svscan") if name == "ours" else needs("svscan"), *own, *options, str(folder)]
        self.env = environment(**env)
        if name != "ours":  # it starts the first supervise on PATH
            (folder.parent / "theirs").mkdir()
            (folder.parent / "theirs" / "supervise").symlink_to(needs("supervise"))
            self.env["PATH"] = f"{folder.parent}/theirs:{self.env['PATH']}"
        folder.mkdir(exist_ok=True)

    def service(self, name: str, run: str, log: str = "") -> Path:
        """A service that appears whole, with what it runs behind #!/bin/sh."""
        hidden = self.folder / f".{name}"
        script(hidden / "run", f"#!/bin/sh\n{run}\n")
        if log:
            script(hidden / "log" / "run", f"#!/bin/sh\n{log}\n")
        hidden.rename(self.folder / name)
        return self.folder / name

    def start(self) -> None:
        self.log = Log()
        self.process = subprocess.Popen(
            self.argv, env=self.env, stdin=subprocess.DEVNULL, stdout=self.log.writing, stderr=self.log.writing,
            start_new_session=True,
        )  # fmt: skip
        os.close(self.log.writing)

    def line(self, pattern: str) -> "re.Match[bytes]":
        return self.log.line(pattern)

    def status(self, name: str) -> svstatus.Status:
        found = svstatus.parse((self.folder / name / "supervise" / "status").read_bytes())
        assert found is not None
        return found

    def up(self, *names: str) -> bool:
        """Whether these are all up, at last."""
        return eventually(lambda: all(self.stat(name).startswith("up ") for name in names))

    def stat(self, name: str) -> str:
        """What Debian's svstat says, without the name."""
        return run([needs("svstat"), self.folder / name]).stdout.decode().partition(": ")[2].rstrip("\n")

    def svc(self, letters: str, *names: str) -> None:
        assert run([needs("svc"), f"-{letters}", *(self.folder / name for name in names)]).stderr == b""

    def stop(self) -> int:
        """By SIGTERM, as ours does it; the exit code."""
        self.process.terminate()
        return self.process.wait(TIMEOUT)

    def __enter__(self) -> "Scan":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None and self.argv[0] == str(BIN / "svscan"):
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
