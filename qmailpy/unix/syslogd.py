"""syslogd - one packet for the local log service, now or never: a login does not wait for it."""

import _socket

SOCKET = b"/dev/log"


def send(path: bytes, packet: bytes) -> bool:
    """Whether the service at path has taken packet."""
    try:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    except OSError:
        return False
    try:
        connection.sendto(packet, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL, path)
    except OSError:
        return False
    finally:
        connection.close()
    return True
