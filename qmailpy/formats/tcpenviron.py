"""tcpenviron - the variables that tell a program about its TCP connection: tcp-environ(5). Pure."""

NAMES = (b"LOCALIP", b"LOCALPORT", b"LOCALHOST", b"REMOTEIP", b"REMOTEPORT", b"REMOTEHOST", b"REMOTEINFO")
TCP = tuple(b"TCP" + name for name in NAMES)
TCP6 = tuple(b"TCP6" + name for name in NAMES)
INTERFACE = b"TCP6INTERFACE"


def environment(
    env: dict[bytes, bytes],
    local_ip: bytes,
    local_port: int,
    local_host: bytes | None,
    remote_ip: bytes,
    remote_port: int,
    remote_host: bytes | None,
    remote_info: bytes | None,
    interface: bytes | None = None,
) -> dict[bytes, bytes]:
    """A copy of env that describes this connection and no other. Addresses are text; None means that something is not
    known, and its variable is removed.

    With IPv6 peers each TCP variable has its TCP6 twin, as in the IPv6 versions of ucspi-tcp; with IPv4 peers the
    twins of another connection, further out in the chain, are removed.
    """
    values = (local_ip, b"%d" % local_port, local_host, remote_ip, b"%d" % remote_port, remote_host, remote_info)
    described = dict(env)
    ipv6 = b":" in remote_ip
    described[b"PROTO"] = b"TCP6" if ipv6 else b"TCP"
    _set(described, TCP, values)
    _set(described, TCP6, values if ipv6 else (None,) * len(NAMES))
    _set(described, (INTERFACE,), (interface if ipv6 else None,))
    return described


def _set(env: dict[bytes, bytes], names: tuple[bytes, ...], values: tuple[bytes | None, ...]) -> None:
    for name, value in zip(names, values, strict=True):
        if value is not None:
            env[name] = value
        elif name in env:
            del env[name]
