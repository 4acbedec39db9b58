"""confine: what a process can still do, as root and as an ordinary user."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, needs
from tests.servers import public_folder

# What a process tries, each in turn: the answer is an errno's name, or what came of it.
TRIALS = """
import sys; sys.path.insert(0, sys.argv[1])
import _socket, errno, fcntl, json, os, resource, select, time
from qmailpy.unix import confine
user, report = sys.argv[2].encode(), {}
ours, theirs = _socket.socketpair()
home = os.open("/", os.O_PATH | os.O_DIRECTORY)
jail, cell = confine.Jail(user), confine.Cell()
status = "/proc/self/status"
jail.enter()
report["ids"] = [os.getresuid(), os.getresgid(), os.getgroups()] if jail.uid >= 0 else None
try:
    report["root"] = os.listdir("/")
except OSError as e:
    report["root"] = errno.errorcode[e.errno]
cell.hide()
cell.close_in(40)
def attempt(name, act):
    try:
        act()
        report[name] = "done"
    except OSError as e:
        report[name] = errno.errorcode[e.errno]
    except ValueError:  # what resource makes of EPERM
        report[name] = "EPERM"
for name, act in {
    "open": lambda: os.open("/dev/null", os.O_RDONLY),
    "open beside": lambda: os.open("etc/passwd", os.O_RDONLY, dir_fd=home),
    "create": lambda: os.open("x", os.O_CREAT | os.O_WRONLY),
    "memory file": lambda: os.memfd_create("x"),
    "pipe": os.pipe,
    "socket": _socket.socket,
    "duplicate": lambda: fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 0),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "priority": lambda: os.nice(1),
    "limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30)),
    "ids": lambda: os.setuid(os.getuid()),
    "send": lambda: ours.send(b"x"),
    "receive": lambda: theirs.recv(1),
    "random": lambda: os.urandom(8),
    "memory": lambda: bytearray(1 << 24),
    "shutdown": lambda: ours.shutdown(_socket.SHUT_RDWR),
}.items():
    attempt(name if name != "ids" else "setuid", act)
poller = select.poll()
poller.register(theirs, select.POLLIN)
report["poll"] = bool(poller.poll(1000))
report["time"] = time.time() > 0
os.write(1, json.dumps(report).encode())
"""

REFUSED = ["open", "create", "memory file", "pipe", "socket", "duplicate", "fork", "exec", "kill", "priority", "limits"]
DONE = ["send", "receive", "random", "memory", "shutdown"]


def report(user: str, prefix: list[str]) -> dict[str, object]:
    python = os.path.realpath(sys.executable) if not prefix else "/usr/bin/python3"
    argv = [*prefix, python, "-IS", "-c", TRIALS, str(ROOT), user]
    done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another: run the tests as root")


ORDINARY = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups"]


@pytest.mark.parametrize("who", ["root", "an ordinary user"])
def test_nothing_is_left_but_to_read_and_write(who: str) -> None:
    prefix: list[str] = []
    if who == "root":
        as_root()
    elif os.geteuid() == 0:
        prefix = [needs("setpriv"), *ORDINARY[1:]]
    found = report("65531", prefix)
    assert {name: found[name] for name in REFUSED} == dict.fromkeys(REFUSED, "EPERM")
    assert {name: found[name] for name in DONE} == dict.fromkeys(DONE, "done")
    assert (found["poll"], found["time"], found["setuid"], found["open beside"]) == (True, True, "EPERM", "EPERM")


def test_root_becomes_the_account_in_an_empty_folder() -> None:
    as_root()
    found = report("65531", [])
    assert found["ids"] == [[65531] * 3, [65531] * 3, [65531]]
    assert found["root"] in ([], "EACCES", "ENOENT")
    assert not [name for folder in ("/run", "/tmp") for name in os.listdir(folder) if name.startswith("empty.")]


def test_an_ordinary_user_stays_who_he_is() -> None:
    prefix = [needs("setpriv"), *ORDINARY[1:]] if os.geteuid() == 0 else []
    assert report("root", prefix)["ids"] is None


def test_an_account_that_there_is_not_is_said_but_nobody_need_not_be_one() -> None:
    as_root()
    from qmailpy.unix import confine

    with pytest.raises(LookupError):
        confine.Jail(b"no-such-account")
    jail = confine.Jail(b"nobody")
    assert jail.uid > 0
    os.close(jail.folder)


MEMORY = """
import sys; sys.path.insert(0, sys.argv[1])
import os
from qmailpy.unix import confine
confine.Cell().hide()
print(os.getpid(), flush=True)
os.read(0, 1)
"""


def test_its_memory_is_closed_to_others_of_the_same_user() -> None:
    if os.geteuid() != 0:
        prefix: list[str] = []
    else:
        prefix = [needs("setpriv"), *ORDINARY[1:]]
    with public_folder() as folder:
        script = Path(folder, "hide.py")
        script.write_text(MEMORY)
        argv = [*prefix, "/usr/bin/python3", "-IS", str(script), str(ROOT)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            pid = int(process.stdout.readline())
            look = subprocess.run([*prefix, "cat", f"/proc/{pid}/maps"], capture_output=True, check=False)
            assert (look.returncode, look.stdout) == (1, b"")
            assert "Max core file size        0" in Path(f"/proc/{pid}/limits").read_text() or os.geteuid() != 0
        process.wait(20)
