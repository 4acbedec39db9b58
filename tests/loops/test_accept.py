"""accept: how addresses are shown, and which step of listening failed. The loop itself is tested through tcpserver."""

import _socket
import os
import socket
from pathlib import Path

import pytest

from qmailpy.loops import accept
from tests.helpers import PYTHON, ROOT, environment
from tests.servers import TIMEOUT, Server


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", (b"127.0.0.1", None)),
        ("::1", (b"::1", None)),
        ("::", (b"::", None)),
        ("::ffff:10.1.2.3", (b"10.1.2.3", None)),
        ("fe80::1%eth0", (b"fe80::1", b"eth0")),
        ("2001:db8::1", (b"2001:db8::1", None)),
    ],
)
def test_an_address_is_shown_without_its_interface_and_mapped_ones_as_ipv4(
    text: str, expected: tuple[bytes, bytes | None]
) -> None:
    assert accept.shown(text) == expected


def test_a_listening_socket_is_close_on_exec_and_does_not_block() -> None:
    listening = accept.listen(_socket.AF_INET, ("127.0.0.1", 0), 1)
    try:
        assert not os.get_inheritable(listening.fileno())
        assert not listening.getblocking()
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    finally:
        listening.close()


@pytest.mark.parametrize("address", ["192.0.2.1", "bound"])
def test_the_step_that_failed_is_named(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        where = bound.getsockname() if address == "bound" else (address, 0)
        with pytest.raises(OSError) as caught:
            accept.listen(_socket.AF_INET, where, 1)
    assert caught.value.filename == b"bind"


CODE = """
import _socket, os, sys
sys.path.insert(0, {root!r})
from qmailpy.loops import accept
listening = accept.listen(_socket.AF_INET, ("127.0.0.1", 0), 5)
print(listening.getsockname()[1], flush=True)
failing = iter([True, False])
def connected(fd, address):
    if next(failing):
        raise OSError
    pid = os.fork()
    if pid == 0:
        acceptor.release()
        os.write(fd, b"served")
        os._exit(7)
    return pid
children = accept.Children(3)
def changed():
    os.write(2, b"count %d\\n" % children.count)
def ended(pid, status):
    os.write(2, b"end %d\\n" % status)
acceptor = accept.Acceptor(listening, children, connected, ended, changed, print)
acceptor.run()
"""


def test_a_connection_that_nobody_could_be_forked_for_is_closed_and_not_counted(tmp_path: Path) -> None:
    with Server([PYTHON, "-IS", "-c", CODE.format(root=str(ROOT))], environment(), tmp_path) as server:
        assert server.connect().recv(1) == b""
        assert server.talk() == b"served"
        server.line("end 1792")
        server.line("count 0")
    assert server.process.wait(TIMEOUT) == -15
    assert server.log.text == b"count 1\ncount 0\ncount 1\nend 1792\ncount 0\n"
