"""A process is known by more than its pid, and its end is told."""

import os
import select
import subprocess
import sys

from qmailpy.unix import processes

SLEEP = [sys.executable, "-IS", "-c", "input()"]


def test_a_process_has_started_once_and_for_all() -> None:
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE) as child:
        begin = processes.started(child.pid)
        assert begin >= processes.started(os.getpid()) > 0
        assert processes.started(child.pid) == begin
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert processes.started(child.pid) == 0  # nobody has waited for it
    assert processes.started(child.pid) == 0


def test_the_end_of_another_process_is_told_by_a_descriptor() -> None:
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE) as child:
        fd = processes.watch(child.pid, processes.started(child.pid))
        assert select.select([fd], [], [], 0)[0] == []
        child.kill()
        assert select.select([fd], [], [], 20)[0] == [fd]
        os.close(fd)
        assert processes.watch(child.pid, 1) == -1


def test_another_process_with_the_same_pid_is_not_watched() -> None:
    assert processes.watch(os.getpid(), processes.started(os.getpid()) - 1) == -1


def test_no_label_is_given_twice_and_a_child_has_its_own() -> None:
    labels = {processes.label() for _ in range(5)}
    assert len(labels) == 5
    assert {label.partition(b"_")[0] for label in labels} == {b"%d" % os.getpid()}
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, b" ".join(processes.label() for _ in range(3)))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 100) == b"%d %d_2 %d_3" % (pid, pid, pid)
    os.close(reading)
    os.close(writing)


def test_the_boot_is_one_word_and_stays_the_same() -> None:
    assert processes.boot() == processes.boot()
    assert len(processes.boot().split()) == 1
