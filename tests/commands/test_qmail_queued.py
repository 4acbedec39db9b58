"""qmail-queued: who is served, by whom, within which limits; what happens when one side ends too soon."""

import array
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qmailpy.commands import qmail_queued
from qmailpy.stores import injection
from qmailpy.unix import local, processes, timed
from tests.helpers import BIN, eventually, run
from tests.queuehomes import QueueHome, QueueService, nobody, queue_home, run_queue, shared_home

__all__ = ["queue_home", "shared_home"]

BODY = b"Subject: test\n\ntext\n"
GOOD = b"Fa@b\0Tc@d\0\0"


class Call:
    """A client in the middle of a message."""

    def __init__(self, home: QueueHome) -> None:
        message, self.message = os.pipe()
        addresses, self.addresses = os.pipe()
        self.connection = injection.call(os.fsencode(home.path), message, addresses)
        os.close(message)
        os.close(addresses)

    def finish(self, addresses: bytes = GOOD) -> tuple[int, int, bytes]:
        os.write(self.message, BODY)
        self.hang_up(addresses)
        return injection.answer(self.connection)

    def hang_up(self, addresses: bytes = b"") -> None:
        os.close(self.message)
        os.write(self.addresses, addresses)
        os.close(self.addresses)


def connected(home: QueueHome) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(home.path / "run/qmail-queued"))
    client.settimeout(20)
    return client


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_message_is_queued_and_its_pid_told(queue_home: QueueHome) -> None:
    with QueueService(queue_home):
        pid, code, text = Call(queue_home).finish()
    queued = queue_home.message()
    assert (code, text, queued.pid) == (0, b"", pid)
    assert (queued.uid, queued.body, queued.recipients) == (os.getuid(), BODY, [b"c@d"])
    assert queued.received.startswith(b"Received: (qmail %d invoked by uid %d); " % (pid, os.getuid()))


def test_the_socket_is_for_everybody_and_its_folder_for_the_owner(queue_home: QueueHome) -> None:
    before = os.umask(0o077)
    try:
        with QueueService(queue_home) as service:
            assert service.socket.stat().st_mode & 0o777 == 0o666
            assert service.socket.parent.stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_a_folder_that_others_may_write_is_not_used(queue_home: QueueHome) -> None:
    (queue_home.path / "run").mkdir(mode=0o777)
    (queue_home.path / "run").chmod(0o777)
    done = run([BIN / "qmail-queued"], env=queue_home.env())
    assert done.returncode == 111
    assert done.stderr == b"qmail-queued: fatal: unable to use %s/run/qmail-queued: permission denied\n" % os.fsencode(
        queue_home.path
    )


def test_a_second_service_does_not_start(queue_home: QueueHome) -> None:
    with QueueService(queue_home):
        done = run([BIN / "qmail-queued"], env=queue_home.env())
        assert done.returncode == 111
        assert b": unable to lock " in done.stderr and done.stderr.endswith(b": temporary failure\n")
        assert Call(queue_home).finish()[1] == 0


def test_a_service_that_was_killed_is_followed_by_another(queue_home: QueueHome) -> None:
    with QueueService(queue_home) as service:
        service.process.kill()
        service.process.wait()
    with QueueService(queue_home):
        assert Call(queue_home).finish()[1] == 0


def test_root_becomes_the_owner_of_the_queue(shared_home: QueueHome) -> None:
    nobody()
    owner = (shared_home.queue / "mess").stat()
    with QueueService(shared_home) as service:
        assert Call(shared_home).finish()[1] == 0
        status = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
        ids = {line.split()[0]: line.split()[1:] for line in status if line.startswith(("Uid", "Gid", "Groups"))}
        assert ids == {"Uid:": [str(owner.st_uid)] * 4, "Gid:": [str(owner.st_gid)] * 4, "Groups:": [str(owner.st_gid)]}
    assert (shared_home.queue / f"todo/{shared_home.message().number}").stat().st_uid == owner.st_uid


