"""The process that does TLS: what passes, how ends pass, and what it says when there is no TLS. Here it is a thread, on
socket pairs."""

import contextlib
import functools
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmailpy.formats import ucspitls
from qmailpy.loops import tls
from qmailpy.loops.keeper import DEMAND
from qmailpy.stores.certificates import Certificates, Wanted
from tests.helpers import eventually
from tests.tls import Authority, Client, Rekeying, context, keys_of

TIMEOUT = 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.certificate("mail.example")
    made.certificate("client", "client.example", "*.wild.example", subject="/O=Org/CN=Client/emailAddress=c@d")
    made.certificate("nameless", subject="/CN=common.example")
    return made


@pytest.fixture(scope="module")
def certificates(authority: Authority) -> Certificates:
    return Certificates(Wanted(os.fsencode(authority.folder / "mail.example.pem")), lambda text: None)


class Session:
    """client: the network's other side, before TLS; program: the local socket's."""

    def __init__(self, found: Certificates, terms: tls.Terms, tell: bool, demand: bytes) -> None:
        stream = socket.AF_UNIX, socket.SOCK_STREAM
        network, self.network = socket.socketpair(*stream)
        local, self.program = socket.socketpair(*stream)
        control, self.control = socket.socketpair(*stream)
        reporting, self.reports = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self.network, self.program, self.control, self.reports):
            sock.settimeout(TIMEOUT)
        for sock in (network, local):
            sock.setblocking(True)
        self.code: int | None = None
        self.sending = functools.partial(network.setsockopt, socket.SOL_SOCKET, socket.SO_SNDBUF)
        given = network, local, control, reporting
        self._thread = threading.Thread(
            target=self._work, args=(found, terms, given, tell, b"192.0.2.1 " + demand), daemon=True
        )
        self._thread.start()

    def _work(self, found: Certificates, terms: tls.Terms, given: tuple[socket.socket, ...], *rest: object) -> None:
        self.code = tls.work(found, terms, *given, *rest)  # type: ignore[arg-type]
        for sock in given:
            sock.close()

    def ends(self) -> int | None:
        self._thread.join(TIMEOUT)
        return self.code

    def begin(self, made: ssl.SSLContext | None = None) -> Client:
        return Client(self.network, made)

    def close(self) -> None:
        for sock in (self.network, self.program, self.control, self.reports):
            sock.close()
        assert self.ends() is not None


@contextlib.contextmanager
def session(
    found: Certificates,
    handshake_s: int = 20,
    idle_s: int = 20,
    depth: int = -1,
    tell: bool = True,
    host: bytes | None = None,
) -> Iterator[Session]:
    """host: as which it shows a certificate; b"": of any name. None: it need not show one."""
    demand = b"" if host is None else DEMAND + host
    made = Session(found, tls.Terms(handshake_s, idle_s, depth), tell, demand)
    try:
        yield made
    finally:
        made.close()


