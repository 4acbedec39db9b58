"""forwarding: what is queued, and that nothing is when the message breaks off."""

import os
from collections.abc import Iterator

import pytest

from qmailpy.stores import forwarding
from tests.queuehomes import QueueHome, queue_home

__all__ = ["queue_home"]


def no_process(*_: object) -> int:
    raise AssertionError


WAYS = (no_process, no_process)


def env(home: QueueHome) -> dict[bytes, bytes]:
    return {b"QMAILHOME": os.fsencode(home.path), b"DTLINE": b"Delivered-To: x\n", b"SENDER": b"s@t"}


def test_blocks_are_queued_behind_the_line(queue_home: QueueHome) -> None:
    qp, problem = forwarding.forward(iter([b"a", b"b"]), b"s@t", [b"c@d"], env(queue_home), WAYS)
    assert (qp, problem) == (os.getpid(), b"")
    queued = queue_home.message()
    assert (queued.body, queued.sender, queued.recipients) == (b"Delivered-To: x\nab", b"s@t", [b"c@d"])


@pytest.mark.parametrize("first", [True, False])
def test_a_message_that_breaks_off_is_not_queued(queue_home: QueueHome, first: bool) -> None:
    def blocks() -> Iterator[bytes]:
        if not first:
            yield b"part"
        raise LookupError

    with pytest.raises(LookupError):
        forwarding.forward(blocks(), b"s@t", [b"c@d"], env(queue_home), WAYS)
    assert queue_home.files() == set()


def test_without_a_process_for_the_queue_nothing_is_begun(queue_home: QueueHome) -> None:
    def spawn(child: object) -> int:
        raise OSError(11, "")

    with pytest.raises(forwarding.NotBegun) as raised:
        forwarding.forward(iter([]), b"", [], {**env(queue_home), b"QMAILQUEUE": b"/bin/true"}, (spawn, no_process))
    assert raised.value.errno == 11


def test_what_happened_is_said(queue_home: QueueHome, capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    saved = os.dup(0)
    try:
        os.write(write, b"text")
        os.close(write)
        os.dup2(read, 0)
        os.close(read)
        assert forwarding.send_as(b"who", env(queue_home), b"OTHER", [], WAYS) == 100
        assert forwarding.send_as(b"who", env(queue_home), b"SENDER", [b"c@d"], WAYS) == 0
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert capfd.readouterr().err == f"who: fatal: OTHER not set\nwho: qp {os.getpid()}\n"
    assert queue_home.message().body == b"Delivered-To: x\ntext"
