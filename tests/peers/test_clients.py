"""Real clients fetch and delete through the whole chain: fetchmail, mpop, getmail6, curl and Python's poplib."""

import contextlib
import os
import poplib
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.helpers import environment, needs, run
from tests.servers import MESSAGES, NAME, OURS, PASSWORD, Home, Server, home, on_wire, pop3, serve

# A client gets the server, a password and a folder of its own, fetches and deletes all mail; returns its exit code,
# the messages with LF line ends, and what it said.
Result = tuple[int, list[bytes], bytes]
Client = Callable[[Server, str, Path], Result]


def private(path: Path, text: str) -> Path:
    """Configurations hold a password: the clients insist on mode 600."""
    path.touch(0o600)
    path.write_text(text)
    return path


def called(argv: Sequence[str | Path], folder: Path) -> "subprocess.CompletedProcess[bytes]":
    return run(argv, env=environment(HOME=str(folder), USER="max", LOGNAME="max"), cwd=folder)


def saver(folder: Path) -> Path:
    """A delivery agent: keeps the message on its standard input as a file of out."""
    (folder / "out").mkdir()
    path = folder / "save"
    path.write_text(f"#!/bin/sh\nexec cat > {folder}/out/$(ls {folder}/out | wc -l)\n")
    path.chmod(0o755)
    return path


def saved(folder: Path) -> list[bytes]:
    return [(folder / "out" / str(number)).read_bytes() for number in range(len(list((folder / "out").iterdir())))]


def fetchmail(server: Server, password: str, folder: Path) -> Result:
    text = f"""set invisible
    poll 127.0.0.1 protocol pop3 service {server.port} no dns
        user "{NAME}" there with password "{password}" is root here
        sslproto '' fetchall no keep no rewrite pass8bits no mimedecode mda "{saver(folder)}"\n"""
    config = private(folder / "fetchmailrc", text)
    done = called([needs("fetchmail"), "-f", config, "-i", folder / "ids", "--pidfile", folder / "pid", "-v"], folder)
    return done.returncode, saved(folder), done.stdout + done.stderr


def mpop(server: Server, password: str, folder: Path) -> Result:
    text = f"""account default
host 127.0.0.1
port {server.port}
user {NAME}
password {password}
auth user
tls off
tls_starttls off
keep off
received_header off
uidls_file {folder}/uidls
delivery mda {saver(folder)}\n"""
    done = called([needs("mpop"), "-C", private(folder / "mpoprc", text)], folder)
    return done.returncode, saved(folder), done.stdout + done.stderr


def getmail(server: Server, password: str, folder: Path) -> Result:
    text = f"""[retriever]
type = SimplePOP3Retriever
server = 127.0.0.1
port = {server.port}
username = {NAME}
password = {password}
[destination]
type = MDA_external
path = {saver(folder)}
unixfrom = false
allow_root_commands = true
[options]
delete = true
delivered_to = false
received = false
verbose = 2\n"""
    private(folder / "getmailrc", text)
    done = called([needs("getmail"), f"--getmaildir={folder}", "--rcfile=getmailrc"], folder)
    return done.returncode, saved(folder), done.stdout + done.stderr


def curl(server: Server, password: str, folder: Path) -> Result:
    """curl knows no "all": it lists, then fetches and deletes each in sessions of their own, the last one first."""
    base = [needs("curl"), "-sS", "--disable", "--user", f"{NAME}:{password}"]
    url = f"pop3://127.0.0.1:{server.port}/"
    listed = called([*base, url], folder)
    found = []
    for line in [line for line in listed.stdout.splitlines() if line][::-1]:
        number = line.split()[0].decode()
        found.append(called([*base, url + number], folder).stdout.replace(b"\r\n", b"\n"))
        called([*base, "--request", "DELE", "--head", url + number], folder)
    return listed.returncode, found[::-1], listed.stderr


