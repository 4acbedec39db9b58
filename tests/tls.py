"""TLS for tests: certificates made by openssl(1), a client that sees each byte, and a search for a key in the memory of
processes."""

import contextlib
import hmac
import os
import re
import select
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import eventually, needs
from tests.ports import free_port
from tests.servers import TIMEOUT, Server

NAME = "mail.example"


def openssl(*words: str | Path, input: bytes = b"") -> bytes:
    done = subprocess.run([needs("openssl"), *words], input=input, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Authority:
    """A CA in a folder. Files of a name: NAME.key, NAME.crt, and NAME.pem with both, and what leads to a root."""

    def __init__(self, folder: Path, above: "Authority | None" = None) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.roots = folder / "ca.crt"
        self._chain = b""
        if above is None:
            self._make("ca", "/O=Tests/CN=Test CA", [], [])
        else:
            self._make(
                "ca", "/O=Tests/CN=Below", [*above.signing(), "-addext", "basicConstraints=critical,CA:TRUE"], []
            )
            self._chain = self.roots.read_bytes()

    def signing(self) -> list[str]:
        return ["-CA", str(self.roots), "-CAkey", str(self.folder / "ca.key")]

    def _make(self, name: str, subject: str, more: list[str], names: list[str], kind: str = "ec") -> Path:
        key, crt, pem = (self.folder / f"{name}.{end}" for end in ("key", "crt", "pem"))
        new = ["rsa:2048"] if kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        alternatives = ["-addext", "subjectAltName=" + ",".join(names)] if names else []
        words = ["req", "-x509", "-newkey", *new, "-noenc", "-keyout", str(key), "-out", str(crt)]
        openssl(*words, "-subj", subject, "-days", "2", *more, *alternatives)
        pem.write_bytes(key.read_bytes() + crt.read_bytes() + self._chain)
        for path in (key, crt, pem):
            path.chmod(0o600 if path != crt else 0o644)
        return pem

    def certificate(self, name: str, *names: str, subject: str = "", kind: str = "ec") -> Path:
        """NAME.pem for these DNS names and 127.0.0.1."""
        signed = [*self.signing(), "-addext", "basicConstraints=CA:FALSE"]
        alternatives = [f"DNS:{each}" for each in names or (name,)] + ["IP:127.0.0.1"]
        return self._make(name, subject or f"/CN={name}", signed, alternatives, kind)

    def revoked(self, *names: str) -> bytes:
        """A list of these certificates, and no others."""
        settings = self.folder / "ca.cnf"
        index = self.folder / "index.txt"
        index.write_bytes(b"")
        settings.write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={index}\ndefault_md=sha256\ndefault_crl_days=1\ncrlnumber={index}.number\n"
        )
        (self.folder / "index.txt.number").write_text("01\n")
        words: list[str | Path] = ["ca", "-config", settings, "-keyfile", self.folder / "ca.key", "-cert", self.roots]
        for name in names:
            openssl(*words, "-revoke", self.folder / f"{name}.crt")
        return openssl(*words, "-gencrl")

    def self_signed(self, name: str) -> Path:
        return self._make(name, f"/CN={name}", [], [f"DNS:{name}"])


def context(roots: Path | None = None, own: Path | None = None, version: str = "", name: bool = True) -> ssl.SSLContext:
    """For a client; roots: whom it trusts, anybody if None."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = roots is not None and name
    made.verify_mode = ssl.CERT_NONE if roots is None else ssl.CERT_REQUIRED
    if roots is not None:
        made.load_verify_locations(roots)
    if own is not None:
        made.load_cert_chain(own)
    if version:
        made.minimum_version = made.maximum_version = getattr(ssl.TLSVersion, version)
    return made


class Client:
    """One connection. TLS works on buffers, so that a test can do without, or stop, at any byte."""

    def __init__(
        self,
        connection: socket.socket,
        made: ssl.SSLContext | None = None,
        name: str | None = NAME,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.socket = connection
        self.socket.settimeout(TIMEOUT)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._held = b""
        self.tls = (made or context()).wrap_bio(self._in, self._out, False, name, session)
        self._do(self.tls.do_handshake)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _flush(self) -> None:
        if self._out.pending:
            self.socket.sendall(self._out.read())

    def _do(self, act: Callable[[], Any]) -> Any:
        while True:
            try:
                result = act()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._take()
            except BaseException:
                with contextlib.suppress(OSError):
                    self._flush()  # an alert
                raise
        self._flush()
        return result

    def _take(self) -> None:
        data = self.socket.recv(65536)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def send(self, data: bytes) -> None:
        while data:
            data = data[self.tls.write(data) :]
            self._flush()

    def read(self) -> bytes:
        """What comes next; b"" at close_notify."""
        if self._held:
            held, self._held = self._held, b""
            return held
        try:
            data: bytes = self._do(lambda: self.tls.read(65536))
        except ssl.SSLZeroReturnError:
            return b""
        return data

    def line(self) -> bytes:
        data = b""
        while not data.endswith(b"\n"):
            more = self.read()
            assert more, data
            data += more
        return data

    def rest(self) -> bytes:
        """To close_notify."""
        return b"".join(iter(self.read, b""))

    def end(self) -> None:
        """close_notify; the other side may go on. What has come from it already must not be in OpenSSL's way."""
        with contextlib.suppress(ssl.SSLWantReadError):
            while self._in.pending or self.tls.pending():
                self._held += self.tls.read(65536)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    def exchange(self, data: bytes, size: int) -> bytes:
        """Send data while size bytes come back."""
        found = bytearray()
        view = memoryview(data)
        pending = b""
        while len(found) < size or view or pending:
            if not pending and view:
                view = view[self.tls.write(view[:65536]) :]
                pending = self._out.read()
            readable, writable, _ = select.select([self.socket], [self.socket] if pending else [], [], TIMEOUT)
            assert readable or writable
            if writable:
                pending = pending[self.socket.send(pending) :]
            if readable:
                self._take()
                with contextlib.suppress(ssl.SSLWantReadError):
                    while piece := self.tls.read(65536):
                        found += piece
        return bytes(found)


