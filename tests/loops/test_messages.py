"""Messages to somebody who may have stopped reading: nobody waits, and what is lost is counted."""

import os
import select

from qmailpy.loops.messages import Messages, write_now


def full_pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writing, True)
    return reading, writing


def drain(reading: int) -> bytes:
    os.set_blocking(reading, False)
    text = b""
    try:
        while True:
            text += os.read(reading, 65536)
    except BlockingIOError:
        return text.lstrip(b"\0")


def test_what_nobody_reads_is_lost_and_counted() -> None:
    reading, writing = full_pipe()
    messages = Messages(b"svscan", writing)
    for number in range(3):
        messages.warn(b"number %d" % number)
    assert drain(reading) == b""
    messages.warn(b"unable to read directory", error=FileNotFoundError(2, ""))
    messages.warn(b"last")
    assert drain(reading).splitlines() == [
        b"svscan: warning: 3 lines lost",
        b"svscan: warning: unable to read directory: file does not exist",
        b"svscan: warning: last",
    ]
    os.close(reading)
    os.close(writing)


def test_a_long_line_is_cut_to_what_a_pipe_takes_at_once() -> None:
    reading, writing = os.pipe()
    Messages(b"svscan", writing).warn(b"x" * 10000)
    text = drain(reading)
    assert len(text) == select.PIPE_BUF
    assert text.endswith(b"x...\n")
    os.close(reading)
    os.close(writing)


def test_a_descriptor_that_is_closed_is_nobodys_reason_to_fail() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    assert not write_now(writing, b"x")
