"""TLS as a client, on a pair of sockets; the rest, with servers of all sorts, is in tests/test_tls_out.py."""

import _socket
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qmailpy.loops import tlsclient
from qmailpy.loops.tlsclient import Channel, Failed, Settings, Unusable
from tests.authority import Authority, Issued
from tests.helpers import run

NAME = b"mail.dom.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue(NAME.decode())


@contextmanager
def pair(serve: Callable[[socket.socket], None]) -> Iterator[_socket.socket]:
    """A socket whose other end is served by a thread."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)

    def run_() -> None:
        with theirs:
            try:
                serve(theirs)
            except OSError:
                pass

    thread = threading.Thread(target=run_)
    thread.start()
    sock = _socket.socket(fileno=ours.detach())
    try:
        yield sock
    finally:
        sock.close()
        thread.join()


def echo(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            while block := secure.recv(65536):
                secure.sendall(block)

    return serve


def test_all_bytes_come_and_go(authority: Authority, issued: Issued) -> None:
    context = tlsclient.verifying(Settings(cafile=bytes(authority.cafile)))
    with pair(echo(issued.context())) as sock:
        channel = Channel(sock, context, NAME, 10, 10)
        assert channel.shown.startswith(b"TLSv1.3 TLS_")
        assert channel.names == (("DNS", NAME.decode()),)
        for size in (1, 16384, 100_000):
            data = os.urandom(size)
            sent, got = 0, b""
            while sent < size:
                taken = channel.send(memoryview(data)[sent:])
                assert 0 < taken <= 16384
                sent += taken
                while len(got) < sent:
                    got += channel.recv(5000)
            assert got == data
        with pytest.raises(BlockingIOError):
            channel.recv(1, _socket.MSG_DONTWAIT)
        channel.leave()
        assert channel.recv(1) == b""


def test_the_chain_is_known_without_belief(authority: Authority, issued: Issued) -> None:
    with pair(echo(issued.context())) as sock:
        channel = Channel(sock, tlsclient.trusting(Settings()), None, 10, 10)
        assert channel.chain() == [issued.der(), authority.middle.der()]
        assert channel.names == ()


@pytest.mark.parametrize("name", [b"other.example", b"192.0.2.1", b"a..b", b"x" * 300, b"b\xc3\xbc"])
def test_another_name_is_refused(authority: Authority, issued: Issued, name: bytes) -> None:
    context = tlsclient.verifying(Settings(cafile=bytes(authority.cafile)))
    with pair(echo(issued.context())) as sock, pytest.raises(Failed):
        Channel(sock, context, name, 10, 10)


@pytest.mark.parametrize("name", [b".dom.example", b"b\xc3\xbc", b"", b"a\0b"])
def test_what_cannot_be_a_name_is_called_that(name: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(Failed, match="no certificate can have that name"):
        Channel(_socket.socket(fileno=ours.detach()), tlsclient.verifying(Settings()), name, 10, 10)


def test_anchors_stand_in_the_place_of_the_systems(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    for anchors, good in (([authority.middle.der()], True), ([other.root.der()], False), ([b"rubbish"], False)):
        context = tlsclient.verifying(Settings(cafile=bytes(authority.cafile)), anchors)
        with pair(echo(issued.context())) as sock:
            if good:
                Channel(sock, context, NAME, 10, 10)
            else:
                with pytest.raises(Failed):
                    Channel(sock, context, NAME, 10, 10)


def test_a_silent_server_has_its_time(issued: Issued) -> None:
    free = threading.Event()

    def wait(sock: socket.socket) -> None:
        free.wait(20)

    with pair(wait) as sock:
        with pytest.raises(Failed, match="timed out"):
            Channel(sock, tlsclient.trusting(Settings()), None, 10, 0.2)
        free.set()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="authorities: No such file"):
        tlsclient.verifying(Settings(cafile=bytes(tmp_path / "missing")))
    with pytest.raises(Unusable, match=r"clientcert\.pem: No such file"):
        tlsclient.trusting(Settings(certificate=bytes(tmp_path / "missing")))
    with pytest.raises(Unusable, match="tlsclientciphers"):
        tlsclient.trusting(Settings(ciphers=b"\xff"))


def test_nobody_is_asked_for_the_password_of_a_key(issued: Issued, tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    command: list[str | Path] = ["openssl", "pkey", "-in", issued.path, "-aes128", "-passout", "pass:x", "-out", locked]
    assert run(command).returncode == 0
    with open(locked, "ab") as file:
        file.write(issued.path.read_bytes())
    with pytest.raises(Unusable):
        tlsclient.trusting(Settings(certificate=bytes(locked)))
