"""qmail-start: who runs as whom, with which descriptors, and that any of the four may be the original."""

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.helpers import BIN, eventually, needs, run
from tests.queuehomes import BOTH, ORIGINALS, original
from tests.servers import TIMEOUT
from tests.spawners import OTHER, OWN, UID, Word, World, mode_and_owner, world

__all__ = ["world"]

START = BIN / "qmail-start"
CHILDREN = ("qmail-lspawn", "qmail-rspawn", "qmail-clean")
FOUR = ("qmail-send", *CHILDREN)

# What a program was started as: ids, folder, umask, arguments, descriptors.
PROBE = """
name=${0##*/}
(id -u; id -g; id -G; pwd; umask; echo "$*"; ls -l /proc/$$/fd) > "$OUT/.$name"
mv "$OUT/.$name" "$OUT/$name"
"""

# Each says a line to each that it is connected with.
SEND = (
    PROBE
    + """
echo "to lspawn" >&1; echo "to rspawn" >&3; echo "to clean" >&5
read -r one <&2; read -r two <&4; read -r three <&6
echo "log: $one, $two, $three" >&0
"""
)
CHILD = (
    PROBE
    + """
read -r line
echo "$name had $line"
"""
)


class Probes:
    """Scripts in the place of the four programs, and of a logger, in a folder that is first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "probes"
        self.out = folder / "out"
        for path in (self.folder, self.out):
            path.mkdir()
            path.chmod(0o777)
        self.write("qmail-send", SEND)
        for name in CHILDREN:
            self.write(name, CHILD)
        self.write("logger", PROBE + f'cat > "{self.out}/log"\n')

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text("#!/bin/sh\n" + text)
        (self.folder / name).chmod(0o755)

    def env(self, env: Mapping[str, str]) -> dict[str, str]:
        return {**env, "PATH": f"{self.folder}:{env['PATH']}", "OUT": str(self.out)}

    def run(self, argv: Sequence[Word], env: Mapping[str, str]) -> "subprocess.CompletedProcess[bytes]":
        """To the end of qmail-send, and of all that write to its log."""
        return run(argv, env=self.env(env))

    def seen(self, name: str) -> list[str]:
        """uid, gid, groups, folder, umask, arguments."""
        assert eventually((self.out / name).exists), name
        return self.text(name)[:6]

    def text(self, name: str) -> list[str]:
        return (self.out / name).read_text().splitlines()

    def descriptors(self, name: str) -> dict[int, str]:
        """Number and letter r or w for all but what the shell itself has opened."""
        self.seen(name)
        lines = (line.split() for line in self.text(name)[6:] if " -> " in line)
        return {int(words[8]): words[0][1:3].strip("-") for words in lines if int(words[8]) < 10}


@pytest.fixture
def probes(world: World) -> Probes:
    return Probes(world.folder)


LOG = b"log: qmail-lspawn had to lspawn, qmail-rspawn had to rspawn, qmail-clean had to clean\n"


def mail() -> str:
    return str(pwd.getpwnam("mail").pw_gid)


def uid(account: str) -> str:
    return str(pwd.getpwnam(OWN[account]).pw_uid)


@BOTH
def test_all_are_connected_and_run_as_the_owners_of_the_queue(which: str, world: World, probes: Probes) -> None:
    done = probes.run(world.program(which, "qmail-start"), world.env())
    assert (done.returncode, done.stdout, done.stderr) == (0, LOG, b"")
    common = ["/", "0077"]
    group = mail()
    assert probes.seen("qmail-send") == [uid("qmails"), group, group, *common, ""]
    assert probes.seen("qmail-clean") == [uid("qmailq"), group, group, *common, ""]
    assert probes.seen("qmail-lspawn") == ["0", group, group, *common, "./Mailbox"]
    assert probes.seen("qmail-rspawn") == [uid("qmailr"), group, f"{group} 4321", *common, ""]
    assert probes.descriptors("qmail-send").keys() >= {0, 1, 2, 3, 4, 5, 6}


@BOTH
def test_a_logger_reads_the_log_as_qmaill(which: str, world: World, probes: Probes) -> None:
    argv = world.program(which, "qmail-start", "./Maildir/", "logger", "one", "two words")
    done = probes.run(argv, world.env())
    assert (done.returncode, done.stdout) == (0, b"")
    assert probes.seen("logger") == [uid("qmaill"), "65534", "65534", "/", "0077", "one two words"]
    assert probes.seen("qmail-lspawn")[5] == "./Maildir/"
    assert eventually(lambda: (probes.out / "log").read_bytes() == LOG)


def unprivileged(*argv: Word) -> list[Word]:
    return [needs("setpriv"), f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", *argv]


def test_without_root_all_run_as_who_started_them(world: World, probes: Probes) -> None:
    done = probes.run(unprivileged(START, "./Maildir/", "logger"), world.env())
    assert (done.returncode, done.stderr) == (0, b"")
    for name in (*FOUR, "logger"):
        assert probes.seen(name)[:2] == [str(OTHER)] * 2
    assert eventually(lambda: (probes.out / "log").read_bytes() == LOG)


def test_in_somebodys_home_root_starts_nothing_as_root(world: World, probes: Probes) -> None:
    os.chown(world.home.path, UID, UID)
    done = probes.run(world.program("ours", "qmail-start", "./Maildir/", "logger"), world.env())
    assert (done.returncode, done.stderr) == (0, b"")
    for name in (*FOUR, "logger"):
        assert probes.seen(name)[:3] == [str(UID)] * 3


def test_no_descriptor_is_left_over(world: World, probes: Probes) -> None:
    """The children have the log as descriptor 2, which the original closes: there they say why they do not start."""
    argv = ["sh", "-c", 'exec "$@" 3</ 4</ 7</ 9</', "sh", str(START), "./Mailbox", "logger"]
    assert probes.run(unprivileged(*argv), world.env()).returncode == 0
    send = probes.descriptors("qmail-send")
    assert [send.pop(number) for number in range(7)] == ["w", "w", "r", "w", "r", "w", "r"]
    handed = {7, 9}
    assert send.keys() == handed  # as in C
    for name in (*CHILDREN, "logger"):
        assert probes.descriptors(name).keys() == {0, 1, 2, *handed}


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_it_starts_with_descriptors_closed(world: World, probes: Probes, closed: str) -> None:
    argv = ["sh", "-c", f'exec "$@" {closed}', "sh", str(START), "./Mailbox", "logger"]
    assert probes.run(unprivileged(*argv), world.env()).returncode == 0
    log = probes.out / "log"
    assert eventually(lambda: log.exists() and log.read_bytes() == LOG)


@pytest.mark.parametrize("name", FOUR)
def test_a_program_that_is_not_there_is_named_before_anything_runs(world: World, probes: Probes, name: str) -> None:
    (probes.folder / name).unlink()
    env = {**world.env(), "OUT": str(probes.out), "PATH": str(probes.folder)}
    done = run(unprivileged("/usr/bin/python3", "-IS", START), env=env)
    text = f"qmail-start: fatal: unable to run {name}: file does not exist\n"
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", text.encode())
    assert not list(probes.out.iterdir())


def test_a_logger_that_is_not_there_is_named(world: World, probes: Probes) -> None:
    done = probes.run(unprivileged(START, "./Mailbox", "no-such-logger"), world.env())
    assert done.stderr == b"qmail-start: fatal: unable to run no-such-logger: file does not exist\n"


def test_a_queue_of_roots_is_not_served(world: World, probes: Probes) -> None:
    os.chown(world.home.queue / "info", 0, 0)
    done = probes.run(world.program("ours", "qmail-start"), world.env())
    wanted = f"qmail-start: fatal: {world.home.queue}/info belongs to root, as whom only qmail-lspawn is run"
    assert (done.returncode, done.stderr.decode()) == (111, wanted + ": see qmail-make-queue\n")


def test_without_a_home_or_a_queue_that_is_said(world: World, probes: Probes) -> None:
    done = probes.run(world.program("ours", "qmail-start"), world.env(QMAILHOME="/nowhere"))
    assert (done.returncode, done.stderr) == (
        111, b"qmail-start: fatal: unable to switch to /nowhere: file does not exist\n"
    )  # fmt: skip
    (world.home.queue / "lock" / "tcpto").unlink()
    done = probes.run(world.program("ours", "qmail-start"), world.env())
    wanted = f"unable to find the owner of {world.home.queue}/lock/tcpto: file does not exist\n"
    assert (done.returncode, done.stderr.decode()) == (111, f"qmail-start: fatal: {wanted}")


def test_a_child_says_in_the_log_why_it_does_not_start(world: World, probes: Probes) -> None:
    (probes.folder / "qmail-lspawn").unlink()
    (world.home.path / "control" / "concurrencylocal").mkdir()
    world.home.queue.chmod(0o755)
    probes.write("qmail-send", "read -r line <&2\n")
    probes.write("qmail-rspawn", "exit 0\n")
    probes.write("qmail-clean", "exit 0\n")
    done = probes.run(world.program("ours", "qmail-start"), world.env())
    assert done.stdout == b"qmail-lspawn: fatal: unable to read control/concurrencylocal: is a directory\n"


# Real deliveries, by any mixture of ours and the originals.


def mixtures() -> list[dict[str, str]]:
    """Each program in turn as the only one of its kind; and all of one kind."""
    names = ("qmail-start", *FOUR)
    found = []
    for most, one in (("the original", "ours"), ("ours", "the original")):
        found.append(dict.fromkeys(names, most))
        found += [{**dict.fromkeys(names, most), name: one} for name in names]
    return found


def named(mixture: dict[str, str]) -> str:
    ours = [name.removeprefix("qmail-") for name, which in mixture.items() if which == "ours"]
    return "ours: " + (" ".join(ours) or "none")


if ORIGINALS:

    @pytest.mark.parametrize("mixture", mixtures(), ids=named)
    def test_a_message_is_delivered(world: World, mixture: dict[str, str]) -> None:
        programs = world.folder / "programs"
        programs.mkdir()
        for name, which in mixture.items():
            (programs / name).symlink_to(BIN / name if which == "ours" else original(name))
        world.home.control(locals="me.example", concurrencylocal="3")
        env = world.env(QMAILREMOTE=str(world.script("printf 'r\\000Kthrown away\\n\\000'", "remote")))
        env["PATH"] = f"{programs}:{env['PATH']}"
        with subprocess.Popen(
            world.inside(programs / "qmail-start"), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == b"status: local 0/3 remote 0/20\n"
                queued = world.inside(
                    "setpriv", f"--reuid={uid('qmailq')}", f"--regid={mail()}", "--clear-groups",
                    "sh", "-c", 'exec "$0" </dev/null 1<"$1"', BIN / "qmail-queue", world.folder / "envelope",
                )  # fmt: skip
                (world.folder / "envelope").write_bytes(b"Ffrom@a.example\0Tjoe@me.example\0Tto@b.example\0\0")
                assert run(queued, env=env).returncode == 0
                lines: list[bytes] = []
                while not lines or not lines[-1].startswith(b"end msg"):
                    lines.append(process.stdout.readline())
                    assert lines[-1], lines
                told = {line.split(b": ", 1)[1] for line in lines if line.startswith(b"delivery")}
                assert told == {b"success: did_1+0+0/\n", b"success: thrown_away/\n"}
            finally:
                os.kill(_of(process.pid, uid("qmails")), 15)
            assert process.stdout.read().endswith(b"status: exiting\n")
            assert process.wait(TIMEOUT) == 0
        assert (world.joe / "Mailbox").read_bytes().startswith(b"From from@a.example ")
        assert mode_and_owner(world.joe / "Mailbox") == (0o600, UID, UID)
        assert world.home.files() == set()


def _of(pid: int, uid: str) -> int:
    """pid, once that process has become uid."""
    assert eventually(lambda: f"Uid:\t{uid}\t" in Path(f"/proc/{pid}/status").read_text())
    return pid
