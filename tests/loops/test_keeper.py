"""The keeper: requests come down one line, processes that do the work are forked ahead and used once, and it ends when
nobody needs it. The work is done here by processes that only echo."""

import _socket
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from qmailpy.formats import ucspitls
from qmailpy.loops import keeper
from qmailpy.unix import fds, processes
from tests.helpers import eventually

TIMEOUT = 20
AGAIN = -1  # instead of an exit code
ANSWER = b"SSL_PROTOCOL=none\0\0"


CLIENT = b"192.0.2.1 "


def spawn(child: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(child())
        finally:
            os._exit(99)
    return pid


def echo(reports: int, line: int) -> int:
    """A process of the keeper's that takes everything for a handshake; `refuse` in the name fails at it."""
    fds.close_others(2, reports, line)
    waiting = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, line)
    while (code := echo_one(waiting, reports)) == AGAIN:
        try:
            waiting.send(b"+")
        except OSError:
            return 0
    return code


def echo_one(waiting: "_socket.socket", reports: int) -> int:
    text, passed, _, _ = waiting.recvmsg(2048, _socket.CMSG_SPACE(12))
    if not text:
        return 0
    network, local, control = struct.unpack("3i", passed[0][2])
    if b"refuse" in text:
        report = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, reports)
        report.send(b"no\nway\xff")
        return 111
    if b"crash" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(control, ANSWER if text[:1] == ucspitls.TELL else b"")
    os.close(control)
    while block := os.read(network, 4096):
        os.write(local, b"%d: " % os.getpid() + block)
    for fd in (network, local):
        os.close(fd)
    return AGAIN


