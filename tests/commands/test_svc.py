"""svc: the bytes, warnings and exit codes of Debian's; and waiting, with Debian's supervise and with a made up one."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.commands import svc as command
from qmailpy.formats import svstatus
from qmailpy.formats.svstatus import DOWN, ONCE, UP, Child, Status
from qmailpy.stores.services import State
from tests.commands.supervised import ENDS, STUBBORN, UNPRIVILEGED, MadeUp, Supervised, programs
from tests.helpers import BIN, environment, eventually, run

SVC = BIN / "svc"
USAGE = b"svc: usage: svc [ -udopchaitkxq12 ] [ -w seconds ] [ dir ... ]\n"
LETTERS = (
    b"svc options: u up, d down, o once, x exit, p pause, c continue, h hup, a alarm, i interrupt, t term, k kill\n"
)


@pytest.fixture(params=["ours", "Debian's"])
def svc(request: pytest.FixtureRequest) -> str | Path:
    return programs("svc")[request.param]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeUp]:
    with MadeUp(tmp_path_factory.mktemp("services") / "x") as service:
        yield service


def packed(pid: int, want: bytes, when: int = 1) -> bytes:
    return svstatus.pack(Status(when, pid, False, want))


def outcome(svc: str | Path, *words: str | bytes | Path, cwd: Path | None = None) -> tuple[int, bytes]:
    result = run([svc, *words], cwd=cwd)
    assert result.stdout == b""
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("words", "letters"),
    [
        (["-u"], b"u"),
        (["-udopchaitkx"], b"udopchaitkx"),
        (["-x", "-d", "-xd", "-u"], b"xdu"),
        (["-uuuuuuuuuuuuuuuuuuuuuuuuuud"], b"ud"),
        ([], b""),
        (["--"], b""),
        (["-d", "--"], b"d"),
    ],
)
def test_svc_sends_each_letter_once_in_order(reader: MadeUp, svc: str | Path, words: list[str], letters: bytes) -> None:
    assert outcome(svc, *words, reader.folder) == (0, b"")
    assert reader.read() == letters


@settings(max_examples=15)
@given(st.lists(st.text("udopchaitkx-", min_size=1, max_size=4).map(lambda word: "-" + word), max_size=4))
def test_svc_does_what_debians_does_for_any_options(reader: MadeUp, words: list[str]) -> None:
    results = []
    for program in programs("svc").values():
        results.append((outcome(program, *words, "x", cwd=reader.folder.parent), reader.read()))
    assert results[0] == results[1]


def test_svc_has_letters_that_debians_has_not(reader: MadeUp) -> None:
    assert outcome(SVC, "-q1d2", reader.folder) == (0, b"")
    assert reader.read() == b"q1d2"


@pytest.mark.parametrize("words", [["-Z"], ["-uZ"], ["-u-", "x"], ["-d", "-:"], ["-\xff"]])
def test_svc_rejects_other_letters_and_sends_nothing(reader: MadeUp, svc: str | Path, words: list[str]) -> None:
    bad = words[-1].encode("latin-1")[-1:] if words[-1] != "x" else b"-"
    result = outcome(svc, *[word.encode("latin-1") for word in words], reader.folder)
    assert result == (100, b"svc: illegal option -- %s\n" % bad + LETTERS)
    assert reader.read() == b""


@pytest.mark.parametrize("word", ["", "5x", "x", "-1", "1.5", "+1"])
def test_svc_says_its_usage_for_a_bad_number(reader: MadeUp, word: str) -> None:
    assert outcome(SVC, "-u", "-w", word, reader.folder) == (100, USAGE)
    assert reader.read() == b""


def test_svc_needs_a_number_for_w() -> None:
    assert outcome(SVC, "-uw") == (100, b"svc: option requires an argument -- w\n" + LETTERS)


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ("rm -r supervise", b"unable to control x: file does not exist"),
        ("rm supervise/control", b"unable to control x: file does not exist"),
        ("rm supervise/control; mkfifo supervise/control", b"unable to control x: supervise not running"),
        ("rm supervise/control; mkdir supervise/control", b"unable to control x: is a directory"),
        ("rm supervise/control; ln -s control supervise/control", b"unable to control x: symbolic link loop"),
        ("rm supervise/control; ln -s /dev/full supervise/control", b"error writing commands to x: out of disk space"),
        ("rm -r ../x", b"unable to chdir to x: file does not exist"),
        ("rm -r ../x; : >../x", b"unable to chdir to x: not a directory"),
        ("rm -r ../x; ln -s x ../x", b"unable to chdir to x: symbolic link loop"),
    ],
)
def test_svc_warns_of_what_it_cannot_control_and_goes_on(
    tmp_path: Path, svc: str | Path, change: str, warning: bytes
) -> None:
    with MadeUp(tmp_path / "x") as service, MadeUp(tmp_path / "y") as other:
        assert run(["sh", "-ec", change], cwd=service.folder).returncode == 0
        line = b"svc: warning: %s\n" % warning
        assert outcome(svc, "-u", "x", "y", cwd=tmp_path) == (0, line)
        assert other.read() == b"u"
        if svc == SVC:
            other.write(packed(7, UP))
            assert outcome(svc, "-h", "-w1", "x", cwd=tmp_path) == (111, line)


def test_svc_writes_no_warning_to_a_supervise_when_2_is_closed(tmp_path: Path) -> None:
    with MadeUp(tmp_path / "x", packed(0, UP)) as service:
        result = run(["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', SVC, "-w1", service.folder, "missing", service.folder])
        assert (result.returncode, service.read()) == (111, b"")


def test_svc_writes_to_a_file_as_debians_does(tmp_path: Path, svc: str | Path) -> None:
    (tmp_path / "supervise").mkdir()
    (tmp_path / "supervise" / "control").write_bytes(b"abc")
    assert outcome(svc, "-ud", tmp_path) == (0, b"")
    assert (tmp_path / "supervise" / "control").read_bytes() == b"udc"


def test_svc_takes_each_directory_from_where_it_started(tmp_path: Path, svc: str | Path) -> None:
    with MadeUp(tmp_path / "a" / "b") as one, MadeUp(tmp_path / "c") as other:
        warnings = b"svc: warning: unable to chdir to b: file does not exist\n"
        assert outcome(svc, "-h", "a/b", "b", "c", "./c/", cwd=tmp_path) == (0, warnings)
        assert (one.read(), other.read()) == (b"h", b"hh")


def test_svc_controls_debians_supervise(tmp_path: Path, svc: str | Path) -> None:
    with Supervised(tmp_path / "x") as service:
        for letter, words in (("p", ", paused"), ("c", " seconds"), ("d", "down "), ("o", "up "), ("k", "down ")):
            assert outcome(svc, f"-{letter}", service.folder) == (0, b"")
            assert service.becomes(words)
        assert outcome(svc, "-x", service.folder) == (0, b"")
        assert service.becomes("supervise not running")


def test_svc_says_when_it_cannot_open_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir(mode=0o311)
    for program in programs("svc").values():
        result = run([*UNPRIVILEGED, program, "-u", "/"], cwd=tmp_path / "x")
        expected = b"svc: fatal: unable to open current directory: access denied\n"
        assert (result.returncode, result.stdout, result.stderr) == (111, b"", expected)


# Waiting.


def state(words: str, when: int = 1) -> State:
    """`up`, or the script that is up, or `down`; and what is wanted."""
    what, want = words.split()
    script = None if what in ("up", "down") else what.encode()
    wanted = {"u": UP, "d": DOWN, "o": ONCE, "?": b"?"}[want]
    return State(Status(when, 0 if what == "down" else 7, False, wanted), bytes(12), True, script)


@pytest.mark.parametrize(
    ("letters", "decisive"),
    [
        (b"", b""), (b"pcha12", b""), (b"t", b"t"), (b"hk", b"t"), (b"q", b"t"), (b"1i", b"t"), (b"u", b"u"),
        (b"du", b"u"), (b"ud", b"d"), (b"dx", b"x"), (b"xd", b"d"), (b"ot", b"o"), (b"ptdk", b"d"),
    ],
)  # fmt: skip
def test_which_letter_decides(letters: bytes, decisive: bytes) -> None:
    assert command.decisive(letters) == decisive


@pytest.mark.parametrize(
    ("letters", "before", "now", "done"),
    [
        ("u", "down d", "up u", True),
        ("u", "up u", "up u", True),  # nothing to wait for
        ("u", "up d", "up d", False),  # it ignores TERM, and supervise has not obeyed yet
        ("u", "down d", "down d", False),
        ("u", "down d", "down u", False),
        ("u", "down d", "up o", False),
        ("u", "up u", None, False),
        ("u", None, "up u", True),
        ("u", "down d", "start u", False),
        ("u", "down d", "run u", True),
        ("u", "down d", "finish u", False),
        ("o", "down d", "up o", True),
        ("o", "down d", "up d", False),
        ("o", "up u", "up o", True),
        ("o", "down d", "down o 2", True),  # it was up, and has ended
        ("u", "down d", "down o 2", True),  # there is a start and no run
        ("u", "start u", "down o 2", True),
        ("u", "down d", "down u 2", False),
        ("o", "down o", "down o", False),
        ("o", "up u", "down o 2", False),  # it ended by itself, before supervise read the o
        ("d", "up u", "up d", False),
        ("d", "up u", "down d 2", True),
        ("d", "down d", "down d", True),
        ("d", "up u", "down u 2", False),  # it has ended by itself, and starts again
        ("d", "up u", "stop d 2", False),
        ("d", "up u", None, False),
        ("du", "up u", "up u", False),  # still the old process
        ("du", "up u", "up u 2", True),
        ("du", "down d", "up u 2", True),
        ("do", "up u", "down o 2", False),  # supervise does not start it again
        ("kd", "up u", "down d 2", True),
        ("x", "down d", "down d", False),
        ("x", "up u", "up u", False),
        ("x", "down d", None, True),
        ("dx", "up u", "down d 2", False),
        ("dx", "up u", None, True),
        ("xd", "up u", "down d 2", True),
        ("xd", "down d", None, True),
        ("xu", "down d", None, False),
        ("t", "up u", "up u", False),
        ("t", "up u", "up u 2", True),
        ("t", "up u", "down u 2", False),
        ("t", "up u", "finish u 2", False),
        ("t", "down d", "down d", False),
        ("t", None, "up u", True),
        ("k", "up d", "up d", False),
        ("h", "up u", "up u", True),
        ("h", "up u", "down u", False),
        ("", "up u", "up u", True),
        ("", "up u", "up d", False),
        ("", "down d", "down d", True),
        ("", "down d", "down u", False),
        ("", "down d", "start u", False),
        ("", "up o", "up o", True),
        ("", "up o", "down o", True),
        ("", "up ?", "down ?", True),
        ("", "up u", None, False),
    ],
)
def test_whether_a_service_is_as_asked(letters: str, before: str | None, now: str | None, done: bool) -> None:
    """2: at another time than before."""
    after = None if now is None else state(now.removesuffix(" 2"), 2 if now.endswith(" 2") else 1)
    assert command.as_asked(letters.encode(), None if before is None else state(before), after) == done


def wait(*words: str | bytes | Path, cwd: Path | None = None) -> None:
    """svc -w that has to come to a good end."""
    assert outcome(SVC, "-w", "20", *words, cwd=cwd) == (0, b"")


@pytest.mark.parametrize("supervise", ["ours", "Debian's"])
def test_svc_w_ends_when_it_is_done(tmp_path: Path, supervise: str) -> None:
    """Each state is that of the moment when it ends, not of some later one."""
    with Supervised(tmp_path / "x", program=programs("supervise")[supervise]) as service:
        wait("-d", service.folder)
        assert service.status().pid == 0
        wait("-d", service.folder)
        wait("-u", service.folder)
        first = service.status()
        assert first.pid
        wait("-u", service.folder)
        assert service.status().pid == first.pid
        wait("-t", service.folder)
        second = service.status()
        assert second.pid not in (0, first.pid)
        wait("-du", service.folder)
        assert service.status().pid not in (0, second.pid)
        wait("-dx", service.folder)
        assert service.stat() == "supervise not running"
        assert service.process.wait(20) == 0


def test_svc_w_waits_for_what_another_svc_has_asked_for(tmp_path: Path) -> None:
    with Supervised(tmp_path / "x", down=True) as service:
        wait(service.folder)
        service.send("u")
        wait(service.folder)
        assert service.status().pid
        service.send("d")
        wait(service.folder)
        assert service.status().pid == 0


def test_svc_w_waits_for_all(tmp_path: Path) -> None:
    with Supervised(tmp_path / "x") as x, Supervised(tmp_path / "y") as y, Supervised(tmp_path / "z", down=True) as z:
        wait("-d", "x", "y", "z", "x", cwd=tmp_path)
        assert [service.status().pid for service in (x, y, z)] == [0, 0, 0]


def test_svc_w_takes_a_job_that_has_ended_for_done(tmp_path: Path) -> None:
    with Supervised(tmp_path / "x", ENDS, down=True) as service:
        wait("-o", service.folder)
        assert service.becomes("down ")
        wait(service.folder)


def test_svc_w_gives_up_in_time_and_says_what_is(tmp_path: Path) -> None:
    with Supervised(tmp_path / "x", STUBBORN) as service, Supervised(tmp_path / "y", down=True):
        assert eventually((service.folder / "ready").exists)
        pid = service.status().pid
        code, warnings = outcome(SVC, "-d", "-w2", "x", "missing", "y", cwd=tmp_path)
        lines = warnings.splitlines()
        assert (code, len(lines)) == (111, 2)
        assert lines[0] == b"svc: warning: unable to chdir to missing: file does not exist"
        begin = b"svc: warning: x is not down after 2 seconds: up (pid %d) " % pid
        assert lines[1].startswith(begin) and lines[1].endswith(b" seconds, want down")
        wait("-k", "-d", "x", cwd=tmp_path)


@pytest.mark.parametrize(
    ("letters", "status", "complaint", "unread"),
    [
        ("u", b"\0\0\0\0\0d", b"x is not up after 1 seconds: down 9 seconds, normally up", False),
        ("o", b"\0\0\0\0\0d", b"x is not up after 1 seconds: down 9 seconds, normally up", False),
        ("d", b"\7\0\0\0\1u", b"x is not down after 1 seconds: up (pid 7) 9 seconds, paused", True),
        ("x", b"\7\0\0\0\0u", b"x is still supervised after 1 seconds: up (pid 7) 9 seconds", False),
        ("t", b"\7\0\0\0\0u", b"x has no new process after 1 seconds: up (pid 7) 9 seconds", False),
        ("", b"\0\0\0\0\0u", b"x is not as wanted after 1 seconds: down 9 seconds, normally up, want up", False),
        ("u", b"", b"x is not up after 1 seconds: unable to read supervise/status: bad format", False),
        ("x", b"", b"x is still supervised after 1 seconds: unable to read supervise/status: bad format", False),
    ],
)
def test_what_svc_w_says_of_a_service_that_is_not_as_asked(
    tmp_path: Path, letters: str, status: bytes, complaint: bytes, unread: bool
) -> None:
    future = (1 << 62) + (1 << 40)
    text = future.to_bytes(8, "big") + bytes(4) + status if status else b""
    with MadeUp(tmp_path / "x", text) as service:
        words = [*([f"-{letters}"] if letters else []), "-w", "1", "x"]
        child = subprocess.Popen([SVC, *words], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
        if letters and not unread:
            assert eventually(lambda: service.read() == letters.encode())
        _, said = child.communicate(timeout=20)
    ending = b", letters not read" if unread else b""
    assert said == b"svc: warning: %s%s\n" % (complaint.replace(b"9 seconds", b"0 seconds"), ending)
    assert child.returncode == 111


class Waiting:
    """svc -w at work on a made up service, which it has told something or is about to."""

    def __init__(self, service: MadeUp, *words: str) -> None:
        self.child = subprocess.Popen([SVC, *words, service.folder], env=environment(), stderr=subprocess.PIPE)

    def __enter__(self) -> "Waiting":
        return self

    def __exit__(self, *exception: object) -> None:
        self.child.kill()
        self.child.communicate()

    def looked(self) -> bool:
        """Whether it still waits, some looks later."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(5 * command.LOOK_MS / 1000)
            return False
        return True

    def ends(self) -> tuple[int, bytes]:
        _, said = self.child.communicate(timeout=20)
        return self.child.returncode, said


