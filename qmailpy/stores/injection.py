"""injection - how a program gives a message to the queue (qmail.c of the originals).

Which way it goes is decided by open_injection, in this order:

    QMAILQUEUE set, not empty         that program: a process of its own, with the message on descriptor 0, the envelope
                                      on 1, and 6 to say why not
    HOME/bin/qmail-queue, not ours    the same
    this process may write the queue  here, by stores.queue: no other process. But root, whose queue is somebody else's,
                                      has a process that becomes that user and writes there
    all others                        the queue service, qmail-queued, whose socket is HOME/run/qmail-queued: no process
                                      of ours. It gets the reading ends of two pipes, and does the rest in our name

The interface of the service: a connection is one message. The caller sends one byte and, with SCM_RIGHTS, two
descriptors, as qmail-queue has them on 0 and 1. Once the message is queued or lost, the service answers with
`PID CODE TEXT` and closes: two decimal numbers, and what qmail-queue might say on descriptor 6, usually nothing. If
the caller hangs up first, the message is not queued.

The service knows the caller's effective uid: that is the real one's while we connect, if there is a way back.

From open_injection on, SIGPIPE is ignored in this process: another one may end before it has read all.
"""

import _socket
import os
import stat
import struct

from qmailpy.formats import envelope, report
from qmailpy.stores import queue
from qmailpy.unix import fds, ids, local, signals, timed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Env = dict[bytes, bytes]

QMAILQUEUE = b"QMAILQUEUE"
PROGRAM = b"bin/qmail-queue"
SOCKET = b"run/qmail-queued"
REQUEST = b"Q"

SAID_FD = 6
BLOCK = 65536  # bytes that are collected for one write to a pipe
LAUNCHER_SIZE = 4096  # bytes; a longer file is nobody's launcher
LAUNCHER_END = b'start("qmail-queue", here)'
DESCRIPTORS = struct.Struct("ii")
ANSWER_SIZE = 512  # bytes
CONNECT_S = 60  # how long a service may leave us in its backlog
ANSWER_S = queue.DEATH + 60  # it has given up by then

POLLIN = 1

NULL_DEVICE = os.makedev(1, 3)


class Injection:
    """A message on its way, begun by open_injection. qp: the process that queues it, known after close at the latest.

    Whoever ends without close calls fail first: then nothing is left behind. Nothing is queued without close.
    """

    __slots__ = ("_code", "qp")

    def __init__(self) -> None:
        self.qp = 0
        self._code = report.QUEUED  # why it cannot be queued, by what is known here

    def write(self, data: bytes) -> None:
        """Part of the message. Never raises: what fails shows at close."""
        raise NotImplementedError

    def fail(self) -> None:
        """The message is not to be queued: close says a temporary error."""
        raise NotImplementedError

    def close(self, sender: bytes, recipients: "Iterable[bytes]") -> bytes:
        """b"" once the message is safe; else why it is not queued, in report's words, behind D for ever or Z for now.
        Never raises. Called once."""
        raise NotImplementedError


class Direct(Injection):
    """By this process itself."""

    __slots__ = ("_draft",)

    def __init__(self, home: bytes, known: queue.Known | None) -> None:
        super().__init__()
        self.qp = os.getpid()
        self._draft: queue.Draft | None = None
        try:
            self._draft = queue.Draft(home, os.getuid(), self.qp, known)
        except queue.Trouble as e:
            self._code = e.code

    def write(self, data: bytes) -> None:
        if self._draft is not None:
            try:
                self._draft.write(data)
            except queue.Trouble as e:
                self._end(e.code)
            except MemoryError:
                self._draft.abandon()
                self._end(report.NO_MEMORY)

    def fail(self) -> None:
        if self._draft is not None:
            self._draft.abandon()
            self._end(report.READ_ERROR)

    def _end(self, code: int) -> None:
        if self._draft is not None:
            self._draft.release()
            self._draft = None
        self._code = code

    def close(self, sender: bytes, recipients: "Iterable[bytes]") -> bytes:
        if self._draft is not None:
            try:
                self._finish(self._draft, sender, recipients)
            except queue.Trouble as e:
                self._code = e.code
            except envelope.EnvelopeError as e:
                self._draft.abandon()
                self._code = e.code
            except MemoryError:
                self._draft.abandon()
                self._code = report.NO_MEMORY
            self._end(self._code)
        return report.text(self._code)

    def _finish(self, draft: queue.Draft, sender: bytes, recipients: "Iterable[bytes]") -> None:
        draft.begin_envelope()
        parser = envelope.Parser()
        for block in envelope.blocks(sender, recipients):
            draft.add(parser.feed(block))
        draft.commit()


