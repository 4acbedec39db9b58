"""supervise beside Debian's: what is on disk, what each letter does, what is said; and what the original cannot."""

import itertools
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qmailpy.formats import svstatus
from qmailpy.formats.svstatus import Status
from qmailpy.unix import processes
from tests.commands.supervised import STAYS, STUBBORN, Supervised, programs
from tests.helpers import BIN, environment, eventually, needs, run

BOTH = pytest.mark.parametrize("which", ["ours", "Debian's"])
OURS = BIN / "supervise"

# Leaves a line in the file `ran` for each start of each script.
TELLS = '#!/bin/sh\necho "${0#./} $*" >>ran\n'


def program(which: str) -> str | Path:
    return programs("supervise")[which]


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o700)


def ran(folder: Path) -> list[str]:
    try:
        return (folder / "ran").read_text().splitlines()
    except FileNotFoundError:
        return []


@BOTH
def test_usage(which: str, tmp_path: Path) -> None:
    for words in ([], ["a", "b"]):
        done = run([program(which), *words])
        assert (done.returncode, done.stderr) == (100, b"supervise: usage: supervise dir\n")


@BOTH
def test_what_is_on_disk(which: str, tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=program(which)) as service:
        files = {path.name: path.stat() for path in (tmp_path / "sv" / "supervise").iterdir()}
        assert (tmp_path / "sv" / "supervise").stat().st_mode & 0o777 == 0o700
        modes = {name: (stat.S_IFMT(status.st_mode), status.st_mode & 0o777) for name, status in files.items()}
        modes.pop("child", None)
        assert modes == {
            "control": (stat.S_IFIFO, 0o600),
            "ok": (stat.S_IFIFO, 0o600),
            "lock": (stat.S_IFREG, 0o600),
            "status": (stat.S_IFREG, 0o644),
        }
        assert files["status"].st_size == 18
        status = service.status()
        assert abs(status.when / 1e9 - time.time()) < 20
        assert (status.paused, status.want) == (False, b"u")
        assert eventually(lambda: Path(f"/proc/{status.pid}/cmdline").read_bytes() == b"sleep\x001000\0")
        assert Path(f"/proc/{status.pid}/cwd").resolve() == tmp_path / "sv"


@BOTH
def test_run_is_called_as_in_the_original(which: str, tmp_path: Path) -> None:
    tell = "tr '\\0' ' ' </proc/$$/cmdline >how; umask >>how"
    text = f"#!/bin/sh\n{tell}\n{STAYS[10:]}"
    with Supervised(tmp_path / "sv", text, program=program(which)) as service:
        proc = Path(f"/proc/{service.status().pid}")
        assert eventually(lambda: (proc / "cmdline").read_bytes() == b"sleep\x001000\0")
        assert (tmp_path / "sv" / "how").read_text() == "/bin/sh ./run 0022\n"
        assert eventually(lambda: sorted(os.listdir(proc / "fd")) == ["0", "1", "2"])  # once its libraries are loaded