def test_svc_w_believes_no_status_from_before_the_letters_were_read(tmp_path: Path) -> None:
    """-ud of a service that is down: as long as supervise has read nothing, `down, want down` means nothing."""
    with MadeUp(tmp_path / "x", packed(0, DOWN)) as service, Waiting(service, "-ud", "-w0") as waiting:
        assert eventually(lambda: service.unread() == 2)
        assert waiting.looked()
        assert service.read(1) == b"u"
        assert waiting.looked()
        service.write(packed(7, UP, 2))
        assert service.read(1) == b"d"
        assert waiting.looked()
        service.write(packed(0, DOWN, 3))
        assert waiting.ends() == (0, b"")


def test_svc_w_takes_no_process_for_new_that_was_there_before_the_letters_were_read(tmp_path: Path) -> None:
    with MadeUp(tmp_path / "x", packed(7, UP)) as service, Waiting(service, "-t", "-w0") as waiting:
        assert eventually(lambda: service.unread() == 1)
        service.write(packed(8, UP, 2))  # 7 has ended by itself
        assert waiting.looked()
        assert service.read() == b"t"
        assert waiting.looked()
        service.write(packed(9, UP, 3))
        assert waiting.ends() == (0, b"")


def test_svc_w_takes_no_other_script_for_the_service(tmp_path: Path) -> None:
    with MadeUp(tmp_path / "x", packed(7, UP)) as service, Waiting(service, "-t", "-w0") as waiting:
        assert eventually(lambda: service.read() == b"t")
        service.write(packed(8, UP, 2), svstatus.pack_child(Child(b"finish", 8, 1, b"boot")))
        assert waiting.looked()
        service.write(packed(9, UP, 3), svstatus.pack_child(Child(b"run", 9, 1, b"boot")))
        assert waiting.ends() == (0, b"")


