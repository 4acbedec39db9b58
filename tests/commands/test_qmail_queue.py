"""qmail-queue beside the original: exit codes, files, and what is left behind, in a good queue and in bad ones."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import BIN, eventually, needs
from tests.queuehomes import (
    BOTH,
    QueueHome,
    QueueService,
    needs_originals,
    nobody,
    open_to_all,
    program,
    queue_home,
    run_queue,
    shared_home,
)

__all__ = ["queue_home", "shared_home"]

QUEUE = BIN / "qmail-queue"
BODY = b"Subject: test\n\ntext\n"
GOOD = b"Fa@b\0Tc@d\0Te@f\0\0"
TOP = ("pid", "mess", "intd", "todo")


def left(home: QueueHome) -> set[str]:
    return {name.split("/")[0] for name in home.files()}


def anonymous(text: bytes) -> bytes:
    return re.sub(rb"qmail \d+ invoked (.*); \d+ \w+ 20\d\d \d\d:\d\d:\d\d -0000", rb"qmail PID invoked \1; DATE", text)


@BOTH
def test_a_message_is_queued(which: str, queue_home: QueueHome) -> None:
    done = run_queue(program(which, "qmail-queue", queue_home), BODY, GOOD, queue_home.env())
    assert (done.returncode, done.stderr) == (0, b"")
    queued = queue_home.message()
    who = b"by uid %d" % os.getuid()
    assert anonymous(queued.text) == b"Received: (qmail PID invoked %s); DATE\n" % who + BODY
    assert queued.received.startswith(b"Received: (qmail %d invoked" % queued.pid)
    assert (queued.uid, queued.sender, queued.recipients) == (os.getuid(), b"a@b", [b"c@d", b"e@f"])
    number = queued.number
    assert queue_home.files() == {f"mess/{number % 23}/{number}", f"intd/{number}", f"todo/{number}"}
    for name in queue_home.files():
        assert (queue_home.queue / name).stat().st_mode & 0o7777 == 0o644
    todo = (queue_home.queue / f"todo/{number}").read_bytes()
    assert todo == b"u%d\0p%d\0Fa@b\0Tc@d\0Te@f\0" % (queued.uid, queued.pid)


@BOTH
@pytest.mark.parametrize("body", [b"", b"no newline", b"\0\r\n\xff", b"x" * 70000], ids=["empty", "a", "b", "long"])
def test_the_message_is_not_changed(which: str, queue_home: QueueHome, body: bytes) -> None:
    assert run_queue(program(which, "qmail-queue", queue_home), body, GOOD, queue_home.env()).returncode == 0
    assert queue_home.message().body == body


@BOTH
@pytest.mark.parametrize(
    ("addresses", "code", "remains"),
    [
        (b"F\0\0", 0, {"mess", "intd", "todo"}),
        (b"F\0T\0\0junk", 0, {"mess", "intd", "todo"}),
        (b"F" + b"x" * 1002 + b"\0T" + b"x" * 1002 + b"\0\0", 0, {"mess", "intd", "todo"}),
        (b"F" + b"x" * 1003 + b"\0\0", 11, {"mess", "intd"}),
        (b"Fa\0T" + b"x" * 1003 + b"\0\0", 11, {"mess", "intd"}),
        (b"", 54, set()),
        (b"Fa", 54, set()),
        (b"Fa\0", 54, set()),
        (b"Fa\0Tb\0", 54, set()),
        (b"\0", 91, {"mess", "intd"}),
        (b"Ta\0\0", 91, {"mess", "intd"}),
        (b"Fa\0Fb\0\0", 91, {"mess", "intd"}),
        (b"Fa\0X", 91, {"mess", "intd"}),
    ],
    ids=range(13),
)
def test_envelopes(which: str, queue_home: QueueHome, addresses: bytes, code: int, remains: set[str]) -> None:
    done = run_queue(program(which, "qmail-queue", queue_home), BODY, addresses, queue_home.env())
    assert (done.returncode, left(queue_home)) == (code, remains)


@needs_originals
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from([b"F", b"T", b"\0", b"a@b", b"Fa\0", b"Tb\0\0", b"x" * 1003]), max_size=6))
def test_any_envelope_is_taken_as_the_original_takes_it(tmp_path: Path, pieces: list[bytes]) -> None:
    ends = []
    for which in ("ours", "the original"):
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        home = QueueHome(tmp_path / "home")
        done = run_queue(program(which, "qmail-queue", home), BODY, b"".join(pieces), home.env())
        ends.append((done.returncode, left(home), [(each.sender, each.recipients) for each in home.messages()]))
    assert ends[0] == ends[1]


@BOTH
def test_a_message_that_cannot_be_read_leaves_nothing(which: str, queue_home: QueueHome) -> None:
    argv = program(which, "qmail-queue", queue_home)
    with open("/dev/null", "wb") as unreadable:
        done = subprocess.run(argv, stdin=unreadable, stdout=unreadable, env=queue_home.env(), check=False)
    assert (done.returncode, queue_home.files()) == (54, set())


@BOTH
@pytest.mark.parametrize(("missing", "code"), [("pid", 63), ("mess", 64), ("intd", 65), ("todo", 66)])
def test_a_folder_that_is_missing_has_its_code(
    which: str, queue_home: QueueHome, missing: str, code: int, tmp_path: Path
) -> None:
    argv = program(which, "qmail-queue", queue_home)
    (queue_home.queue / missing).rename(tmp_path / "elsewhere")
    done = run_queue(argv, BODY, GOOD, queue_home.env())
    assert done.returncode == code
    assert left(queue_home) == set(TOP[: TOP.index(missing)]) - ({"pid"} if missing != "mess" else set())


def test_a_home_and_a_queue_that_are_missing_have_their_codes(queue_home: QueueHome) -> None:
    shutil.rmtree(queue_home.queue)
    assert run_queue([QUEUE], BODY, GOOD, queue_home.env()).returncode == 62
    shutil.rmtree(queue_home.path)
    assert run_queue([QUEUE], BODY, GOOD, queue_home.env()).returncode == 61


# $0: what is wrong with a file system of 1 MB; $1: the home; $2: a number; $3: where its queue is to be; a program.
ON_A_SMALL_DISK = """
mkdir "$1/small" && mount -t tmpfs -o size=1m none "$1/small" && cp -a "$1/queue/." "$1/small/" || exit 99
used=$(df --output=iused "$1/small" | tail -n 1)
case $0 in
  inodes) mount -o remount,nr_inodes=$((used + $2)) "$1/small" ;;
  full) head -c 1200000 /dev/zero >"$1/small/lock/filler" 2>/dev/null ;;
  ro) mount -o remount,ro "$1/small" ;;