@BOTH
def test_the_run_script_finds_signals_as_supervise_found_them(which: str, tmp_path: Path) -> None:
    text = "#!/bin/sh\nexec sh -c 'grep ^Sig /proc/self/status >new; mv new signals; exec sleep 1000'\n"
    with Supervised(tmp_path / "sv", text, program=program(which)):
        assert eventually(lambda: (tmp_path / "sv" / "signals").exists())
        lines = dict(line.split(":\t") for line in (tmp_path / "sv" / "signals").read_text().splitlines())
        assert int(lines["SigBlk"], 16) == 0
        assert int(lines["SigIgn"], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0


@BOTH
def test_a_second_supervise_for_a_directory_is_refused(which: str, tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=program("Debian's" if which == "ours" else "ours")):
        done = run([program(which), "sv"], cwd=tmp_path)
        assert done.returncode == 111
        assert done.stderr == b"supervise: fatal: unable to acquire sv/supervise/lock: temporary failure\n"


@BOTH
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda sv: sv.rmdir(), b"unable to chdir to sv: file does not exist"),
        (lambda sv: (sv / "down").symlink_to("down"), b"unable to stat sv/down: symbolic link loop"),
        (lambda sv: (sv / "supervise").touch(), b"unable to acquire sv/supervise/lock: not a directory"),
    ],
    ids=["no directory", "unreadable down", "supervise is a file"],
)
def test_a_directory_that_cannot_be_supervised_is_one_line(
    which: str, prepare: Callable[[Path], None], said: bytes, tmp_path: Path
) -> None:
    (tmp_path / "sv").mkdir()
    prepare(tmp_path / "sv")
    done = run([program(which), "sv"], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (111, b"supervise: fatal: " + said + b"\n")


BAD_RUNS = {
    "missing": (None, b"file does not exist"),
    "not executable": ("not executable", b"access denied"),
    "a directory": ("directory", b"access denied"),
    "bad interpreter": ("#!/no/such/interpreter\n", b"file does not exist"),
    "no #!": ("exit 0\n", b"exec format error"),
}


@BOTH
@pytest.mark.parametrize("kind", BAD_RUNS)
def test_a_run_script_that_cannot_be_run_is_said_each_time(which: str, kind: str, tmp_path: Path) -> None:
    text, reason = BAD_RUNS[kind]
    folder = tmp_path / "sv"
    folder.mkdir()
    if text == "directory":
        (folder / "run").mkdir()
    elif text == "not executable":
        (folder / "run").write_text("#!/bin/sh\n")
    elif text is not None:
        script(folder / "run", text)
    with subprocess.Popen(
        [program(which), "sv"], cwd=tmp_path, stderr=subprocess.PIPE, env=environment(), start_new_session=True
    ) as process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(2 if which == "Debian's" else 3)]
        os.killpg(process.pid, signal.SIGKILL)
    line = b"supervise: fatal: unable to start sv/run: " + reason + b"\n"
    assert [each for each in said if each == line] == [line] * 2
    warning = b"supervise: warning: sv ended at once, with exit code 111, and is started again every second\n"
    assert [each for each in said if each != line] == ([warning] if which == "ours" else [])


@BOTH
def test_each_letter_does_what_it_does_in_the_original(which: str, tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=program(which)) as service:
        before = service.status()
        service.send("p")
        assert service.becomes(", paused")
        service.send("c")
        assert service.becomes(" seconds")
        assert service.status().when == before.when
        service.send("o")
        assert eventually(lambda: service.status().want == b"\0")
        service.send("t")
        assert service.becomes("normally up")
        assert service.status().when > before.when
        service.send("u")
        assert service.becomes("up ")
        first = service.status().pid
        for letter in "hait":
            service.send(letter)
            assert eventually(lambda first=first: service.status().pid not in (0, first))  # type: ignore[misc]
            first = service.status().pid
        service.send("k")
        assert eventually(lambda: service.status().pid not in (0, first))
        service.send("x")
        service.send("d")
        assert service.process.wait(20) == 0
        assert service.stat() == "supervise not running"
        assert (service.status().pid, service.status().want) == (0, b"d")


@BOTH
def test_x_ends_supervise_when_the_service_ends_by_itself(which: str, tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=program(which)) as service:
        service.send("xp")
        assert service.becomes(", paused")
        os.kill(service.status().pid, signal.SIGKILL)
        assert service.process.wait(20) == 0
        assert service.status().want == b"u"