@pytest.mark.parametrize("letters", ["-x", "-dx", "-xd"])
def test_svc_w_sees_the_end_of_a_supervise_that_has_a_successor(tmp_path: Path, letters: str) -> None:
    with MadeUp(tmp_path / "x", packed(7, UP)) as service, Waiting(service, letters, "-w0") as waiting:
        assert eventually(lambda: service.unread() == len(letters) - 1)
        assert waiting.looked()
        os.close(service.readers.pop(0))  # the reader of ok stays: it could be that of the next
        assert waiting.ends() == (0, b"")


def test_svc_w_waits_on_when_supervise_is_killed(tmp_path: Path) -> None:
    with MadeUp(tmp_path / "x", packed(7, UP)) as service, Waiting(service, "-d", "-w1") as waiting:
        assert eventually(lambda: service.read() == b"d")
        service.end()
        expected = b"svc: warning: %s is not down after 1 seconds: supervise not running\n"
        assert waiting.ends() == (111, expected % bytes(service.folder))


def test_svc_w_spends_little_on_looking(tmp_path: Path) -> None:
    with MadeUp(tmp_path / "x", packed(0, UP)) as service:
        before = os.times()
        began = time.monotonic()
        assert outcome(SVC, "-w2", service.folder)[0] == 111
        assert time.monotonic() - began >= 2
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        assert spent < 1