def connect(server: Server, made: ssl.SSLContext | None = None, name: str | None = NAME, **more: Any) -> Client:
    return Client(server.connect(), made, name, **more)


def talk(server: Server, data: bytes = b"", made: ssl.SSLContext | None = None, name: str | None = NAME) -> bytes:
    """What it sends under TLS, once data was all that came."""
    with connect(server, made, name) as client:
        client.send(data)
        client.end()
        return client.rest()


@contextlib.contextmanager
def plain_client(server: Server) -> Iterator[socket.socket]:
    with server.connect() as connection:
        connection.settimeout(TIMEOUT)
        yield connection


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


@contextlib.contextmanager
def stunnel(folder: Path, text: str) -> Iterator[int]:
    """A stunnel of the lines text; gives the port on which it accepts."""
    port = free_port()
    configuration = folder / f"stunnel{port}.conf"
    configuration.write_text(f"foreground=yes\npid=\nsyslog=no\n[it]\naccept=127.0.0.1:{port}\n{text}\n")
    process = subprocess.Popen([needs("stunnel4"), configuration], stderr=subprocess.DEVNULL)

    try:
        assert eventually(lambda: listens(port))
        yield port
    finally:
        process.terminate()
        process.wait(TIMEOUT)


class Rekeying:
    """The records of a client of TLS 1.3 that changes its keys after each (RFC 8446, sections 4.6.3, 5 and 7.2), which
    no library can be made to do. secret: what a key log has as CLIENT_TRAFFIC_SECRET_0."""

    UPDATE = b"\x18\0\0\1\0"  # and the other side need not do the same
    HANDSHAKE, DATA, ALERT = 22, 23, 21

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._number = 0

    def _derived(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        text = size.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0\1"
        return hmac.digest(self._secret, text, "sha384")[:size]

    def record(self, kind: int, content: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        header = b"\x17\3\3" + (len(content) + 17).to_bytes(2, "big")
        counted = int.from_bytes(self._derived(b"iv", 12), "big") ^ self._number
        self._number += 1
        inner = content + bytes((kind,))
        return header + AESGCM(self._derived(b"key", 32)).encrypt(counted.to_bytes(12, "big"), inner, header)

    def update(self) -> bytes:
        sealed = self.record(self.HANDSHAKE, self.UPDATE)
        self._secret, self._number = self._derived(b"traffic upd", 48), 0
        return sealed


def keys_of(log: Path) -> bytes:
    """For Rekeying, of the last connection."""
    lines = [line.split() for line in log.read_text().splitlines()]
    return bytes.fromhex([words[2] for words in lines if words[0] == "CLIENT_TRAFFIC_SECRET_0"][-1])


# Keys in memory


def needles(pem: Path) -> list[bytes]:
    """What the private key looks like: its numbers as they stand in a file, and as OpenSSL keeps them; and the file."""
    text = openssl("pkey", "-in", pem, "-noout", "-text").decode()
    found = []
    for title in ("priv:", "privateExponent:", "prime1:", "prime2:"):
        at = text.find("\n" + title)
        if at >= 0:
            digits = re.match(r"(?:\n +[0-9a-f:]+)+", text[at + len(title) + 1 :])
            assert digits is not None
            number = bytes.fromhex(re.sub(r"[\s:]", "", digits[0])).lstrip(b"\0")
            found += [number[-32:], number[::-1][:32]]
    body = pem.read_bytes().split(b"PRIVATE KEY-----\n")[1]
    der = openssl("pkey", "-in", pem, "-outform", "DER")
    return [*found, body[40:80], der[8:60] if b"\x04\x20" in der[:60] else der[40:90]]


def memory(pid: int) -> Iterator[bytes]:
    """All that a process can write to, as root reads it."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            place, mode = line.split()[:2]
            if mode[0] != "r" or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(number, 16) for number in place.split("-"))
            with contextlib.suppress(OSError, ValueError, OverflowError):
                mem.seek(start)
                yield mem.read(end - start)


def holds(pid: int, wanted: list[bytes]) -> bool:
    return any(needle in part for part in memory(pid) for needle in wanted)


def descendants(pid: int) -> list[int]:
    """All processes below one, but those that have ended."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found += [int(child), *descendants(int(child))]
    return found


def confined(pid: int) -> bool:
    """Whether a process has given up what it does not need."""
    return "\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()


def tls_processes(server: Server, count: int) -> list[int]:
    """Those that do TLS or wait for a connection, once there are so many and all are what they should be."""
    found: list[int] = []

    def there() -> bool:
        found[:] = descendants(keeper_of(server))
        return len(found) == count and all(confined(pid) for pid in found)

    assert eventually(there), found
    return found


def keeper_of(server: Server) -> int:
    """The process that has the keys: the first child."""
    return server.children()[0]


def needs_root() -> None:
    if os.geteuid() != 0:
        sentence = "only root can look into the memory of other users' processes: run the tests as root"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
