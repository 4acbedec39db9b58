"""Sockets with a name: who is on the other side, and whose name it is."""

import errno
import os
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmailpy.unix import local


@pytest.fixture
def path() -> Iterator[bytes]:
    folder = tempfile.mkdtemp(prefix="local-")  # tmp_path may be too long
    yield os.fsencode(folder) + b"/socket"
    shutil.rmtree(folder)


def listening(path: bytes, mode: int = 0o600) -> local.Listening:
    return local.Listening(path, mode)


def failed(path: bytes) -> tuple[bytes, int | None]:
    with pytest.raises(OSError) as caught:
        listening(path)
    return caught.value.filename, caught.value.errno


def test_a_caller_is_known_by_uid_and_gid(path: bytes) -> None:
    server = listening(path)
    caller = local.connect(path, 5)
    accepted = server.accept()
    for fd in (accepted, caller):
        assert local.peer(fd) == (os.geteuid(), os.getegid())
    assert set(local.peer_groups(accepted)) == set(os.getgroups())
    assert not os.get_inheritable(accepted) and not os.get_blocking(accepted)
    for fd in (accepted, caller):
        os.close(fd)
    server.close()
    assert os.listdir(os.path.dirname(path)) == [b"socket.lock"]


def test_each_side_of_a_connection_is_known_as_such(path: bytes) -> None:
    server = listening(path)
    caller, second = local.connect(path, 5), local.connect(path, 5)
    accepted = server.accept()
    assert all(local.is_other_side(fd, accepted) for fd in (caller, second, accepted))
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as unconnected:
        assert not any(local.is_other_side(each.fileno(), accepted) for each in (ours, theirs, unconnected))
    for fd in (caller, second, accepted):
        os.close(fd)
    server.close()


def test_the_end_is_seen_though_somebody_holds_the_connection(path: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        local.end(ours.fileno())
        assert theirs.recv(1) == b""


def test_accept_does_not_wait(path: bytes) -> None:
    server = listening(path)
    with pytest.raises(BlockingIOError):
        server.accept()
    server.close()


def test_the_socket_has_its_mode_whatever_the_umask(path: bytes) -> None:
    before = os.umask(0o077)
    server = listening(path, 0o666)
    os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    server.close()


def test_a_socket_that_was_left_behind_is_replaced(path: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    Path(os.fsdecode(path) + ".new").touch()
    server = listening(path)
    os.close(local.connect(path, 5))
    server.close()


def test_a_second_server_finds_the_name_locked(path: bytes) -> None:
    server = listening(path)
    assert failed(path) == (b"lock", errno.EAGAIN)
    os.close(local.connect(path, 5))
    server.close()
    listening(path).close()


def test_what_is_no_socket_is_left_alone(path: bytes) -> None:
    Path(os.fsdecode(path)).write_text("precious")
    assert failed(path) == (b"use", errno.EEXIST)
    assert Path(os.fsdecode(path)).read_text() == "precious"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_may_write_is_not_trusted(path: bytes, mode: int) -> None:
    os.chmod(os.path.dirname(path), mode)
    assert failed(path) == (b"use", errno.EPERM)


def test_a_name_that_is_too_long_is_an_error_with_a_number(path: bytes) -> None:
    assert failed(path + b"x" * 100) == (b"use", errno.ENAMETOOLONG)
    with pytest.raises(OSError) as caught:
        local.connect(path + b"x" * 100, 5)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_a_peer_that_has_left_is_an_error_and_no_signal(path: bytes) -> None:
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    server = listening(path)
    caller = local.connect(path, 5)
    assert local.send(caller, b"text") == 4
    accepted = server.accept()
    assert os.read(accepted, 100) == b"text"
    os.close(accepted)
    with pytest.raises(BrokenPipeError):
        local.send(caller, b"text")
    os.close(caller)
    server.close()
    signal.signal(signal.SIGPIPE, before)


def test_nobody_listening_is_an_error(path: bytes) -> None:
    with pytest.raises(FileNotFoundError):
        local.connect(path, 5)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    with pytest.raises(ConnectionRefusedError):
        local.connect(path, 5)


def test_a_server_that_does_not_answer_is_a_timeout_and_a_full_one_too(path: bytes) -> None:
    server = local.Listening(path, 0o600, backlog=0)
    caller = local.connect(path, 1)
    with pytest.raises(BlockingIOError):
        os.read(caller, 1)
    with pytest.raises(BlockingIOError):
        local.connect(path, 1)
    os.close(caller)
    server.close()
