"""ident - ask the host at the other end of a connection who opened it: the client side of RFC 1413."""

import _socket

from qmailpy.loops import connect
from qmailpy.protocols import ident

PORT = 113
BLOCK = 1024  # bytes


def remoteinfo(
    local_ip: bytes, local_port: int, remote_ip: bytes, remote_port: int, timeout_s: float, port: int = PORT
) -> bytes | None:
    """What the remote host says about the connection, at most 257 bytes, not filtered in any way but for blanks
    and NUL; b"" if it says that it does not say. None if there was no answer within timeout_s in all, for
    connecting, writing and reading. Addresses are 4 or 16 bytes, both of one kind."""
    deadline = connect.Deadline(timeout_s)
    sock: _socket.socket | None = None
    try:
        sock = connect.stream(remote_ip)
        connect.bind(sock, local_ip, 0)
        connect.connect(sock, remote_ip, port, deadline)
        sock.sendall(ident.question(remote_port, local_port))
        answer = b""
        while len(answer) < ident.LONGEST_ANSWER:
            sock.settimeout(deadline.left())
            block = sock.recv(BLOCK)
            if not block:
                return None
            answer += block
            info = ident.info(answer)
            if info is not None:
                return info
        return None
    except OSError:
        return None
    finally:
        if sock is not None:
            sock.close()
