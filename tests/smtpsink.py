"""SMTP servers for tests of a client: what each says is a script, what each hears is kept; with TLS if they are to."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping

from tests.servers import TIMEOUT

Say = bytes | None | Callable[["Session"], bytes | None]  # None: hang up

FAIR: dict[str, Say] = {
    "greeting": b"220 sink.example ESMTP\r\n",
    "EHLO": b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n",
    "HELO": b"250 sink.example\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go ahead\r\n",
    "message": b"250 2.0.0 ok 1795 qp 23\r\n",
    "QUIT": None,
}
OLD: dict[str, Say] = {**FAIR, "EHLO": b"502 unimplemented (#5.5.1)\r\n"}


def offering(context: ssl.SSLContext, **changes: Say) -> dict[str, Say]:
    """FAIR with STARTTLS, and what else is to be changed."""

    def begin(session: "Session") -> bytes:
        session.connection.sendall(b"220 2.0.0 go ahead\r\n")
        session.secure(context)
        return b""

    ehlo = b"250-sink.example\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 SIZE 0\r\n"
    return {**FAIR, "EHLO": ehlo, "STARTTLS": begin, **changes}


class Session:
    """One client. tls: the connection, once it is secure; client: the client's
    certificate; lines: its commands; message: between DATA and the dot, as on the wire; ended: the dot has come."""

    def __init__(self, connection: socket.socket, script: Mapping[str, Say]) -> None:
        self.lines: list[bytes] = []
        self._taken = bytearray()
        self.ended = False
        self.tls: ssl.SSLSocket | None = None
        self.client: dict[str, object] = {}
        self.over = threading.Event()
        self.connection = connection
        self._script = script
        self._input = connection.makefile("rb")

    @property
    def message(self) -> bytes:
        return bytes(self._taken)

    def secure(self, context: ssl.SSLContext) -> None:
        """Go on by TLS."""
        self.connection = self.tls = context.wrap_socket(self.connection, server_side=True)
        self.client = dict(self.tls.getpeercert() or {})
        self._input = self.connection.makefile("rb")

    def serve(self, context: ssl.SSLContext | None = None) -> None:
        """context: for TLS from the first byte."""
        try:
            with contextlib.suppress(OSError):
                if context is not None:
                    self.secure(context)
                self._serve()
        finally:
            self._input.close()
            self.connection.close()
            self.over.set()

    def _serve(self) -> None:
        if not self._answer("greeting"):
            return
        while line := self._input.readline():
            self.lines.append(line)
            verb = line.split()[0].decode("latin-1").upper() if line.strip() else ""
            verb = verb if verb == "STARTTLS" else line[:4].decode("latin-1").strip().upper()
            if not self._answer(verb if verb in self._script else "other"):
                return
            if verb == "DATA" and not self._take():
                return

    def _answer(self, what: str) -> bool:
        say = self._script.get(what, b"502 unimplemented (#5.5.1)\r\n")
        reply = say(self) if callable(say) else say
        if reply is None:
            return False
        self.connection.sendall(reply)
        return True

    def _take(self) -> bool:
        data = self._script["DATA"]
        if not isinstance(data, bytes) or not data.startswith(b"3"):
            return True
        while line := self._input.readline():
            if line == b".\r\n":
                self.ended = True
                return self._answer("message")
            self._taken += line
        return False


class Sink:
    """A server for one client after the other."""

    def __init__(
        self, script: Mapping[str, Say], ip: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
    ) -> None:
        self._context = context
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self._socket = socket.create_server((ip, port), family=family)
        self._script = script
        self._sessions: list[Session] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def sessions(self) -> list[Session]:
        """Those so far, once they are over: a client may have gone before its last line is read here."""
        for session in self._sessions.copy():
            session.over.wait(TIMEOUT)
        return self._sessions

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                connection.settimeout(TIMEOUT)
                session = Session(connection, self._script)
                self._sessions.append(session)
                session.serve(self._context)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(TIMEOUT)


@contextlib.contextmanager
def sink(
    script: Mapping[str, Say] = FAIR, ip: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
) -> Iterator[Sink]:
    """context: for TLS from the first byte."""
    server = Sink(script, ip, port, context)
    try:
        yield server
    finally:
        server.close()