def test_svc_w_takes_long_times(tmp_path: Path) -> None:
    with MadeUp(tmp_path / "x", packed(0, DOWN)) as service:
        assert outcome(SVC, "-w18446744073709551615", service.folder) == (0, b"")


def test_svc_is_not_ended_by_a_supervise_that_ends(tmp_path: Path, svc: str | Path) -> None:
    """The FIFO is full, svc waits to write, and then nobody reads any more."""
    with MadeUp(tmp_path / "x") as service:
        writer = os.open(service.folder / "supervise" / "control", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.close(writer)
        child = subprocess.Popen([svc, "-u", service.folder], env=environment(), stderr=subprocess.PIPE)
        blocked = Path(f"/proc/{child.pid}/wchan")
        assert eventually(lambda: "pipe_w" in blocked.read_text())
        service.end()
        _, said = child.communicate(timeout=20)
    expected = b"svc: warning: error writing commands to %s: broken pipe\n" % bytes(service.folder)
    assert (child.returncode, said) == (0, expected)


def test_svc_warm_leaves_no_descriptor_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with MadeUp(tmp_path / "x", packed(0, DOWN)):
        pid = os.fork()
        if pid == 0:
            before = os.listdir("/proc/self/fd")
            code = command.main([b"svc", b"-w", b"1", b"x", b"missing"], {})
            os._exit(code if os.listdir("/proc/self/fd") == before else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 111
