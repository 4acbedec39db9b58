"""The program's side of UCSPI-TLS, with a TLS process that is a socket; qmail-popup and qmail-smtpd test it whole."""

import os
import socket
import sys
import threading

import pytest

from qmailpy.formats import ucspitls
from tests.helpers import ROOT, run

# Prints what it is told, and what is on 0 and 1 then. argv: root, control, reading, writing; seconds
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from qmailpy.loops import starttls
starttls.HANDSHAKE_S = float(sys.argv[5])
env = {b"SSLCTLFD": sys.argv[2].encode(), b"SSLREADFD": sys.argv[3].encode(), b"SSLWRITEFD": sys.argv[4].encode()}
offer = starttls.offered(b"program", env)
if offer is None:
    os._exit(3)
inherited = [fd for fd in map(int, sys.argv[2:5]) if os.get_inheritable(fd)]
if inherited or not offer.holds():
    os._exit(4)
try:
    told = offer.start()
except starttls.Failed:
    os._exit(5)
os.write(1, repr(told).encode() + os.read(0, 100))
left = [fd for fd in set(map(int, sys.argv[2:5])) if os.path.exists(f"/proc/self/fd/{fd}")]
os._exit(6 if left else 0)
"""


class TlsProcess:
    """What is on the other side: it answers, in a thread, and moves what is on one side to the other."""

    def __init__(self, pipes: bool, answer: bytes) -> None:
        self.control, control = socket.socketpair()
        if pipes:
            reading, self.writes = os.pipe()
            self.reads, writing = os.pipe()
        else:
            ours, theirs = socket.socketpair()
            self.reads = self.writes = ours.detach()
            reading = writing = theirs.detach()
        self.numbers = [control.detach(), reading, writing]
        self.asked = b""
        self._answer = answer

    def __enter__(self) -> "TlsProcess":
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join(20)
        self.control.close()
        for fd in {self.reads, self.writes}:
            os.close(fd)

    def _serve(self) -> None:
        self.asked = self.control.recv(9)
        if self.asked:
            self.control.sendall(self._answer)

    def run(self, seconds: float = 20) -> tuple[int, bytes]:
        """(exit code, log) of the program."""
        numbers = [str(number) for number in self.numbers]
        done = run([sys.executable, "-c", PROGRAM, ROOT, *numbers, str(seconds)], pass_fds=self.numbers)
        for fd in set(self.numbers):
            os.close(fd)
        return done.returncode, done.stderr


@pytest.mark.parametrize("pipes", [False, True])
@pytest.mark.parametrize("variables", [{b"SSL_PROTOCOL": b"TLSv1.3"}, {}])
def test_what_is_decrypted_comes_to_0_and_1(pipes: bool, variables: dict[bytes, bytes]) -> None:
    with TlsProcess(pipes, ucspitls.build(variables)) as process:
        os.write(process.writes, b"secret")
        assert process.run() == (0, b"")
        assert os.read(process.reads, 100) == repr(variables).encode() + b"secret"
    assert process.asked == b"Y"


@pytest.mark.parametrize(
    ("answer", "log"),
    [
        (b"", b"program: warning: unable to start TLS: timed out\n"),
        (b"SSL_CIPHER=x\0", b"program: warning: unable to start TLS: timed out\n"),
        (b"x\0\0", b"program: warning: unable to start TLS: SSLCTLFD does not speak UCSPI-TLS\n"),
    ],
)
def test_an_answer_that_is_none_is_not_waited_for_without_end(answer: bytes, log: bytes) -> None:
    with TlsProcess(False, answer) as process:
        assert process.run(0.2) == (5, log)


def test_what_is_no_socket_is_no_offer() -> None:
    with TlsProcess(True, b"") as process:
        os.close(process.numbers[0])
        process.numbers[0] = process.numbers[1]
        assert process.run() == (3, b"program: warning: unable to use SSLCTLFD: not a socket\n")
    assert process.asked == b""
