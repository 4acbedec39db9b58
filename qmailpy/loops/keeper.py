"""keeper - the one process of a server that has the keys of its certificates. It is forked at the start, before the
server gives up its privileges; for each connection that is to be under TLS it forks a process that does that and
nothing else (loops/tls).

    server          accepts; never has a key
      |  fork       at the start
      +-- keeper    reads keys and certificates, looks whether they have changed
      |     |  fork, once TLS is wanted
      |     +-- tls       network <-> local socket
      |  fork       for each connection
      +-- program   local socket on 0 and 1

The server's process of a connection sends three descriptors down a line that all share: the network, one side of a
local socket, and one side of a control socket (UCSPI-TLS). Those wait in the keeper until a byte comes on the control
socket; its end without a byte means that no TLS is wanted. The keeper ends when nobody can ask any more, and nothing
waits.
"""

import _socket
import fcntl
import os
import select
import struct
import time
from _collections_abc import Callable

from qmailpy import strerr
from qmailpy.formats import sslenviron, ucspitls
from qmailpy.loops.connect import Deadline
from qmailpy.unix import fds, processes, timed

FD = struct.Struct("i")
THREE = struct.Struct("3i")
TEXT = 1024  # bytes of a request beside its descriptors: who the client is
DEMAND = b"!"  # in such a text: the client has to show a certificate
READY = b"+"

PROGRAMS_FROM = 20  # numbers of what a program is given: above those that chains give a meaning to
PROGRAMS_FROM_IF_FEW = 10

AHEAD = 1 << 18  # bytes that a program may be ahead of TLS: with the usual 200 kB the two wait for each other

LATE_S = 10  # that an answer may take beyond the handshake

SPARES = 2  # processes that wait for a connection, whoever has it
KEPT, KEPT_S = 20, 10  # those that wait for another one of the same client, at most, and how long
BUSY_MS, ENDING_MS, FULL_MS = 10_000, 500, 50  # after which to look who has ended

PRINTABLE = bytes(ch if 32 <= ch <= 126 else ord("?") for ch in range(256))


class Failed(Exception):
    """There is no TLS for this connection. error: why, if it is not the handshake, of which the keeper tells."""

    def __init__(self, error: OSError | None = None) -> None:
        super().__init__()
        self.error = error


class Keeper:
    """The server's side. pid: of the keeper's process."""

    __slots__ = ("_line", "fd", "pid")

    def __init__(self, line: "_socket.socket", pid: int) -> None:
        self._line = line
        self.fd = line.fileno()
        self.pid = pid

    def begin(self, network: int, client: bytes, timeout_s: int) -> tuple[int, dict[bytes, bytes]]:
        """TLS on a connection, now: the local socket that stands for it, and the variables that describe it. network is
        closed. client: its address; and, behind a blank, if it has to show a certificate, !, and the name that this has
        to be for, if any. Raises Failed."""
        try:
            local, control = self._ask(network, client, ucspitls.TELL)
        except OSError as e:
            raise Failed(e)
        try:
            return local, answer(control, timeout_s)
        except BaseException:
            os.close(local)
            raise
        finally:
            os.close(control)

    def offer(self, network: int, client: bytes) -> ucspitls.Descriptors:
        """What a program needs to begin TLS itself. Raises Failed."""
        try:
            local, control = self._ask(fcntl.fcntl(network, fcntl.F_DUPFD_CLOEXEC, 3), client, b"")
            given = _given(local)
            return ucspitls.Descriptors(_given(control), given, given)
        except OSError as e:
            raise Failed(e)

    def _ask(self, network: int, client: bytes, command: bytes) -> tuple[int, int]:
        """Our sides of local and control socket; command: what the keeper finds on the latter. network is closed."""
        local, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        local.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, AHEAD)
        try:
            control, their_control = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
            with_it = THREE.pack(network, theirs.fileno(), their_control.fileno())
            if command:
                control.send(command)
            self._line.sendmsg([client[:TEXT]], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, with_it)])
        finally:
            os.close(network)
        for sock in (theirs, their_control):
            sock.close()
        return local.detach(), control.detach()


class Rehearsed(Keeper):
    """One that has answered before it is asked, and needs no process."""

    __slots__ = ("_other",)

    def __init__(self) -> None:
        line, self._other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        super().__init__(line, 0)

    def _ask(self, network: int, client: bytes, command: bytes) -> tuple[int, int]:
        ours = super()._ask(network, client, command)
        passed = self._other.recvmsg(TEXT, _socket.CMSG_SPACE(THREE.size))[1]
        descriptors = THREE.unpack(passed[0][2])
        os.write(descriptors[2], ucspitls.build(sslenviron.connection(b"TLSv1.3", b"AES", 256, b"", b"", b"")))
        for fd in descriptors:
            os.close(fd)
        return ours


