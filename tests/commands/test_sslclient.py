"""sslclient: what its program finds, whom it trusts, and servers that are not ours: openssl(1), stunnel(8)."""

import contextlib
import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import BIN, environment, eventually, needs, run
from tests.ports import free_port
from tests.servers import TIMEOUT, Server, public_folder, reachable_python, serve
from tests.tls import Authority, descendants, holds, listens, needles, needs_root, openssl, stunnel

OURS = str(BIN / "sslclient")
SERVER = str(BIN / "sslserver")
TALK = "echo said >&7; cat <&6"


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with public_folder() as folder:
        made = Authority(folder)
        made.certificate("mail.example", "localhost")
        made.certificate("client", subject="/O=Org/CN=Client")
        made.self_signed("stranger")
        yield made


def env_of(authority: Authority, **changes: str) -> dict[str, str]:
    return environment(**{"CAFILE": str(authority.roots), **reachable_python(), **changes})


@contextlib.contextmanager
def server(authority: Authority, *words: str, options: tuple[str, ...] = (), **changes: str) -> Iterator[Server]:
    env = env_of(authority, **{"CERTFILE": str(authority.folder / "mail.example.pem"), **changes})
    with serve(SERVER, *words, options=["-seRHl0", *options], env=env) as made:
        yield made


def variables(text: bytes) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in os.fsdecode(text).split("\0")[:-1])
    return {name: value for name, _, value in pairs if name.startswith(("SSL", "TCP", "PROTO"))}


def test_the_program_talks_on_6_and_7_and_gives_its_exit_code(authority: Authority) -> None:
    with server(authority, "sh", "-c", "read x; echo heard $x") as s:
        argv = [OURS, "-RHl0", "127.0.0.1", str(s.port), "sh", "-c", TALK + "; exit 7"]
        done = run(argv, env=env_of(authority))
    assert (done.returncode, done.stdout, done.stderr) == (7, b"heard said\n", b"")


@pytest.mark.parametrize("options", [(), ("-s",), ("-e",), ("-se",), ("-seSE",)], ids=" ".join)
def test_the_program_finds_the_names_of_sslclient(authority: Authority, options: tuple[str, ...]) -> None:
    stale = {"SSL_PROTOCOL": "stale", "SSL_SERVER_S_DN": "stale", "SSLREMOTEHOST": "stale", "TCPREMOTEIP": "stale"}
    with server(authority, "cat") as s:
        argv = [OURS, *options, "-RHl", "here", "127.0.0.1", str(s.port), "env", "-0"]
        found = variables(run(argv, env=env_of(authority, **stale)).stdout)
    assert (found["PROTO"], found["SSLREMOTEIP"], found["SSLREMOTEPORT"]) == ("SSL", "127.0.0.1", str(s.port))
    assert (found["SSLLOCALHOST"], found["SSLLOCALIP"]) == ("here", "127.0.0.1")
    assert "SSLREMOTEHOST" not in found
    last = "".join(options)
    told = "s" in last and "S" not in last
    assert found.get("SSL_PROTOCOL") == ("TLSv1.3" if told else None)
    assert found.get("SSL_SERVER_S_DN") == ("/CN=mail.example" if told else None)
    assert found.get("TCPREMOTEIP") == ("127.0.0.1" if "e" in last and "E" not in last else None)


def test_the_program_gets_no_other_descriptor(authority: Authority) -> None:
    code = '(for fd in /proc/$$/fd/*; do echo "${fd##*/} $(readlink $fd)"; done); :'
    with server(authority, "cat") as s:
        done = run([OURS, "-RHl0", "127.0.0.1", str(s.port), "sh", "-c", code], env=env_of(authority))
    assert [line.partition(b" ")[0] for line in sorted(done.stdout.splitlines())] == [b"0", b"1", b"2", b"6", b"7"]


SYSTEM = b"certificate verify failed: self-signed certificate"


@pytest.mark.parametrize(
    ("certificate", "options", "env", "said"),
    [
        ("mail.example", [], {}, b""),
        ("stranger", [], {}, SYSTEM),
        ("mail.example", [], {"CAFILE": ""}, b"certificate verify failed: "),
        ("stranger", ["-a", "FOLDER/stranger.crt"], {}, b"certificate verify failed: IP address mismatch"),
        ("stranger", ["-N", "-a", "FOLDER/stranger.crt"], {}, b""),
        ("stranger", ["-X"], {}, b""),
        ("stranger", ["-Xx"], {}, SYSTEM),
        ("mail.example", ["-A", "FOLDER/roots"], {"CAFILE": ""}, b""),
        ("mail.example", [], {"CAFILE": "", "CADIR": "FOLDER/roots"}, b""),
        ("mail.example", ["-C", "nonsense"], {}, b"unable to set cipher list: nonsense"),
        ("mail.example", ["-a", "/no/such"], {}, b"unable to load CA list /no/such: file does not exist"),
        ("mail.example", ["-c", "/no/such"], {}, b"unable to load certificate /no/such: file does not exist"),
    ],
)
def test_whom_it_trusts(
    authority: Authority, certificate: str, options: list[str], env: dict[str, str], said: bytes
) -> None:
    folder = str(authority.folder)
    (authority.folder / "roots").mkdir(exist_ok=True)
    (authority.folder / "roots" / "ca").write_bytes(authority.roots.read_bytes())
    options = [word.replace("FOLDER", folder) for word in options]
    env = {name: value.replace("FOLDER", folder) for name, value in env.items()}
    with server(authority, "cat", CERTFILE=f"{folder}/{certificate}.pem") as s:
        argv = [OURS, *options, "-RHl0", "127.0.0.1", str(s.port), "echo", "started"]
        done = run(argv, env=env_of(authority, **env))
    if said:
        assert (done.returncode, done.stdout) == (111, b"")
        assert done.stderr.startswith(b"sslclient: fatal: ")
        assert said in done.stderr
        assert done.stderr.count(b"\n") == 1
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, b"started\n", b"")