def drain(sock: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(OSError):
        while block := sock.recv(65536):
            parts.append(block)
    return b"".join(parts)


def test_bytes_pass_both_ways_and_the_answer_says_what_tls_is_like(certificates: Certificates) -> None:
    with session(certificates) as s:
        client = s.begin()
        found = ucspitls.Answer()
        found.feed(drain(s.control))
        assert found.variables is not None
        assert found.variables[b"SSL_PROTOCOL"] == b"TLSv1.3"
        assert found.variables[b"SSL_TLS_SNI"] == b"mail.example"
        assert found.variables[b"SSL_SERVER_S_DN"] == b"/CN=mail.example"
        client_variables = {name: value for name, value in found.variables.items() if name.startswith(b"SSL_CLIENT")}
        assert client_variables == {b"SSL_CLIENT_VERIFY": b"NONE"}
        client.send(b"from the client")
        assert s.program.recv(100) == b"from the client"
        s.program.sendall(b"from the program")
        assert client.read() == b"from the program"


def test_who_does_not_want_to_know_gets_the_end_of_the_control_socket(certificates: Certificates) -> None:
    with session(certificates, tell=False) as s:
        s.begin()
        assert drain(s.control) == b""


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_the_end_of_the_program_is_a_close_notify_behind_all_that_it_has_written(
    certificates: Certificates, version: str
) -> None:
    with session(certificates) as s:
        client = s.begin(context(version=version))
        s.program.sendall(b"x" * 100_000)
        s.program.close()
        assert client.rest() == b"x" * 100_000
        assert s.ends() == 0


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("how", ["close_notify", "cut off", "shut down"])
def test_the_end_of_the_client_is_the_end_of_the_programs_input_and_it_may_answer_still(
    certificates: Certificates, how: str, version: str
) -> None:
    with session(certificates) as s:
        client = s.begin(context(version=version))
        client.send(b"last words")
        if how == "close_notify":
            client.end()
        elif how == "cut off":
            s.network.close()
        else:
            s.network.shutdown(socket.SHUT_WR)
        assert drain(s.program) == b"last words"
        with contextlib.suppress(BrokenPipeError):  # nobody is there when it was cut off
            s.program.sendall(b"answer")
        s.program.close()
        if how != "cut off":
            assert client.rest() == b"answer"
        assert s.ends() == 0


def test_a_program_that_writes_no_more_may_read_on(certificates: Certificates) -> None:
    with session(certificates) as s:
        client = s.begin()
        s.program.sendall(b"all")
        s.program.shutdown(socket.SHUT_WR)
        assert client.rest() == b"all"
        for _ in range(3):
            client.send(b"y" * 70_000)
        client.end()
        assert drain(s.program) == b"y" * 210_000
        assert s.ends() == 0


def test_a_program_that_writes_no_more_while_much_is_coming_loses_none_of_it(certificates: Certificates) -> None:
    with session(certificates) as s:
        client = s.begin()

        def send() -> None:
            client.send(b"z" * 1_000_000)
            client.end()

        sender = threading.Thread(target=send)
        sender.start()
        s.program.recv(1, socket.MSG_PEEK)
        s.program.shutdown(socket.SHUT_WR)
        assert drain(s.program) == b"z" * 1_000_000
        sender.join(TIMEOUT)
        assert client.rest() == b""


def test_what_the_client_sends_with_its_last_word_of_the_handshake_is_not_lost(certificates: Certificates) -> None:
    with session(certificates) as s:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context().wrap_bio(incoming, outgoing, server_hostname="mail.example")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        s.network.sendall(outgoing.read())
        while True:
            incoming.write(s.network.recv(65536))
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        client.write(b"at once")
        s.network.sendall(outgoing.read())
        assert s.program.recv(100) == b"at once"


def test_the_program_sees_that_nobody_reads_what_it_writes(certificates: Certificates) -> None:
    with session(certificates) as s:
        s.begin()
        s.network.close()

        def refused() -> bool:
            try:
                s.program.send(b"x" * 1000)
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        assert eventually(refused)


def test_a_program_that_reads_nothing_stops_its_client_and_nobody_else(certificates: Certificates) -> None:
    with session(certificates) as s:
        client = s.begin()
        s.network.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.send(b"x" * 10_000_000)
        s.program.sendall(b"still here")
        s.network.settimeout(TIMEOUT)
        assert client.read() == b"still here"


class Answering:
    """TLS that has a thousand bytes to say to whatever it reads, as a client can make it by asking for new keys."""

    def __init__(self, inner: ssl.SSLObject, sealed: ssl.MemoryBIO) -> None:
        self._inner = inner
        self._sealed = sealed

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def read(self, size: int, block: memoryview) -> int:
        got = self._inner.read(size, block)
        self._sealed.write(b"a" * 1000)
        return got  # type: ignore[return-value]


def test_a_client_that_asks_for_answers_and_reads_none_is_stopped(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tls.Connection] = []

    def answering(connection: tls.Connection) -> None:
        handshake(connection)
        connection.tls = Answering(connection.tls, connection._sealed)  # type: ignore[assignment]
        found.append(connection)

    handshake = tls.Connection.handshake
    monkeypatch.setattr(tls.Connection, "handshake", answering)
    with session(certificates) as s:
        client = s.begin()
        s.network.settimeout(0.5)
        threading.Thread(target=drain, args=(s.program,), daemon=True).start()
        with pytest.raises(TimeoutError):
            for _ in range(20_000):
                client.send(b"x")
        assert found[0]._sealed.pending < 10 * tls.BLOCK


def rekeying(s: Session, folder: Path) -> Rekeying:
    made = context(version="TLSv1_3")
    made.keylog_filename = str(folder / "keys")
    s.begin(made)
    return Rekeying(keys_of(folder / "keys"))


def test_new_keys_now_and_then_are_no_harm(certificates: Certificates, tmp_path: Path) -> None:
    with session(certificates) as s:
        raw = rekeying(s, tmp_path)
        for number in range(1200):
            s.network.sendall(raw.update() + raw.record(raw.DATA, b"%4d" % number))
            assert s.program.recv(100) == b"%4d" % number
        s.network.shutdown(socket.SHUT_WR)
        assert drain(s.program) == b""


@pytest.mark.parametrize("size", [7, 1000, 30_000])
def test_new_keys_without_end_are_the_end(certificates: Certificates, tmp_path: Path, size: int) -> None:
    with session(certificates) as s:
        raw = rekeying(s, tmp_path)
        flood = b"".join([raw.update() for _ in range(tls.BARREN)])
        for at in range(0, len(flood), size):
            with contextlib.suppress(OSError):
                s.network.sendall(flood[at : at + size])
        assert drain(s.program) == b""
        assert s.reports.recv(1000) == b"unable to speak SSL: 192.0.2.1: too many records without data"
        s.program.sendall(b"the rest")  # what it says still goes out


ALERTS = {b"\x02\x30": b"tlsv1 alert unknown ca", b"\x02\x2e": b"sslv3 alert certificate unknown"}


@pytest.mark.parametrize("alert", ALERTS, ids=ascii)
def test_an_alert_after_the_handshake_is_said(certificates: Certificates, tmp_path: Path, alert: bytes) -> None:
    """As of a client that looks at our certificate when the library is through with it."""
    with session(certificates) as s:
        raw = rekeying(s, tmp_path)
        s.network.sendall(raw.record(raw.ALERT, alert))
        assert drain(s.program) == b""
        assert s.reports.recv(1000) == b"unable to speak SSL: 192.0.2.1: " + ALERTS[alert]


def test_what_nobody_can_decrypt_is_said_and_an_end_is_not(certificates: Certificates, tmp_path: Path) -> None:
    for sent in (b"\x17\3\3\0\x20" + bytes(32), b""):
        with session(certificates) as s:
            rekeying(s, tmp_path)
            s.network.sendall(sent)
            s.network.shutdown(socket.SHUT_WR)
            assert drain(s.program) == b""
            s.program.close()
            assert s.ends() == 0
            s.reports.setblocking(False)
            if sent:
                assert b"bad record mac" in s.reports.recv(1000)
            with pytest.raises(BlockingIOError):
                s.reports.recv(1000)


def test_who_takes_nothing_keeps_no_process_once_the_program_has_ended(certificates: Certificates) -> None:
    with session(certificates) as s:
        client = s.begin()
        s.sending(20_000)
        said = b"x" * 200_000
        s.program.sendall(said)
        s.program.close()
        assert s.ends() == 0
        assert b"".join(iter(client.read, b"")) == said


def test_a_connection_without_a_byte_is_ended_after_its_time(certificates: Certificates) -> None:
    with session(certificates, idle_s=1) as s:
        client = s.begin()
        assert drain(s.program) == b""
        assert client.read() == b""


@settings(max_examples=15, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.booleans(), st.integers(1, 40_000)), max_size=12),
    first=st.sampled_from(["client", "program"]),
)
def test_any_talk_arrives_whole(certificates: Certificates, pieces: list[tuple[bool, int]], first: str) -> None:
    with session(certificates) as s:
        client = s.begin()
        sent = {True: b"", False: b""}
        heard = {True: b"", False: b""}
        for number, (inward, size) in enumerate(pieces):
            data = bytes((number % 251,)) * size
            sent[inward] += data
            if inward:
                client.send(data)
            else:
                s.program.sendall(data)
                while len(heard[False]) < len(sent[False]):
                    heard[False] += client.read()
        if first == "client":
            client.end()
            heard[True] = drain(s.program)
            s.program.close()
            assert client.rest() == b""
        else:
            while len(heard[True]) < len(sent[True]):
                heard[True] += s.program.recv(65536)
            s.program.close()
            assert client.rest() == b""
        assert heard == sent