@BOTH
def test_a_service_that_does_not_obey_stays_up_and_is_not_wanted(which: str, tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", STUBBORN, program=program(which)) as service:
        assert eventually(lambda: (tmp_path / "sv" / "ready").exists())
        service.send("d")
        assert service.becomes(", want down")
        service.send("k")
        assert service.becomes("normally up")


@BOTH
def test_a_service_with_a_file_down_waits_for_svc(which: str, tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", down=True, program=program(which)) as service:
        assert service.becomes("down ")
        assert service.status().want == b"d"
        service.send("u")
        assert service.becomes("normally down")


@BOTH
def test_starts_are_a_second_apart(which: str, tmp_path: Path) -> None:
    text = "#!/bin/sh\ndate +%s.%N >>starts\n"
    with Supervised(tmp_path / "sv", text, down=True, program=program(which)) as service:
        service.send("u")
        starts = tmp_path / "sv" / "starts"
        assert eventually(lambda: starts.exists() and starts.read_text().count("\n") >= 4)
        times = [float(line) for line in starts.read_text().splitlines()]
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(times))


@BOTH
def test_killed_it_leaves_the_service_running(which: str, tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=program(which)) as service:
        pid = service.status().pid
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == -signal.SIGTERM
        assert eventually(lambda: service.stat() == "supervise not running")
        os.kill(pid, signal.SIGKILL)


def test_a_service_that_was_left_running_is_taken_over(tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", TELLS + STAYS[10:], program=OURS) as service:
        before = service.status()
        service.kill()
        service.start()
        after = service.status()
        assert (after.pid, after.when) == (before.pid, before.when)
        for letter, words in (("p", ", paused"), ("c", " seconds")):
            service.send(letter)
            assert service.becomes(words)
        service.send("t")
        assert eventually(lambda: service.status().pid not in (0, before.pid))
        assert eventually(lambda: ran(tmp_path / "sv") == ["run "] * 2)
        service.send("dx")
        assert service.process.wait(20) == 0
        assert service.status().pid == 0


def test_what_svc_has_said_outlives_supervise(tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=OURS) as service:
        # A first start that is ended in its first milliseconds leaves no trace of this boot, nor of what was wanted.
        assert eventually((tmp_path / "sv/supervise/child").exists)
        for letters, want in (("d", b"d"), ("u", b"u"), ("o", b"\0")):
            service.send(letters)
            assert eventually(lambda want=want: service.status().want == want)  # type: ignore[misc]
            service.kill()
            service.process = subprocess.Popen([OURS, service.folder], env=environment(), start_new_session=True)
            assert eventually(lambda: run([needs("svok"), service.folder]).returncode == 0)
            assert service.status().want == want
        service.send("dx")
        assert service.process.wait(20) == 0


def test_after_a_good_end_the_file_down_decides_again(tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=OURS) as service:
        service.send("dx")
        service.process.wait(20)
        assert not (tmp_path / "sv" / "supervise" / "child").exists()
        service.start()
        assert service.status().want == b"u"


@pytest.mark.parametrize("change", ["boot", "started", "garbage", "truncated"])
def test_another_process_with_the_pid_of_the_service_is_left_alone(change: str, tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=OURS) as service, subprocess.Popen(["sleep", "1000"]) as stranger:
        service.kill()
        begin = processes.started(stranger.pid)
        line = {
            "boot": b"run %d %d other/pid:[1]\n" % (stranger.pid, begin),
            "started": b"run %d %d %s\n" % (stranger.pid, begin - 1, processes.boot()),
            "garbage": b"\xff\0 run\n\n",
            "truncated": b"run %d %d %s" % (stranger.pid, begin, processes.boot()),
        }[change]
        (tmp_path / "sv" / "supervise" / "child").write_bytes(line)
        os.kill(service.status().pid, signal.SIGKILL)
        service.start()
        assert service.status().pid != stranger.pid
        service.send("k")
        assert stranger.poll() is None
        stranger.kill()


def test_the_end_of_a_service_that_was_taken_over_is_seen_and_finish_is_told_that_nobody_knows(tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=OURS) as service:
        script(tmp_path / "sv" / "finish", TELLS)
        service.kill()
        pid = service.status().pid
        service.start()
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: ran(tmp_path / "sv") == ["finish -1 0"])
        assert service.becomes("up ")
        assert service.status().pid != pid


def test_start_run_finish_and_stop_run_one_after_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "sv"
    folder.mkdir()
    for name in ("start", "finish", "stop"):
        script(folder / name, TELLS)
    folder.rename(tmp_path / "made")
    with Supervised(folder, f"{TELLS}test -e go && exec sleep 1000\nexit 3\n", down=True, program=OURS) as service:
        for name in ("start", "finish", "stop"):
            (tmp_path / "made" / name).rename(folder / name)
        service.send("u")
        assert eventually(lambda: ran(folder)[:5] == ["start ", "run ", "finish 3 0", "run ", "finish 3 0"])
        (folder / "go").touch()
        assert service.becomes("up ")
        assert eventually(lambda: (folder / "ran").read_text().endswith("run \n"))
        pid = service.status().pid
        assert eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep"))
        service.send("k")
        assert eventually(lambda: "finish -1 9" in ran(folder))
        assert eventually(lambda: ran(folder)[-1] == "run " and service.status().pid != 0)
        service.send("d")
        assert eventually(lambda: ran(folder)[-1] == "stop ")
        assert ran(folder)[-2].startswith("finish -1 15")
        assert eventually(lambda: service.status().pid == 0)
        service.send("u")
        assert eventually(lambda: ran(folder)[-2:] == ["start ", "run "])


def test_a_start_that_fails_keeps_the_service_down_and_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "sv"
    folder.mkdir()
    script(folder / "run", TELLS)
    script(folder / "start", "#!/bin/sh\nexit 1\n")
    with subprocess.Popen(
        [OURS, "sv"], cwd=tmp_path, stderr=subprocess.PIPE, env=environment(), start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"supervise: warning: sv/start has failed, sv stays down\n"
        assert run([needs("svstat"), folder]).stdout.endswith(b"seconds, normally up\n")
        assert run([needs("svc"), "-x", folder]).returncode == 0
        process.wait(20)
    assert ran(folder) == []


def test_notify_is_told_of_each_start_and_end(tmp_path: Path) -> None:
    folder = tmp_path / "sv"
    with Supervised(folder, "#!/bin/sh\nexit 3\n", down=True, program=OURS) as service:
        script(folder / "notify", TELLS)
        service.send("o")
        assert eventually(lambda: len(ran(folder)) == 2)
        words = [line.split() for line in sorted(ran(folder), reverse=True)]
        assert words == [["notify", "run", "start", words[1][3], "0"], ["notify", "run", "exit", words[1][3], "3"]]
        script(folder / "run", STAYS)
        service.send("o")
        assert eventually(lambda: len(ran(folder)) == 3 and service.status().pid != 0)
        pid = service.status().pid
        service.send("k")
        assert eventually(lambda: ran(folder)[-1] == f"notify run killed {pid} 9")


def faked(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file that moves the clock, and the environment in which it does."""
    needs("faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    env = environment(LD_PRELOAD=str(library), FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_NO_CACHE="1")
    return offset, {**env, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


def test_a_clock_that_is_set_back_stops_nothing(tmp_path: Path) -> None:
    """The original sleeps until the clock has come to where it was."""
    offset, env = faked(tmp_path)
    folder = tmp_path / "sv"
    folder.mkdir()
    script(folder / "run", f"#!/bin/sh\nunset LD_PRELOAD\n{TELLS[10:]}sleep 0.1\n")
    with subprocess.Popen([OURS, folder], env=env, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert eventually(lambda: len(ran(folder)) == 1)
            offset.write_text("-3600")
            assert eventually(lambda: len(ran(folder)) >= 4)
            assert abs(time.time() - 3600 - status_of(folder).when / 1e9) < 60
            offset.write_text("+3600")
            assert eventually(lambda: len(ran(folder)) >= 6)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def status_of(folder: Path) -> Status:
    found = svstatus.parse((folder / "supervise" / "status").read_bytes())
    assert found is not None
    return found


def test_many_letters_at_once_are_obeyed_in_order(tmp_path: Path) -> None:
    with Supervised(tmp_path / "sv", program=OURS) as service:
        with open(tmp_path / "sv" / "supervise" / "control", "wb") as control:
            control.write(b"dudu?\0\xffpcpcpc" * 50 + b"dx")
        assert service.process.wait(20) == 0
        assert service.status().pid == 0