def python(server: Server, password: str, folder: Path) -> Result:
    client = poplib.POP3("127.0.0.1", server.port, timeout=20)
    try:
        client.user(NAME)
        client.pass_(password)
        count = client.stat()[0]
        messages = [b"\n".join(client.retr(number + 1)[1]) + b"\n" for number in range(count)]
        for number in range(count):
            client.dele(number + 1)
        client.quit()
    except poplib.error_proto as e:
        return 1, [], str(e).encode()
    finally:
        client.close()
    return 0, messages, b""


CLIENTS: list[Client] = [fetchmail, mpop, getmail, curl, python]

# Exit code and text of each client when the password is wrong.
REFUSALS = {
    "fetchmail": (3, rb"(?i)authorization fail"),
    "mpop": (77, rb"(?i)authentication fail"),
    "getmail": (None, rb"(?i)credential|authorization|login fail"),
    "curl": (67, rb"(?i)denied|login"),
    "python": (1, rb"authorization failed"),
}


@pytest.fixture
def at() -> Iterator[Home]:
    with home() as made:
        yield made


def served(at: Home) -> Server:
    return serve(OURS, *pop3(), env=at.environment())


def plain(found: bytes) -> bytes:
    """What a client kept: without the header fields that it adds itself."""
    return re.sub(rb"\A(?:Return-Path|Delivered-To|Received|X-getmail-[^:]*): [^\n]*\n(?:[ \t][^\n]*\n)*", b"", found)


# fetchmail and getmail do not carry a NUL through; so each gets what mail may hold.
MAIL = (*MESSAGES[:2], b"Subject: eight bits\n\n\xff\xfe \xc3\xbc\n" + b"x" * 900 + b"\n\n\n", b"Subject: no body\n\n")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_fetches_every_message_as_it_is_and_deletes_it(client: Client, at: Home, tmp_path: Path) -> None:
    at.deliver(*MAIL)
    with served(at) as server:
        code, found, said = client(server, PASSWORD, tmp_path)
    assert code == 0, said
    expected = [on_wire(message).replace(b"\r\n", b"\n").rstrip(b"\n") for message in MAIL]
    assert [plain(message).rstrip(b"\n") for message in found] == expected
    assert at.messages() == []


@pytest.mark.parametrize("client", [curl, python])
def test_a_client_finds_one_empty_line_behind_the_message(client: Client, at: Home, tmp_path: Path) -> None:
    at.deliver(*MESSAGES)
    with served(at) as server:
        found = client(server, PASSWORD, tmp_path)[1]
    assert found == [message + b"\n" for message in MESSAGES]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_understands_that_the_password_is_wrong(client: Client, at: Home, tmp_path: Path) -> None:
    at.deliver(*MESSAGES)
    with served(at) as server:
        code, found, said = client(server, "wrong", tmp_path)
    expected, text = REFUSALS[client.__name__]
    assert code == expected if expected is not None else code != 0, said
    assert re.search(text, said), said
    assert found == []
    assert at.messages() == list(MESSAGES)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_finds_an_empty_mailbox(client: Client, at: Home, tmp_path: Path) -> None:
    with served(at) as server:
        code, found, said = client(server, PASSWORD, tmp_path)
    assert (code, found) == (1 if client is fetchmail else 0, []), said  # fetchmail: 1, there was no mail