def test_nobody_else_may_run_it(shared_home: QueueHome) -> None:
    uid, gid = nobody()
    (shared_home.path / "run").mkdir()
    os.chown(shared_home.path / "run", uid, gid)
    done = subprocess.run(
        [BIN / "qmail-queued"], env=shared_home.env(), user=uid, group=gid, extra_groups=[], capture_output=True,
        check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == 111
    assert b"unable to become the owner of " in done.stderr


def test_processes_are_used_again(queue_home: QueueHome) -> None:
    with QueueService(queue_home) as service:
        pids = {Call(queue_home).finish()[0] for _ in range(5)}
        assert len(pids) == 1
        assert set(children(service.process.pid)) == pids
    assert {queued.pid for queued in queue_home.messages()} == pids


def test_messages_of_several_clients_are_taken_at_a_time(queue_home: QueueHome) -> None:
    with QueueService(queue_home):
        calls = [Call(queue_home) for _ in range(20)]
        answers = [call.finish() for call in reversed(calls)]
    assert [code for _, code, _ in answers] == [0] * 20
    assert len({pid for pid, _, _ in answers}) == 20
    assert len(queue_home.messages()) == 20


@pytest.mark.parametrize(("addresses", "code"), [(b"", 54), (b"Fa", 54), (b"X", 91), (b"F" + b"x" * 1003, 11)])
def test_errors_are_those_of_qmail_queue(queue_home: QueueHome, addresses: bytes, code: int) -> None:
    with QueueService(queue_home):
        assert Call(queue_home).finish(addresses)[1] == code
        assert Call(queue_home).finish()[1] == 0


def test_a_client_that_goes_away_leaves_nothing(queue_home: QueueHome) -> None:
    with QueueService(queue_home):
        call = Call(queue_home)
        assert eventually(lambda: bool(queue_home.files()))
        os.close(call.connection)
        call.hang_up()
        assert eventually(lambda: not queue_home.files())
        assert Call(queue_home).finish()[1] == 0


def test_a_client_that_hangs_up_is_waited_for_no_longer(queue_home: QueueHome) -> None:
    with QueueService(queue_home):
        call = Call(queue_home)
        assert eventually(lambda: bool(queue_home.files()))
        os.close(call.connection)
        assert eventually(lambda: not queue_home.files())
        with pytest.raises(BrokenPipeError):
            os.write(call.message, BODY)
        assert Call(queue_home).finish()[1] == 0


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_process_that_does_not_give_up_is_killed(queue_home: QueueHome, hangs_up: bool) -> None:
    with QueueService(queue_home, "-t", "86400" if hangs_up else "1") as service:
        call = Call(queue_home)
        assert eventually(lambda: bool(queue_home.files()))
        (pid,) = children(service.process.pid)
        os.kill(pid, signal.SIGSTOP)
        if hangs_up:
            os.close(call.connection)
        else:
            assert injection.answer(call.connection) == (pid, 52, b"")
        assert eventually(lambda: children(service.process.pid) == [])
        assert Call(queue_home).finish()[1] == 0


def special(kind: str, client: socket.socket, home: QueueHome) -> list[int]:
    """Descriptors of a client's, the first of which is to be read from."""
    if kind == "own connection":
        return [os.dup(client.fileno())]
    if kind == "other connection":
        return [connected(home).detach()]
    if kind == "event":
        return [os.eventfd(0)]
    return [*os.openpty()] if kind == "terminal" else [os.open("/", os.O_RDONLY)]


@pytest.mark.parametrize("kind", ["own connection", "other connection", "event", "terminal", "folder"])
@pytest.mark.parametrize("place", [0, 1])
def test_what_would_make_a_process_wait_for_itself_is_refused(queue_home: QueueHome, kind: str, place: int) -> None:
    with QueueService(queue_home), open("/dev/null", "rb") as null:
        with connected(queue_home) as client:
            held = special(kind, client, queue_home)
            passed = [null.fileno(), null.fileno()]
            passed[place] = held[0]
            socket.send_fds(client, [b"Q"], passed)
            assert client.recv(100).split()[1] == b"54"
        for fd in held:
            os.close(fd)
        assert Call(queue_home).finish()[1] == 0
    assert len(queue_home.messages()) == 1


@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "internet socket", "null"])
def test_what_may_be_a_message(queue_home: QueueHome, kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"" if kind == "null" else BODY)
    (tmp_path / "addresses").write_bytes(GOOD)
    with (
        QueueService(queue_home),
        open(tmp_path / "file", "rb") as file,
        open(tmp_path / "addresses", "rb") as addresses,
    ):
        if kind in ("file", "null"):
            message = os.dup(file.fileno()) if kind == "file" else os.open("/dev/null", os.O_RDONLY)
        elif kind == "pipe":
            message, writer = os.pipe()
            os.write(writer, BODY)
            os.close(writer)
        else:
            with socket.create_server(("127.0.0.1", 0)) as server:
                pair = socket.socketpair()
                if kind != "socket":
                    pair = (socket.create_connection(server.getsockname()), server.accept()[0])
            with pair[1]:
                pair[1].sendall(BODY)
            message = pair[0].detach()
        connection = injection.call(os.fsencode(queue_home.path), message, addresses.fileno())
        os.close(message)
        assert injection.answer(connection)[1] == 0
    assert queue_home.message().body == (b"" if kind == "null" else BODY)


