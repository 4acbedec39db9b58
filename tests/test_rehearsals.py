"""What a server rehearses before its first connection: it succeeds, is heard by nobody, and leaves nothing behind."""

import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from qmailpy import chain, registry
from tests.helpers import BIN, ROOT, environment

REHEARSED = sorted(
    name
    for name, command in registry.COMMANDS.items()
    if hasattr(import_module("qmailpy.commands." + command.module), "rehearse")
)

# As often as preload does it, and with what it would not tell: an error on the stage.
CODE = """
import os, sys
from qmailpy import chain, registry
from qmailpy.unix import fds, stage
fds.remember()
chain._Toolkit.folder = os.path.dirname(sys.argv[1])
chain._know_launchers()
env, word = dict(os.environb), os.fsencode(sys.argv[1])
name = os.path.basename(sys.argv[1])
assert chain.command_of(word, env) == name
module = __import__("qmailpy.commands." + registry.COMMANDS[name].module, fromlist=["rehearse"])
getattr(module, "prepare", lambda: None)()
ids = os.getresuid(), os.getresgid(), os.getgroups()
before = sorted(fds.descriptors())
for _ in range(2):
    with stage.Stage() as on:
        for _ in range(chain.REHEARSALS):
            module.rehearse(on, word, env)
assert sorted(fds.descriptors()) == before
assert (os.getresuid(), os.getresgid(), os.getgroups()) == ids
"""


@pytest.mark.parametrize("name", REHEARSED)
def test_a_command_rehearses_without_an_error_or_a_trace(name: str, tmp_path: Path) -> None:
    before = {name for place in ("/dev/shm", "/tmp") for name in os.listdir(place) if name.startswith("rehearsal.")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, BIN / name],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT), QMAILHOME=str(tmp_path), TCPREMOTEIP="127.0.0.1"),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []
    after = {name for place in ("/dev/shm", "/tmp") for name in os.listdir(place) if name.startswith("rehearsal.")}
    assert after <= before


@pytest.mark.parametrize("name", ["qmail-popup", "qmail-smtpd"])
def test_what_the_environment_of_a_server_names_is_neither_closed_nor_waited_for(name: str, tmp_path: Path) -> None:
    """Left from a server in which this one has been started, and a delay that is for clients."""
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_text("mail.example\n")
    with socket.socket(socket.AF_UNIX) as held:
        number = held.fileno()
        named = dict.fromkeys(("SSLCTLFD", "SSLREADFD", "SSLWRITEFD"), str(number))
        done = subprocess.run(
            [sys.executable, "-c", CODE, BIN / name],
            env=environment(PYTHONPATH=str(ROOT), QMAILHOME=str(tmp_path), GREETDELAY="3600", **named),
            capture_output=True,
            pass_fds=[number],
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_an_error_in_a_rehearsal_stops_no_server() -> None:
    played = []

    def fail(stage: object) -> None:
        played.append(stage)
        raise ValueError

    chain.rehearse([fail, fail])
    assert len(played) == 2


@pytest.mark.parametrize("limit", ["RLIMIT_NOFILE, (6, 6)", "RLIMIT_FSIZE, (0, 0)"])
def test_without_room_for_a_rehearsal_there_is_none(limit: str) -> None:
    code = CODE.partition("ids =")[0] + "signals.default(signals.XFSZ); chain.preload([word], env)"
    code = code.replace("fds, stage", "fds, signals, stage")
    code = code.replace("fds.remember()", f"import resource; resource.setrlimit(resource.{limit})")
    done = subprocess.run(
        [sys.executable, "-c", code, BIN / "qmail-pop3d"],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
