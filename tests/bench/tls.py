"""tls - POP3 under TLS: handshakes with login and QUIT, a large message, and the memory of an idle session."""

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import load, processes, table
from tests.bench.chains import (
    BIN,
    DOVECOT_REUSED,
    DOVECOT_TLS,
    OPTIONS,
    START_S,
    Chain,
    Server,
    debian,
    dovecot_chain,
    environment,
    tcpserver_of,
)
from tests.bench.home import MAILDIRS, PASSWORD, USER, Home
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.bench.measures import Bench

IDLE = 20  # sessions whose memory is measured
LEVELS = 1, 4, 16
ONCE, REUSED = "1", "100"  # connections of this one client that a process for TLS may serve
REQUESTS = [*load.login(USER, PASSWORD)[:2], (b"QUIT\r\n", load.LINE)]

STUNNEL = """\
foreground = yes
pid =
debug = err
syslog = no
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[pop3s]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{behind}
cert = {certificate}
"""


class Peer(NamedTuple):
    """port: of the side with TLS; servers: the processes, with their children, that a session costs something; resumes:
    whether a session goes on with the TLS session of another one."""

    port: int
    servers: tuple[int, ...]
    resumes: bool = True


class Client:
    """Sessions under TLS. resumes: each goes on with the TLS session of the one before, in the same worker."""

    def __init__(self, resumes: bool) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.resumes = resumes
        self.known: ssl.SSLSession | None = None
        self.resumed = False  # the last one

    def connect(self, port: int) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(plain, session=self.known)

    def session(self, port: int, buffer: bytearray, requests: load.Conversation) -> None:
        sock = self.connect(port)
        self.resumed = sock.session_reused or False
        load.say(sock, buffer, requests)
        if sock.recv_into(buffer):
            raise load.Trouble("more after the reply to QUIT")
        if self.resumes:
            self.known = sock.session
        sock.close()


def fetch(port: int, buffer: bytearray, requests: load.Conversation) -> None:
    """All that a server of files sends in answer to one request."""
    sock = Client(False).connect(port)
    for request, _ in requests:
        sock.sendall(request)
    while sock.recv_into(buffer):
        pass
    sock.close()


def certificate(home: Home) -> Path:
    """Key and certificate in one file, for all."""
    path = home.work / "tls.pem"
    if not path.exists():
        key, text = home.work / "tls.key", home.work / "tls.crt"
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bench.example"
        subprocess.run(["openssl", *words.split(), "-keyout", key, "-out", text], check=True, capture_output=True)
        path.write_text(key.read_text() + text.read_text())
        path.chmod(0o400)
    return path


def _ours(again: str, home: Home, maildir: str, stack: ExitStack) -> Peer:
    argv = [str(BIN / "tcpserver"), "-s", "-n", str(certificate(home)), *OPTIONS]
    chain = ["qmail-popup", "bench.example", "checkpassword", "qmail-pop3d", maildir]
    server = stack.enter_context(tcpserver_of([*argv, *chain], home, environment(QMAILPY_TLSAGAIN=again)))
    return Peer(server.port, (server.process.pid,))