# No TLS


def reason(s: Session) -> bytes:
    said = s.reports.recv(1000)
    assert s.ends() == 111
    assert drain(s.control) == b""
    assert drain(s.program) == b""
    return said


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"QUIT\r\n", b"wrong version number"),
        (b"GET / HTTP/1.0\r\n\r\n", b"http request"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b""),
        (b"\x80\x2e\x01\x00\x02" + bytes(60), b""),
        (b"\x16\x03\x01\xff\xff" + bytes(70_000), b""),
        (bytes(1_000_000), b""),
    ],
    ids=["plain text", "http", "short hello", "ssl 2", "long record", "a megabyte of nothing"],
)
def test_what_is_no_handshake_is_the_end_and_said(certificates: Certificates, sent: bytes, said: bytes) -> None:
    with session(certificates) as s:
        with contextlib.suppress(OSError):
            s.network.sendall(sent)
        assert said in reason(s)


def test_who_leaves_in_the_handshake_is_reported(certificates: Certificates) -> None:
    with session(certificates) as s:
        s.network.sendall(b"\x16\x03\x01")
        s.network.shutdown(socket.SHUT_WR)
        assert reason(s) == b"192.0.2.1: the other side has gone"


def test_who_stops_in_the_handshake_is_left_after_its_time(certificates: Certificates) -> None:
    with session(certificates, handshake_s=0) as s:
        s.network.sendall(b"\x16\x03\x01\x02\x00")
        assert b"timed out" in reason(s)
        assert drain(s.network) == b""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions_are_refused(certificates: Certificates, version: str) -> None:
    made = context()
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.minimum_version = made.maximum_version = getattr(ssl.TLSVersion, version)
    with session(certificates) as s:
        with pytest.raises(ssl.SSLError):
            s.begin(made)
        assert b"unsupported protocol" in reason(s)