class Piped(Injection):
    """By another process, through two pipes."""

    __slots__ = ("_addresses", "_message", "_parts", "_size")

    def __init__(self) -> None:
        super().__init__()
        self._message = self._addresses = -1
        self._parts: list[bytes] = []
        self._size = 0

    def _open(self) -> tuple[int, int]:
        """Make the pipes; returns the ends that are the other process's. Raises OSError."""
        message, self._message = os.pipe()
        try:
            addresses, self._addresses = os.pipe()
        except OSError:
            os.close(message)
            self._close_message()
            raise
        signals.ignore(signals.PIPE)
        return message, addresses

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        if not self._code:
            self._send(self._message, b"".join(self._parts))
        self._parts.clear()
        self._size = 0

    def _send(self, fd: int, data: bytes) -> None:
        try:
            fds.write_all(fd, data)
        except OSError:
            self._code = report.READ_ERROR

    def fail(self) -> None:
        self._code = report.READ_ERROR

    def _close_message(self) -> None:
        if self._message >= 0:
            os.close(self._message)
        self._message = -1

    def _close_addresses(self) -> None:
        if self._addresses >= 0:
            os.close(self._addresses)
        self._addresses = -1

    def close(self, sender: bytes, recipients: "Iterable[bytes]") -> bytes:
        self._flush()
        self._close_message()
        for block in envelope.blocks(sender, recipients):
            if not self._code:
                self._send(self._addresses, block)
        self._close_addresses()
        said = self._outcome()
        if not said and self._code:  # it has queued what it had, and we had more
            return report.text(self._code)
        return said

    def _outcome(self) -> bytes:
        """What the other process says of the end."""
        raise NotImplementedError


class Forked(Piped):
    """By a process that becomes the owner of the queue, for root."""

    __slots__ = ()

    def __init__(self, home: bytes, owner: tuple[int, int], spawn: "Callable[[Callable[[], object]], int]") -> None:
        super().__init__()
        ends = self._open()
        uid = os.getuid()
        try:
            self.qp = spawn(lambda: _write_as(owner, home, uid, *ends))
        except OSError:
            self._close_message()
            self._close_addresses()
            raise
        finally:
            for fd in ends:
                os.close(fd)

    def _outcome(self) -> bytes:
        return _status_text(self.qp, b"")


def _write_as(owner: tuple[int, int], home: bytes, uid: int, message: int, addresses: int) -> int:
    """In a process of its own, which keeps nothing that its new owner could use."""
    signals.forget_handlers()
    fds.close_others(2, message, addresses)
    try:
        ids.drop(*owner)
    except OSError:
        return report.NO_QUEUE

    def act() -> int:
        queue.enqueue(home, uid, os.getpid(), message, addresses)
        return report.QUEUED

    return queue.code_of(act, queue.DEATH)


def _status_text(pid: int, said: bytes) -> bytes:
    """Wait for a process."""
    try:
        status = os.waitpid(pid, 0)[1]
    except OSError:
        return report.NOT_WAITED
    return report.status_text(status, said)


class Program(Piped):
    """By a program: qmail-queue, or what QMAILQUEUE names."""

    __slots__ = ("_said",)

    def __init__(
        self,
        home: bytes,
        program: bytes,
        env: "Env",
        spawn: "Callable[[Callable[[], object]], int]",
        become: "Callable[[list[bytes], Env], object]",
    ) -> None:
        super().__init__()
        ends = list(self._open())
        self._said = -1
        try:
            self._said, saying = os.pipe()
            ends.append(saying)
            self.qp = spawn(lambda: self._child(home, program, env, ends, become))
        except OSError:
            for fd in (self._said, self._message, self._addresses):
                if fd >= 0:
                    os.close(fd)
            raise
        finally:
            for fd in ends:
                os.close(fd)

    def _child(
        self,
        home: bytes,
        program: bytes,
        env: "Env",
        ends: list[int],
        become: "Callable[[list[bytes], Env], object]",
    ) -> object:
        """Become the program. argv[0] is what QMAILQUEUE says, and nothing is looked for along PATH."""
        for fd in (self._message, self._addresses, self._said):
            os.close(fd)
        try:
            for end, target in zip(_above(ends, SAID_FD), (0, 1, SAID_FD), strict=True):
                fds.move(end, target)
        except OSError:
            return report.NOT_RUN
        try:
            os.chdir(home)
        except OSError:
            return report.NO_HOME
        step = become([program], env)
        step.file = program if b"/" in program else b"./" + program  # type: ignore[attr-defined]
        step.who = b""  # type: ignore[attr-defined]  # the exit code says it
        step.code = report.NOT_RUN  # type: ignore[attr-defined]
        return step

    def _outcome(self) -> bytes:
        try:
            said = fds.read_all(self._said, report.OWN_SIZE)
        except OSError:
            said = b""
        os.close(self._said)
        return _status_text(self.qp, said)


def _above(ends: list[int], lowest: int) -> list[int]:
    """Copies of descriptors with numbers above lowest: moving one then never overwrites another. Raises OSError."""
    import fcntl

    return [fd if fd > lowest else fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest + 1) for fd in ends]


