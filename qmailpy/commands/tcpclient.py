"""NAME
    tcpclient - make an outgoing TCP connection

SYNOPSIS
    tcpclient [-46hHrRdDqQv] [-i LOCALIP] [-p LOCALPORT] [-T X+Y] [-l LOCALNAME] [-t TIMEOUT] [-I INTERFACE]
        HOST PORT PROGRAM [ARG...]

DESCRIPTION
    tcpclient connects to PORT of HOST and becomes PROGRAM with the arguments ARG, with descriptor 6 reading from
    the network and descriptor 7 writing to it, and with variables in its environment that describe the
    connection. Descriptors 0, 1 and 2 stay what they are.

        tcpclient -RHl0 mail.example smtp mconnect-io

    HOST is a name, an IPv4 or IPv6 address, or 0, which is 127.0.0.1. PORT is a number or a name of services(5).

    If HOST has several addresses, tcpclient tries one after the other: the IPv4 addresses, in random order, and,
    if none of them gives a connection, the IPv6 addresses. For each address that does not, it says why:

        tcpclient: unable to connect to 192.0.2.1 port 25: connection refused

OPTIONS
    -q             say nothing; -Q, the default, says errors; -v says also to which address it has connected
    -T X+Y         wait X seconds for each address, then Y seconds more for each one that was too slow; 2+58
                   unless set. A single address gets X+Y seconds at once. -T X is -T X+0
    -i LOCALIP     connect from that address, and to addresses of its kind only
    -p LOCALPORT   connect from that port
    -I INTERFACE   the interface that HOST, a link-local IPv6 address, is on
    -4             only IPv4 addresses of HOST
    -6             only IPv6 addresses of HOST; 0 is then ::1
    -d             let the kernel delay small packets, the default; -D does not (TCP_NODELAY)
    -h             look up the name of the remote address in DNS, the default; -H does not
    -l LOCALNAME   do not look up the name of the local address in DNS, use LOCALNAME for TCPLOCALHOST
    -r             ask the remote host's ident server for TCPREMOTEINFO, the default; -R does not
    -t TIMEOUT     give up on the ident server after TIMEOUT seconds, 26 unless set

    The look-ups happen between the connection and the program, which has to wait for them. -RHl0 spares them.

HOST NAMES
    Names are looked up in DNS alone; /etc/hosts is never read. A name that is made of digits, dots and brackets
    only is an IPv4 address. Any other is first completed by rules, from the first of these that exists:

        the file that DNSREWRITEFILE names, else /etc/dnsrewrite
        the variable LOCALDOMAIN: domains, separated by single spaces
        the first search or domain line of /etc/resolv.conf
        the domain of the local host's name

    All but the first make a domain follow a name without a dot, remove a final dot, and make localhost, and every
    name in the domain localhost, the local machine. The file has one rule in each line, which is tried on
    what the lines above it have made of the name:

        =NAME:NEW      the name NAME becomes NEW
        *TAIL:NEW      a name that ends in TAIL gets NEW in its place
        ?TAIL:NEW      the same, if there is no dot or bracket before TAIL
        -TAIL:NEW      a name that ends in TAIL becomes NEW

    If the outcome is PART+END1+END2, PARTEND1 and then PARTEND2 is tried.

    A server is given 3 seconds, then, when all have been asked, 11 and then 45.

ENVIRONMENT
    Set for the program:

    PROTO            TCP, or TCP6 for a connection by IPv6
    TCPLOCALIP       the local address
    TCPLOCALPORT     the local port
    TCPLOCALHOST     the local name; empty if there is none, unset if that cannot be found out
    TCPREMOTEIP      the remote address
    TCPREMOTEPORT    the remote port
    TCPREMOTEHOST    the remote name; likewise, and unset with -H
    TCPREMOTEINFO    what the remote ident server says, which may be nothing; unset if it does not answer
    TCP6LOCALIP...   with IPv6 the same again, with TCP6 for TCP; with -I also TCP6INTERFACE

    Read:

    DNSCACHEIP       the name servers to ask: IPv4 addresses, joined by dots, instead of those in /etc/resolv.conf;
                     without any, 127.0.0.1 is asked
    DNSREWRITEFILE, LOCALDOMAIN
                     see HOST NAMES
    QMAILPY_DNSPORT  the port that name servers are asked on, 53 unless set

EXIT STATUS
    That of the program.

    100    wrong usage
    111    no connection, or PROGRAM could not be run

SECURITY
    Host names and TCPREMOTEINFO are what name servers and the remote host say; they may be lies. Answers of name
    servers are matched by a random number and port only: let DNSCACHEIP be a cache that is near.

BUGS
    What was open as descriptor 6 or 7 is closed first, even if no connection is made.

SEE ALSO
    tcpserver(1), tcpcat(1), mconnect(1), who@(1), date@(1), finger@(1), http@(1), rblsmtpd(1)
"""