def test_a_name_is_asked_for_and_verified(authority: Authority) -> None:
    with server(authority, "sh", "-c", "echo $SSL_TLS_SNI; read x") as s:
        argv = ["-4RHl0", "localhost", str(s.port), "sh", "-c", "head -n 1 <&6"]
        env = env_of(authority, DNSREWRITEFILE=str(authority.folder / "none"))
        done = run([OURS, *argv], env=env)
        assert (done.returncode, done.stdout) == (0, b"localhost\n")


def test_a_chain_may_be_so_long_and_no_longer(authority: Authority) -> None:
    below = Authority(authority.folder / "below", above=authority)
    pem = below.certificate("far", "localhost")
    with server(authority, "cat", CERTFILE=str(pem)) as s:
        for words, env, good in ((["-V0"], {}, False), ([], {}, True), ([], {"VERIFYDEPTH": "0"}, False)):
            argv = [OURS, *words, "-RHl0", "127.0.0.1", str(s.port), "true"]
            done = run(argv, env=env_of(authority, **env))
            said = b"sslclient: fatal: unable to verify server certificate: chain too long\n"
            assert (done.returncode, done.stderr) == ((0, b"") if good else (111, said))


@pytest.mark.parametrize("password", [b"", b"secret\0"])
def test_it_shows_a_certificate_of_its_own(authority: Authority, tmp_path: Path, password: bytes) -> None:
    key = authority.folder / "client.key"
    if password:
        key = tmp_path / "key"
        key.write_bytes(openssl("pkey", "-in", authority.folder / "client.key", "-aes128", "-passout", "pass:secret"))
    (tmp_path / "password").write_bytes(password)
    with server(authority, "sh", "-c", 'echo "$SSL_CLIENT_S_DN"; read x', options=("-m",)) as s:
        option = "-3" if password else "-Q"
        argv = [OURS, option, "-c", str(authority.folder / "client.crt"), "-k", str(key), "-RHl0", "127.0.0.1"]
        words = ["sh", "-c", f'exec "$@" 3<{tmp_path}/password', "sh"] if password else []
        script = "head -n 1 <&6; ls /proc/$$/fd"
        done = run([*words, *argv, str(s.port), "sh", "-c", script], env=env_of(authority))
        first, *descriptors = done.stdout.splitlines()
        assert first == b"/O=Org/CN=Client"
        assert b"3" not in descriptors
        refused = run([OURS, "-RHl0", "127.0.0.1", str(s.port), "sh", "-c", "cat <&6"], env=env_of(authority))
        assert refused.stdout == b""


@pytest.mark.parametrize(
    ("argv", "code"),
    [([], 100), (["-Y"], 100), (["-a"], 100), (["127.0.0.1", "1"], 100), (["-q"], 100), (["-i1", "h", "1", "x"], 100)],
    ids=str,
)
def test_wrong_usage_is_100(argv: list[str], code: int) -> None:
    done = run([OURS, *argv])
    assert done.returncode == code
    assert (b"sslclient: usage: sslclient [ -3hHrRdDqQveEsSnNxX ] " in done.stderr) == (argv != ["-q"])


