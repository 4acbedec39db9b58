"""tcpenviron - the variables that tell a program about its TCP connection: tcp-environ(5). Pure."""

from qmailpy.formats import addresses

# Of another connection, further out in the chain: nobody may take them for this one's.
TCP6 = (
    b"TCP6LOCALIP", b"TCP6LOCALPORT", b"TCP6LOCALHOST",
    b"TCP6REMOTEIP", b"TCP6REMOTEPORT", b"TCP6REMOTEHOST", b"TCP6REMOTEINFO",
    b"TCP6INTERFACE",
)  # fmt: skip


def variables(
    local_ip: bytes,
    local_port: int,
    local_host: bytes | None,
    remote_ip: bytes,
    remote_port: int,
    remote_host: bytes | None,
    remote_info: bytes | None,
    interface: bytes | None = None,
) -> list[tuple[bytes, bytes | None]]:
    """(name, value) in the originals' order; value None means that the variable is to be removed.

    An address is 4 or 16 bytes; one that is IPv4 mapped into IPv6 is shown as IPv4. With IPv4 peers the TCP6
    variables are removed, with IPv6 peers each TCP variable has its TCP6 twin, as in the IPv6 versions of
    ucspi-tcp. A value is cut at its first NUL, as the environment holds none: an ident server may send one.
    """
    local_ip, remote_ip = addresses.unmap(local_ip), addresses.unmap(remote_ip)
    tcp: list[tuple[bytes, bytes | None]] = [
        (b"LOCALIP", addresses.format_ip(local_ip)),
        (b"LOCALPORT", b"%d" % local_port),
        (b"LOCALHOST", local_host),
        (b"REMOTEIP", addresses.format_ip(remote_ip)),
        (b"REMOTEPORT", b"%d" % remote_port),
        (b"REMOTEHOST", remote_host),
        (b"REMOTEINFO", remote_info),
    ]
    tcp = [(name, None if value is None else value.partition(b"\0")[0]) for name, value in tcp]
    plain = [(b"TCP" + name, value) for name, value in tcp]
    if len(remote_ip) == 4:
        return [(b"PROTO", b"TCP"), *plain, *((name, None) for name in TCP6)]
    twins = [(b"TCP6" + name, value) for name, value in tcp]
    return [(b"PROTO", b"TCP6"), *plain, *twins, (b"TCP6INTERFACE", interface)]