class Kept:
    def __init__(self, limit: int, again: bool = False) -> None:
        self.again = again
        self.out_of_date = os.pipe()
        os.set_blocking(self.out_of_date[0], False)
        self.log = os.pipe()
        self.keeper = keeper.start(spawn, lambda line: self._hold(line, limit))
        os.close(self.log[1])

    def _hold(self, line: "_socket.socket", limit: int) -> int:
        def refresh() -> bool:
            try:
                return bool(os.read(self.out_of_date[0], 1))
            except BlockingIOError:
                return False

        def complain(text: bytes) -> None:
            os.write(self.log[1], text + b"\n")

        return keeper.Hold(line, limit, spawn, refresh, echo, complain, self.again).run()

    def said(self) -> bytes:
        text = b""
        while not text.endswith(b"\n"):
            readable, _, _ = select.select([self.log[0]], [], [], TIMEOUT)
            assert readable
            text += os.read(self.log[0], 1)
        return text

    def children(self) -> set[int]:
        with open(f"/proc/{self.keeper.pid}/task/{self.keeper.pid}/children") as file:
            return {int(word) for word in file.read().split()}


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    made = Kept(getattr(request, "param", 20))
    yield made
    try:
        os.kill(made.keeper.pid, signal.SIGKILL)
        os.waitpid(made.keeper.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    for fd in (made.log[0], *made.out_of_date):
        os.close(fd)


def pair() -> "tuple[_socket.socket, int]":
    """The client, and the descriptor that a server has accepted."""
    client, network = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    client.settimeout(TIMEOUT)
    return client, network.detach()


def begun(kept: Kept, who: bytes = CLIENT) -> "tuple[_socket.socket, int]":
    client, network = pair()
    local, variables = kept.keeper.begin(network, who, TIMEOUT)
    assert variables == {b"SSL_PROTOCOL": b"none"}
    return client, local


def pid_of(client: "_socket.socket", local: int) -> int:
    client.send(b"x")
    return int(os.read(local, 100).partition(b":")[0])


def test_each_connection_has_a_process_that_was_there_before_and_is_used_once(kept: Kept) -> None:
    assert eventually(lambda: len(kept.children()) == keeper.SPARES)
    ready = kept.children()
    sessions = [begun(kept) for _ in range(5)]
    pids = [pid_of(*session) for session in sessions]
    assert len(set(pids)) == 5
    assert pids[0] in ready
    for client, local in sessions:
        client.close()
        assert os.read(local, 1) == b""
        os.close(local)


def test_a_handshake_that_fails_is_told_by_the_keeper_in_one_line(kept: Kept) -> None:
    client, network = pair()
    with pytest.raises(keeper.Failed) as caught:
        kept.keeper.begin(network, b"refuse", TIMEOUT)
    assert caught.value.error is None
    assert kept.said() == b"no?way?\n"
    assert client.recv(1) == b""
    with pytest.raises(OSError):
        os.fstat(network)


def test_a_process_that_crashes_is_told_and_the_next_one_serves(kept: Kept) -> None:
    _, network = pair()
    with pytest.raises(keeper.Failed):
        kept.keeper.begin(network, b"crash", TIMEOUT)
    client, local = begun(kept)
    assert kept.said() == b"TLS process killed by signal 9\n"
    client.close()
    os.close(local)


def test_processes_that_are_out_of_date_are_replaced_before_the_next_connection(kept: Kept) -> None:
    assert eventually(lambda: len(kept.children()) == keeper.SPARES)
    old = kept.children()
    os.write(kept.out_of_date[1], b"x")
    client, local = begun(kept)
    assert pid_of(client, local) not in old
    client.close()
    os.close(local)


@pytest.fixture
def kept_again() -> Iterator[Kept]:
    made = Kept(keeper.KEPT + 10, again=True)
    yield made
    os.kill(made.keeper.pid, signal.SIGKILL)
    os.waitpid(made.keeper.pid, 0)


def served(kept: Kept, who: bytes = CLIENT) -> int:
    """The process of a connection that has had its end."""
    client, local = begun(kept, who)
    pid = pid_of(client, local)
    client.close()
    assert os.read(local, 1) == b""
    os.close(local)
    return pid


def test_a_process_that_says_so_serves_again_but_not_once_it_is_out_of_date(kept_again: Kept) -> None:
    pids = {served(kept_again) for _ in range(6)}
    assert len(pids) < 6
    os.write(kept_again.out_of_date[1], b"x")
    assert served(kept_again) not in pids
    assert eventually(lambda: not kept_again.children() & pids)


def test_a_process_that_has_served_one_client_never_serves_another(kept_again: Kept) -> None:
    clients = CLIENT, b"192.0.2.2 ", b"192.0.2.1 mail.example", b"2001:db8::1 "
    turns = [(who, served(kept_again, who)) for _ in range(4) for who in clients]
    pids = {who: {pid for client, pid in turns if client == who} for who in clients}
    assert all(len(some) < 4 for some in pids.values())
    assert sum(map(len, pids.values())) == len(set().union(*pids.values()))


def test_a_process_waits_a_while_for_its_client_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "KEPT_S", 0.05)
    made = Kept(20, again=True)
    try:
        pid = served(made)
        assert eventually(lambda: pid not in made.children() and len(made.children()) == keeper.SPARES)
        assert served(made) != pid
    finally:
        os.kill(made.keeper.pid, signal.SIGKILL)
        os.waitpid(made.keeper.pid, 0)


def test_a_process_that_dies_while_it_waits_is_not_missed(kept_again: Kept) -> None:
    pids = {served(kept_again) for _ in range(3)}
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        assert eventually(partial(has_ended, pid))
    assert served(kept_again) not in pids


def has_ended(pid: int) -> bool:
    """It may not have been waited for yet."""
    try:
        return processes.stat_fields(pid)[0] == b"Z"
    except OSError:
        return True


def test_of_many_that_could_serve_again_a_few_are_kept(kept_again: Kept) -> None:
    sessions = [begun(kept_again) for _ in range(keeper.KEPT + 5)]
    for client, local in sessions:
        client.close()
        assert os.read(local, 1) == b""
        os.close(local)
    served(kept_again)
    assert eventually(lambda: served(kept_again) > 0 and len(kept_again.children()) <= keeper.KEPT + keeper.SPARES)


def test_an_offer_waits_until_the_program_wants_it(kept: Kept) -> None:
    client, network = pair()
    offer = kept.keeper.offer(network, CLIENT)
    assert offer.reading == offer.writing
    assert min(offer.reading, offer.control) >= 10
    assert os.get_inheritable(offer.reading)
    assert os.get_inheritable(offer.control)
    os.write(network, b"in clear")
    assert client.recv(100) == b"in clear"
    os.write(offer.control, ucspitls.TELL)
    assert os.read(offer.control, 100) == ANSWER
    assert os.read(offer.control, 100) == b""
    client.send(b"x")
    assert os.read(offer.reading, 100).endswith(b": x")
    client.close()
    for fd in (network, offer.reading, offer.control):
        os.close(fd)


