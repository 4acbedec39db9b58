"""client - make a TCP connection, and of this process a program on it: what tcpclient and sslclient share."""

import _socket
import errno
import os
from _collections_abc import Callable

from qmailpy import strerr
from qmailpy.formats import addresses, dns, options, sslenviron, tcpenviron, ucspitls
from qmailpy.formats.numbers import scan
from qmailpy.formats.resolvconf import Resolver
from qmailpy.loops import connect, ident, keeper, resolve
from qmailpy.unix import fds, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Env = dict[bytes, bytes]

READ_FD, WRITE_FD = 6, 7  # UCSPI, client side

ERRORS, EVERYTHING = 1, 2  # verbosity
ACCOUNT, NOBODY = b"TLSUSER", b"nobody"  # whose process does TLS, if root starts it

# Options without an argument: letter -> (setting, value)
FLAGS: dict[bytes, tuple[str, object]] = {
    b"d": ("nodelay", False), b"D": ("nodelay", True),
    b"q": ("verbosity", 0), b"Q": ("verbosity", ERRORS), b"v": ("verbosity", EVERYTHING),
    b"h": ("remote_host", True), b"H": ("remote_host", False),
    b"r": ("remote_info", True), b"R": ("remote_info", False),
    b"4": ("kinds", (4,)), b"6": ("kinds", (6,)),
}  # fmt: skip

NUMBERS = {b"t": "ident_timeout_s"}
WORDS = {b"l": "local_host", b"I": "interface"}

LOOPBACK = {4: b"127.0.0.1", 6: b"::1"}
LOOK_UP: dict[int, Callable[[Resolver, bytes], list[bytes]]] = {4: resolve.qualified4, 6: resolve.qualified6}


class Fatal(Exception):
    """There will be no connection. text: what the client says, without the reason; empty if it has said enough."""

    def __init__(self, text: bytes, error: OSError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.error = error


class Settings:
    """What the command line says."""

    def __init__(self, program: bytes) -> None:
        self.program = program
        self.nodelay = False
        self.verbosity = ERRORS
        self.remote_host = self.remote_info = True
        self.kinds: tuple[int, ...] = (4, 6)
        self.local_ip: bytes | None = None
        self.local_port = 0
        self.local_host: bytes | None = None
        self.interface = b""
        self.timeouts_s = (2, 58)
        self.ident_timeout_s = 26
        # TLS
        self.tls = False
        self.verified = self.named = True  # by roots; and to be who it was meant to be
        self.idle_s = 3600
        self.described = True  # whether the program is told what TLS is like
        self.depth = -1  # certificates between the server's and a root, at most; -1: any number

    def read(
        self,
        letters: list[tuple[bytes, bytes]],
        flags: dict[bytes, tuple[str, object]],
        numbers: dict[bytes, str],
        words: dict[bytes, str],
    ) -> bool:
        """Apply the options in order; False for a LOCALIP that is none."""
        for letter, word in letters:
            if options.apply(self, letter, word, flags, numbers, words):
                continue
            if letter == b"T":
                once, length = scan(word)
                self.timeouts_s = (once, scan(word[length:].removeprefix(b"+"))[0])
            elif letter == b"p":
                self.local_port = scan(word)[0] & 0xFFFF
            else:  # -i
                self.local_ip = addresses.parse_ipv6(word) or dns.scan4(word)[0]
                if not self.local_ip:
                    return False
        if self.local_ip is not None:
            kind = 4 if len(self.local_ip) == 4 else 6
            self.kinds = tuple(possible for possible in self.kinds if possible == kind)
        return True

    def say(self, level: int, text: bytes) -> None:
        if self.verbosity >= level:
            strerr.say(b"%s: %s\n" % (self.program, text))


def _end(ip: bytes, port: int) -> bytes:
    return b"%s port %d" % (addresses.format_ip(ip), port)


def connected(host: bytes, port: int, settings: Settings, names: Resolver) -> _socket.socket:
    """A connection to one of the host's addresses. Raises Fatal."""
    found = False
    for kind in settings.kinds:
        try:
            ips = LOOK_UP[kind](names, host)
        except resolve.Unresolved as e:
            if found:
                break
            raise Fatal(b"temporarily unable to figure out IP address for " + host, e)
        found = found or bool(ips)
        sock = _first_to_answer(ips, port, settings)
        if sock is not None:
            return sock
    raise Fatal(b"" if found else b"no IP address for " + host)


def _first_to_answer(ips: list[bytes], port: int, settings: Settings) -> _socket.socket | None:
    """Try the addresses; then again, with more patience, those that were too slow."""
    once, again = settings.timeouts_s if len(ips) > 1 else (sum(settings.timeouts_s), 0)
    for timeout_s, retry in ((once, again > 0), (again, False)):
        slow = []
        for ip in ips:
            sock = _new_socket(ip, settings)
            try:
                connect.connect(sock, ip, port, connect.Deadline(timeout_s), settings.interface)
                sock.settimeout(None)
                return sock
            except OSError as e:
                sock.close()
                if retry and e.errno == errno.ETIMEDOUT:
                    slow.append(ip)
                else:
                    settings.say(ERRORS, b"unable to connect to %s: %s" % (_end(ip, port), strerr.reason(e)))
        ips = slow
    return None


def _new_socket(remote_ip: bytes, settings: Settings) -> _socket.socket:
    try:
        sock = connect.stream(remote_ip)
    except OSError as e:
        raise Fatal(b"unable to create socket", e)
    if settings.local_ip is not None or settings.local_port:
        try:
            connect.bind(sock, settings.local_ip or bytes(len(remote_ip)), settings.local_port, settings.interface)
        except OSError as e:
            raise Fatal(b"unable to bind socket", e)
    return sock


def described(sock: _socket.socket, settings: Settings, names: Resolver, env: Env) -> Env:
    """The environment of the program. Looks up what the settings want to be known. Raises Fatal."""
    try:
        what = b"local"
        local_ip, local_port = connect.local(sock)
        local_host = _name(names, local_ip) if settings.local_host is None else settings.local_host
        what = b"remote"
        remote_ip, remote_port = connect.remote(sock)
    except OSError as e:
        raise Fatal(b"unable to get %s address" % what, e)
    settings.say(EVERYTHING, b"connected to " + _end(remote_ip, remote_port))
    remote_host = _name(names, remote_ip) if settings.remote_host else None
    info = None
    if settings.remote_info:
        info = ident.remoteinfo(local_ip, local_port, remote_ip, remote_port, settings.ident_timeout_s)
    ends = [addresses.format_ip(addresses.unmap(ip)) for ip in (local_ip, remote_ip)]
    return tcpenviron.environment(
        env, ends[0], local_port, local_host, ends[1], remote_port, remote_host, info, settings.interface or None
    )


def _name(names: Resolver, ip: bytes) -> bytes | None:
    """As in the original, b"" is an address that has no name, and None one whose name cannot be found out."""
    try:
        return resolve.names(names, ip) or b""
    except resolve.Unresolved:
        return None


def _move(fd: int) -> None:
    """Let the program have the connection. Raises Fatal."""
    try:
        number = READ_FD
        fds.move(fd, READ_FD)
        number = WRITE_FD
        fds.copy(READ_FD, WRITE_FD)
    except OSError as e:
        raise Fatal(b"unable to set up descriptor %d" % number, e)


# TLS


def secure(
    sock: _socket.socket,
    host: bytes,
    settings: Settings,
    env: Env,
    chain: "Any",
    make_context: "Callable[[], Any]",
) -> tuple[int, Env]:
    """Have a process of its own, a child of the program's, do TLS on a connection: the local socket that stands for it,
    and the variables that describe it. make_context() is called there, and gives the context, or raises tls.Refused;
    chain: the module. Raises Fatal."""
    handshake_s = sum(settings.timeouts_s)
    try:
        local, their_local = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        control, their_control = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        reports, reporting = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM)

        def complain(text: bytes) -> None:
            strerr.warn(settings.program, text)

        def child() -> int:
            from qmailpy.loops import tls

            terms = tls.Terms(handshake_s, settings.idle_s, settings.depth)
            four = sock, their_local, their_control, reporting
            account, to_say = env.get(ACCOUNT) or NOBODY, complain if settings.verbosity else None
            return tls.connect(make_context, terms, account, four, os.fsdecode(host), to_say)

        chain.spawn(child, env, os.fsdecode(settings.program))
    except OSError as e:
        raise Fatal(b"unable to fork", e)
    for theirs in (sock, their_local, their_control, reporting):
        theirs.close()
    try:
        variables = keeper.answer(control.fileno(), handshake_s)
    except keeper.Failed as e:
        if e.error is not None:
            raise Fatal(b"unable to SSL connect", e.error)
        try:
            why = reports.recv(4096, _socket.MSG_DONTWAIT).translate(keeper.PRINTABLE)
        except OSError:
            why = b"nobody does TLS"
        raise Fatal(why if why.startswith(b"unable to ") else b"unable to SSL connect: " + why)
    return local.detach(), variables


