"""smtp - messages per second into a durable queue, by SMTP, and the memory that a large one takes."""

import _socket
import fcntl
import importlib.util
import os
import pwd
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests import postfix
from tests.bench import load, processes, table
from tests.bench.chains import BIN, START_S, Server, debian, environment, tcpserver_of
from tests.bench.home import Home, message
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.bench.measures import Bench

SMALL, LARGE = 2000, 25_000_000  # bytes of a message

# Mail is taken for everybody; nobody waits for others.
OPTIONS = ["-1", "-RHD", "-l0", "-c", "200"]
CLIENTS = 16

POSTFIX = """\
smtpd_client_restrictions = check_client_access static:HOLD
message_size_limit = 100000000
"""
SENDER, RECIPIENT = b"sender@bench.example", b"recipient@bench.example"


class Peer(NamedTuple):
    """A server with a queue. processes: those that serve, with their children; taken: how many messages are queued."""

    server: Server
    processes: tuple[int, ...]
    taken: Callable[[], int]
    empty: Callable[[], None]


def conversation(messages: int, size: int, recipient: bytes = RECIPIENT) -> load.Conversation:
    """HELO, and so many messages in one session: each request and how the reply begins."""
    return _conversation(_mail([recipient], size) * messages)


def one_to(recipients: list[bytes], size: int) -> load.Conversation:
    """HELO, and one message."""
    return _conversation(_mail(recipients, size))


def _mail(recipients: list[bytes], size: int) -> load.Conversation:
    text = message(size).replace(b"\n", b"\r\n") + b".\r\n"
    rcpt = [(b"RCPT TO:<%s>\r\n" % recipient, b"250") for recipient in recipients]
    return [(b"MAIL FROM:<%s>\r\n" % SENDER, b"250"), *rcpt, (b"DATA\r\n", b"354"), (text, b"250")]


def _conversation(mail: load.Conversation) -> load.Conversation:
    return [(b"HELO client.example\r\n", b"250"), *mail, (b"QUIT\r\n", b"221")]


def _expect(sock: "_socket.socket", buffer: bytearray, code: bytes) -> None:
    """Read one reply of one line. Raises Trouble."""
    got = sock.recv_into(buffer)
    while got and buffer[got - 1] != 10:
        more = sock.recv_into(memoryview(buffer)[got:])
        if not more:
            break
        got += more
    if buffer[:3] != code or not got:
        raise load.Trouble(bytes(buffer[: min(got, 200)]).decode("ascii", "replace").strip() or "end of file")


def session(port: int, buffer: bytearray, requests: load.Conversation) -> None:
    """One connection, each request after the reply to the one before."""
    sock = load.connect(port)
    _expect(sock, buffer, b"220")
    for request, code in requests:
        sock.sendall(request)
        _expect(sock, buffer, code)
    if sock.recv_into(buffer):
        raise load.Trouble("more after the reply to QUIT")
    sock.close()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def remove(*folders: Path) -> None:
    for folder in folders:
        for path in files(folder):
            path.unlink()


def _queue_peer(server: Server, queue: Path, *services: int) -> Peer:
    folders = [queue / name for name in ("todo", "intd", "mess", "pid")]
    return Peer(server, (server.process.pid, *services), lambda: len(files(queue / "todo")), partial(remove, *folders))


def ids_of(uid: int) -> list[str]:
    """Options of tcpserver that make it run as uid, if we are root."""
    return ["-u", str(uid), "-g", str(uid)] if os.getuid() == 0 else []


def folder(home: Home, name: str) -> Path:
    """A new one that everybody may enter."""
    path = Path(tempfile.mkdtemp(dir=home.work, prefix=name))
    path.chmod(0o755)
    return path


def _mail_home(home: Home, name: str) -> Path:
    """A home whose queue belongs to the benchmark's account."""
    path = folder(home, name.replace(", ", "-"))
    (path / "control").mkdir()
    (path / "queue").mkdir()
    (path / "control" / "me").write_text("bench.example\n")
    os.chown(path / "queue", home.uid, home.gid)
    root = os.getuid() == 0
    done = subprocess.run(
        [BIN / "qmail-make-queue"],
        env=environment(QMAILHOME=str(path)),
        stdout=subprocess.DEVNULL,
        check=False,
        user=home.uid if root else None,
        group=home.gid if root else None,
        extra_groups=[] if root else None,
    )
    if done.returncode:
        raise load.Trouble("no queue")
    return path