@pytest.mark.parametrize("word", [b"", b"x", b"\0"])
def test_an_offer_that_is_not_taken_lets_go_of_the_connection(kept: Kept, word: bytes) -> None:
    client, network = pair()
    offer = kept.keeper.offer(network, CLIENT)
    os.close(network)
    if word:
        os.write(offer.control, word)
        assert os.read(offer.control, 10) == b""
    for fd in (offer.reading, offer.control):
        os.close(fd)
    assert client.recv(1) == b""


@pytest.mark.parametrize("kept", [2], indirect=True)
def test_at_the_limit_requests_wait_and_ends_are_seen(kept: Kept) -> None:
    sessions = [begun(kept), begun(kept)]
    client, network = pair()
    offer = kept.keeper.offer(network, CLIENT)
    os.write(offer.control, ucspitls.TELL)
    other, given_up = pair()
    second = kept.keeper.offer(given_up, CLIENT)
    os.close(given_up)
    readable, _, _ = select.select([offer.control], [], [], 0.2)
    assert not readable
    for fd in (second.control, second.reading):
        os.close(fd)
    assert other.recv(1) == b""
    sessions[0][0].close()
    assert os.read(sessions[0][1], 1) == b""
    assert os.read(offer.control, 100) == ANSWER
    sessions[1][0].close()
    client.close()
    for fd in (network, offer.control, offer.reading, sessions[0][1], sessions[1][1]):
        os.close(fd)


def test_an_empty_request_is_passed_over(kept: Kept) -> None:
    line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, os.dup(kept.keeper.fd))
    line.send(b"")
    client, local = begun(kept)
    assert pid_of(client, local)
    line.close()
    client.close()
    os.close(local)


def test_it_ends_when_nobody_can_ask_and_nobody_waits(kept: Kept) -> None:
    client, network = pair()
    offer = kept.keeper.offer(network, CLIENT)
    kept.keeper._line.close()
    watch = os.pidfd_open(kept.keeper.pid)
    poller = select.poll()
    poller.register(watch, select.POLLIN)
    assert not poller.poll(200)
    os.write(offer.control, ucspitls.TELL)
    assert os.read(offer.control, 100) == ANSWER
    client.close()
    assert os.read(offer.reading, 1) == b""
    assert poller.poll(TIMEOUT * 1000)
    assert os.waitpid(kept.keeper.pid, 0)[1] == 0
    for fd in (network, watch, offer.control, offer.reading):
        os.close(fd)


def test_a_keeper_that_has_gone_is_an_error_with_a_reason(kept: Kept) -> None:
    os.kill(kept.keeper.pid, signal.SIGKILL)
    os.waitpid(kept.keeper.pid, 0)
    for act in (lambda fd: kept.keeper.begin(fd, CLIENT, 5), lambda fd: kept.keeper.offer(fd, CLIENT)):
        _, network = pair()
        with pytest.raises(keeper.Failed) as caught:
            act(network)
        assert isinstance(caught.value.error, OSError)


def test_a_keeper_that_cannot_start_is_an_error_without_one() -> None:
    with pytest.raises(keeper.Failed) as caught:
        keeper.start(spawn, lambda line: 111)
    assert caught.value.error is None


def test_an_answer_that_does_not_come_is_an_error() -> None:
    one, other = _socket.socketpair()
    begin = time.monotonic()
    with pytest.raises(keeper.Failed) as caught:
        keeper.answer(one.fileno(), -keeper.LATE_S)
    assert isinstance(caught.value.error, TimeoutError)
    assert time.monotonic() - begin < TIMEOUT
    for text in (b"", b"no answer\0\0", b"x" * (ucspitls.LIMIT + 1)):
        one, other = _socket.socketpair()
        other.setblocking(False)
        other.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 1 << 20)
        other.send(text)
        other.close()
        with pytest.raises(keeper.Failed) as caught:
            keeper.answer(one.fileno(), TIMEOUT)
        assert caught.value.error is None