def test_the_password_of_the_key_comes_from_a_file(authority: Authority, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(openssl("pkey", "-in", authority.folder / "client.key", "-aes128", "-passout", "pass:secret"))
    (tmp_path / "good").write_bytes(b"secret\0more")
    (tmp_path / "wrong").write_bytes(b"wrong")
    missing = f"unable to read password from {tmp_path}/none: file does not exist"
    with server(authority, "sh", "-c", 'echo "$SSL_CLIENT_S_DN"', options=("-m",)) as s:
        for word, said in (("good", ""), ("wrong", f"unable to load key {key}: "), ("none", missing)):
            argv = [OURS, "-c", str(authority.folder / "client.crt"), "-k", str(key), "-K", str(tmp_path / word)]
            done = run([*argv, "-RHl0", "127.0.0.1", str(s.port), "sh", "-c", "head -n1 <&6"], env=env_of(authority))
            assert done.stdout == (b"" if said else b"/O=Org/CN=Client\n")
            assert done.returncode == (111 if said else 0)
            assert done.stderr.decode().startswith(f"sslclient: fatal: {said}" if said else "")


@pytest.mark.parametrize("option", ["-Q", "-q"])
@pytest.mark.parametrize("log", ["file", "pipe"])
def test_a_server_that_refuses_our_certificate_after_the_handshake_says_so(
    authority: Authority, tmp_path: Path, option: str, log: str
) -> None:
    """In TLS 1.3 ours is over by then."""
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    with server(authority, "cat", options=("-m",)) as s:
        argv = [OURS, option, "-RHl0", "127.0.0.1", str(s.port), "sh", "-c", "cat <&6; exit 3"]
        if log == "file":
            argv = ["sh", "-c", f'exec "$@" 2>>{path}', "sh", *argv]
        done = run(argv, env=env_of(authority))
    said = path.read_bytes().removeprefix(b"before\n") if log == "file" else done.stderr
    assert done.returncode == 3
    text = b"sslclient: warning: unable to speak SSL: tlsv13 alert certificate required\n"
    assert said == (text if option == "-Q" else b"")


def test_a_port_that_nobody_listens_on_is_said() -> None:
    port = free_port()
    done = run([OURS, "127.0.0.1", str(port), "true"])
    said = f"sslclient: unable to connect to 127.0.0.1 port {port}: connection refused\n"
    assert (done.returncode, done.stderr.decode()) == (111, said)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"220 plain.example ESMTP\r\n", b"wrong version number"),
        (b"", b"the other side has gone"),
        (None, b"timed out"),
    ],
    ids=["plain text", "nothing", "silence"],
)
def test_a_server_that_does_not_speak_tls_is_said(sent: bytes | None, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_one() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                if sent is None:
                    connection.recv(1 << 20)
                    connection.recv(1)
                connection.sendall(sent or b"")
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1 << 20)

        thread = threading.Thread(target=serve_one, daemon=True)
        thread.start()
        argv = [OURS, "-RHl0", "-T1+0", "127.0.0.1", str(listening.getsockname()[1]), "echo", "started"]
        done = run(argv)
        thread.join(TIMEOUT)
    assert (done.returncode, done.stdout) == (111, b"")
    assert done.stderr == b"sslclient: fatal: unable to SSL connect: " + said + b"\n"


def test_the_key_is_in_the_process_that_does_tls_alone(authority: Authority) -> None:
    needs_root()
    pem = authority.folder / "client.pem"
    with server(authority, "cat", options=("-m",)) as s:
        argv = [OURS, "-c", str(pem), "-RHl0", "127.0.0.1", str(s.port), "sh", "-c", "echo; read x"]
        env = env_of(authority)
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin as stdin, process.stdout as stdout:
            stdout.readline()
            (tls,) = descendants(process.pid)
            wanted = needles(pem)
            assert holds(tls, wanted)
            assert not holds(process.pid, wanted)
            assert "\nSeccomp:\t2\n" in Path(f"/proc/{tls}/status").read_text()
            assert os.readlink(f"/proc/{tls}/root") != "/"
            stdin.write(b"\n")
        assert process.wait(TIMEOUT) == 0


# Others' servers


@contextlib.contextmanager
def openssl_server(authority: Authority, *options: str) -> Iterator[int]:
    """openssl s_server, which sends each line back turned round."""
    port = free_port()
    argv = [needs("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", "-rev", *options]
    process = subprocess.Popen(
        [*argv, "-cert", authority.folder / "mail.example.pem"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert eventually(lambda: listens(port))
        yield port
    finally:
        process.terminate()
        process.wait(TIMEOUT)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_as_server(authority: Authority, version: str) -> None:
    with openssl_server(authority, version) as port:
        script = 'echo "$SSL_PROTOCOL"; echo abc >&7; head -n 1 <&6'
        done = run([OURS, "-sRHl0", "127.0.0.1", str(port), "sh", "-c", script], env=env_of(authority))
    assert done.stdout == f"TLSv1.{version[-1]}\ncba\n".encode()


def test_stunnel_as_server_and_25_megabytes_both_ways(authority: Authority, tmp_path: Path) -> None:
    big = hashlib.sha256(b"seed").digest() * (25_000_000 // 32)
    (tmp_path / "big").write_bytes(big)
    with serve("tcpserver", "cat") as plain:
        text = f"connect=127.0.0.1:{plain.port}\ncert={authority.folder}/mail.example.pem"
        with stunnel(tmp_path, text) as port:
            script = f"cat {tmp_path}/big >&7 & head -c {len(big)} <&6 | sha256sum"
            done = run([OURS, "-RHl0", "127.0.0.1", str(port), "sh", "-c", script], env=env_of(authority))
    assert done.stdout.split()[0].decode() == hashlib.sha256(big).hexdigest()
