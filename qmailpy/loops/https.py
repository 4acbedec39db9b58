"""https - one small file from a web server that is who it says. Heavy: import it where it is needed.

The network is read here, within bounds of size and time; what has come is then read by http.client.
"""

import _socket
import http.client
import io
import ssl
from _collections_abc import Iterable

from qmailpy.loops import connect, tlsclient
from qmailpy.loops.tlsclient import Channel, Failed

CONNECT_S = 15
WHOLE_S = 30  # section 3.3 of RFC 8461 has a minute for all
HEAD = 16384  # bytes, more than the file itself may have
RECEIVED = 16384


class _Heard:
    """What http.client takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def fetch(
    addresses: Iterable[bytes], port: int, host: bytes, path: bytes, context: ssl.SSLContext, largest: int, kind: str
) -> bytes:
    """The file, of that media type, from the first address that takes the connection. No redirection is followed.
    Raises Failed, also where the file has more bytes than largest."""
    for ip in addresses:
        try:
            sock = connect.stream(ip)
        except OSError:
            continue
        try:
            try:
                connect.connect(sock, ip, port, connect.Deadline(CONNECT_S))
            except OSError:
                continue
            return _content(_said(sock, host, path, context, HEAD + 2 * largest), largest, kind)
        finally:
            sock.close()
    raise Failed(b"no connection")


def _said(sock: _socket.socket, host: bytes, path: bytes, context: ssl.SSLContext, most: int) -> bytes:
    """All that the server answers."""
    deadline = connect.Deadline(WHOLE_S)
    channel = Channel(sock, context, host, WHOLE_S, WHOLE_S)
    sock.settimeout(CONNECT_S)
    data = b""
    try:
        channel.send(b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAccept: text/plain\r\n\r\n" % (path, host))
        while len(data) <= most and (block := channel.recv(RECEIVED)):
            data += block
            sock.settimeout(min(CONNECT_S, deadline.left()))
    except OSError as e:
        raise Failed(tlsclient.reason(e))
    return data


def _content(data: bytes, largest: int, kind: str) -> bytes:
    response = http.client.HTTPResponse(_Heard(data))  # type: ignore[arg-type]
    try:
        response.begin()
        text = response.read(largest + 1)
        whole = response.read(1) == b""
    except (http.client.HTTPException, ValueError, OSError):
        raise Failed(b"the answer is no HTTP")
    if response.status != http.client.OK:
        raise Failed(b"status %d" % response.status)
    if response.headers.get_content_type() != kind:
        raise Failed(b"the answer is not " + kind.encode())
    if len(text) > largest or not whole or response.length:
        raise Failed(b"the answer is too long, or not whole")
    return text