esac
mount --bind "$1/small" "$3" || exit 99
home=$1; shift 3
"$@"
code=$?
cd "$home/small" && find pid mess intd todo -type f >"$home/left"
exit $code
"""


@BOTH
@pytest.mark.parametrize(
    ("kind", "size", "code"),
    [("inodes", 0, 63), ("inodes", 1, 64), ("inodes", 2, 66), ("full", 0, 53), ("size", 3_000_000, 53), ("ro", 0, 63)],
    ids=["no inode", "one inode", "two inodes", "full", "full later", "read-only"],
)
def test_a_disk_that_is_full_or_read_only(which: str, queue_home: QueueHome, kind: str, size: int, code: int) -> None:
    """Nothing is queued, and what the original removes is removed."""
    nobody()
    argv: list[str | Path] = [QUEUE]
    target = queue_home.queue
    if which != "ours":
        argv = program(which, "qmail-queue", queue_home)[-1:]
        target = Path(argv[0]).parent.parent / "queue"
    command = ["unshare", "-m", "sh", "-c", ON_A_SMALL_DISK, kind, queue_home.path, str(size), target, *argv]
    done = run_queue(command, b"x" * max(size, 5000), GOOD, queue_home.env())
    assert done.returncode == code, done.stderr
    remains = (queue_home.path / "left").read_text().split()
    assert {name.split("/")[0] for name in remains} == {64: {"pid"}, 66: {"mess", "intd"}}.get(code, set())


def test_a_kill_at_any_system_call_leaves_a_legal_queue(queue_home: QueueHome) -> None:
    """That of the real program, from outside; tests/stores/test_queue.py does it at each call of the module."""
    strace = needs("strace")
    changes = "openat,linkat,unlinkat,write,fsync,link,unlink,ftruncate"
    reached = set()
    for call in ("linkat", "unlinkat", "fsync"):
        for when in range(1, 5):
            inject = [strace, "-f", "-o", "/dev/null", "-e", f"trace={changes}"]
            inject += ["-e", f"inject={call}:signal=KILL:when={when}", str(QUEUE)]
            done = run_queue(inject, BODY, GOOD, queue_home.env())
            names = {name.split("/")[0] for name in queue_home.files() if not name.startswith("pid/")}
            assert names in (set(), {"mess"}, {"mess", "intd"}, {"mess", "intd", "todo"})
            assert [queued.body for queued in queue_home.messages()] == ([BODY] if "todo" in names else [])
            if done.returncode == 0:
                assert "todo" in names
                break
            reached.add((call, when))
            queue_home.empty()
    assert {("linkat", 2), ("unlinkat", 1), ("fsync", 3)} <= reached


def running(home: QueueHome, argv: list[str | Path]) -> "subprocess.Popen[bytes]":
    """A qmail-queue in the middle of a message."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=home.env())
    assert process.stdin is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    assert eventually(lambda: left(home) == {"mess"})  # its name in pid is gone
    return process


