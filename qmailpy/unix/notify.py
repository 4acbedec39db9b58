"""notify - tell the service manager that started us how we are: sd_notify(3)'s protocol, a datagram to a socket."""

import os


def tell(address: bytes, message: bytes) -> None:
    """Send message, such as b"READY=1", to the socket of NOTIFY_SOCKET, a path or @name. Raises OSError."""
    import _socket

    sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        sender.sendto(message, b"\0" + address[1:] if address.startswith(b"@") else os.fsdecode(address))
    finally:
        sender.close()
