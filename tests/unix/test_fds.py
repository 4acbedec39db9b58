"""Descriptors: what a step takes and what it leaves."""

import os
import subprocess
import sys

from qmailpy.unix.fds import close_others, descriptors, keep, share
from tests.helpers import ROOT


def test_the_open_descriptors_are_listed() -> None:
    reader, writer = os.pipe()
    assert {0, 1, 2, reader, writer} <= set(descriptors())
    os.close(reader)
    os.close(writer)
    assert writer not in descriptors()


def test_a_child_can_close_all_descriptors_but_some() -> None:
    reader, writer = os.pipe()
    unused, _ = pair = os.pipe()
    os.set_inheritable(unused, True)
    pid = os.fork()
    if not pid:
        try:
            close_others(2, writer)
            left = b" ".join(b"%d" % fd for fd in sorted(descriptors()))
            os.write(writer, left)
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    listing = 0  # the descriptor of the listing itself takes the lowest number
    assert os.read(reader, 1000) == b"%d 2 %d" % (listing, writer)
    for fd in (reader, *pair):
        os.close(fd)


def test_a_step_that_keeps_all_there_can_be_is_not_slow() -> None:
    """Without /proc nobody knows what is open, and a high limit is common."""
    code = "from qmailpy.unix import fds; fds.remember(); fds.close_on_exec(tuple(range(200_000)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_closing_the_others_of_a_closed_descriptor_is_no_error() -> None:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(1)
            close_others(1, 2)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_descriptor_that_is_kept_is_not_for_the_next_program() -> None:
    reading, writing = os.pipe()
    try:
        share(reading)
        assert os.get_inheritable(reading)
        keep(reading)
        assert not os.get_inheritable(reading)
    finally:
        os.close(reading)
        os.close(writing)