def test_a_process_that_was_killed_while_it_waited_costs_no_client_anything(queue_home: QueueHome) -> None:
    with QueueService(queue_home) as service:
        calls = [Call(queue_home) for _ in range(3)]
        assert [call.finish()[1] for call in calls] == [0] * 3
        os.kill(service.process.pid, signal.SIGSTOP)
        pids = children(service.process.pid)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not any(processes.started(pid) for pid in pids))
        call = Call(queue_home)  # in the backlog
        os.kill(service.process.pid, signal.SIGCONT)
        assert call.finish()[1] == 0


def service_of(place: bytes, *words: tuple[bytes, bytes]) -> qmail_queued.Service:
    listening = local.Listening(place + b"/socket", 0o600)
    return qmail_queued.Service(place, {}, qmail_queued.Limits(list(words)), listening)


def test_a_waiting_process_whose_link_is_broken_is_passed_over(tmp_path: Path) -> None:
    service = service_of(os.fsencode(tmp_path))
    links = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    for pid, (ours, _) in enumerate(links):
        worker = qmail_queued.Worker(-pid, ours)
        service.links[ours.fileno()] = worker
        service.poll.register(ours.fileno(), 0)
        service.waiting.append(worker)
    links[1][1].close()  # that of the one who is taken first
    connection, client = socket.socketpair()
    service.assign(connection.detach(), 7)
    assert service.counts == {7: 1} and len(service.links) == 1
    assert links[0][1].recv(10) == (7).to_bytes(4, sys.byteorder)
    service.listening.close()
    client.close()


def test_a_process_whose_service_has_ended_without_hearing_it_ends_too(tmp_path: Path) -> None:
    service = service_of(os.fsencode(tmp_path))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.send(qmail_queued.DONE)
    ours.close()
    pid = os.fork()
    if not pid:
        code = 99
        try:
            code = service.work(theirs)
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    service.listening.close()
    theirs.close()


def test_qmails_own_accounts_get_more_places_than_others() -> None:
    limits = qmail_queued.Limits([])
    assert (limits.total, limits.each, limits.own, limits.others) == (400, 100, 250, 200)
    limits = qmail_queued.Limits([(b"u", b"7")])
    assert (limits.total, limits.each, limits.own, limits.others) == (400, 7, 7, 200)
    limits = qmail_queued.Limits([(b"u", b"300")])
    assert (limits.each, limits.others) == (300, 300)
    limits = qmail_queued.Limits([(b"c", b"1")])
    assert (limits.total, limits.each, limits.own, limits.others) == (1, 1, 1, 1)


def call_as(home: QueueHome, uid: int) -> Call:
    os.setresuid(uid, uid, 0)
    try:
        return Call(home)
    finally:
        os.setresuid(0, 0, 0)


def test_many_users_together_leave_half_of_the_places_to_qmails_own_accounts(shared_home: QueueHome) -> None:
    with QueueService(shared_home, "-c", "4"):
        calls = [call_as(shared_home, uid) for uid in (61001, 61002, 61003, 61004)]
        for call in calls[2:]:
            timed.wait(call.connection, select.POLLIN, 20)
            assert injection.answer(call.connection)[1] == 71
            call.hang_up()
        assert [call.finish()[1] for call in (Call(shared_home), calls[0], calls[1])] == [0, 0, 0]


def test_the_folder_of_the_socket_may_be_the_owners(shared_home: QueueHome) -> None:
    owner = (shared_home.queue / "mess").stat()
    (shared_home.path / "run").mkdir(mode=0o755)
    os.chown(shared_home.path / "run", owner.st_uid, owner.st_gid)
    with QueueService(shared_home) as service:
        assert service.socket.stat().st_uid == owner.st_uid
        assert service.socket.stat().st_mode & 0o777 == 0o666
        assert Call(shared_home).finish()[1] == 0


def test_what_is_no_request_gets_no_answer(queue_home: QueueHome) -> None:
    with QueueService(queue_home):
        for request, count in ((b"Q", 0), (b"Q", 1), (b"X", 2), (b"", 0)):
            with connected(queue_home) as client:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1][:count]).tobytes())
                if request:
                    client.sendmsg([request], [rights] if count else [])
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b""
        assert Call(queue_home).finish()[1] == 0
    assert len(queue_home.messages()) == 1


