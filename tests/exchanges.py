"""A small Internet for one run of qmail-remote, in a network of its own, as root: a name server on port 53, and mail
servers on port 25 of addresses that are not this host's interfaces'.

    unshare -nm sh -c SETUP sh FOLDER python3 -m tests.exchanges < description > outcome

Both are JSON. The description: `records` of DNS, as [name, type, data]; `servers`, address: what its replies are in
place of fair ones, and a `certificate` if it has STARTTLS; `web`, address: a certificate and what is answered, for
https; `insecure`: names that DNSSEC says nothing of, null for all; `argv` and `env` of the program, `message` its
input. The outcome: `reports`, and how many `sessions` each server had."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests import dnsserver
from tests.helpers import PYTHON, ROOT, environment, run
from tests.smtpsink import OLD, Say, Sink, offering

# All of these addresses lead here, and belong to no interface. 203.0.113.0/24 leads nowhere.
SETUP = """\
mount --bind "$1/resolv.conf" /etc/resolv.conf || exit 1
ip link set lo up
ip route add local 198.51.100.0/24 dev lo
ip -6 route add local 2001:db8::/32 dev lo
ip route add unreachable 203.0.113.0/24
ip address add 192.0.2.1/32 dev lo
shift
exec "$@"
"""

Description = dict[str, Any]


def outcome(folder: Path, description: Description) -> tuple[list[str], dict[str, int]]:
    """Reports and sessions; folder is for files."""
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    argv = ["unshare", "-nm", "sh", "-c", SETUP, "sh", str(folder), PYTHON, "-m", "tests.exchanges"]
    env = environment(PYTHONPATH=str(ROOT))
    done = run(argv, json.dumps(description).encode(), env, cwd=ROOT, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)
    found = json.loads(done.stdout)
    return found["reports"], {ip: count for ip, count in found["sessions"].items() if count}


def _sinks(servers: dict[str, dict[str, str]], stack: contextlib.ExitStack) -> dict[str, Sink]:
    sinks = {}
    for ip, changes in servers.items():
        script: dict[str, Say] = {**OLD, **{what: reply.encode() for what, reply in changes.items()}}
        if "certificate" in changes:
            script = offering(_context(changes["certificate"]))
        # nobody can be bound to such an IPv6 address, but to all
        sinks[ip] = Sink(script, "::" if ":" in ip else ip, 25)
        stack.callback(sinks[ip].close)
    return sinks


def _context(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class Web:
    """An https server that always says the same. sessions: those that have asked for something."""

    def __init__(self, ip: str, certificate: str, answer: bytes) -> None:
        self._socket = socket.create_server((ip, 443))
        self._context = _context(certificate)
        self._answer = answer
        self.sessions: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with contextlib.suppress(OSError), self._context.wrap_socket(connection, server_side=True) as secure:
                self.sessions.append(secure.recv(65536))
                secure.sendall(self._answer)


def main() -> None:
    description = json.load(sys.stdin)
    records: dnsserver.Records = {}
    for name, kind, data in description["records"]:
        records.setdefault((name, kind), []).append(data)
    with contextlib.ExitStack() as stack:
        insecure = description.get("insecure")
        judge = None if insecure is None else lambda name: name not in insecure
        stack.enter_context(dnsserver.running(records, port=53, judge=judge))
        sinks: dict[str, Sink | Web] = {**_sinks(description["servers"], stack)}
        for ip, (certificate, answer) in description.get("web", {}).items():
            sinks[ip] = Web(ip, certificate, answer.encode("latin-1"))
        done = subprocess.run(
            description["argv"], input=description["message"].encode(), env=description["env"], capture_output=True,
            timeout=100, check=True,
        )  # fmt: skip
    reports = done.stdout.decode("latin-1").split("\0")[:-1]
    json.dump({"reports": reports, "sessions": {ip: len(sink.sessions) for ip, sink in sinks.items()}}, sys.stdout)


if __name__ == "__main__":
    main()