def client(
    settings: Settings,
    host: bytes,
    service: bytes,
    names: Resolver,
    env: Env,
    begin: "Callable[[_socket.socket, bytes], tuple[int, Env]] | None" = None,
    name: Callable[[Env], Env] = dict,
) -> Env:
    """From the look-ups to the program, whose environment this returns; its descriptors are there. begin(socket, host)
    begins TLS, as secure does; name(env) changes the names of variables, if a command has others than tcpclient. Raises
    Fatal."""
    port = connect.service(service)
    if port is None:
        raise Fatal(b"unable to figure out port number for " + service)
    if host in (b"", b"0"):
        host = LOOPBACK[6 if settings.kinds == (6,) else 4]
    sock = connected(host, port, settings, names)
    if settings.nodelay:
        try:
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError:  # it works without
            pass
    environment = name(described(sock, settings, names, env))
    if begin is None:
        _move(sock.detach())
        return environment
    fd, variables = begin(sock, host)
    _move(fd)
    environment = sslenviron.forget(ucspitls.without(environment))
    return {**environment, **variables} if settings.described else environment


def serve(
    settings: Settings,
    usage: bytes,
    command_line: tuple[list[tuple[bytes, bytes]], list[bytes]],
    become: "Callable[[list[bytes], Env], Any]",
    run: Callable[[bytes, bytes], Env],
    flags: dict[bytes, tuple[str, object]] = FLAGS,
    numbers: dict[bytes, str] = NUMBERS,
    words_of: dict[bytes, str] = WORDS,
) -> "Any":
    """The command, with a command line as options.parse gives it. run(host, service) is client with its arguments;
    become(program, env): what follows, chain.Exec."""
    letters, words = command_line
    if not settings.read(letters, flags, numbers, words_of):
        return strerr.usage(settings.program, usage)
    if len(words) < 3:
        return strerr.usage(settings.program, usage) if settings.verbosity else strerr.NEVER
    signals.ignore(signals.PIPE)
    try:
        return become(words[2:], run(words[0], words[1]))
    except Fatal as e:
        if e.text and settings.verbosity:
            strerr.fail(strerr.LATER, settings.program, e.text, error=e.error)
        return strerr.LATER
    finally:
        signals.default(signals.PIPE)


def close_ours() -> None:
    """As the originals do, before anything else."""
    for fd in (READ_FD, WRITE_FD):
        try:
            os.close(fd)
        except OSError:  # it was not open
            pass
