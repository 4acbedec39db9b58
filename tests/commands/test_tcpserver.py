"""tcpserver: what the program finds, what the log says, who gets in; each beside the C original, then what it lacks."""

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import dnsserver
from tests.helpers import BIN, PYTHON, environment, eventually, needs, run
from tests.ports import free_port
from tests.queuehomes import QueueHome
from tests.servers import OURS, TIMEOUT, Server, home, pop3, public_folder, reachable_python, serve
from tests.tls import Authority, Client, context, talk

ENV = ["env", "-0"]
NOT_RUN = b"tcpserver: warning: dropping connection, unable to run nowhere: file does not exist\n"
OTHER_UID = 65534

# The shell's own descriptors, as names of files.
# In a subshell, which lists the shell that has nothing else to do: $$ is that one's pid.
LIST = '(for fd in /proc/$$/fd/*; do echo "${fd##*/} $(readlink $fd)"; done); :'


@pytest.fixture(params=["ours", "the original"])
def tcpserver(request: pytest.FixtureRequest) -> str:
    return str(OURS) if request.param == "ours" else needs("tcpserver")


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        sentence = "only root can change its uid and bind low ports: run the tests as root"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


def dump(text: bytes) -> dict[str, str]:
    """The environment that `env -0` has printed."""
    pairs = (entry.partition("=") for entry in os.fsdecode(text).split("\0")[:-1])
    return {name: value for name, _, value in pairs}


def tcp(text: bytes) -> dict[str, str]:
    return {name: value for name, value in dump(text).items() if name.startswith(("TCP", "PROTO"))}