@BOTH
@pytest.mark.parametrize(
    ("name", "code"),
    [("ALRM", 52), ("TERM", -signal.SIGTERM), ("KILL", -signal.SIGKILL), ("USR1", -signal.SIGUSR1)],
)
def test_signals_that_end_it_leave_the_beginning_of_a_message(
    which: str, queue_home: QueueHome, name: str, code: int
) -> None:
    with running(queue_home, program(which, "qmail-queue", queue_home)) as process:
        os.kill(process.pid, getattr(signal, f"SIG{name}"))
        assert process.wait(20) == code
    assert left(queue_home) == {"mess"}


@BOTH
def test_signals_that_it_ignores(which: str, queue_home: QueueHome) -> None:
    with running(queue_home, program(which, "qmail-queue", queue_home)) as process:
        for name in ("HUP", "INT", "QUIT", "PIPE", "VTALRM", "PROF", "XCPU", "XFSZ"):
            os.kill(process.pid, getattr(signal, f"SIG{name}"))
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 54  # nothing is to be read from /dev/null


def test_it_waits_a_day_at_most(queue_home: QueueHome) -> None:
    """The alarm is set before the first byte is waited for."""
    strace = needs("strace")
    done = run_queue(
        [strace, "-e", "trace=alarm", "-o", queue_home.path / "log", str(QUEUE)], BODY, GOOD, queue_home.env()
    )
    assert done.returncode == 0
    assert (queue_home.path / "log").read_text().startswith("alarm(86400)")


def test_others_hand_it_to_the_service(shared_home: QueueHome) -> None:
    uid, gid = nobody()
    user = {"user": uid, "group": gid, "extra_groups": []}
    with QueueService(shared_home) as service:
        assert run_queue([QUEUE], BODY, GOOD, shared_home.env(), **user).returncode == 0
        queued = shared_home.message()
        assert (queued.uid, queued.body, queued.recipients) == (uid, BODY, [b"c@d", b"e@f"])
        assert queued.pid != service.process.pid
        assert b"invoked by uid %d)" % uid in queued.received
        for addresses, code in ((b"Fa", 54), (b"X", 91), (b"F" + b"x" * 1003, 11)):
            assert run_queue([QUEUE], BODY, addresses, shared_home.env(), **user).returncode == code
    assert run_queue([QUEUE], BODY, GOOD, shared_home.env(), **user).returncode == 62
    env = {**shared_home.env(), "QMAILHOME": str(shared_home.path / "none")}
    assert run_queue([QUEUE], BODY, GOOD, env, **user).returncode == 61


