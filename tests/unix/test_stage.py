"""A stage: what is rehearsed there leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from qmailpy.unix import fds, signals, stage

SHOWN = """
import os, sys
from qmailpy.unix import fds, stage
fds.remember()
def state():
    open_ = {}
    for fd in range(64):
        try:
            status = os.fstat(fd)
        except OSError:
            continue
        open_[fd] = status.st_dev, status.st_ino, os.get_inheritable(fd)
    return open_, os.getcwd(), os.umask(0o22)
os.close(0)
listening = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), os.open("/", os.O_RDONLY | os.O_CLOEXEC)
before = state()
def act():
    heard.append(os.read(0, 100))
    heard.append(os.read(3, 100))
    os.write(1, b"reply")
    os.write(2, b"nobody hears this")
    os.close(3)
    os.chdir("/")
heard = []
with stage.Stage() as on:
    for _ in range(3):
        on.play(b"said", act, packet=b"packet")
    print(os.fsdecode(on.folder()), file=open(1000, "w", closefd=False))
    open(on.folder() + b"/left", "w").close()
    os.mkdir(on.folder() + b"/more")
assert state() == before, (state(), before)
assert heard == [b"said", b"packet"] * 3, heard
"""


def test_what_was_open_is_open_again_and_as_inheritable_as_before(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 1000)
    os.close(writing)
    done = subprocess.run(
        [sys.executable, "-c", SHOWN], cwd=tmp_path, capture_output=True, pass_fds=[1000],
        env={"PYTHONPATH": str(Path(__file__).parents[2])}, check=False,
    )  # fmt: skip
    os.close(1000)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    folder = os.read(reading, 1000).decode().strip()
    os.close(reading)
    assert folder
    assert not os.path.exists(folder)


def test_what_a_rehearsal_does_to_signals_is_taken_back() -> None:
    called: list[int] = []
    before = signal.getsignal(signal.SIGPIPE)
    signals.catch(signals.HUP, lambda number, frame: called.append(number))
    try:
        with stage.Stage():
            signals.ignore(signals.PIPE)
            signals.forget_handlers()
            signals.catch(signals.ALRM, lambda number, frame: None)
        os.kill(os.getpid(), signal.SIGHUP)
        assert called == [signal.SIGHUP]
        assert signal.getsignal(signal.SIGPIPE) == before
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    finally:
        signals.forget_handlers()


def test_an_alarm_that_was_set_before_still_comes() -> None:
    """As that of whoever starts a server for a while."""
    before = signal.setitimer(signal.ITIMER_REAL, 3600, 7)
    try:
        with stage.Stage():
            signals.stop_timers()
        remaining, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 3500 < remaining <= 3600
        assert interval == 7
        signal.setitimer(signal.ITIMER_REAL, 0)
        with stage.Stage():
            signals.alarm(3600)
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)


def test_who_is_told_to_end_on_the_stage_removes_it_first(tmp_path: Path) -> None:
    code = (
        "import os, signal; from qmailpy.unix import stage\n"
        "with stage.Stage() as on:\n"
        "    os.write(1000, on.folder())\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "os._exit(1)"
    )
    reading, writing = os.pipe()
    os.dup2(writing, 1000)
    os.close(writing)
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, pass_fds=[1000], check=False)
    os.close(1000)
    folder = os.read(reading, 1000)
    os.close(reading)
    assert done.returncode == -signal.SIGTERM
    assert folder
    assert not os.path.exists(folder)


def test_an_error_on_the_stage_is_the_callers_and_all_is_as_before() -> None:
    before = sorted(fds.descriptors())

    def fail() -> None:
        os.chdir("/")
        raise OSError(5, "")

    folder = os.getcwd()
    try:
        with stage.Stage() as on:
            on.play(b"", fail)
    except OSError as e:
        assert e.errno == 5
    else:
        raise AssertionError
    assert sorted(fds.descriptors()) == before
    assert os.getcwd() == folder