def rules(folder: Path, text: str, name: str = "rules.cdb") -> str:
    done = run([BIN / "tcprules", folder / name, folder / "rules.tmp"], input=text.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    return str(folder / name)


def status_of(text: bytes) -> dict[str, str]:
    """The fields of /proc/self/status."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.decode().splitlines())}


# The program


def test_program_finds_the_environment_of_tcpserver_with_the_variables_of_this_connection(tcpserver: str) -> None:
    stale = dict.fromkeys(("PROTO", "TCPLOCALHOST", "TCPREMOTEIP", "TCPREMOTEHOST", "TCPREMOTEINFO"), "stale")
    env = environment(OTHER="kept", EMPTY="", **stale)
    with serve(tcpserver, *ENV, env=env) as server, server.connect() as connection:
        found = dump(connection.makefile("rb").read())
        port = connection.getsockname()[1]
    for name in ("TCPREMOTEHOST", "TCPREMOTEINFO"):
        del env[name]
    assert found == {
        **env,
        "PROTO": "TCP",
        "TCPLOCALIP": "127.0.0.1",
        "TCPLOCALPORT": str(server.port),
        "TCPLOCALHOST": "0",
        "TCPREMOTEIP": "127.0.0.1",
        "TCPREMOTEPORT": str(port),
    }


@pytest.mark.parametrize(
    "options",
    [["-RHl", "a name"], ["-RHl", ""], ["-oRHl0"], ["-ORHl0"], ["-dRHl0"], ["-DRHl0"], ["-b", "1", "-RHl0"]]
    + [
        ["-b99999999999", "-RHl0"],
        ["-RHPl0"],
        ["-RHpl0"],
        ["-t", "1", "-RHl0"],
        ["-c", "1x", "-RHl0"],
        ["-RHl0", "--"],
    ],
    ids=" ".join,
)
def test_options_give_the_environment_of_the_original(options: list[str]) -> None:
    found = []
    for program in (str(OURS), needs("tcpserver")):
        with serve(program, *ENV, options=options) as server:
            found.append(tcp(server.talk()))
    for one in found:
        del one["TCPREMOTEPORT"], one["TCPLOCALPORT"]
    assert found[0] == found[1]
    assert found[0]["TCPREMOTEIP"] == "127.0.0.1"


@pytest.mark.parametrize("host", ["0", "", "127.0.0.1", "[127.0.0.1]", "127.000.000.001"])
def test_host_is_an_address_or_none(tcpserver: str, host: str) -> None:
    with serve(tcpserver, *ENV, host=host) as server:
        server.host = "127.0.0.1"
        assert tcp(server.talk())["TCPLOCALIP"] == "127.0.0.1"


def test_program_finds_the_connection_on_0_and_1_and_what_tcpserver_inherited_and_no_more(tcpserver: str) -> None:
    with open(os.devnull) as null:
        extra = fcntl.fcntl(null.fileno(), fcntl.F_DUPFD, 57)
        try:
            with serve(tcpserver, "sh", "-c", LIST, pass_fds=[extra]) as server:
                lines = sorted(server.talk().splitlines(), key=lambda line: int(line.split()[0]))
                found = [line.partition(b":")[0] for line in lines]
        finally:
            os.close(extra)
    assert found == [b"0 socket", b"1 socket", b"2 pipe", b"%d /dev/null" % extra]


def test_program_finds_a_blocking_socket_and_tcp_nodelay_as_asked(tcpserver: str) -> None:
    code = "import fcntl, os, socket as s; c = s.socket(fileno=0); os.write(1, repr((c.getsockopt(s.IPPROTO_TCP,"
    code += " s.TCP_NODELAY) != 0, fcntl.fcntl(0, fcntl.F_GETFL) & os.O_NONBLOCK, c.family == s.AF_INET)).encode())"
    for option, nodelay in (("-d", b"False"), ("-D", b"True")):
        with serve(tcpserver, PYTHON, "-IS", "-c", code, options=[option, "-RHl0"]) as server:
            assert server.talk() == b"(" + nodelay + b", 0, True)"


@pytest.mark.parametrize(
    ("prefix", "ignored", "blocked"),
    [
        ([], 0, 0),
        (["env", "--ignore-signal=HUP"], 1 << signal.SIGHUP - 1, 0),
        (["env", "--ignore-signal=PIPE", "--ignore-signal=TERM", "--ignore-signal=CHLD"], 0, 0),
        (["env", "--block-signal=USR1", "--block-signal=CHLD"], 0, 1 << signal.SIGUSR1 - 1),
    ],
    ids=["none", "hangup ignored", "pipe term chld ignored", "blocked"],
)
def test_program_finds_signals_as_they_should_be(tcpserver: str, prefix: list[str], ignored: int, blocked: int) -> None:
    with serve(tcpserver, "cat", "/proc/self/status", prefix=prefix) as server:
        found = status_of(server.talk())
        assert server.line("tcpserver: end .* status 0")
        assert server.terminate() == 0
    internal = 3 << 31  # 32 and 33 are the C library's own; make(1) ignores them
    masks = [int(found[name], 16) & ~internal for name in ("SigIgn", "SigCgt", "SigBlk", "SigPnd")]
    assert masks == [ignored, 0, blocked, 0]


def test_program_has_the_folder_and_umask_of_tcpserver(tcpserver: str, tmp_path: Path) -> None:
    with serve(
        tcpserver, "sh", "-c", "pwd; umask", prefix=["sh", "-c", 'umask 027; exec "$@"', "sh"], cwd=tmp_path
    ) as s:
        assert s.talk() == os.fsencode(tmp_path) + b"\n0027\n"


def test_program_not_found_is_one_line_and_111(tcpserver: str) -> None:
    with serve(tcpserver, "nowhere") as server:
        assert server.talk() == b""
        server.line("tcpserver: end .* status 28416")
        assert NOT_RUN in server.log.text


def test_program_that_is_no_program_is_one_line_and_111(tcpserver: str, folder: Path) -> None:
    (folder / "empty").touch(mode=0o755)
    with serve(tcpserver, folder / "empty") as server:
        server.talk()
        server.line(f"tcpserver: warning: dropping connection, unable to run {folder}/empty: exec format error")
        server.line("tcpserver: end .* status 28416")


# The log

ENDINGS = {"exit 0": 0, "exit 3": 768, "exit 100": 25600, "exit 111": 28416, "kill -9 $$": 9, "kill -15 $$": 15}


@pytest.mark.parametrize(("code", "status"), ENDINGS.items())
def test_log_has_five_lines_for_a_connection(tcpserver: str, code: str, status: int) -> None:
    with serve(tcpserver, "sh", "-c", code, options=["-RHl", "a%b: \x7f"]) as server:
        with server.connect() as connection:
            port = connection.getsockname()[1]
            connection.makefile("rb").read()
        server.line("tcpserver: end .*")
        server.line("tcpserver: status: 0/40")
        pid = int(server.log.text.split()[8])
    assert server.log.text.decode() == (
        "tcpserver: status: 0/40\n"
        "tcpserver: status: 1/40\n"
        f"tcpserver: pid {pid} from 127.0.0.1\n"
        f"tcpserver: ok {pid} a?b???:127.0.0.1:{server.port} :127.0.0.1::{port}\n"
        f"tcpserver: end {pid} status {status}\n"
        "tcpserver: status: 0/40\n"
    )


@pytest.mark.parametrize("length", [98, 99, 100, 101, 300])
def test_log_cuts_a_long_field(length: int) -> None:
    found = []
    for program in (str(OURS), needs("tcpserver")):
        with serve(program, "true", options=["-RHl", "x" * length]) as server:
            server.talk()
            found.append(server.line(r"tcpserver: ok \d+ ([x.]+):.*")[1])
    assert found[0] == found[1]


@pytest.mark.parametrize(("option", "text"), [("-Q", NOT_RUN), ("-q", b"")])
def test_without_v_the_log_has_errors_or_nothing(tcpserver: str, option: str, text: bytes) -> None:
    with serve(tcpserver, "nowhere", options=["-RHl0", option]) as server:
        for _ in range(2):  # a second connection is served
            assert server.talk() == b""
    assert server.log.text in (text, text * 2)


# Errors at start

ERRORS = [
    [],
    ["127.0.0.1"],
    ["127.0.0.1", "0"],
    ["-q"],
    ["-q", "127.0.0.1", "0"],
    ["-v", "--"],
    ["-Z", "127.0.0.1", "0", "true"],
    ["-vZ"],
    ["-qZ"],
    ["-:"],
    ["-c"],
    ["-qx"],
    ["-1RHc"],
    ["127.0.0.1", "no-such-service", "true"],
    ["127.0.0.1", "1x", "true"],
    ["127.0.0.1", "-1", "true"],
    ["-q", "127.0.0.1", "no-such-service", "true"],
    ["127.0.0.1", "no-such-service"],
    ["1.2.3", "0", "true"],
    ["[1.2.3", "0", "true"],
    ["1.2.3", "no-such-service", "true"],
    ["192.0.2.1", "0", "true"],
    ["-q", "192.0.2.1", "0", "true"],
    ["-Q", "192.0.2.1", "0", "true"],
    ["127.0.0.1", "BOUND", "true"],
    ["-v1", "127.0.0.1", "BOUND", "true"],
    ["-q", "127.0.0.1", "BOUND", "true"],
]


@pytest.mark.parametrize("argv", ERRORS, ids=" ".join)
def test_errors_at_start_are_those_of_the_original(argv: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = str(bound.getsockname()[1])
        argv = [port if word == "BOUND" else word for word in argv]
        ours, theirs = (run([program, *argv]) for program in (OURS, needs("tcpserver")))
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert ours.returncode in (100, 111)


def test_a_port_is_a_name_of_services_too(tcpserver: str, root: None) -> None:
    address = f"127.85.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    argv = [tcpserver, "-1RHl0", address, "pop3", *ENV]
    with Server(argv, host=address) as server:
        assert server.port == 110
        assert tcp(server.talk())["TCPLOCALPORT"] == "110"


def test_a_port_is_taken_modulo_65536(tcpserver: str) -> None:
    port = free_port()
    with serve(tcpserver, "echo", "here", port=65536 + port) as server:
        assert server.port == port
        assert server.talk() == b"here\n"


def test_a_uid_that_may_not_be_taken_is_said(tcpserver: str) -> None:
    prefix = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    for option, text in (("-u1", b"uid"), ("-g1", b"gid")):
        done = run([*prefix, tcpserver, option, "127.0.0.1", "0", "true"])
        expected = b"tcpserver: fatal: unable to set " + text + b": permission denied\n"
        assert (done.returncode, done.stderr) == (111, expected)


# Banner


@pytest.mark.parametrize("banner", [b"hello", b"220 x\r\n", b"", b"\xff%d"])
def test_banner_is_written_as_it_is_before_the_program_starts(tcpserver: str, banner: bytes) -> None:
    with Server([tcpserver, "-1RHl0", "-B", banner, "127.0.0.1", "0", "echo", "program"]) as server:
        assert server.talk() == banner + b"program\n"


def test_a_denied_peer_gets_the_banner_and_nothing_else(tcpserver: str, folder: Path) -> None:
    path = rules(folder, ":deny")
    with serve(tcpserver, "echo", "program", options=["-RHl0", "-B", "hello", "-x", path]) as server:
        assert server.talk() == b"hello"


# Rules


def test_rules_set_variables_or_deny(tcpserver: str, folder: Path) -> None:
    text = '127.0.0.1:allow,RELAYCLIENT="",A="b=c",TCPREMOTEIP="x",PATH="/nowhere"\n'
    text += '127.0.0.2:deny,A="b"\n127.:allow\n:deny'
    env = environment(A="before", RELAYCLIENT="before")
    with serve(tcpserver, needs("env"), "-0", options=["-RHl0", "-x", rules(folder, text)], env=env) as server:
        found = dump(server.talk())
        assert (found["RELAYCLIENT"], found["A"], found["TCPREMOTEIP"], found["PATH"]) == ("", "b=c", "x", "/nowhere")
        server.line(r"tcpserver: ok \d+ 0:127.0.0.1:\d+ :127.0.0.1::\d+")
        server.line("tcpserver: end .* status 0")
        assert server.talk(source="127.0.0.2") == b""
        server.line(r"tcpserver: deny \d+ 0:127.0.0.1:\d+ :127.0.0.2::\d+")
        server.line("tcpserver: end .* status 25600")
        assert dump(server.talk(source="127.0.0.3"))["A"] == "before"


def test_new_rules_hold_from_the_next_connection_on(tcpserver: str, folder: Path) -> None:
    with serve(tcpserver, "echo", "in", options=["-RHl0", "-x", rules(folder, ":allow", "new.cdb")]) as server:
        answers = [server.talk()]
        for text in (":deny", "127.0.0.1:allow"):
            rules(folder, text, "new.cdb")
            answers.append(server.talk())
    assert answers == [b"in\n", b"", b"in\n"]


def test_the_rules_file_is_looked_for_in_the_folder_of_tcpserver(tcpserver: str, folder: Path) -> None:
    rules(folder, ':allow,X="y"', "relative.cdb")
    with serve(tcpserver, *ENV, options=["-RHl0", "-x", "relative.cdb"], cwd=folder) as server:
        assert dump(server.talk())["X"] == "y"


def test_without_the_rules_file_nobody_is_let_in_unless_x_says_so(tcpserver: str, tmp_path: Path) -> None:
    path = str(tmp_path / "missing.cdb")
    with serve(tcpserver, "echo", "in", options=["-RHl0", "-x", path]) as server:
        assert server.talk() == b""
        server.line(f"tcpserver: warning: dropping connection, unable to read {path}: file does not exist")
        server.line("tcpserver: end .* status 28416")
    with serve(tcpserver, "echo", "in", options=["-RHXl0", "-x", path]) as server:
        assert server.talk() == b"in\n"


def test_x_forgives_no_other_error(tcpserver: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / "file" / "rules.cdb")
    with serve(tcpserver, "echo", "in", options=["-RHXl0", "-x", path]) as server:
        assert server.talk() == b""
        server.line(f"tcpserver: warning: dropping connection, unable to read {path}: not a directory")


@pytest.mark.parametrize("content", [b"", b"no cdb", b"\xff" * 3000], ids=["empty", "short", "long"])
def test_a_damaged_rules_file_lets_nobody_in(tcpserver: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rules.cdb"
    path.write_bytes(content)
    with serve(tcpserver, "echo", "in", options=["-RHXl0", "-x", str(path)]) as server:
        assert server.talk() == b""
        server.line(f"tcpserver: warning: dropping connection, unable to read {path}: .*")
        server.line("tcpserver: end .* status 28416")


def test_rules_are_read_with_the_privileges_that_are_left(tcpserver: str, root: None, folder: Path) -> None:
    path = rules(folder, ":allow", "closed.cdb")
    os.chmod(path, 0o600)
    with serve(tcpserver, "echo", "in", options=["-RHl0", "-u", str(OTHER_UID), "-x", path]) as server:
        assert server.talk() == b""
        server.line(f"tcpserver: warning: dropping connection, unable to read {path}: access denied")


# Privileges


def ids(text: bytes) -> tuple[set[str], set[str], str]:
    found = status_of(text)
    return set(found["Uid"].split()), set(found["Gid"].split()), found["Groups"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-u65534", "-g65533"], ({"65534"}, {"65533"}, "65533")),
        (["-g65533"], ({"0"}, {"65533"}, "65533")),
        (["-U"], ({"61"}, {"62"}, "62")),
        (["-U", "-u", "63"], ({"63"}, {"62"}, "62")),
        (["-u63", "-U"], ({"61"}, {"62"}, "62")),
    ],
    ids=["u and g", "g", "U", "U then u", "u then U"],
)
def test_privileges_fall_to_the_uid_and_gid_given(
    tcpserver: str, root: None, options: list[str], expected: tuple[set[str], set[str], str]
) -> None:
    env = environment(UID="61", GID="62x")
    with serve(tcpserver, "cat", "/proc/self/status", options=["-RHl0", *options], env=env) as server:
        assert ids(server.talk()) == expected
        assert ids(Path(f"/proc/{server.pid}/status").read_bytes()) == expected


def test_a_uid_of_0_and_u_without_variables_change_nothing(tcpserver: str) -> None:
    with serve(tcpserver, "cat", "/proc/self/status", options=["-RHl0", "-Uu0", "-g0"]) as server:
        assert ids(server.talk()) == ids(Path("/proc/self/status").read_bytes())


# Limits, signals, restarts


def test_at_the_limit_the_next_peer_waits_without_a_banner(tcpserver: str) -> None:
    with serve(tcpserver, "cat", options=["-RHl0", "-c1", "-B", "hello"]) as server:
        with server.connect() as first, server.connect() as second:
            assert first.recv(5) == b"hello"
            first.shutdown(socket.SHUT_WR)
            assert first.recv(5) == b""
            assert second.recv(5) == b"hello"
        server.line(r"tcpserver: end \d+ status 0")
        server.line(r"tcpserver: end \d+ status 0")
        server.line("tcpserver: status: 0/1")
    statuses = [line for line in server.log.text.splitlines() if b"status: " in line]
    assert [line[-3:] for line in statuses] == [b"0/1", b"1/1", b"0/1", b"1/1", b"0/1"]


@pytest.mark.parametrize("limit", ["0", "abc"])
def test_a_limit_of_0_lets_nobody_in(tcpserver: str, limit: str) -> None:
    with serve(tcpserver, "echo", "in", options=["-RHl0", "-c", limit]) as server:
        server.line("tcpserver: status: 0/0")
        with server.connect() as connection:
            assert server.terminate() == 0
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    assert server.log.text == b"tcpserver: status: 0/0\n"


def test_sigterm_ends_tcpserver_with_0_and_leaves_the_sessions_alone(tcpserver: str) -> None:
    with serve(tcpserver, "cat") as server, server.connect() as connection:
        connection.sendall(b"before")
        assert connection.recv(6) == b"before"
        assert server.terminate() == 0
        connection.sendall(b"after")
        assert connection.recv(5) == b"after"


def test_another_tcpserver_takes_over_the_port_while_a_session_goes_on(tcpserver: str) -> None:
    with serve(tcpserver, "cat") as first, first.connect() as connection:
        connection.sendall(b"1")
        assert connection.recv(1) == b"1"
        first.terminate()
        with serve(tcpserver, "echo", "second", port=first.port) as second:
            assert second.talk() == b"second\n"
        connection.sendall(b"2")
        assert connection.recv(1) == b"2"


def test_hangup_interrupt_and_the_like_have_their_default_effect(tcpserver: str) -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGALRM, signal.SIGUSR1):
        with serve(tcpserver, "cat") as server:
            server.line("tcpserver: status: 0/40")
            server.process.send_signal(number)
            assert server.process.wait(TIMEOUT) == -number


def test_a_child_from_before_exec_counts_as_one_of_its_own_but_never_below_0(tcpserver: str) -> None:
    reading, writing = os.pipe()
    code = "import os, sys; os.fork() or os._exit(len(os.read(int(sys.argv[1]), 1)));"
    code += "os.close(int(sys.argv[1])); os.execvp(sys.argv[2], sys.argv[2:])"
    prefix = [PYTHON, "-IS", "-c", code, str(reading)]
    with serve(tcpserver, "cat", prefix=prefix, pass_fds=[reading]) as server:
        os.close(reading)
        server.line("tcpserver: status: 0/40")
        os.close(writing)
        server.line(r"tcpserver: end \d+ status 0")
        server.line("tcpserver: status: 0/40")
        with server.connect():
            server.line("tcpserver: status: 1/40")


def test_peers_that_leave_at_once_do_no_harm(tcpserver: str) -> None:
    with serve(tcpserver, "cat") as server:
        for _ in range(20):
            with server.connect() as connection:  # leaves with a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert server.talk(b"still here") == b"still here"


# Names and ident. The original asks port 53, and both ask port 113, so these need root.

LONG = ".".join(["a" * 60, "b" * 60, "example"])
RECORDS: dnsserver.Records = {
    ("1.0.0.127.in-addr.arpa", "PTR"): ["local.example."],
    ("2.0.0.127.in-addr.arpa", "PTR"): ["Good.Example."],
    ("3.0.0.127.in-addr.arpa", "PTR"): ["forged.example."],
    ("4.0.0.127.in-addr.arpa", "PTR"): [r"we\058ird\037.example."],
    ("5.0.0.127.in-addr.arpa", "PTR"): [LONG + "."],
    ("6.0.0.127.in-addr.arpa", "PTR"): ["homeless.example."],
    ("good.example", "A"): ["127.0.0.9", "127.0.0.2"],
    ("forged.example", "A"): ["127.0.0.9"],
    ("served.example", "A"): ["127.0.0.1"],
    ("1." + "0." * 31 + "ip6.arpa", "PTR"): ["six.example."],
    ("six.example", "AAAA"): ["::1"],
    ("served6.example", "AAAA"): ["::1"],
}
PEERS = [f"127.0.0.{n}" for n in range(2, 8)]


@pytest.fixture(scope="module")
def names() -> Iterator[dict[str, str]]:
    """An environment with a DNS server where the original looks for it."""
    ip = f"127.84.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    try:
        server = dnsserver.Server(ip, 53, RECORDS, None)
    except PermissionError:
        pytest.skip("the original asks port 53: run this test as root to compare")
    yield environment(**server.environment)
    server.close()


@pytest.mark.parametrize("options", [["-R"], ["-RH"], ["-Rp"], ["-Rpl", "here"], ["-RpHl0"], ["-RpP"]], ids=" ".join)
def test_names_of_both_ends_are_those_of_the_original(names: dict[str, str], options: list[str]) -> None:
    found = []
    for program in (str(OURS), needs("tcpserver")):
        with serve(program, *ENV, options=options, env=names) as server:
            for peer in PEERS:
                variables = tcp(server.talk(source=peer))
                line = server.line(r"tcpserver: ok \d+ (\S+):\d+ (\S+):\d+")
                del variables["TCPREMOTEPORT"], variables["TCPLOCALPORT"]
                found.append((variables, line[1], line[2]))
    assert found[: len(PEERS)] == found[len(PEERS) :]


def test_paranoid_keeps_the_name_that_has_the_peers_address_only(tcpserver: str, names: dict[str, str]) -> None:
    with serve(tcpserver, *ENV, options=["-Rpl0"], env=names) as server:
        found = [dump(server.talk(source=peer)).get("TCPREMOTEHOST") for peer in PEERS]
    assert [name.lower() if name else name for name in found] == ["good.example", None, None, None, None, None]


def test_host_is_a_name_of_dns(tcpserver: str, names: dict[str, str]) -> None:
    with serve(tcpserver, *ENV, host="served.example", env=names) as server:
        assert server.host == "served.example"
        server.host = "127.0.0.1"
        assert tcp(server.talk())["TCPLOCALIP"] == "127.0.0.1"


@pytest.mark.parametrize("host", ["nowhere.example", "served6.example"])
def test_a_host_without_address_is_said(tcpserver: str, names: dict[str, str], host: str) -> None:
    done = run([tcpserver, host, "0", "true"], env=names)
    assert (done.returncode, done.stderr) == (111, f"tcpserver: fatal: no IP address for {host}\n".encode())


@contextlib.contextmanager
def ident(ip: str, answer: bytes | None) -> Iterator[list[bytes]]:
    """An ident server for one query, on port 113 of ip; None: it never answers."""
    asked = []
    done = threading.Event()
    with socket.create_server((ip, 113)) as listening:
        listening.settimeout(TIMEOUT)

        def serve_one() -> None:
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(1024))
                if answer is None:
                    done.wait(TIMEOUT)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve_one, daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            done.set()
            thread.join()


ANSWERS = {
    b"1, 2 : USERID : UNIX : max\r\n": "max",
    b"1, 2 : USERID : UNIX : two words: and\tmore\n": "twowords:andmore",
    b"1, 2 : ERROR : NO-USER\r\n": "",
    b"1, 2 : USERID : UNIX : cut off": None,
    b"": None,
    None: None,
}


@pytest.mark.parametrize(("answer", "info"), ANSWERS.items(), ids=str)
def test_the_ident_server_of_the_peer_gives_tcpremoteinfo(
    tcpserver: str, root: None, answer: bytes | None, info: str | None
) -> None:
    peer = f"127.{86 + (tcpserver == str(OURS))}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    with (
        ident(peer, answer) as asked,
        serve(tcpserver, *ENV, options=["-Hl0", "-t1"]) as server,
        server.connect(peer) as connection,
    ):
        port = connection.getsockname()[1]
        found = dump(connection.makefile("rb").read())
        assert asked == [b"%d , %d\r\n" % (port, server.port)]
        logged = server.line(r"tcpserver: ok \d+ 0:127.0.0.1:\d+ :[0-9.]+:(.*):\d+")[1].decode()
    assert found.get("TCPREMOTEINFO") == info
    assert logged == (info or "").replace(":", "?")


def test_without_an_ident_server_tcpremoteinfo_is_unset(tcpserver: str) -> None:
    with serve(tcpserver, *ENV, options=["-Hl0"], env=environment(TCPREMOTEINFO="stale")) as server:
        assert "TCPREMOTEINFO" not in dump(server.talk(source="127.99.0.1"))


def test_rules_by_name_and_by_ident_are_found_in_the_order_of_the_original(
    root: None, names: dict[str, str], folder: Path
) -> None:
    text = 'max@127.0.0.2:allow,R="info@ip"\nmax@=good.example:allow,R="info@host"\n127.0.0.3:allow,R="ip"\n'
    text += '=forged.example:allow,R="host"\n=.example:allow,R="domain"\n=:allow,R="named"\n:allow,R="any"\n'
    path = rules(folder, text, "names.cdb")
    found: dict[str, list[str]] = {}
    for program in (str(OURS), needs("tcpserver")):
        with serve(program, *ENV, options=["-l0", "-x", path], env=names) as server:
            answers = found.setdefault(program, [])
            with ident("127.0.0.2", b"1, 2 : USERID : UNIX : max\r\n"):
                answers.append(dump(server.talk(source="127.0.0.2"))["R"])
            answers += [dump(server.talk(source=peer))["R"] for peer in PEERS]
    assert found[str(OURS)] == found[needs("tcpserver")]
    assert found[str(OURS)][0] == "info@ip"


# What the original lacks: IPv6


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


@ipv6
def test_a_peer_by_ipv6_is_described_twice() -> None:
    env = environment(TCP6REMOTEHOST="stale", TCP6INTERFACE="stale")
    with serve(OURS, *ENV, host="::1", env=env) as server, server.connect() as connection:
        found = dump(connection.makefile("rb").read())
        port = connection.getsockname()[1]
        server.line(rf"tcpserver: ok \d+ 0:\?\?1:{server.port} :\?\?1::{port}")
    names = {"LOCALIP": "::1", "LOCALPORT": str(server.port), "LOCALHOST": "0", "REMOTEIP": "::1"}
    names["REMOTEPORT"] = str(port)
    both = {prefix + name: value for prefix in ("TCP", "TCP6") for name, value in names.items()}
    assert found == {**environment(), "PROTO": "TCP6", **both}


@ipv6
@pytest.mark.parametrize("options", [["-6", "-RHl0"], ["-RHl0"]], ids=["0 with -6", "::"])
def test_both_kinds_of_peers_come_to_an_ipv6_socket(options: list[str]) -> None:
    env = environment(TCP6REMOTEIP="stale")
    with serve(OURS, *ENV, host="0" if "-6" in options else "::", options=options, env=env) as server:
        server.host = "127.0.0.1"
        found = tcp(server.talk())
        assert server.line(r"tcpserver: pid \d+ from (.*)")[1] == b"127.0.0.1"
        server.host = "::1"
        assert tcp(server.talk())["PROTO"] == "TCP6"
    assert (found["PROTO"], found["TCPREMOTEIP"], found["TCPLOCALIP"]) == ("TCP", "127.0.0.1", "127.0.0.1")
    assert not any(name.startswith("TCP6") for name in found)


@ipv6
def test_rules_hold_for_ipv6_peers_and_for_ipv4_peers_of_an_ipv6_socket(folder: Path) -> None:
    path = rules(folder, '::1:allow,R="six"\n127.0.0.1:allow,R="four"\n:deny', "six.cdb")
    with serve(OURS, *ENV, host="::", options=["-RHl0", "-x", path]) as server:
        server.host = "::1"
        assert dump(server.talk())["R"] == "six"
        server.host = "127.0.0.1"
        assert dump(server.talk())["R"] == "four"
        assert server.talk(source="127.0.0.2") == b""


@ipv6
def test_names_of_ipv6_peers_are_looked_up() -> None:
    with dnsserver.running(RECORDS) as dns:
        env = environment(**dns.environment)
        with serve(OURS, *ENV, options=["-6Rp"], host="served6.example", env=env) as server:
            server.host = "::1"
            found = tcp(server.talk())
    assert (found["TCPREMOTEHOST"], found["TCP6REMOTEHOST"], found["TCPLOCALHOST"]) == ("six.example",) * 3


@ipv6
def test_an_ipv6_address_in_use_is_said() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as bound:
        done = run([OURS, "::1", str(bound.getsockname()[1]), "true"])
    assert (done.returncode, done.stderr) == (111, b"tcpserver: fatal: unable to bind: address already used\n")


def test_an_interface_that_does_not_exist_is_said() -> None:
    done = run([OURS, "-I", "no-such0", "fe80::1", "0", "true"])
    assert done.returncode == 111
    assert done.stderr.startswith(b"tcpserver: fatal: unable to find interface no-such0: ")


# What the original lacks: names of users and groups


def test_u_and_g_take_names(root: None) -> None:
    with serve(OURS, "cat", "/proc/self/status", options=["-RHl0", "-udaemon", "-gdaemon"]) as server:
        assert ids(server.talk()) == ({"1"}, {"1"}, "1")


@pytest.mark.parametrize(("option", "kind"), [("-u", "user"), ("-g", "group")])
@pytest.mark.parametrize("word", ["no-such-name", "65534x", "", "99999999999"])
def test_an_unknown_user_or_group_is_said(option: str, kind: str, word: str) -> None:
    done = run([OURS, option, word, "127.0.0.1", "0", "true"])
    assert (done.returncode, done.stderr) == (111, f"tcpserver: fatal: unknown {kind} {word}\n".encode())


# What the original lacks: limits for each peer


@pytest.mark.parametrize("where", ["a rule", "the environment"])
@pytest.mark.parametrize(("limit", "second"), [("MAXCONNIP", "127.0.0.1"), ("MAXCONNC", "127.0.0.9")])
def test_a_peer_above_its_limit_is_turned_away_with_a_line(where: str, limit: str, second: str, folder: Path) -> None:
    if where == "a rule":
        path = rules(folder, f':allow,{limit}="1",DIEMSG="421 too many"', "limits.cdb")
        options, env = ["-RHl0", "-x", path], environment()
    else:
        options, env = ["-RHl0"], environment(**{limit: "1", "DIEMSG": "421 too many"})
    with serve(OURS, "cat", options=options, env=env) as server:
        with server.connect("127.0.0.1") as first:
            server.line(r"tcpserver: ok .*")
            assert server.talk(source=second) == b"421 too many\r\n"
            server.line(rf"tcpserver: deny \d+ 0:127.0.0.1:\d+ :{second}::\d+ {limit}:2")
            server.line("tcpserver: end .* status 25600")
            assert server.talk(b"neighbour", source="127.0.1.1") == b"neighbour"
            first.shutdown(socket.SHUT_WR)
            assert first.recv(1) == b""
        server.line("tcpserver: status: 0/40")
        assert server.talk(b"free again") == b"free again"


def test_maxload_lets_in_below_and_turns_away_above() -> None:
    before = os.getloadavg()[0]
    with serve(OURS, "cat", env=environment(MAXLOAD="0", DIEMSG="busy")) as server:
        answer = server.talk(b"in")
    with serve(OURS, "cat", env=environment(MAXLOAD="100000")) as server:
        assert server.talk(b"in") == b"in"
    after = os.getloadavg()[0]
    assert answer in {b"busy\r\n" if int(load * 100) > 0 else b"in" for load in (before, after)}


# Many connections, and warm steps


def test_a_thousand_short_connections_leave_no_process_and_no_count() -> None:
    with serve(OURS, "qmail-popup", options=["-RHl0", "-c", "10"]) as server:
        for _ in range(1000):
            assert server.talk() == b"-ERR usage: popup hostname subprogram\r\n"
        held = [server.connect() for _ in range(20)]
        for connection in held:
            connection.makefile("rb").read()
            connection.close()
        for _ in range(1020):
            server.line(r"tcpserver: end \d+ status 256")
        server.line("tcpserver: status: 0/10")
        assert server.children() == []
        assert len(os.listdir(f"/proc/{server.pid}/fd")) < 8


CONVERSATION = b"user max\r\npass mypassword\r\nstat\r\nretr 1\r\nquit\r\n"


def session(
    tcpserver: str, env: dict[str, str], words: Sequence[str | bytes | Path]
) -> tuple[list[bytes], list[bytes]]:
    """The client's lines without the greeting, and the log's without numbers of processes."""
    with serve(tcpserver, *words, env=env) as server:
        answer = server.talk(CONVERSATION)
        server.line("tcpserver: end .* status .*")
        server.line("tcpserver: status: 0/40")
    log = [line.rpartition(b" ")[2] for line in server.log.text.splitlines() if b"from" in line or b"status" in line]
    return answer.splitlines()[1:], log


def test_a_warm_chain_is_a_cold_chain() -> None:
    with home() as at:
        at.deliver(b"Subject: x\n\n.dots\n")
        found = [session(str(OURS), at.environment(**change), pop3()) for change in ({}, {"QMAILPY_COLD": "1"})]
    assert found[0] == found[1]
    assert b"Subject: x" in found[0][0]


@pytest.mark.parametrize(("cold", "warm"), [("", True), ("1", False)])
def test_a_program_of_this_toolkit_runs_in_the_forked_process_unless_told_otherwise(cold: str, warm: bool) -> None:
    with serve(OURS, *pop3(), env=environment(QMAILPY_COLD=cold)) as server, server.connect() as connection:
        assert connection.recv(3) == b"+OK"
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (server.pid, *server.children())]
    assert (lines[0] == lines[1]) == warm


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_closed_descriptors_at_start_do_no_harm(closed: str) -> None:
    """From cron, or a careless init, 0 and 1 may be closed: then the listening socket must not get their numbers."""
    port = free_port()
    argv = ["sh", "-c", f'exec "$@" {closed}', "sh", str(OURS), "-vRHl0", "127.0.0.1", str(port), "cat"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment())
    assert process.stderr is not None
    try:
        with process.stderr as stderr:
            assert stderr.readline() == b"tcpserver: status: 0/40\n"
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(b"here")
                assert connection.recv(4) == b"here"
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def test_a_lack_of_descriptors_is_one_warning_and_no_connection_is_lost() -> None:
    with serve(OURS, "echo", "hello") as server:
        server.line("tcpserver: status: 0/40")
        hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[1]
        used = len(os.listdir(f"/proc/{server.pid}/fd"))  # from 0 on, without a gap
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used, hard))
        with server.connect() as client:
            server.line("tcpserver: warning: unable to accept: process cannot open more files")
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (hard, hard))
            assert client.recv(100) == b"hello\n"


# A process that serves again


def greeted(server: Server, *lines: bytes) -> bytes:
    """A whole session of qmail-smtpd."""
    return server.talk(b"".join(line + b"\r\n" for line in (b"HELO client.example", *lines, b"QUIT")))


def served(server: Server) -> int:
    """The process that has served the last connection, once the server knows of its end."""
    pid = int(server.line(r"tcpserver: ok (\d+) .*")[1])
    server.line(f"tcpserver: end {pid} status .*")
    return pid


@pytest.fixture
def smtp_env(tmp_path: Path) -> dict[str, str]:
    return QueueHome(tmp_path / "home").env()


def test_a_process_serves_connections_one_after_the_other(smtp_env: dict[str, str]) -> None:
    with serve(OURS, "qmail-smtpd", env=smtp_env) as server:
        pids = set()
        for _ in range(5):
            assert greeted(server).count(b"\r\n") == 3
            pids.add(served(server))
            server.line("tcpserver: status: 0/40")
    assert len(pids) == 1


def test_each_connection_has_an_environment_and_descriptors_of_its_own(smtp_env: dict[str, str], folder: Path) -> None:
    at = rules(folder, '127.0.0.2:allow,DATABYTES="1"\n:allow\n', "again.cdb")
    mail = (b"MAIL FROM:<a@b.example> SIZE=100",)
    with serve(OURS, "qmail-smtpd", env=smtp_env, options=["-RHl0", "-x", at]) as server:
        greeted(server)
        pid = served(server)
        before = sorted(os.listdir(f"/proc/{pid}/fd"))
        for source, refused in (("127.0.0.2", True), ("127.0.0.1", False), ("127.0.0.2", True)):
            said = server.talk(b"EHLO x\r\n" + mail[0] + b"\r\nQUIT\r\n", source)
            assert (b"\r\n552 " in said) == refused
            assert served(server) == pid
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == before


def test_in_a_folder_that_is_closed_to_whom_it_becomes_it_serves_all_the_same(root: None, folder: Path) -> None:
    home = QueueHome(folder / "home")
    closed = folder / "closed"
    closed.mkdir(0o700)
    options = ["-RHl0", "-u", str(OTHER_UID), "-g", str(OTHER_UID)]
    with serve(OURS, "qmail-smtpd", env={**home.env(), **reachable_python()}, options=options, cwd=closed) as server:
        for _ in range(2):
            assert greeted(server).count(b"\r\n") == 3
            served(server)


def test_with_fewer_descriptors_than_places_no_connection_is_dropped(smtp_env: dict[str, str]) -> None:
    prefix = ["sh", "-c", 'ulimit -n 40; exec "$0" "$@"']
    with serve(OURS, "qmail-smtpd", env=smtp_env, options=["-RHl0", "-c60"], prefix=prefix) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(50)]
            assert [client.recv(4) for client in clients] == [b"220 "] * 50
        server.line("tcpserver: status: 50/60")
        server.line("tcpserver: status: 0/60")


def test_two_at_once_have_a_process_each(smtp_env: dict[str, str]) -> None:
    with serve(OURS, "qmail-smtpd", env=smtp_env) as server:
        greeted(server)
        first = served(server)
        with server.connect() as one, server.connect() as other:
            assert one.recv(4) == other.recv(4) == b"220 "
            pids = [int(server.line(r"tcpserver: ok (\d+) .*")[1]) for _ in range(2)]
    assert first in pids
    assert len(set(pids)) == 2


@pytest.mark.parametrize(
    ("words", "change", "session"),
    [
        (["qmail-smtpd"], {}, b"HELO x\r\n"),  # ends without QUIT
        (["qmail-smtpd"], {"QMAILPY_AGAIN": "1"}, b"QUIT\r\n"),
        (["qmail-smtpd"], {"QMAILPY_COLD": "1"}, b"QUIT\r\n"),
        (["qmail-smtpd", "checkpassword-flatfile", "true"], {}, b"QUIT\r\n"),
        (["argv0", "qmail-smtpd", "smtpd"], {}, b"QUIT\r\n"),
        (["cat"], {}, b"x"),
    ],
    ids=["no good end", "each its own", "cold", "passwords", "behind another", "another's"],
)
def test_others_have_a_new_process_for_each_connection(
    smtp_env: dict[str, str], words: list[str], change: dict[str, str], session: bytes
) -> None:
    with serve(OURS, *words, env={**smtp_env, **change}) as server:
        pids = set()
        for _ in range(3):
            server.talk(session)
            pids.add(served(server))
    assert len(pids) == 3


def test_a_process_serves_only_so_many(smtp_env: dict[str, str]) -> None:
    with serve(OURS, "qmail-smtpd", env={**smtp_env, "QMAILPY_AGAIN": "2"}) as server:
        pids = []
        for _ in range(4):
            greeted(server)
            pids.append(served(server))
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_process_that_is_killed_while_it_waits_is_not_counted(smtp_env: dict[str, str]) -> None:
    with serve(OURS, "qmail-smtpd", env=smtp_env, options=["-RHl0", "-c1"]) as server:
        greeted(server)
        pid = served(server)
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not server.children())
        greeted(server)
        assert served(server) != pid
        server.line("tcpserver: status: 0/1")


def test_who_waits_ends_with_tcpserver(smtp_env: dict[str, str]) -> None:
    with serve(OURS, "qmail-smtpd", env=smtp_env) as server:
        greeted(server)
        pid = served(server)
        watch = os.pidfd_open(pid)
        server.terminate()
    poller = select.poll()
    poller.register(watch, select.POLLIN)
    assert poller.poll(TIMEOUT * 1000)
    os.close(watch)


def test_limits_count_the_connections_of_all_processes(smtp_env: dict[str, str]) -> None:
    with serve(OURS, "qmail-smtpd", env={**smtp_env, "MAXCONNIP": "1", "DIEMSG": "too many"}) as server:
        for source in ("127.0.0.1", "127.0.0.2"):
            greeted(server)
            served(server)
            with server.connect(source) as held:
                assert held.recv(4) == b"220 "
                assert server.talk(b"", source) == b"too many\r\n"


@pytest.mark.parametrize("path", ["relative", "absolute"])
def test_the_working_folder_is_the_same_for_each_connection(smtp_env: dict[str, str], path: str) -> None:
    at = Path(smtp_env["QMAILHOME"])
    env = {**smtp_env, "QMAILHOME": at.name if path == "relative" else str(at)}
    with serve(OURS, "qmail-smtpd", env=env, cwd=at.parent) as server:
        assert {greeted(server) for _ in range(3)} == {greeted(server)}


# TLS; more of it in test_sslserver.py


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with public_folder() as folder:
        made = Authority(folder)
        made.certificate("mail.example", "mail.example", "localhost")
        made.certificate("client", subject="/O=Org/CN=Client")
        yield made


def tls_options(authority: Authority, *options: str) -> list[str]:
    return ["-RHl0", "-n", str(authority.folder / "mail.example.pem"), *options]


def test_with_s_the_program_finds_the_variables_of_tcpserver_and_what_tls_is_like(authority: Authority) -> None:
    env = environment(SSL_CLIENT_S_DN="stale", SSLCTLFD="stale", SSL_CERT_FILE="kept")
    with serve(OURS, *ENV, options=tls_options(authority, "-s"), env=env) as server:
        found = dump(talk(server))
        server.line(r"tcpserver: ssl \d+ accept TLSv1.3 TLS_AES_256_GCM_SHA384")
    assert (found["PROTO"], found["TCPREMOTEIP"], found["SSL_CERT_FILE"]) == ("TCP", "127.0.0.1", "kept")
    assert (found["SSL_PROTOCOL"], found["SSL_SERVER_S_DN"]) == ("TLSv1.3", "/CN=mail.example")
    shown = [name for name in found if name.startswith("SSL_CLIENT") or name == "SSLCTLFD"]
    assert shown == ["SSL_CLIENT_VERIFY"]


def test_with_s_a_rule_may_have_clients_show_a_certificate(authority: Authority, tmp_path: Path) -> None:
    rules = tmp_path / "rules.cdb"
    text = b'127.0.0.1:allow,CCAVERIFY=""\n:allow'
    assert run([BIN / "tcprules", rules, tmp_path / "rules.tmp"], input=text).returncode == 0
    env = environment(CAFILE=str(authority.roots))
    options = tls_options(authority, "-s", "-x", str(rules))
    with serve(OURS, "sh", "-c", 'echo "$SSL_CLIENT_S_DN"', options=options, env=env) as server:
        assert talk(server, made=context(own=authority.folder / "client.pem")) == b"/O=Org/CN=Client\n"
        with contextlib.suppress(OSError):
            assert talk(server) == b""
        said = b"dropping connection, unable to accept SSL connection: 127.0.0.1: peer did not return a certificate"
        assert eventually(lambda: said in server.log.text)
        with server.connect("127.0.0.2") as connection:
            assert Client(connection).line() == b"\n"


def test_with_s_the_banner_is_under_tls_and_a_peer_turned_away_gets_nothing_in_clear(authority: Authority) -> None:
    env = environment(MAXCONNIP="0", DIEMSG="too many")
    with serve(OURS, "echo", "program", options=tls_options(authority, "-s", "-B", "hello\r\n")) as server:
        assert talk(server) == b"hello\r\nprogram\n"
    with serve(OURS, "true", options=tls_options(authority, "-s"), env=env) as server:
        assert server.talk() == b""


def test_the_certificate_is_looked_for_in_the_folder_of_tcpserver(authority: Authority) -> None:
    (authority.folder / "cert.pem").write_bytes((authority.folder / "mail.example.pem").read_bytes())
    with serve(OURS, "echo", "hi", options=["-sRHl0"], cwd=authority.folder) as server:
        assert talk(server) == b"hi\n"
    for options in (["-s"], ["-n", "nowhere.pem"]):
        done = run([OURS, *options, "127.0.0.1", "0", "true"], cwd="/")
        name = b"nowhere.pem" if "-n" in options else b"./cert.pem"
        said = b"tcpserver: fatal: unable to load certificate " + name + b": file does not exist\n"
        assert (done.returncode, done.stderr) == (111, said)
    assert run([OURS, "-qs", "127.0.0.1", "0", "true"], cwd="/").stderr == b""


def test_s_without_s_and_S_is_plain_as_ever(authority: Authority) -> None:
    with serve(OURS, *ENV, options=["-sSRHl0"]) as server:
        assert not [name for name in dump(server.talk()) if name.startswith("SSL_PROTOCOL")]
        server.line("tcpserver: end .* status 0")
        assert server.children() == []


def test_who_fails_at_the_handshake_never_starts_the_program(authority: Authority, tmp_path: Path) -> None:
    with serve(OURS, "touch", tmp_path / "started", options=tls_options(authority, "-s")) as server:
        server.talk(b"QUIT\r\n")
        server.line("tcpserver: end .* status 28416")
        said = b"unable to accept SSL connection: 127.0.0.1: wrong version number\n"
        assert eventually(lambda: b"tcpserver: warning: dropping connection, " + said in server.log.text)
    assert not (tmp_path / "started").exists()


def test_with_n_alone_the_program_is_offered_tls(authority: Authority) -> None:
    env = environment(SSL_PROTOCOL="stale")
    with serve(OURS, *ENV, options=tls_options(authority), env=env) as server:
        found = dump(server.talk())
        assert found["UCSPITLS"] == ""
        assert {"SSLCTLFD", "SSLREADFD", "SSLWRITEFD"} <= found.keys()
        assert "SSL_PROTOCOL" not in found
    with serve(OURS, *ENV, options=tls_options(authority), env=environment(UCSPITLS="!")) as server:
        assert dump(server.talk())["UCSPITLS"] == "!"


def test_stls_in_the_whole_chain(authority: Authority) -> None:
    with home() as at:
        at.deliver(b"Subject: x\n\ntext\n")
        env = at.environment()
        with serve(OURS, *pop3(), options=tls_options(authority), env=env) as server:
            argv = [needs("curl"), "-sS", "-4", "--ssl-reqd", "--cacert", str(authority.roots), "-u", "max:mypassword"]
            done = run([*argv, f"pop3://localhost:{server.port}/1"])
            assert (done.returncode, done.stdout) == (0, b"Subject: x\r\n\r\ntext\r\n\r\n")


def test_pop3s_in_the_whole_chain_warm_and_cold(authority: Authority) -> None:
    with home() as at:
        at.deliver(b"Subject: x\n\ntext\n")
        for cold in ("", "1"):
            env = at.environment(QMAILPY_COLD=cold)
            with serve(OURS, *pop3(), options=tls_options(authority, "-s"), env=env) as server:
                assert b"Subject: x\r\n" in talk(server, CONVERSATION)


def test_a_process_that_was_under_tls_serves_nobody_else(authority: Authority, smtp_env: dict[str, str]) -> None:
    with serve(OURS, "qmail-smtpd", env=smtp_env, options=tls_options(authority)) as server:
        greeted(server)
        first = served(server)
        assert greeted(server)
        assert served(server) == first
        before = sorted(os.listdir(f"/proc/{first}/fd"))
        with server.connect() as connection:
            connection.settimeout(TIMEOUT)
            connection.recv(1000)
            connection.sendall(b"EHLO x\r\n")
            connection.recv(1000)
            connection.sendall(b"STARTTLS\r\n")
            connection.recv(1000)
            with Client(connection) as client:
                client.send(b"EHLO x\r\nQUIT\r\n")
                assert b"250" in client.rest()
        assert served(server) == first
        greeted(server)
        assert served(server) != first
        assert len(before) < 12
    with serve(OURS, "qmail-smtpd", env=smtp_env, options=tls_options(authority, "-s")) as server:
        pids = set()
        for _ in range(2):
            talk(server, b"QUIT\r\n")
            pids.add(served(server))
        assert len(pids) == 2


def test_sessions_in_clear_leave_no_descriptor_in_a_process_that_serves_again(
    authority: Authority, smtp_env: dict[str, str]
) -> None:
    with serve(OURS, "qmail-smtpd", env=smtp_env, options=tls_options(authority)) as server:
        greeted(server)
        pid = served(server)
        before = sorted(os.listdir(f"/proc/{pid}/fd"))
        for _ in range(3):
            greeted(server)
            assert served(server) == pid
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == before


@pytest.mark.parametrize("why", ["rule", "limit"])
def test_a_server_that_turns_this_host_away_keeps_nothing_of_its_rehearsal(folder: Path, why: str) -> None:
    options = ["-RHl0", *(["-x", rules(folder, ":deny\n", "none.cdb")] if why == "rule" else [])]
    env = environment(**({"MAXCONNIP": "0"} if why == "limit" else {}))
    with serve(OURS, "cat", options=options, env=env) as server:
        assert server.talk() == b""  # it accepts when it has rehearsed
        open_ = [os.readlink(path) for path in Path(f"/proc/{server.pid}/fd").iterdir()]
    assert len([name for name in open_ if name.startswith("socket:")]) == 1