def test_renegotiation_is_refused(certificates: Certificates, authority: Authority) -> None:
    """As OpenSSL's own client asks for it."""
    import subprocess

    from tests.helpers import needs

    with session(certificates) as s, socket.create_server(("127.0.0.1", 0)) as listening:
        argv = [needs("openssl"), "s_client", "-tls1_2", "-connect", f"127.0.0.1:{listening.getsockname()[1]}"]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        connection, _ = listening.accept()
        assert process.stdin is not None
        assert process.stdout is not None
        copying = threading.Thread(target=_copy, args=(connection, s.network), daemon=True)
        copying.start()
        drain(s.control)
        process.stdin.write(b"R\n")
        process.stdin.flush()
        output = process.stdout.read()
        process.wait(TIMEOUT)
        process.stdin.close()
        process.stdout.close()
        copying.join(TIMEOUT)
        connection.close()
    assert b"no renegotiation" in output


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            for ready in select.select([one, other], [], [], TIMEOUT)[0]:
                block = ready.recv(65536)
                (other if ready is one else one).sendall(block)
                if not block:
                    one.shutdown(socket.SHUT_RDWR)
                    return


# Certificates of clients


@pytest.fixture
def asking(authority: Authority) -> Certificates:
    wanted = Wanted(os.fsencode(authority.folder / "mail.example.pem"), roots=(os.fsencode(authority.roots),))
    return Certificates(wanted, lambda text: None)