def _ours(name: str, uid: int | None, home: Home, stack: ExitStack) -> Peer:
    """uid: who runs qmail-smtpd; None: the owner of the queue."""
    path = _mail_home(home, name)
    env = environment(QMAILHOME=str(path), RELAYCLIENT="")
    services = [] if uid is None else [start_queued(path, env, stack)]
    argv = [str(BIN / "tcpserver"), *OPTIONS, *ids_of(home.uid if uid is None else uid), "127.0.0.1", "0"]
    server = stack.enter_context(tcpserver_of([*argv, "qmail-smtpd"], home, env))
    return _queue_peer(server, path / "queue", *services)


def start_queued(path: Path, env: dict[str, str], stack: ExitStack) -> int:
    """The queue service; its pid. Raises Trouble."""
    process = subprocess.Popen([BIN / "qmail-queued"], env=env, stdin=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.send_signal, signal.SIGTERM)
    deadline = time.monotonic() + START_S
    while not (path / "run" / "qmail-queued").exists():
        if time.monotonic() > deadline or process.poll() is not None:
            raise load.Trouble("qmail-queued does not start")
        time.sleep(0.02)
    return process.pid


def _original(tcpserver: str, folder: str, home: Home, stack: ExitStack) -> Peer:
    """The home of the originals is compiled in: it is the folder above theirs, and what is in its queue is lost."""
    queue = Path(folder).parent / "queue"
    if not (queue.parent / "control" / "me").exists():
        raise load.Trouble(f"{queue.parent}/control/me is missing")
    if files(queue / "mess"):
        raise load.Trouble(f"{queue} is not empty")
    argv = [tcpserver, *OPTIONS, *ids_of(pwd.getpwnam("nobody").pw_uid), "127.0.0.1", "0", f"{folder}/qmail-smtpd"]
    peer = _queue_peer(stack.enter_context(tcpserver_of(argv, home, environment(RELAYCLIENT=""))), queue)
    stack.callback(peer.empty)
    return peer