def _given(fd: int) -> int:
    """A descriptor for the next program, under a number that is in nobody's way."""
    for lowest in (PROGRAMS_FROM, PROGRAMS_FROM_IF_FEW):
        try:
            moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError as e:
            error = e
            continue
        os.close(fd)
        fds.share(moved)
        return moved
    raise error


def answer(control: int, timeout_s: int) -> dict[bytes, bytes]:
    """What the process that does TLS says of it, on the control socket. Raises Failed, without an error if it does not
    say anything."""
    found = ucspitls.Answer()
    try:
        deadline = Deadline(timeout_s + LATE_S)
        while found.variables is None:
            timed.wait(control, select.POLLIN, deadline.left())
            block = os.read(control, 65536)
            if not block:
                raise Failed
            found.feed(block)
    except ConnectionResetError:
        raise Failed
    except OSError as e:
        raise Failed(e)
    except ucspitls.Malformed:
        raise Failed
    return found.variables


def start(spawn: Callable[[Callable[[], int]], int], keep: "Callable[[_socket.socket], int]") -> Keeper:
    """Fork the keeper: keep(line) loads what it needs and then holds the line (below), or says why not and returns an
    exit code. Raises Failed: without an error if it has said so."""
    try:
        line, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)

        def child() -> int:
            line.close()
            return keep(theirs)

        pid = spawn(child)
        theirs.close()
        if line.recv(1) != READY:
            raise Failed
    except OSError as e:
        raise Failed(e)
    return Keeper(line, pid)


# The keeper's own side


class Waiting:
    """A connection that may come under TLS."""

    __slots__ = ("client", "control", "local", "network")

    def __init__(self, network: int, local: int, control: int, client: bytes) -> None:
        self.network = network
        self.local = local
        self.control = control
        self.client = client

    def close(self) -> None:
        for fd in (self.network, self.local, self.control):
            os.close(fd)


class Used:
    """A process that has had a connection, of this client, or has it still."""

    __slots__ = ("client", "line", "pid", "until")

    def __init__(self, pid: int, line: "_socket.socket", client: bytes) -> None:
        self.pid = pid
        self.line = line
        self.client = client
        self.until = 0.0  # when it is no longer waited for that he comes again; seconds of time.monotonic