def _stunnel(program: str, chain: Chain, home: Home, maildir: str, stack: ExitStack) -> Peer:
    behind = stack.enter_context(chain.start(home, maildir))
    port = free_port()
    configuration = home.work / f"stunnel.{port}"
    configuration.write_text(STUNNEL.format(port=port, behind=behind.port, certificate=certificate(home)))
    process = subprocess.Popen(
        [program, configuration], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = stack.enter_context(Server(process, port))
    _wait_for(server)
    return Peer(port, (process.pid, behind.process.pid))


def _dovecot(program: str, variant: str, more: str, home: Home, maildir: str, stack: ExitStack) -> Peer:
    port = free_port()
    extra = DOVECOT_TLS.format(port=port, certificate=certificate(home)) + more
    server = stack.enter_context(dovecot_chain(program, variant, extra)(home, maildir))
    return Peer(port, (server.process.pid,))


def _openssl(home: Home, maildir: str, stack: ExitStack) -> Peer:
    """A server of files: what OpenSSL does in C, with no mail behind it."""
    port = free_port()
    words = ["openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", "-WWW", "-cert", str(certificate(home))]
    (path,) = (home.path / maildir / "cur").iterdir()
    shutil.copy(path, home.work / "large")
    process = subprocess.Popen(
        words, cwd=home.work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = stack.enter_context(Server(process, port))
    _wait_for(server)
    return Peer(port, (process.pid,))


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            load.connect(server.port).close()
            return
        except OSError:
            if time.monotonic() > deadline or server.process.poll() is not None:
                raise
            time.sleep(0.02)


Make = Callable[[Home, str, ExitStack], Peer]


def _makers(bench: "Bench") -> dict[str, Make]:
    """Those that can run here; a line is printed for each that cannot."""
    makers: dict[str, Make] = {}
    chains = {chain.name: chain for chain in bench.chains}
    if "ours" in chains:
        makers = {"ours": partial(_ours, REUSED), "ours, used once": partial(_ours, ONCE)}
    stunnel = debian("stunnel4")
    if stunnel is None:
        print("stunnel is left out: apt-get install stunnel4", flush=True)
    else:
        makers |= {
            f"stunnel, {name}": partial(_stunnel, stunnel, chains[name]) for name in ("C", "ours") if name in chains
        }
    dovecot = debian("dovecot")
    if dovecot is not None:
        makers |= {
            "Dovecot": partial(_dovecot, dovecot, "tls", ""),
            "Dovecot, reused": partial(_dovecot, dovecot, "tlsreused", DOVECOT_REUSED),
        }
    return makers


def _started(bench: "Bench", maildir: str, stack: ExitStack) -> dict[str, Peer]:
    """Those that take a session, and another one that would like to be the first one's continuation."""
    peers = {}
    buffer = bytearray(load.BUFFER)
    bench.home.maildir(maildir)
    for name, make in _makers(bench).items():
        try:
            peer = make(bench.home, maildir, stack)
            client = Client(True)
            for _ in range(2):
                client.session(peer.port, buffer, REQUESTS)
            peers[name] = peer._replace(resumes=client.resumed)
            if not client.resumed:
                print(f"{name} resumes no session", flush=True)
        except (OSError, load.Trouble, subprocess.CalledProcessError) as e:
            print(f"{name} is left out: {e}", flush=True)
    return peers


def _turn(
    peer: Peer, requests: load.Conversation, connections: int, seconds: float, scale: float, spent: list[float],
    one: load.Session,
) -> float:  # fmt: skip
    before = sum(map(processes.cpu, peer.servers))
    done = load.run(peer.port, requests, connections, seconds, one)
    spent[0] += sum(map(processes.cpu, peer.servers)) - before
    spent[1] += done.sessions
    return done.rate * scale


def _base(values: dict[str, list[float]]) -> str | None:
    return next((name for name in ("stunnel, C", "stunnel, ours", "Dovecot") if name in values), None)


def handshakes(bench: "Bench") -> None:
    """Full and resumed handshakes, with login and QUIT."""
    with ExitStack() as stack:
        peers = _started(bench, "few", stack)
        for resumes, kind in ((False, "full"), (True, "resumed")):
            for connections in LEVELS:
                spent = {name: [0.0, 0.0] for name in peers}
                turns: dict[str, table.Turn] = {
                    name: partial(
                        _turn, peer, REQUESTS, connections, bench.seconds, 1.0, spent[name], Client(resumes).session
                    )
                    for name, peer in peers.items()
                    if peer.resumes or not resumes
                }
                values = table.alternate(turns, bench.rounds)
                costs = {name: f"{1000 * spent[name][0] / spent[name][1]:.2f} ms" for name in values}
                table.show(f"TLS, {kind}, login, QUIT, {connections} at a time", "/s", values, _base(values), costs)


def largetls(bench: "Bench") -> None:
    """One message of 25 MB under TLS; ratios are to a server of files of OpenSSL's own."""
    scale = MAILDIRS["large"][1] / 1e6
    requests = load.conversation(USER, PASSWORD, 1)
    with ExitStack() as stack:
        peers = _started(bench, "large", stack)
        spent = {name: [0.0, 0.0] for name in (*peers, "openssl")}
        turns: dict[str, table.Turn] = {
            name: partial(_turn, peer, requests, 1, bench.seconds, scale, spent[name], Client(False).session)
            for name, peer in peers.items()
        }
        files = _openssl(bench.home, "large", stack)
        get = [(b"GET /large HTTP/1.0\r\n\r\n", b"")]
        turns["openssl"] = partial(_turn, files, get, 1, bench.seconds, scale, spent["openssl"], fetch)
        values = table.alternate(turns, bench.rounds)
        costs = {name: f"{1000 * spent[name][0] / spent[name][1]:.2f} ms" for name in values}
        table.show("one message of 25 MB under TLS", "MB/s", values, "openssl", costs)


def tlsmemory(bench: "Bench") -> None:
    """PSS of an idle session under TLS, over all its processes."""
    buffer = bytearray(load.BUFFER)
    values = {}
    with ExitStack() as stack:
        for name, peer in _started(bench, "few", stack).items():
            alone = sum(map(processes.pss, peer.servers))
            clients = []
            for _ in range(IDLE):
                clients.append(Client(False).connect(peer.port))
                load.say(clients[-1], buffer, load.login(USER, PASSWORD))
            values[name] = [(sum(map(processes.pss, peer.servers)) - alone) / IDLE / 1e6]
            for client in clients:
                client.close()
    table.show("memory (PSS) of an idle session under TLS", "MB", values, _base(values))