def _postfix(home: Home, stack: ExitStack) -> Peer:
    port = free_port()
    try:
        running = stack.enter_context(postfix.Postfix(folder(home, "postfix"), POSTFIX, port))
    except postfix.Trouble as e:
        raise load.Trouble(str(e))
    wait_for(port)
    return Peer(
        Server(running.process, port),
        (running.process.pid,),
        lambda: len(running.files("hold")),
        partial(running.empty, "hold"),
    )


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            load.connect(port).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _aiosmtpd(home: Home, stack: ExitStack) -> Peer:
    maildir = folder(home, "aiosmtpd")
    argv = [sys.executable, "-m", "tests.bench.maildirserver", str(maildir)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        port = process.stdout.readline()
    if not port.strip().isdigit():
        process.wait()
        raise load.Trouble("it printed no port")
    server = stack.enter_context(Server(process, int(port)))
    return Peer(server, (process.pid,), lambda: len(files(maildir / "new")), partial(remove, maildir))


def _makers() -> dict[str, Callable[[Home, ExitStack], Peer]]:
    """Those that can run here; a line is printed for each that cannot."""
    makers: dict[str, Callable[[Home, ExitStack], Peer]] = {"ours": partial(_ours, "ours", None)}
    if os.getuid() == 0:
        makers["ours, service"] = partial(_ours, "ours, service", pwd.getpwnam("nobody").pw_uid)
    else:
        print("ours, service is left out: it takes root", flush=True)
    tcpserver, folder = debian("tcpserver"), os.environ.get("QMAIL_BIN")
    if tcpserver and folder and Path(folder, "qmail-queue").exists():
        makers["C"] = partial(_original, tcpserver, folder)
    else:
        print("C is left out: ucspi-tcp, and QMAIL_BIN, which names no folder with qmail-queue", flush=True)
    if postfix.is_there():
        makers["postfix"] = _postfix
    else:
        print("postfix is left out: apt-get install postfix; and it takes root", flush=True)
    if importlib.util.find_spec("aiosmtpd"):
        makers["aiosmtpd"] = _aiosmtpd
    else:
        print("aiosmtpd is left out: pip install aiosmtpd", flush=True)
    return makers


def _started(bench: "Bench", stack: ExitStack, names: tuple[str, ...] | None = None) -> dict[str, Peer]:
    """Those that take ten messages and have ten messages then."""
    peers = {}
    buffer = bytearray(load.BUFFER)
    for name, make in _makers().items():
        if names is not None and name not in names:
            continue
        try:
            peer = make(bench.home, stack)
            peer.empty()
            session(peer.server.port, buffer, conversation(10, SMALL))
            if peer.taken() != 10:
                raise load.Trouble(f"of ten messages it has {peer.taken()}")
            peer.empty()
            peers[name] = peer
        except (OSError, load.Trouble) as e:
            print(f"{name} is left out: {e}", flush=True)
    return peers


def _turn(
    peer: Peer,
    requests: load.Conversation,
    connections: int,
    seconds: float,
    scale: float,
    spent: list[float],
    empty: bool,
) -> float:
    """Sessions per second, times scale. What was written or removed is on disk. empty: the queue is empty before,
    as it must be of large messages. Of small ones it is not: for a minute after, ext4 has to pass by each inode that
    was freed before it makes a file, and what one turn removes would be a cost of the next one."""
    if empty:
        peer.empty()
    os.sync()
    before = sum(map(processes.cpu, peer.processes))
    done = load.run(peer.server.port, requests, connections, seconds, session)
    spent[0] += sum(map(processes.cpu, peer.processes)) - before
    spent[1] += done.sessions
    return done.rate * scale


def _compare(
    bench: "Bench", peers: dict[str, Peer], measured: str, unit: str, requests: load.Conversation, connections: int,
    scale: float, empty: bool = False,
) -> None:  # fmt: skip
    spent = {name: [0.0, 0.0] for name in peers}  # seconds of CPU, sessions
    turns: dict[str, table.Turn] = {
        name: partial(_turn, peer, requests, connections, bench.seconds, scale, spent[name], empty)
        for name, peer in peers.items()
    }
    values = table.alternate(turns, bench.rounds)
    base = "C" if "C" in values else "postfix"
    costs = {name: f"{1000 * spent[name][0] / spent[name][1]:.2f} ms" for name in values}
    table.show(measured, unit, values, base, costs)


def mail(bench: "Bench") -> None:
    """Messages of 2 kB into the queue."""
    with ExitStack() as stack:
        peers = _started(bench, stack)
        for messages, text in ((1, "one each"), (10, "ten each")):
            for connections in (1, 4, CLIENTS):
                measured = f"2 kB by SMTP, {text}, {connections} at a time"
                _compare(bench, peers, measured, "/s", conversation(messages, SMALL), connections, messages)


def largemail(bench: "Bench") -> None:
    """One message of 25 MB, and what memory it takes."""
    with ExitStack() as stack:
        peers = _started(bench, stack)
        _compare(bench, peers, "25 MB by SMTP", "MB/s", conversation(1, LARGE), 1, LARGE / 1e6, True)
    with ExitStack() as stack:
        peers = _started(bench, stack, ("ours", "ours, service", "C"))
        for size, text in ((SMALL, "2 kB"), (LARGE, "25 MB")):
            values = {name: [_peak(peer, size) / 1e6] for name, peer in peers.items()}
            table.show(f"most memory (RSS) of qmail-smtpd, {text}", "MB", values, "C")


def _peak(peer: Peer, size: int) -> float:
    """Bytes that the process of a connection has had at most, once the message has come but for its last line."""
    buffer = bytearray(load.BUFFER)
    sock = load.connect(peer.server.port)
    requests = conversation(1, size)
    _expect(sock, buffer, b"220")
    for request, code in requests[:-2]:
        sock.sendall(request)
        _expect(sock, buffer, code)
    text, code = requests[-2]
    (child,) = processes.family(peer.server.process.pid)[1:2]
    sock.sendall(text[:-3])
    while struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]:
        time.sleep(0.01)
    sock.sendall(text[-3:])
    _expect(sock, buffer, code)
    lines = Path(f"/proc/{child}/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    sock.sendall(b"QUIT\r\n")
    _expect(sock, buffer, b"221")
    sock.close()
    peer.empty()
    return peak