def test_one_user_has_a_limit_and_is_refused_beyond_it(queue_home: QueueHome) -> None:
    with QueueService(queue_home, "-u", "2"):
        calls = [Call(queue_home), Call(queue_home)]
        assert eventually(lambda: len(queue_home.files()) == 2)
        third = Call(queue_home)
        assert injection.answer(third.connection) == (0, 71, b"")
        third.hang_up()
        assert calls[0].finish()[1] == 0
        assert Call(queue_home).finish()[1] == 0
        assert calls[1].finish()[1] == 0


def test_beyond_the_limit_of_all_a_client_waits(queue_home: QueueHome) -> None:
    with QueueService(queue_home, "-c", "1"):
        first, second = Call(queue_home), Call(queue_home)
        assert eventually(lambda: len(queue_home.files()) == 1)
        assert first.finish()[1] == 0
        assert second.finish()[1] == 0


def test_a_message_may_take_some_time_only(queue_home: QueueHome) -> None:
    with QueueService(queue_home, "-t", "1"):
        call = Call(queue_home)
        started = time.monotonic()
        assert injection.answer(call.connection)[1] == 52
        assert time.monotonic() - started < 15
        call.hang_up()
        assert Call(queue_home).finish()[1] == 0


def test_a_message_that_has_begun_is_queued_after_the_service_has_ended(queue_home: QueueHome) -> None:
    with QueueService(queue_home):
        call = Call(queue_home)
        assert eventually(lambda: bool(queue_home.files()))
    pid, code, _ = call.finish()
    assert code == 0
    assert queue_home.message().pid == pid
    assert eventually(lambda: not processes.started(pid))


def test_a_process_that_is_killed_is_replaced_and_its_client_told(queue_home: QueueHome) -> None:
    with QueueService(queue_home) as service:
        call = Call(queue_home)
        assert eventually(lambda: bool(queue_home.files()))
        (pid,) = children(service.process.pid)
        os.kill(pid, signal.SIGKILL)
        assert injection.answer(call.connection) == (0, 74, b"")
        assert eventually(lambda: children(service.process.pid) == [])
        assert Call(queue_home).finish()[1] == 0


def test_a_descriptor_that_cannot_be_read_is_a_read_error(queue_home: QueueHome) -> None:
    with QueueService(queue_home), open("/dev/null", "wb") as unreadable:
        connection = injection.call(os.fsencode(queue_home.path), unreadable.fileno(), unreadable.fileno())
        assert injection.answer(connection)[1] == 54
    assert queue_home.files() == set()


def test_a_process_holds_nothing_of_the_service(queue_home: QueueHome) -> None:
    """Else a second service could not start while a message of the first goes on."""
    with QueueService(queue_home):
        call = Call(queue_home)
        assert eventually(lambda: bool(queue_home.files()))
    with QueueService(queue_home):
        assert Call(queue_home).finish()[1] == 0
    assert call.finish()[1] == 0


def test_qmail_queue_and_the_service_agree_on_many_messages(shared_home: QueueHome) -> None:
    uid, gid = nobody()
    with QueueService(shared_home):
        for number in range(3):
            done = run_queue(
                [BIN / "qmail-queue"], b"%d" % number, GOOD, shared_home.env(), user=uid, group=gid, extra_groups=[]
            )
            assert done.returncode == 0
    assert [queued.body for queued in shared_home.messages()] == [b"0", b"1", b"2"]


def test_a_process_that_is_used_again_tells_each_user_apart(shared_home: QueueHome) -> None:
    uid, gid = nobody()
    users = [uid, uid, uid + 1, uid]
    with QueueService(shared_home):
        for user in users:
            argv = [BIN / "qmail-queue"]
            env = shared_home.env()
            assert run_queue(argv, b"x\n", GOOD, env, user=user, group=gid, extra_groups=[]).returncode == 0
    queued = shared_home.messages()
    assert len({one.pid for one in queued}) == 1
    uids = [int(one.received.partition(b"invoked by uid ")[2].partition(b")")[0]) for one in queued]
    assert sorted(uids) == sorted(users)


@pytest.mark.parametrize("words", [["-x"], ["-c", "0"], ["-c", "x"], ["-t"], ["word"]])
def test_usage(words: list[str]) -> None:
    done = run([BIN / "qmail-queued", *words])
    assert done.returncode == 100
    assert done.stderr == b"qmail-queued: usage: qmail-queued [ -c total ] [ -u each ] [ -t seconds ]\n"
