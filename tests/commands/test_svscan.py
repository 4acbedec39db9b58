"""svscan, supervising itself and with a supervise for each service, beside Debian's; and what the original cannot."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.scans import SVSCANS, Scan, script
from tests.helpers import BIN, environment, eventually, needs, run
from tests.servers import TIMEOUT

ALL = pytest.mark.parametrize("which", SVSCANS)
OURS = pytest.mark.parametrize("which", ["ours", "ours -s"])

SLEEP = "exec sleep 1000"
CAT = "exec cat >>all"
COUNT = "i=0; while :; do i=$((i+1)); echo $i; echo $i >>last; done"  # as fast as the log reads
NUMBERS = f"""#!{sys.executable} -IS
import os, time
written = open("written", "ab", 0)
number = 0
while True:
    number += 1
    try:
        os.write(1, b"%d\\n" % number)
        written.write(b"%d\\n" % number)
    except BrokenPipeError:
        number -= 1
        os.close(os.open("refused", os.O_CREAT))
    time.sleep(0.01)
"""  # it outlives a write that nobody reads
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can have a pid namespace: run the tests as root")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


# As the original


@ALL
def test_services_and_their_logs_run_where_they_are_with_a_pipe_between(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.service("a", "pwd; exec sleep 1000", "pwd >where; exec cat >all")
    scan.service("b", f"pwd >where; {SLEEP}")
    (tmp_path / "elsewhere").mkdir()
    script(tmp_path / "elsewhere" / "run", f"#!/bin/sh\npwd -P >where\n{SLEEP}\n")
    with scan:
        (scan.folder / "c").symlink_to("../elsewhere")
        assert scan.up("a", "a/log", "b")
        assert eventually(lambda: lines(scan.folder / "a" / "log" / "all") == [str(scan.folder / "a")])
        for name in ("a/log", "b"):
            assert eventually(lambda path=scan.folder / name: lines(path / "where") == [str(path)])  # type: ignore[misc]
        assert eventually(lambda: lines(tmp_path / "elsewhere" / "where") == [str(tmp_path / "elsewhere")])


@ALL
def test_what_begins_with_a_dot_or_is_no_directory_is_passed_over(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.service("a", SLEEP)
    script(scan.folder / ".hidden" / "run", f"#!/bin/sh\n{SLEEP}\n")
    (scan.folder / "file").touch()
    with scan:
        assert scan.up("a")
        assert not (scan.folder / ".hidden" / "supervise").exists()


@ALL
def test_what_cannot_be_examined_is_a_warning(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.service("a", SLEEP)
    (scan.folder / "a" / "log").symlink_to("log")
    (scan.folder / "b").symlink_to("nothing")
    with scan:
        said = {scan.line("svscan: warning: unable to stat .*")[0] for _ in range(2)}
    assert said == {
        b"svscan: warning: unable to stat a/log: symbolic link loop\n",
        b"svscan: warning: unable to stat b: file does not exist\n",
    }


@ALL
def test_a_directory_that_is_not_there_is_fatal(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.folder.rmdir()
    done = run(scan.argv)
    assert done.returncode == 111
    assert done.stderr == b"svscan: fatal: unable to chdir to %s: file does not exist\n" % bytes(scan.folder)


@ALL
def test_neither_loses_a_line_when_the_other_is_killed(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.service("a", f"test -e last && {SLEEP}; {COUNT}", "echo >>starts; while read line; do echo $line; done >>all")
    with scan:
        assert scan.up("a", "a/log")  # before that the status may say 0, and kill(0, SIGSTOP) stops pytest
        assert eventually(lambda: len(lines(scan.folder / "a" / "log" / "all")) > 100)
        for name, signal_ in (("a/log", signal.SIGSTOP), ("a", signal.SIGKILL), ("a/log", signal.SIGCONT)):
            os.kill(scan.status(name).pid, signal_)
        last = lines(scan.folder / "a" / "last")[-1]
        assert eventually(lambda: last in lines(scan.folder / "a" / "log" / "all"))
        got = list(map(int, lines(scan.folder / "a" / "log" / "all")))
        assert got == list(range(1, len(got) + 1))


@ALL
def test_services_come_are_renamed_and_go_while_svscan_looks(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.service("first", SLEEP)
    with scan:
        assert scan.up("first")
        pid = scan.status("first").pid
        (scan.folder / "first").rename(scan.folder / "renamed")
        scan.service("second", SLEEP, CAT)
        assert scan.up("second", "second/log", "renamed")
        assert scan.status("renamed").pid == pid
        assert scan.status("renamed").want == b"u"
        gone = tmp_path / "gone"
        (scan.folder / "second").rename(gone)
        scan.service("third", SLEEP)
        assert scan.up("third")
        assert run([needs("svstat"), gone]).stdout.split()[1] == b"up"
        assert run([needs("svc"), "-dx", gone, gone / "log"]).returncode == 0
        for folder in (gone, gone / "log"):
            assert eventually(lambda folder=folder: run([needs("svok"), folder]).returncode == 100)  # type: ignore[misc]


@ALL
def test_a_supervise_that_ended_is_there_again_after_the_next_look(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.service("a", SLEEP)
    with scan:
        assert scan.up("a")
        pid = scan.status("a").pid
        scan.svc("dx", "a")
        assert eventually(lambda: scan.status("a").pid not in (0, pid) and scan.stat("a").startswith("up "))


def test_there_is_a_limit_as_in_the_original(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service")
    for number in range(1001):
        (scan.folder / f"{number:04}").mkdir()
        (scan.folder / f"{number:04}" / "down").touch()
    with scan:
        scan.line("svscan: warning: unable to start 1000: running too many services")
        assert run([needs("svok"), scan.folder / "0999"]).returncode == 0


@pytest.mark.parametrize("words", [["-z"], ["a", "b"], ["-k"], ["-k", "x"], ["-k", "7x"], ["-k", ""]])
def test_usage(words: list[str]) -> None:
    done = run([BIN / "svscan", *words])
    assert done.returncode == 100
    assert done.stderr.splitlines()[-1] == b"svscan: usage: svscan [ -sv ] [ -k seconds ] [ dir ]"


def test_a_directory_that_another_supervise_has_is_tried_again(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service")
    scan.service("a", SLEEP)
    with subprocess.Popen([needs("supervise"), scan.folder / "a"], start_new_session=True) as other:
        assert scan.up("a")
        pid = scan.status("a").pid
        with scan:
            scan.line("svscan: warning: unable to acquire a/supervise/lock: temporary failure")
            assert scan.status("a").pid == pid
            os.killpg(other.pid, signal.SIGKILL)
            assert eventually(lambda: scan.status("a").pid != pid)


@OURS
def test_services_find_the_limits_and_signals_that_svscan_found(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.service("a", f"ulimit -n >limit; grep ^Sig /proc/self/status >new; mv new signals; {SLEEP}")
    scan.argv = ["sh", "-c", 'ulimit -Sn 200; exec "$@"', "sh", *scan.argv]
    with scan:
        assert eventually(lambda: (scan.folder / "a" / "signals").exists())
    assert lines(scan.folder / "a" / "limit") == ["200"]
    masks = dict(line.split(":\t") for line in lines(scan.folder / "a" / "signals"))
    assert int(masks["SigBlk"], 16) == 0


def test_a_hundred_services_with_logs_fit_into_the_descriptors_of_a_small_soft_limit(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000:
        pytest.skip("the hard limit for descriptors is too low: ulimit -Hn 4096")
    scan = Scan(tmp_path / "service")
    for number in range(100):
        folder = scan.folder / str(number)
        for path in (folder, folder / "log"):
            path.mkdir()
            (path / "down").touch()
    scan.argv = ["sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh", *scan.argv]
    with scan:
        assert eventually(lambda: run([needs("svok"), scan.folder / "99" / "log"]).returncode == 0)


# The end


@OURS
def test_sigterm_stops_services_first_and_logs_when_they_have_read_everything(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    trap = f"trap 'echo bye; exit 0' TERM; echo $$ >ready; {COUNT}"
    for name in ("a", "b"):
        scan.service(name, trap, "trap : TERM; while read line; do echo $line; done >>all; echo end >>all")
    with scan:
        assert eventually(lambda: all(len(lines(scan.folder / name / "log" / "all")) > 10 for name in "ab"))
        assert scan.stop() == 0
    for name in "ab":
        *counted, bye, end = lines(scan.folder / name / "log" / "all")
        assert (bye, end) == ("bye", "end")
        assert counted == [str(number) for number in range(1, len(counted) + 1)]
        for path in (scan.folder / name, scan.folder / name / "log"):
            assert run([needs("svok"), path]).returncode == 100
        assert not alive(int(lines(scan.folder / name / "ready")[0]))


def test_an_interrupt_stops_everything_too(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service")
    scan.service("a", SLEEP)
    with scan:
        assert scan.up("a")
        scan.process.send_signal(signal.SIGINT)
        assert scan.process.wait(TIMEOUT) == 0


@OURS
def test_who_does_not_stop_is_killed_at_once_by_a_second_signal_or_in_time(which: str, tmp_path: Path) -> None:
    for options in ([], ["-k", "1"]):
        scan = Scan(tmp_path / "service", which, options)
        if not options:
            scan.service("a", "trap '' TERM; echo $$ >ready; exec sleep 1000", CAT)
        (scan.folder / "a" / "ready").unlink(missing_ok=True)
        with scan:
            assert scan.up("a", "a/log")
            assert eventually(lambda folder=scan.folder: lines(folder / "a" / "ready") != [])  # type: ignore[misc]
            pid = int(lines(scan.folder / "a" / "ready")[0])
            os.kill(scan.process.pid, signal.SIGTERM)
            if not options:
                assert eventually(lambda scan=scan: scan.stat("a").endswith("want down"))  # type: ignore[misc]
                os.kill(scan.process.pid, signal.SIGTERM)
            assert scan.process.wait(TIMEOUT) == 0
            assert not alive(pid)


@pytest.mark.parametrize("which", ["ours", "ours -s"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["killed", "hung up"])
def test_services_go_on_without_svscan_and_the_next_one_takes_them_over(
    which: str, number: int, tmp_path: Path
) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.service(
        "a",
        "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done",
        "echo start >>all; while read line; do echo $line; done >>all",
    )
    scan.service("b", SLEEP)
    scan.service("stopped", f"touch ready; {SLEEP}")
    with scan:
        assert scan.up("a", "a/log", "b", "stopped")
        assert eventually((scan.folder / "stopped" / "ready").exists)
        scan.svc("d", "stopped")
        assert eventually(lambda: scan.status("stopped").pid == 0)
        before = [scan.status(name).pid for name in ("a", "a/log", "b", "stopped")]
        os.kill(scan.process.pid, number)
        scan.process.wait(TIMEOUT)
        count = len(lines(scan.folder / "a" / "log" / "all"))
        assert eventually(lambda: len(lines(scan.folder / "a" / "log" / "all")) > count + 10)
        scan.start()
        if which == "ours":
            assert eventually(lambda: run([needs("svok"), scan.folder / "a"]).returncode == 0)
        assert [scan.status(name).pid for name in ("a", "a/log", "b", "stopped")] == before
        scan.svc("k", "a/log")
        assert eventually(lambda: lines(scan.folder / "a" / "log" / "all").count("start") == 2)
        assert eventually(lambda: lines(scan.folder / "a" / "log" / "all")[-1] != "start")
        assert scan.stop() == 0
    got = lines(scan.folder / "a" / "log" / "all")
    numbers = [int(line) for line in got if line != "start"]
    # A shell that is killed takes with it the line that it has read; all others are there.
    assert len(set(numbers)) >= max(numbers) - 1
    assert not any(alive(pid) for pid in before if pid)


@OURS
def test_a_service_that_outlives_svscan_and_its_log_keeps_what_is_between(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    folder = scan.folder / "a"
    script(folder / "run", NUMBERS)
    script(folder / "log" / "run", f"#!/bin/sh\nexec {BIN}/multilog ./main\n")
    written, refused = folder / "written", folder / "refused"

    def goes_on() -> bool:
        count = len(lines(written))
        return eventually(lambda: len(lines(written)) > count + 5)

    with scan:
        assert scan.up("a", "a/log")
        assert goes_on()
        pid, log = scan.status("a").pid, scan.status("a/log").pid
        os.kill(log, signal.SIGSTOP)
        assert goes_on()
        scan.process.kill()
        scan.process.wait()
        os.kill(log, signal.SIGKILL)
        if which == "ours":  # else the supervise of the log has the pipe
            assert eventually(refused.exists)
        scan.start()
        assert goes_on()
        assert scan.status("a").pid == pid
        assert scan.stop() == 0
    kept = [line for path in (folder / "log" / "main").glob("[@c]*") for line in lines(path)]
    assert set(lines(written)) - set(kept) == set()
    assert refused.exists() == (which == "ours")


def test_a_log_that_is_slow_has_time_to_read_everything(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", options=["-k", "2"])
    slow = "exec 2>&1; while read line; do echo $line >>all; sleep 0.05; done"
    scan.service("a", f"i=0; while [ $i -lt 80 ]; do i=$((i+1)); echo $i; done; touch ready; {SLEEP}", slow)
    with scan:
        assert eventually(lambda: (scan.folder / "a" / "ready").exists())
        assert scan.stop() == 0
    assert lines(scan.folder / "a" / "log" / "all") == [str(number) for number in range(1, 81)]


@OURS
def test_a_log_that_waits_for_its_next_start_has_time_to_read_everything(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    scan.service("a", f"echo hello; touch ready; {SLEEP}", f"test -e tried && {CAT}; touch tried")
    with scan:
        assert eventually(lambda: all((scan.folder / name).exists() for name in ("a/ready", "a/log/tried")))
        assert scan.stop() == 0
    assert lines(scan.folder / "a" / "log" / "all") == ["hello"]


def test_a_log_that_reads_nothing_is_ended_and_what_it_has_left_is_said(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", options=["-k", "1"])
    scan.service("a", f"echo hello; touch ready; {SLEEP}", f"trap '' TERM; touch ready; {SLEEP}")
    with scan:
        assert eventually(lambda: all((scan.folder / name / "ready").exists() for name in ("a", "a/log")))
        assert scan.stop() == 0
        scan.line("svscan: warning: a/log has not read 6 bytes: they are lost")


def test_a_service_that_another_supervise_has_is_not_called_down(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service")
    scan.service("a", SLEEP)
    with subprocess.Popen([needs("supervise"), scan.folder / "a"], start_new_session=True) as other:
        assert scan.up("a")
        with scan:
            scan.line("svscan: warning: unable to acquire a/supervise/lock: temporary failure")
            assert scan.stop() == 111
            scan.line("svscan: warning: unable to stop a: another supervise has it")
        os.killpg(other.pid, signal.SIGKILL)


def test_a_supervise_that_is_not_ready_yet_is_told_when_it_is(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    script(slow / "supervise", f'#!/bin/sh\ntouch started; sleep 0.5; exec {needs("supervise")} "$@"\n')
    scan = Scan(tmp_path / "service", "ours -s", ["-k", "0"], PATH=f"{slow}:{environment()['PATH']}")
    scan.service("a", SLEEP)
    with scan:
        assert eventually(lambda: (scan.folder / "started").exists())
        assert scan.stop() == 0
        assert scan.status("a").pid == 0


def test_under_a_small_soft_limit_services_are_taken_over_all_the_same(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service")
    for number in range(12):
        scan.service(f"s{number}", f"echo >>starts; {SLEEP}", f"echo >>starts; {SLEEP}")
    names = [f"s{number}{log}" for number in range(12) for log in ("", "/log")]
    scan.argv = ["sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh", *scan.argv]
    with scan:
        assert scan.up(*names)
        assert b"unable to write" not in scan.log.text
        os.kill(scan.process.pid, signal.SIGKILL)
        scan.process.wait(TIMEOUT)
        scan.start()
        assert eventually(lambda: run([needs("svok"), scan.folder / "s9" / "log"]).returncode == 0)
        scan.svc("t", "s0")
        assert eventually(lambda: len(lines(scan.folder / "s0" / "starts")) == 2)
        assert [len(lines(scan.folder / name / "starts")) for name in names[1:]] == [1] * 23


@pytest.mark.parametrize("options", [[], ["-v"]], ids=["plain", "view"])
def test_a_reader_of_its_messages_that_dies_or_stops_is_nobodys_end(options: list[str], tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", options=options)
    scan.service("noisy", "exec yes")
    scan.service("bad", "exit 1")
    scan.service("a", SLEEP)
    reading, writing = os.pipe()
    process = subprocess.Popen(scan.argv, env=scan.env, stdout=writing, stderr=writing, start_new_session=True)
    os.close(writing)
    try:
        assert scan.up("a")
        for _ in range(2):  # nobody reads; and then there is nobody
            pid = scan.status("a").pid
            scan.svc("k", "a")
            assert eventually(lambda pid=pid: scan.status("a").pid not in (0, pid))  # type: ignore[misc]
            if reading >= 0:
                os.close(reading)
                reading = -1
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.wait()


def test_without_descriptors_for_a_view_services_wait_for_the_next_look(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", options=["-v"])
    for number in range(8):
        scan.service(f"s{number}", SLEEP)
    scan.argv = ["sh", "-c", 'ulimit -n 38; exec "$@"', "sh", *scan.argv]
    with scan:
        scan.line("svscan: warning: unable to .*: process cannot open more files")
        assert scan.up("s0")
        assert scan.stop() == 0


@OURS
def test_supervise_may_be_a_link_to_a_place_that_is_empty_after_a_boot(which: str, tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", which)
    folder = scan.service("a", "echo x; exec sleep 1000", CAT)
    for path, place in ((folder, "a"), (folder / "log", "a-log")):
        (path / "supervise").symlink_to(tmp_path / place)
    with scan:
        assert scan.up("a", "a/log")
        assert eventually(lambda: lines(folder / "log" / "all") == ["x"])


# What it says


def test_a_service_that_cannot_start_is_named_with_its_last_line(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service")
    scan.service("a", "exec 2>&1; echo starting; echo no port\033 >&2; exit 111", "exec multilog t ./main")
    scan.service("b", "exit 0")
    with scan:
        said = {scan.line("svscan: warning: [ab] .*")[0] for _ in range(2)}
    begin, _, end = min(said).partition(b"last line: ")
    assert begin == b"svscan: warning: a ended at once, with exit code 111, and is started again every second; "
    assert end.startswith(b"@4")
    assert end.endswith(b" no port^[\n")
    assert max(said) == b"svscan: warning: b ended at once, with exit code 0, and is started again every second\n"


def test_view_shows_every_line_behind_the_name_of_its_service(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service", options=["-v"])
    scan.service("pop3d", f"echo out; echo err >&2; {SLEEP}")
    scan.service("smtpd", f"echo to the log; echo err >&2; {SLEEP}", "while read line; do echo got $line; done")
    scan.service("bad", "echo oh no; exit 3")
    with scan:
        assert scan.up("pop3d", "smtpd", "smtpd/log")
        for line in ("pop3d     | out", "pop3d     | err"):
            scan.line(line.replace("|", r"\|"))
        assert eventually(lambda: b"smtpd/log | got to the log\n" in scan.log.text)
        assert eventually(lambda: b"smtpd     | err\n" in scan.log.text)
        assert eventually(lambda: b"again every second; last line: oh no\n" in scan.log.text)
        # An interrupt on the terminal goes to svscan's process group, and to no service.
        pid = scan.status("pop3d").pid
        assert os.getpgid(pid) == pid
        os.killpg(scan.process.pid, signal.SIGINT)
        assert scan.process.wait(TIMEOUT) == 0
        assert not alive(pid)


def test_a_log_that_does_not_read_blocks_its_service_unless_it_may_discard(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service")
    step = 'print ++i; if (i % 10000 == 0) { fflush(); print i >"count"; close("count") }'
    scan.service("a", f"exec awk 'BEGIN {{ while (1) {{ {step} }} }}'", SLEEP)

    def count() -> int:
        return int((lines(scan.folder / "a" / "count") or ["0"])[0])

    with scan:
        assert eventually(lambda: count() > 0)
        wchan = Path(f"/proc/{scan.status('a').pid}/wchan")
        assert eventually(lambda: "pipe" in wchan.read_text() or wchan.read_text() == "0")
        blocked = count()
        (scan.folder / "a" / "log" / "discard").touch()
        scan.line("svscan: warning: a/log does not read: [0-9]* bytes thrown away")
        assert eventually(lambda: count() > blocked)


# Where it runs


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_a_service_manager_is_told_when_all_has_been_started_and_when_it_stops(tmp_path: Path, abstract: bool) -> None:
    name = f"@qmailpy-svscan-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(TIMEOUT)
        manager.bind(name.replace("@", "\0") if abstract else name)
        scan = Scan(tmp_path / "service", NOTIFY_SOCKET=name)
        scan.service("a", f"env >environment; {SLEEP}")
        with scan:
            assert manager.recv(100) == b"READY=1"
            assert scan.up("a")
            assert eventually(lambda: "PATH=" in "".join(lines(scan.folder / "a" / "environment")))
            assert "NOTIFY_SOCKET" not in (scan.folder / "a" / "environment").read_text()
            scan.process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert scan.process.wait(TIMEOUT) == 0


@needs_root
def test_as_process_1_it_waits_for_orphans_and_ends_everything(tmp_path: Path) -> None:
    if run([needs("unshare"), "-pf", "--mount-proc", "true"]).returncode:
        pytest.skip("no pid namespace can be made here: run the tests where unshare -p works")
    scan = Scan(tmp_path / "service")
    orphans = "for i in 1 2 3 4 5; do (sleep 0.01 & exec true) & done; wait; sleep 0.5; ps -eo pid,ppid,stat,comm >ps"
    scan.service("a", f"{orphans}; {SLEEP}", "exec cat >all")
    scan.argv = [needs("unshare"), "-pf", "--mount-proc", *scan.argv]
    with scan:
        assert eventually(lambda: any("ps" in line.split() for line in lines(scan.folder / "a" / "ps")))
        found = [line.split() for line in lines(scan.folder / "a" / "ps")[1:]]
        assert found[0][0] == "1"
        assert [words for words in found if words[2].startswith("Z")] == []
        inner = int(Path(f"/proc/{scan.process.pid}/task/{scan.process.pid}/children").read_text())
        os.kill(inner, signal.SIGTERM)
        assert scan.process.wait(TIMEOUT) == 0
        assert run([needs("svok"), scan.folder / "a"]).returncode == 100


def test_our_svstat_names_what_runs(tmp_path: Path) -> None:
    scan = Scan(tmp_path / "service")
    scan.service("a", SLEEP)
    with scan:
        assert scan.up("a")
        done = run([BIN / "svstat", "-j", scan.folder / "a"], env=environment())
        assert json.loads(done.stdout)[0]["script"] == "run"
