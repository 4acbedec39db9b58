"""tcpclient: what the program finds, whom it connects to, and what it says; beside the C original."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import dnsserver
from tests.helpers import BIN, environment, needs, run
from tests.servers import serve
from tests.tls import Authority

OURS = str(BIN / "tcpclient")
SHOW = ["sh", "-c", "cat <&6; env | grep -E '^(PROTO|TCP)' | sort; echo done >&7"]
RECORDS: dnsserver.Records = {
    ("one.example", "A"): ["127.0.0.1"],
    ("two.example", "A"): ["127.0.0.3", "127.0.0.4"],
    ("both.example", "A"): ["127.0.0.3"],
    ("both.example", "AAAA"): ["::1"],
    ("six.example", "AAAA"): ["::1"],
    ("alias.example", "CNAME"): ["one.example"],
    ("1.0.0.127.in-addr.arpa", "PTR"): ["Local_host.Example."],
    ("5.0.0.127.in-addr.arpa", "PTR"): ["we\\.ird\\001.example."],
    ("1." + "0." * 31 + "ip6.arpa", "PTR"): ["six.example."],
}


class Greeter:
    """Greets each peer with its address, and remembers what it sends."""

    def __init__(self, ip: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self.listening = socket.create_server((ip, port), family=family)
        self.port: int = self.listening.getsockname()[1]
        self.heard = b""
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, address = self.listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):  # the program may leave without reading
                connection.sendall(address[0].encode() + b"\n")
                connection.shutdown(socket.SHUT_WR)
                self.heard = connection.makefile("rb").read()

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listening.close()


@contextlib.contextmanager
def greeter(ip: str = "127.0.0.1", port: int = 0) -> Iterator[Greeter]:
    server = Greeter(ip, port)
    try:
        yield server
    finally:
        server.close()


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


@pytest.fixture(scope="module")
def port53() -> Iterator[dnsserver.Server]:
    """A DNS server where the original looks for it."""
    ip = f"127.83.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    try:
        server = dnsserver.Server(ip, 53, RECORDS, None)
    except PermissionError:
        pytest.skip("the original asks port 53: run this test as root to compare")
    yield server
    server.close()


def asking(server: dnsserver.Server, **changes: str) -> dict[str, str]:
    return environment(**{**server.environment, **changes})


def test_program_reads_the_network_from_6_and_writes_to_7() -> None:
    with greeter() as server:
        done = run([OURS, "-RHl", "here", "127.0.0.1", str(server.port), *SHOW])
    lines = done.stdout.decode().splitlines()
    own_port = next(line for line in lines if line.startswith("TCPLOCALPORT="))
    assert lines == [
        "127.0.0.1",
        "PROTO=TCP",
        "TCPLOCALHOST=here",
        "TCPLOCALIP=127.0.0.1",
        own_port,
        "TCPREMOTEIP=127.0.0.1",
        f"TCPREMOTEPORT={server.port}",
    ]
    assert (done.returncode, done.stderr, server.heard) == (0, b"", b"done\n")


def test_program_gets_the_same_descriptors_as_from_the_original() -> None:
    listing = ["sh", "-c", "cd /proc/self/fd; for fd in *; do readlink $fd; done | sed 's/[0-9]//g' | sort"]
    with greeter() as server:
        found = [
            run([program, "-RHl0", "127.0.0.1", str(server.port), *listing]) for program in (OURS, needs("tcpclient"))
        ]
    assert found[0].stdout == found[1].stdout
    assert found[0].stdout.count(b"socket") == 2


@pytest.mark.parametrize("options", [["-l0", "-R"], ["-R"], ["-HR"], ["-D", "-t1"], ["-p0"]], ids=" ".join)
@pytest.mark.parametrize("host", ["one.example", "127.0.0.1", "alias.example", "0", ""])
def test_environment_is_the_originals(port53: dnsserver.Server, options: list[str], host: str) -> None:
    env = asking(port53, TCPREMOTEINFO="stale", TCPREMOTEHOST="stale", TCPLOCALHOST="stale", TCPOTHER="kept")
    with greeter() as server:
        argv = [*options, "-i127.0.0.5", host, str(server.port), *SHOW]
        ours, theirs = (run([program, *argv], env=env) for program in (OURS, needs("tcpclient")))
    assert ours.stdout.count(b"TCP") >= 6
    same = [line for line in ours.stdout.splitlines() if not line.startswith(b"TCPLOCALPORT=")]
    assert same == [line for line in theirs.stdout.splitlines() if not line.startswith(b"TCPLOCALPORT=")]
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["host"],
        ["host", "1"],
        ["-Z", "host", "1", "true"],
        ["-p"],
        ["-i", "1.2.3", "host", "1", "true"],
        ["-q"],
        ["-q", "127.0.0.1", "CLOSED", "true"],
        ["127.0.0.1", "CLOSED", "true"],
        ["-v", "127.0.0.1", "CLOSED", "true"],
        ["127.0.0.1", "no such service", "true"],
        ["127.0.0.1", "no service \xff", "true"],
        ["1.2.3", "1", "true"],
        ["none.example", "1", "true"],
        ["a" * 64, "1", "true"],
        ["[127.0.0.1]", "CLOSED", "true"],
        ["127.000.000.257", "CLOSED", "true"],
        ["two.example.", "CLOSED", "true"],
        ["-i", "10.255.255.254", "127.0.0.1", "CLOSED", "true"],
        ["-i", "127.0.0.1x", "127.0.0.1", "CLOSED", "true"],
        ["-T0", "127.0.0.1", "CLOSED", "true"],
        ["-RHl0", "127.0.0.1", "OPEN", "./no such program"],
        ["-RHl0", "127.0.0.1", "OPEN", "no-such-program"],
        ["-qRHl0", "127.0.0.1", "OPEN", "no-such-program"],
        ["-RHl0", "127.0.0.1", "OPEN", "sh", "-c", "exit 7"],
        ["-vRHl0", "127.0.0.1", "OPEN", "true"],
        ["-RHl0", "-vq", "--", "127.0.0.1", "OPEN", "true"],
    ],
    ids=" ".join,
)
def test_messages_and_exit_codes_are_the_originals(port53: dnsserver.Server, argv: list[str]) -> None:
    closed = closed_port()
    with greeter() as server:
        argv = [{"CLOSED": closed, "OPEN": str(server.port)}.get(word, word) for word in argv]
        ours, theirs = (
            run([program, *[word.encode("latin-1") for word in argv]], env=asking(port53))
            for program in (OURS, needs("tcpclient"))
        )
    assert sorted(ours.stderr.splitlines()) == sorted(theirs.stderr.splitlines())  # addresses in random order
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)


def test_a_port_may_be_the_name_of_a_service() -> None:
    done = run([OURS, "-i", "127.0.0.9", "127.0.0.1", "domain-s", "true"])
    assert done.stderr in (
        b"tcpclient: unable to connect to 127.0.0.1 port 853: connection refused\n",
        b"tcpclient: fatal: unable to figure out port number for domain-s\n",  # no services(5) here
    )


def test_each_address_is_tried_and_reported() -> None:
    with dnsserver.running(RECORDS) as names, greeter("127.0.0.4") as server:
        done = run([OURS, "-RHl0", "two.example", str(server.port), "true"], env=asking(names))
        said = f"tcpclient: unable to connect to 127.0.0.3 port {server.port}: connection refused\n".encode()
        assert (done.returncode, done.stderr) in ((0, b""), (0, said))
        lost = run([OURS, "two.example", closed_port(), "true"], env=asking(names))
        assert (lost.returncode, lost.stderr.count(b"\n")) == (111, 2)


@contextlib.contextmanager
def deaf(ip: str) -> Iterator[int]:
    """A port that lets connections wait for ever: the queue of its listener is full."""
    with socket.socket() as listening:
        listening.bind((ip, 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        with socket.create_connection((ip, port)):
            yield port


def test_an_address_that_does_not_answer_costs_only_the_time_set_with_T() -> None:
    with deaf("127.0.0.1") as port:
        for timeout in ("-T0", "-T0+0"):
            done = run([OURS, timeout, "127.0.0.1", str(port), "true"])
            said = f"tcpclient: unable to connect to 127.0.0.1 port {port}: timed out\n"
            assert (done.returncode, done.stderr) == (111, said.encode())


@contextlib.contextmanager
def slow_and_quick() -> Iterator[int]:
    """A port that is deaf on one address and greets on the other; somebody else may have it on one of them."""
    for _ in range(20):
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(deaf("127.0.0.3"))
            try:
                stack.enter_context(greeter("127.0.0.4", port))
            except OSError:
                continue
            yield port
            return
    pytest.fail("no port is free on two addresses")


def test_a_slow_address_is_left_for_the_next_one_without_a_word() -> None:
    with dnsserver.running(RECORDS) as names, slow_and_quick() as port:
        for timeout in ("-T0+5", "-T0+0"):
            done = run([OURS, "-RHl0", timeout, "two.example", str(port), "true"], env=asking(names))
            assert done.returncode == 0
            assert done.stderr == b"" or timeout == "-T0+0"


def test_names_are_looked_up_and_stale_ones_removed() -> None:
    env = {"TCPREMOTEINFO": "stale", "TCPREMOTEHOST": "stale", "TCP6REMOTEIP": "stale"}
    with dnsserver.running(RECORDS) as names, greeter() as server:
        done = run([OURS, "-i127.0.0.5", "one.example", str(server.port), *SHOW], env=asking(names, **env))
    found = dict(line.split(b"=", 1) for line in done.stdout.splitlines()[1:])
    assert found[b"TCPREMOTEHOST"] == b"local_host.example"
    assert found[b"TCPLOCALHOST"] == b"we\\056ird\\001.example"
    assert b"TCPREMOTEINFO" not in found
    assert b"TCP6REMOTEIP" not in found


@pytest.mark.parametrize(
    "answer",
    [
        b"1, 2 : USERID : UNIX : joe :x\r\n",
        b"1, 2 : ERROR : NO-USER\r\n",
        b"1,2:USERID:UNIX:" + b"x" * 400,
        b"1,2:USERID:UNIX:a\0b\r\n",
        b"1,2:USERID:UNIX:broken off",
        b"",
    ],
)
def test_ident_answers_are_taken_as_by_the_original(answer: bytes) -> None:
    ip = f"127.85.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    try:
        identd = socket.create_server((ip, 113))
    except PermissionError:
        pytest.skip("ident servers have port 113: run this test as root")

    def serve() -> None:
        for _ in range(2):
            connection, _ = identd.accept()
            with connection:
                connection.makefile("rb").readline()
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    with identd, greeter(ip) as server:
        thread.start()
        argv = ["-Hl0", ip, str(server.port), *SHOW]
        ours, theirs = (run([program, *argv]).stdout.splitlines() for program in (OURS, needs("tcpclient")))
        thread.join()
    info = [line for line in ours if line.startswith(b"TCPREMOTEINFO")]
    assert info == [line for line in theirs if line.startswith(b"TCPREMOTEINFO")]
    assert bool(info) == (b"broken" not in answer and answer != b"")


def test_ipv6_hosts_have_every_variable_twice() -> None:
    with dnsserver.running(RECORDS) as names, greeter("::1") as server:
        for host in ("six.example", "::1", "[::1]", "ip6.localhost"):
            options = ["-6"] if "local" in host else []
            done = run([OURS, *options, "-v", host, str(server.port), *SHOW], env=asking(names))
            assert done.stderr == f"tcpclient: connected to ::1 port {server.port}\n".encode()
            lines = done.stdout.splitlines()
            assert b"PROTO=TCP6" in lines
            for name in (b"LOCALIP=::1", b"REMOTEIP=::1", b"REMOTEHOST=six.example", b"REMOTEPORT=%d" % server.port):
                assert b"TCP" + name in lines
                assert b"TCP6" + name in lines


def test_ipv4_is_tried_first_and_ipv6_then() -> None:
    with dnsserver.running(RECORDS) as names, greeter("::1") as server:
        argv = ["-RHl0", "both.example", str(server.port), "true"]
        said = f"tcpclient: unable to connect to 127.0.0.3 port {server.port}: connection refused\n".encode()
        both = run([OURS, *argv], env=asking(names))
        assert (both.returncode, both.stderr) == (0, said)
        four = run([OURS, "-4", *argv], env=asking(names))
        assert (four.returncode, four.stderr) == (111, said)
        six = run([OURS, "-6", *argv], env=asking(names))
        assert (six.returncode, six.stderr) == (0, b"")
        from_six = run([OURS, "-i::1", *argv], env=asking(names))
        assert (from_six.returncode, from_six.stderr) == (0, b"")
    assert run([OURS, "-4", "::1", "1", "true"]).stderr == b"tcpclient: fatal: no IP address for ::1\n"


def test_localhost_needs_no_name_server(tmp_path: Path) -> None:
    env = environment(DNSREWRITEFILE=str(tmp_path / "none"), DNSCACHEIP="127.0.0.2", QMAILPY_DNSPORT=closed_port())
    with greeter() as server:
        done = run([OURS, "-RHl0", "localhost", str(server.port), "true"], env=env)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_unreadable_configuration_is_a_temporary_failure(tmp_path: Path) -> None:
    env = environment(DNSREWRITEFILE=str(tmp_path))
    ours, theirs = (
        run([program, "127.0.0.1", closed_port(), "true"], env=env) for program in (OURS, needs("tcpclient"))
    )
    said = b"tcpclient: fatal: temporarily unable to figure out IP address for 127.0.0.1: is a directory\n"
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr) == (111, said)


@pytest.mark.parametrize(
    ("rules", "host"),
    [
        ("=me:127.0.0.1\n", "ME"),
        ("?:+.nowhere+.example\n*.:\n", "one"),
        ("?:.example\r\n", "one"),
        ("*.ex:.example \t\n", "one.EX"),
        ("-.ex:one.example\n", "any.thing.ex"),
        ("# no rules\n", "one.example"),
        ("=127.0.0.1:127.0.0.9\n", "127.0.0.1"),
    ],
)
def test_rules_complete_names_as_in_the_original(
    port53: dnsserver.Server, tmp_path: Path, rules: str, host: str
) -> None:
    (tmp_path / "rules").write_text(rules, newline="")
    env = asking(port53, DNSREWRITEFILE=str(tmp_path / "rules"))
    compare_lookup(env, host)


@pytest.mark.parametrize("domains", ["example", "nowhere example", "", " example", "nowhere"])
@pytest.mark.parametrize("host", ["one", "one.example", "one.example."])
def test_localdomain_completes_names_as_in_the_original(port53: dnsserver.Server, domains: str, host: str) -> None:
    compare_lookup(asking(port53, LOCALDOMAIN=domains), host)


def compare_lookup(env: Mapping[str, str], host: str) -> None:
    port = closed_port()
    ours, theirs = (run([program, host, port, "true"], env=env) for program in (OURS, needs("tcpclient")))
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)
    assert b"127.0.0." in ours.stderr or b"no IP address" in ours.stderr


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.certificate("mail.example", "localhost")
    made.certificate("client", subject="/CN=Client")
    return made


def test_s_speaks_tls_with_a_server_that_proves_who_it_is(authority: Authority) -> None:
    env = environment(CERTFILE=str(authority.folder / "mail.example.pem"), CAFILE=str(authority.roots))
    with serve(BIN / "sslserver", "sh", "-c", 'read x; echo "$x $SSL_CLIENT_S_DN"', env=env, options=["-smRHl0"]) as s:
        show = ["sh", "-c", 'echo "$PROTO $SSL_PROTOCOL"; echo said >&7; cat <&6']
        argv = [OURS, "-s", "-n", str(authority.folder / "client.pem"), "-RHl0"]
        done = run([*argv, "127.0.0.1", str(s.port), *show], env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"TCP TLSv1.3\nsaid /CN=Client\n", b"")
        strange = {**env, "CAFILE": ""}
        done = run([*argv, "127.0.0.1", str(s.port), "echo", "started"], env=strange)
        said = b"tcpclient: fatal: unable to SSL connect: certificate verify failed: "
        assert (done.returncode, done.stdout, done.stderr[: len(said)]) == (111, b"", said)
        done = run([*argv, "-N", "127.0.0.1", str(s.port), "echo", "started"], env=strange)
        assert (done.returncode, done.stdout) == (0, b"started\n")


def test_without_s_there_is_no_tls_and_a_stale_word_of_it_stays_as_in_the_original() -> None:
    with greeter() as server:
        argv = ["-RHl0", "127.0.0.1", str(server.port), "sh", "-c", 'echo "$SSL_PROTOCOL"']
        for program in (OURS, needs("tcpclient")):
            assert run([program, *argv], env=environment(SSL_PROTOCOL="x")).stdout == b"x\n"