class Hold:
    """The keeper at work.

    line: where requests come from; limit: how many processes may do TLS at a time; spawn(child) forks; refresh() sees
    to the certificates, and says whether processes that have been forked before are out of date; serve(reports, line)
    is such a process (loops/tls): it waits for one connection, and serves that; complain(text) writes to the log.

    SPARES processes are forked ahead of time. again: one that says so on its line can have another connection, of the
    same client and of no other: what he might have made of the process he can do to himself alone. KEPT of them may
    wait for KEPT_S. Who has ended is looked for whenever something else is to be done, and now and then: a signal for
    each would cost more than it tells."""

    def __init__(
        self,
        line: "_socket.socket",
        limit: int,
        spawn: Callable[[Callable[[], int]], int],
        refresh: Callable[[], bool],
        serve: Callable[[int, int], int],
        complain: Callable[[bytes], None],
        again: bool = False,
    ) -> None:
        """Raises OSError."""
        self._again = again
        self._line = line
        self._limit = limit
        self._spawn = spawn
        self._refresh = refresh
        self._serve = serve
        self._complain = complain
        self._waiting: dict[int, Waiting] = {}  # by the number of the control socket
        self._spares: dict[int, _socket.socket] = {}  # pid -> the line to it
        self._lost = False  # a spare has ended by itself: no new one before it is needed
        self._working: dict[int, Used] = {}  # by the number of the line: those that may serve again
        self._kept: dict[int, Used] = {}  # by pid: those that can, the longest kept first
        self._busy = 0  # processes that have a connection
        self._asked = True  # whether anybody can ask still
        self._reports, self._reporting = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        # At the limit nobody begins TLS, and of those who wait only the end is looked for.
        self._free, self._full = select.poll(), select.poll()
        for poller in self._free, self._full:
            poller.register(self._reports, select.POLLIN)
            poller.register(line, select.POLLIN)

    def run(self) -> int:
        """Until nobody asks and nobody waits."""
        self._line.send(READY)
        line, reports = self._line.fileno(), self._reports.fileno()
        while self._asked or self._waiting or self._busy:
            full = self._busy >= self._limit
            short = len(self._spares) < SPARES and not self._lost
            patience_ms = (FULL_MS if full else BUSY_MS if self._asked else ENDING_MS) if self._busy else None
            if self._kept and patience_ms is None:
                patience_ms = KEPT_S * 1000
            events = (self._full if full else self._free).poll(0 if short else patience_ms)
            if short and not events:  # who asks comes first
                self._fork_spare()
            for fd, event in events:
                if fd == line:
                    self._receive(event)
                elif fd == reports:
                    self._complain(self._reports.recv(4096).translate(PRINTABLE))
                elif fd in self._waiting:
                    self._hear(self._waiting[fd], event)
                elif fd in self._working:
                    self._take_back(fd)
            if self._kept:
                self._let_go(KEPT)
            if self._busy:
                self._reap()
        return 0

    def _receive(self, event: int) -> None:
        """A request, with its descriptors; without them this process has no room for more. An empty one that is not the
        end of the line is nobody's who has a connection: it is passed over."""
        client, passed, _, _ = self._line.recvmsg(TEXT, _socket.CMSG_SPACE(THREE.size), _socket.MSG_CMSG_CLOEXEC)
        descriptors = [fd for _, _, data in passed for (fd,) in FD.iter_unpack(data[: len(data) // FD.size * FD.size])]
        if not client and not event & select.POLLHUP:
            for fd in descriptors:
                os.close(fd)
            return
        if not client:
            self._asked = False
            for poller in self._free, self._full:
                poller.unregister(self._line)
            return
        if len(descriptors) != 3:
            for fd in descriptors:
                os.close(fd)
            self._complain(b"process cannot open more files")
            return
        network, local, control = descriptors
        waiting = Waiting(network, local, control, client)
        self._waiting[control] = waiting
        self._free.register(control, select.POLLIN)
        self._full.register(control, 0)
        self._hear(waiting, 0)

    def _hear(self, waiting: Waiting, event: int) -> None:
        """What has come on a control socket, if something has."""
        if self._busy >= self._limit and not event & select.POLLHUP:
            return
        control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, waiting.control)
        try:
            command = control.recv(1, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            command = b""
        finally:
            control.detach()
        for poller in self._free, self._full:
            poller.unregister(waiting.control)
        del self._waiting[waiting.control]
        if command in (ucspitls.START, ucspitls.TELL):
            self._begin(waiting, command)
        waiting.close()

    def _begin(self, waiting: Waiting, command: bytes) -> None:
        if self._refresh():
            for line in self._spares.values():
                line.close()
            self._busy += len(self._spares)  # until they have been reaped
            self._spares = {}
            self._let_go(0)
            for fd in list(self._working):
                self._stop_waiting_for(fd).line.close()
        three = THREE.pack(waiting.network, waiting.local, waiting.control)
        while (used := self._process(waiting.client)) is not None:
            self._busy += 1
            try:
                used.line.sendmsg([command + waiting.client], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, three)])
            except OSError:  # it has been killed
                used.line.close()
                continue
            if self._again:
                self._working[used.line.fileno()] = used
                for poller in self._free, self._full:
                    poller.register(used.line, select.POLLIN)
            else:
                used.line.close()
            return

    def _process(self, client: bytes) -> Used | None:
        """One that this client has had before, or a new one."""
        for used in reversed(self._kept.values()):
            if used.client == client:
                return self._kept.pop(used.pid)
        if self._spares or self._fork_spare():
            return Used(*self._spares.popitem(), client)
        return None

    def _stop_waiting_for(self, fd: int) -> Used:
        for poller in self._free, self._full:
            poller.unregister(fd)
        return self._working.pop(fd)

    def _take_back(self, fd: int) -> None:
        """A process is done with its connection, or has ended."""
        used = self._stop_waiting_for(fd)
        try:
            done = used.line.recv(1, _socket.MSG_DONTWAIT)
        except OSError:
            done = b""
        if done:
            used.until = time.monotonic() + KEPT_S
            self._kept[used.pid] = used
            self._busy -= 1
        else:
            used.line.close()

    def _let_go(self, most: int) -> None:
        """Of those that are kept, whoever has waited long enough, and the oldest above this number."""
        now = time.monotonic()
        for used in list(self._kept.values()):
            if len(self._kept) <= most and used.until > now:
                return
            del self._kept[used.pid]
            used.line.close()
            self._busy += 1  # until it has been reaped

    def _fork_spare(self) -> bool:
        self._lost = True
        try:
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            try:
                pid = self._spawn(lambda: self._serve(self._reporting.fileno(), theirs.fileno()))
            finally:
                theirs.close()
        except OSError as e:
            self._complain(b"unable to fork: " + strerr.reason(e))
            return False
        self._spares[pid] = ours
        self._lost = False
        return True

    def _reap(self) -> None:
        for pid, status in processes.ended():
            if pid in self._spares:
                self._spares.pop(pid).close()
                self._lost = True
            elif pid in self._kept:
                self._kept.pop(pid).line.close()
            else:
                self._busy -= 1
            if os.WIFSIGNALED(status):
                self._complain(b"TLS process killed by signal %d" % os.WTERMSIG(status))