def test_root_becomes_the_owner_of_the_queue(shared_home: QueueHome) -> None:
    assert run_queue([QUEUE], BODY, GOOD, shared_home.env()).returncode == 0
    queued = shared_home.message()
    assert queued.uid == 0 and b"invoked by uid 0)" in queued.received
    owner = (shared_home.queue / "mess").stat()
    for name in shared_home.files():
        status = (shared_home.queue / name).stat()
        assert (status.st_uid, status.st_gid) == (owner.st_uid, owner.st_gid)
    shared_home.empty()
    secret = shared_home.path / "roots"
    secret.mkdir(mode=0o700)
    (shared_home.queue / "intd").rmdir()
    (shared_home.queue / "intd").symlink_to(secret)
    assert run_queue([QUEUE], BODY, GOOD, shared_home.env()).returncode == 65
    assert os.listdir(secret) == []


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
@pytest.mark.parametrize("root", [True, False])
def test_descriptors_that_are_closed_are_read_errors(shared_home: QueueHome, closed: str, root: bool) -> None:
    uid, gid = (0, 0) if root else nobody()
    argv: list[str | Path] = ["sh", "-c", f'exec "$0" {closed}', QUEUE]
    with QueueService(shared_home):
        done = run_queue(argv, BODY, GOOD, shared_home.env(), user=uid, group=gid, extra_groups=[])
    assert (done.returncode, shared_home.files()) == (54, set())


def test_one_that_is_killed_while_the_service_works_queues_nothing(shared_home: QueueHome) -> None:
    uid, gid = nobody()
    with QueueService(shared_home), tempfile.TemporaryFile() as addresses:
        addresses.write(GOOD)
        addresses.seek(0)
        with subprocess.Popen(
            [QUEUE], stdin=subprocess.PIPE, stdout=addresses, env=shared_home.env(), user=uid, group=gid,
            extra_groups=[],
        ) as process:  # fmt: skip
            assert eventually(lambda: "mess" in left(shared_home))
            process.kill()
            process.wait()
            assert eventually(lambda: not shared_home.files())


@pytest.mark.parametrize("cold", ["", "1"])
@pytest.mark.parametrize(("addresses", "code"), [(GOOD, 0), (b"Fa", 54), (b"X", 91), (b"F" + b"x" * 1003, 11)])
def test_it_may_be_the_end_of_a_chain(queue_home: QueueHome, cold: str, addresses: bytes, code: int) -> None:
    done = run_queue([BIN / "argv0", QUEUE, "x"], BODY, addresses, queue_home.env(QMAILPY_COLD=cold))
    assert (done.returncode, done.stderr) == (code, b"")
    assert [queued.body for queued in queue_home.messages()] == ([BODY] if code == 0 else [])


@pytest.mark.parametrize(
    ("answer", "code", "text"), [(b"12 82 Dno (#5.7.1)", 82, b"Dno (#5.7.1)"), (b"12 31 ", 31, b""), (b"", 74, b"")]
)
def test_code_and_text_of_a_service_are_passed_on(
    shared_home: QueueHome, answer: bytes, code: int, text: bytes
) -> None:
    uid, gid = nobody()
    (shared_home.path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(shared_home.path / "run/qmail-queued"))
        (shared_home.path / "run/qmail-queued").chmod(0o666)
        service.listen()
        argv: list[str | Path] = ["sh", "-c", 'exec "$0" 6>&2 2>/dev/null', QUEUE]
        with subprocess.Popen(
            argv, env=shared_home.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            user=uid, group=gid, extra_groups=[],
        ) as process:  # fmt: skip
            connection, _ = service.accept()
            with connection:
                assert len(socket.recv_fds(connection, 10, 5)[1]) == 2
                connection.sendall(answer)
            assert process.stderr is not None
            assert (process.stderr.read(), process.wait(20)) == (text, code)


@needs_originals
def test_a_queue_of_ours_is_listed_by_the_original(queue_home: QueueHome) -> None:
    """qmail-qstat counts with find(1), from its own home."""
    argv = program("the original", "qmail-qstat", queue_home)
    open_to_all(queue_home.path)  # its queue is another's now, whom we become
    assert run_queue([QUEUE], BODY, GOOD, queue_home.env()).returncode == 0
    done = subprocess.run(argv, capture_output=True, check=True)
    assert done.stdout == b"messages in queue: 1\nmessages in queue but not yet preprocessed: 1\n"
