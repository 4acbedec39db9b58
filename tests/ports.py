"""A port of 127.0.0.1 for a server that cannot choose one itself, or that is started again on it."""

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_000
TRIES = 100


def free_port() -> int:
    """One that nobody listens on, and that the system gives neither to a client nor to a server that asks for any, if
    it leaves some: so it stays free while its server is away."""
    above = int(RANGE.read_text().split()[0]) if RANGE.exists() else 32768
    for _ in range(TRIES):
        port = random.randrange(LOWEST, above if above > LOWEST + TRIES else 65536)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:  # taken
            continue
        return port
    raise OSError("no free port")