import _socket
import errno
import os
from _collections_abc import Callable

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import addresses, dns, options, tcpenviron
from qmailpy.formats.numbers import scan
from qmailpy.formats.resolvconf import Resolver
from qmailpy.loops import connect, ident, resolve
from qmailpy.stores import resolver
from qmailpy.unix import fds, signals

PROGRAM = b"tcpclient"
USAGE = (
    b"tcpclient [ -hHrRdDqQv ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ] "
    b"[ -t timeoutinfo ] host port program"
)
LETTERS = b"dDvqQhHrRi:p:t:T:l:46I:"
READ_FD, WRITE_FD = 6, 7  # UCSPI, client side

ERRORS, EVERYTHING = 1, 2  # verbosity

# Options without an argument: letter -> (setting, value)
FLAGS: dict[bytes, tuple[str, object]] = {
    b"d": ("nodelay", False), b"D": ("nodelay", True),
    b"q": ("verbosity", 0), b"Q": ("verbosity", ERRORS), b"v": ("verbosity", EVERYTHING),
    b"h": ("remote_host", True), b"H": ("remote_host", False),
    b"r": ("remote_info", True), b"R": ("remote_info", False),
    b"4": ("kinds", (4,)), b"6": ("kinds", (6,)),
}  # fmt: skip

LOOPBACK = {4: b"127.0.0.1", 6: b"::1"}
LOOK_UP: dict[int, Callable[[Resolver, bytes], list[bytes]]] = {4: resolve.qualified4, 6: resolve.qualified6}


class Fatal(Exception):
    """There will be no connection. text: what tcpclient says, without the reason; empty if it has said enough."""

    def __init__(self, text: bytes, error: OSError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.error = error


class Settings:
    """What the command line says."""

    def __init__(self) -> None:
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

    def read(self, letters: list[tuple[bytes, bytes]]) -> bool:
        """Apply the options in order; False for a LOCALIP that is none."""
        for letter, word in letters:
            if letter in FLAGS:
                name, value = FLAGS[letter]
                setattr(self, name, value)
            elif letter == b"T":
                once, length = scan(word)
                self.timeouts_s = (once, scan(word[length:].removeprefix(b"+"))[0])
            elif letter == b"t":
                self.ident_timeout_s = scan(word)[0]
            elif letter == b"p":
                self.local_port = scan(word)[0] & 0xFFFF
            elif letter == b"l":
                self.local_host = word
            elif letter == b"I":
                self.interface = word
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
            strerr.say(b"%s: %s\n" % (PROGRAM, text))


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


def _move(sock: _socket.socket) -> None:
    """Let the program, and no object, own the connection. Raises Fatal."""
    try:
        number = READ_FD
        fds.move(sock.detach(), READ_FD)
        number = WRITE_FD
        fds.copy(READ_FD, WRITE_FD)
    except OSError as e:
        raise Fatal(b"unable to set up descriptor %d" % number, e)


def client(settings: Settings, host: bytes, service: bytes, program: list[bytes], env: Env) -> Exec:
    """From the look-ups to the program. Raises Fatal."""
    port = connect.service(service)
    if port is None:
        raise Fatal(b"unable to figure out port number for " + service)
    if host in (b"", b"0"):
        host = b"::1" if settings.kinds == (6,) else b"127.0.0.1"
    names = resolver.read(env)
    sock = connected(host, port, settings, names)
    if settings.nodelay:
        try:
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError:  # it works without
            pass
    environment = described(sock, settings, names, env)
    _move(sock)
    return Exec(program, environment, who=PROGRAM if settings.verbosity else b"")


def main(argv: list[bytes], env: Env) -> int | Exec:
    for fd in (READ_FD, WRITE_FD):
        try:
            os.close(fd)
        except OSError:  # it was not open
            pass
    settings = Settings()
    try:
        letters, words = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        return strerr.usage(PROGRAM, USAGE)
    if not settings.read(letters):
        return strerr.usage(PROGRAM, USAGE)
    if len(words) < 3:
        return strerr.usage(PROGRAM, USAGE) if settings.verbosity else strerr.NEVER
    signals.ignore(signals.PIPE)
    try:
        return client(settings, words[0], words[1], words[2:], env)
    except Fatal as e:
        if e.text and settings.verbosity:
            strerr.fail(strerr.LATER, PROGRAM, e.text, error=e.error)
        return strerr.LATER
    finally:
        signals.default(signals.PIPE)