def test_a_verified_client_is_described(asking: Certificates, authority: Authority) -> None:
    for _ in range(2):
        with session(asking, host=b"") as s:
            client = s.begin(context(own=authority.folder / "client.pem"))
            found = ucspitls.Answer()
            found.feed(drain(s.control))
            assert found.variables is not None
            assert found.variables[b"SSL_CLIENT_S_DN"] == b"/O=Org/CN=Client/emailAddress=c@d"
            assert found.variables[b"SSL_CLIENT_S_DN_Email"] == b"c@d"
            assert found.variables[b"SSL_CLIENT_I_DN_CN"] == b"Test CA"
            assert found.variables[b"SSL_CLIENT_VERIFY"] == b"SUCCESS"
            assert found.variables[b"SSL_CLIENT_CERT"] == (authority.folder / "client.crt").read_bytes()
            assert not client.tls.session_reused


def test_a_client_without_a_certificate_or_with_a_strangers_is_refused(
    asking: Certificates, authority: Authority
) -> None:
    authority.self_signed("stranger")
    for own, said in ((None, b"peer did not return a certificate"), ("stranger.pem", b"certificate verify failed")):
        with session(asking, host=b"") as s:
            with contextlib.suppress(ssl.SSLError):
                s.begin(context(own=authority.folder / own if own else None, version="TLSv1_2"))
            assert said in reason(s)


@pytest.mark.parametrize(
    ("own", "host", "fits"),
    [
        ("client", b"client.example", True),
        ("client", b"Client.Example.", True),
        ("client", b"a.wild.example", True),
        ("client", b"a.b.wild.example", False),
        ("client", b"wild.example", False),
        ("client", b"Client", False),
        ("client", b"other.example", False),
        ("client", b"", True),
    ],
)
def test_the_name_of_a_client_is_looked_at_if_it_is_known(
    asking: Certificates, authority: Authority, own: str, host: bytes, fits: bool
) -> None:
    with session(asking, host=host) as s:
        s.begin(context(own=authority.folder / f"{own}.pem"))
        assert bool(drain(s.control)) == fits
        if not fits:
            assert b"client name does not match certificate" in reason(s)


def test_a_chain_may_be_so_long_and_no_longer(asking: Certificates, authority: Authority) -> None:
    below = Authority(authority.folder / "below", above=authority)
    below.certificate("far")
    near, far = authority.folder / "client.pem", below.folder / "far.pem"
    for own, depth, fits in ((near, 0, True), (far, 0, False), (far, 1, True), (far, -1, True)):
        with session(asking, depth=depth, host=b"") as s:
            s.begin(context(own=own))
            assert bool(drain(s.control)) == fits
            if not fits:
                assert b"unable to verify client certificate: chain too long" in reason(s)


def test_who_need_not_show_a_certificate_is_not_asked_for_one(asking: Certificates, authority: Authority) -> None:
    with session(asking) as s:
        s.begin(context(own=authority.folder / "client.pem"))
        found = ucspitls.Answer()
        found.feed(drain(s.control))
        assert found.variables is not None
        assert found.variables[b"SSL_CLIENT_VERIFY"] == b"NONE"
        assert b"SSL_CLIENT_S_DN" not in found.variables


def test_a_demand_that_nobody_can_judge_is_refused(certificates: Certificates, authority: Authority) -> None:
    with session(certificates, host=b"") as s:
        said = b"192.0.2.1: unable to verify client certificate: neither CAFILE nor CADIR is set"
        assert reason(s) == said


# Before the first connection


def test_the_rehearsal_leaves_nothing_behind(certificates: Certificates) -> None:
    before = sorted(os.listdir("/proc/self/fd"))

    def spawn(act: object) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(act())  # type: ignore[operator]
            finally:
                os._exit(1)
        return pid

    tls.rehearse(certificates, spawn)
    assert sorted(os.listdir("/proc/self/fd")) == before
