"""Where the spawners work."""

import os
from pathlib import Path

import pytest

from qmailpy.stores import spawning
from tests.queuehomes import QueueHome, queue_home

__all__ = ["queue_home"]


def env(home: Path) -> dict[bytes, bytes]:
    return {b"QMAILHOME": os.fsencode(home)}


def test_the_messages_are_the_working_folder(queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(queue_home.path.parent)
    place = spawning.Place(env(Path("home")), b"concurrencylocal")
    assert Path.cwd() == queue_home.queue / "mess"
    assert place.home == os.fsencode(queue_home.path)
    assert place.env == env(queue_home.path)
    assert (place.owner, place.concurrency) == (os.getuid(), None)


def test_the_control_file_is_read(queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(queue_home.path)
    queue_home.control(concurrencylocal="17x")
    assert spawning.Place(env(queue_home.path), b"concurrencylocal").concurrency == 17


def test_what_is_missing_is_named(queue_home: QueueHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(queue_home.path)
    (queue_home.path / "control" / "concurrencylocal").mkdir()
    with pytest.raises(spawning.Failed) as raised:
        spawning.Place(env(queue_home.path), b"concurrencylocal")
    assert raised.value.text == b"unable to read control/concurrencylocal"
    queue_home.queue.rename(queue_home.path / "elsewhere")
    with pytest.raises(spawning.Failed) as raised:
        spawning.Place(env(queue_home.path), b"concurrencylocal")
    assert raised.value.text == b"unable to switch to %s/queue/mess" % os.fsencode(queue_home.path)