class Service(Piped):
    """By the queue service."""

    __slots__ = ("_connection",)

    def __init__(self, home: bytes) -> None:
        super().__init__()
        ends = self._open()
        self._connection = -1
        try:
            self._connection = call(home, *ends)
        except queue.Trouble as e:
            self._code = e.code
        finally:
            for fd in ends:
                os.close(fd)

    def _outcome(self) -> bytes:
        if self._connection < 0:
            return report.text(self._code)
        self.qp, code, said = answer(self._connection)
        return report.text(code, said)


def call(home: bytes, message: int, addresses: int) -> int:
    """Give the service of a home two descriptors to queue from; returns the connection on which the answer will come.
    Raises Trouble."""
    try:
        connection = _connect(home + b"/" + SOCKET)
    except OSError:
        raise queue.Trouble(report.NO_QUEUE if os.path.isdir(home) else report.NO_HOME)
    try:
        _pass(connection, message, addresses)
    except (BrokenPipeError, ConnectionResetError):  # the answer is there before the question
        pass
    except OSError:
        os.close(connection)
        raise queue.Trouble(report.NO_COMMUNICATION)
    return connection


def _connect(path: bytes) -> int:
    """Raises OSError."""
    real, effective, saved = os.getresuid()
    if real == effective or saved != effective:
        return local.connect(path, CONNECT_S)
    os.setresuid(-1, real, -1)
    try:
        return local.connect(path, CONNECT_S)
    finally:
        os.setresuid(-1, effective, -1)


def _pass(connection: int, message: int, addresses: int) -> None:
    """Raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, connection)
    try:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, DESCRIPTORS.pack(message, addresses))
        sock.sendmsg([REQUEST], [rights], _socket.MSG_NOSIGNAL)
    finally:
        sock.detach()


def receive(connection: int) -> tuple[int, int]:
    """The service's side: message and addresses of a request. Raises OSError, ValueError for what is none, and Trouble
    for descriptors from which nothing is read."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, connection)
    try:
        text, passed, _, _ = sock.recvmsg(1, _socket.CMSG_SPACE(DESCRIPTORS.size), _socket.MSG_CMSG_CLOEXEC)
    finally:
        sock.detach()
    for level, kind, data in passed:
        if (level, kind, len(data)) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, DESCRIPTORS.size) and text == REQUEST:
            message, addresses = DESCRIPTORS.unpack(data)
            if _readable(message, connection) and _readable(addresses, connection):
                return message, addresses
            os.close(message)
            os.close(addresses)
            raise queue.Trouble(report.READ_ERROR)
    raise ValueError


def _readable(fd: int, connection: int) -> bool:
    """Whether the service may read from a client's descriptor: a file, a pipe, a socket, or the null device, which
    Python's and the shell's empty input is. Others may wait for what is the reader's own, such as its signals."""
    status = os.fstat(fd)
    if stat.S_ISSOCK(status.st_mode):
        return not local.is_other_side(fd, connection)
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == NULL_DEVICE
    return stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)


def reply(connection: int, pid: int, code: int) -> None:
    """The service's answer, and its end, whoever else holds the connection. Never fails; a client may be gone."""
    try:
        local.send(connection, b"%d %d " % (pid, code))
        local.end(connection)
    except OSError:
        pass


def answer(connection: int) -> tuple[int, int, bytes]:
    """(pid, exit code, text) from the service; waits for it, and closes the connection."""
    text = b""
    try:
        while len(text) < ANSWER_SIZE:
            timed.wait(connection, POLLIN, ANSWER_S)
            part = os.read(connection, ANSWER_SIZE - len(text))
            if not part:
                break
            text += part
    except OSError:
        pass
    finally:
        os.close(connection)
    words = text.split(b" ", 2)
    if len(words) < 3 or not words[0].isdigit() or not words[1].isdigit():
        return 0, report.NO_COMMUNICATION, b""
    return int(words[0]), int(words[1]), words[2]


def _others(home: bytes) -> bool:
    """Whether HOME/bin/qmail-queue is another's program. None, or a launcher of this toolkit, means our own."""
    try:
        fd = os.open(home + b"/" + PROGRAM, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:  # the original is set-uid and not for everybody to read
        return True
    try:
        return not os.read(fd, LAUNCHER_SIZE).rstrip().endswith(LAUNCHER_END)
    except OSError:
        return True
    finally:
        os.close(fd)


def open_injection(
    home: bytes,
    env: "Env",
    spawn: "Callable[[Callable[[], object]], int]",
    become: "Callable[[list[bytes], Env], object]",
    known: queue.Known | None = None,
) -> Injection:
    """Begin a message. Raises OSError where there is no pipe or process for it: `qqt failure`, in the words of the
    originals. known: the same for all messages of a connection.

    spawn(child) forks, and child() returns what the child becomes; become(argv, env) makes that: chain.spawn and Exec.
    """
    program = env.get(QMAILQUEUE)
    if program or _others(home):
        return Program(home, program or PROGRAM, env, spawn, become)
    if queue.may_write(home):
        owner = queue.to_become(home)
        return Direct(home, known) if owner is None else Forked(home, owner, spawn)
    return Service(home)