def test_mpop_logs_in_by_apop(at: Home, tmp_path: Path) -> None:
    at.deliver(*MESSAGES[:2])
    base = [needs("mpop"), "--host=127.0.0.1", "--user=plain", "--tls=off", "--tls-starttls=off", "--keep=off"]
    config = private(tmp_path / "netrc", f"machine 127.0.0.1 login plain password {PASSWORD}\n")
    config.rename(tmp_path / ".netrc")
    with served(at) as server:
        port = f"--port={server.port}"
        argv = [*base, port, "--auth=apop", f"--delivery=mda,{saver(tmp_path)}", f"--uidls-file={tmp_path}/u"]
        done = called(argv, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(saved(tmp_path)) == 2
    assert at.messages() == []


def test_fetchmail_logs_in_by_apop(at: Home, tmp_path: Path) -> None:
    at.deliver(*MESSAGES[:1])
    with served(at) as server:
        text = f"""set invisible
            poll 127.0.0.1 protocol apop service {server.port} no dns
            user "plain" there with password "{PASSWORD}" is root here
            sslproto '' fetchall no keep no rewrite mda "{saver(tmp_path)}"\n"""
        config = private(tmp_path / "rc", text)
        argv: list[str | Path] = [
            needs("fetchmail"),
            "-f",
            config,
            "-i",
            tmp_path / "ids",
            "--pidfile",
            tmp_path / "pid",
        ]
        done = called(argv, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert at.messages() == []


def test_curl_logs_in_by_apop_and_by_sasl(at: Home, tmp_path: Path) -> None:
    at.deliver(*MESSAGES[:1])
    with served(at) as server:
        for options in ("+APOP", "PLAIN", "LOGIN"):
            url = f"pop3://127.0.0.1:{server.port}/1"
            login = ["--user", f"plain:{PASSWORD}", "--login-options", f"AUTH={options}"]
            done = called([needs("curl"), "-sS", "--disable", *login, url], tmp_path)
            assert (done.stdout.replace(b"\r\n", b"\n"), done.stderr) == (MESSAGES[0] + b"\n", b"")


def test_poplib_logs_in_by_apop_and_uses_every_command(at: Home) -> None:
    at.deliver(*MESSAGES)
    with served(at) as server:
        client = poplib.POP3("127.0.0.1", server.port, timeout=20)
        client.apop("plain", PASSWORD)
        assert client.stat() == (3, sum(map(len, MESSAGES)))
        assert client.list()[1] == [b"%d %d" % (n + 1, len(text)) for n, text in enumerate(MESSAGES)]
        assert len(set(client.uidl()[1])) == 3
        assert client.top(1, 0)[1] == [*MESSAGES[0].split(b"\n\n")[0].split(b"\n"), b"", b""]
        client.dele(2)
        client.rset()
        client.noop()
        client.dele(1)
        client.quit()
    assert at.messages() == list(MESSAGES[1:])


def test_a_wrong_apop_digest_is_refused(at: Home) -> None:
    with served(at) as server:
        client = poplib.POP3("127.0.0.1", server.port, timeout=20)
        with pytest.raises(poplib.error_proto, match="authorization failed"):
            client.apop("plain", "wrong")
        client.close()


def test_two_clients_at_once_both_get_all_mail(at: Home, tmp_path: Path) -> None:
    """Maildir needs no lock; a deletion by one leaves what the other has opened, or an error for one message."""
    at.deliver(*MESSAGES)
    results: list[list[bytes]] = []
    both_logged_in = threading.Barrier(2, timeout=20)

    def fetch(port: int) -> None:
        client = poplib.POP3("127.0.0.1", port, timeout=20)
        client.user(NAME)
        client.pass_(PASSWORD)
        both_logged_in.wait()
        results.append([b"\r\n".join(client.retr(number + 1)[1]) + b"\r\n" for number in range(client.stat()[0])])
        both_logged_in.wait()
        for number in range(3):
            client.dele(number + 1)
        with contextlib.suppress(poplib.error_proto):  # the slower one finds nothing left to unlink
            client.quit()

    with served(at) as server:
        threads = [threading.Thread(target=fetch, args=(server.port,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [[on_wire(message) for message in MESSAGES]] * 2
    assert at.messages() == []


def test_a_client_that_vanishes_deletes_nothing(at: Home) -> None:
    at.deliver(*MESSAGES)
    with served(at) as server:
        client = poplib.POP3("127.0.0.1", server.port, timeout=20)
        client.user(NAME)
        client.pass_(PASSWORD)
        client.dele(1)
        client.close()
        server.line("tcpserver: end .*")
        assert at.messages() == list(MESSAGES)
        assert os.listdir(at.maildir / "tmp") == []
