"""resolve - host names, addresses and texts from the Domain Name System, asked of the servers that a Resolver names.

No such name, or no such record, is an empty answer; Unresolved means that it is not known now, and why. Servers
are asked from a new socket, so from a port that the kernel draws, with a new random number for each attempt.
"""

import _socket
import errno
import os
from _collections_abc import Callable

from qmailpy.formats import addresses, dns, resolvconf
from qmailpy.formats.resolvconf import Resolver, Server
from qmailpy.loops import connect
from qmailpy.protocols.dns import Attempt, Question

LARGEST_DATAGRAM = 512  # bytes, RFC 1035 section 4.2.1
MOST_ALIASES = 8  # one leading to the next, each in an answer of its own


class Unresolved(OSError):
    """A temporary failure; errno says which."""


class Host:
    """What DNS says of a host: addresses, in random order; name: what its aliases lead to, itself if it has none, in
    wire form; authentic: a believed server has validated that."""

    __slots__ = ("addresses", "authentic", "name")

    def __init__(self, addresses: list[bytes], name: bytes, authentic: bool) -> None:
        self.addresses = addresses
        self.name = name
        self.authentic = authentic


def addresses4(resolver: Resolver, name: bytes) -> list[bytes]:
    """The IPv4 addresses of a name, in random order. One that spells out an address is that address."""
    return host4(resolver, name).addresses


def addresses6(resolver: Resolver, name: bytes) -> list[bytes]:
    """The IPv6 addresses of a name, in random order. One that spells out an address is that address."""
    return host6(resolver, name).addresses


def qualified4(resolver: Resolver, name: bytes) -> list[bytes]:
    """The IPv4 addresses of a name as people type it: completed by the resolver's rules."""
    return _qualified(resolver, name, addresses4)


def qualified6(resolver: Resolver, name: bytes) -> list[bytes]:
    """The IPv6 addresses of a name as people type it: completed by the resolver's rules."""
    return _qualified(resolver, name, addresses6)


def names(resolver: Resolver, ip: bytes) -> bytes | None:
    """The first name that DNS has for an address of 4 or 16 bytes, dotted; None if it has none."""
    try:
        return dns.first_name(ask(resolver, dns.reverse_name(addresses.unmap(ip)), dns.PTR))
    except dns.Malformed:
        raise Unresolved(errno.EPROTO, "")


def texts(resolver: Resolver, name: bytes) -> bytes:
    """All TXT records of a name joined, bytes that are not printable as `?`; empty if it has none."""
    try:
        return dns.text(ask(resolver, dns.from_dots(name), dns.TXT))
    except dns.Malformed:
        raise Unresolved(errno.EPROTO, "")


def each_text(resolver: Resolver, name: bytes) -> list[bytes]:
    """The TXT records of a name, bytes as they are."""
    try:
        return dns.texts(_follow(resolver, dns.from_dots(name), dns.TXT))
    except dns.Malformed:
        raise Unresolved(errno.EPROTO, "")


def exchanges(resolver: Resolver, name: bytes) -> list[tuple[int, bytes]]:
    """(preference, host) of each MX record of a name, in no order; the host of a null MX (RFC 7505) is `.`."""
    return exchanges_and_proof(resolver, name)[0]


def exchanges_and_proof(resolver: Resolver, name: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """The same, and whether that, or that there are none, is authentic."""
    try:
        packet = _follow(resolver, dns.from_dots(name), dns.MX)
        return dns.exchanges(packet), dns.authentic(packet)
    except dns.Malformed:
        raise Unresolved(errno.EPROTO, "")


def host4(resolver: Resolver, name: bytes) -> Host:
    """The IPv4 addresses of a name, and what else is known of them."""
    literal = dns.literal4(name)
    if literal is not None:
        return Host(literal, b"", False)
    return Host([], b"", False) if literal6(name) else _look_up(resolver, name, dns.A)


def host6(resolver: Resolver, name: bytes) -> Host:
    """The IPv6 addresses of a name, and what else is known of them."""
    literal = literal6(name)
    if literal is not None:
        return Host([literal], b"", False)
    return Host([], b"", False) if dns.literal4(name) is not None else _look_up(resolver, name, dns.AAAA)


def _look_up(resolver: Resolver, name: bytes, kind: int) -> Host:
    try:
        packet = _follow(resolver, dns.from_dots(name), kind)
        found = sorted(dns.addresses(packet, kind), key=lambda ip: os.urandom(8))
        return Host(found, dns.target(packet), dns.authentic(packet))
    except dns.Malformed:
        raise Unresolved(errno.EPROTO, "")


def proven(resolver: Resolver, name: bytes, kind: int) -> list[bytes]:
    """The data of the records of that kind at a name (wire form), as far as that is authentic: those that are not are
    none. Raises Unresolved where it is not known now whether there are some."""
    try:
        packet = _follow(resolver, name, kind)
        return [data for _, data in dns.records(packet, kind)] if dns.authentic(packet) else []
    except dns.Malformed:
        raise Unresolved(errno.EPROTO, "")


def literal6(name: bytes) -> bytes | None:
    """The IPv6 address that a name spells out, with or without brackets; else None."""
    return addresses.parse_ipv6(name[1:-1] if name.startswith(b"[") and name.endswith(b"]") else name)


def _qualified(resolver: Resolver, name: bytes, look_up: Callable[[Resolver, bytes], list[bytes]]) -> list[bytes]:
    if literal6(name) is not None:  # to a rule it would be a name without a dot
        return look_up(resolver, name)
    if isinstance(resolver.rules, OSError):
        raise Unresolved(resolver.rules.errno, "")
    for candidate in resolvconf.qualified(name, resolver.rules):
        found = look_up(resolver, candidate)
        if found:
            return found
    return []


def _follow(resolver: Resolver, name: bytes, kind: int) -> bytes:
    """The packet of ask, for the name's alias where one says nothing but where its CNAME leads: not every server goes
    there itself. It is authentic only if the way there is. Raises Unresolved, and Malformed."""
    proof = True
    for _ in range(MOST_ALIASES):
        packet = ask(resolver, name, kind)
        proof = proof and dns.authentic(packet)
        if not proof:
            packet = dns.without_proof(packet)
        target = dns.target(packet)
        if dns.same_name(target, name) or dns.rcode(packet) == dns.NO_SUCH_NAME or dns.records(packet, kind):
            return packet
        name = target
    raise Unresolved(errno.ELOOP, "")


def ask(resolver: Resolver, name: bytes, kind: int) -> bytes:
    """The packet that answers for the records of that kind at name (wire form); authentic only if a believed server
    says so. Raises Unresolved."""
    servers = resolver.servers
    if isinstance(servers, OSError):
        raise Unresolved(servers.errno, "")
    question = Question(name, kind, len(servers), resolver.waits_s)
    while (attempt := question.next()) is not None:
        try:
            _attempt(question, attempt, servers[attempt.server], resolver)
        except TimeoutError:
            question.fail(errno.ETIMEDOUT)
        except OSError as e:
            question.fail(e.errno or errno.EIO)
    if question.answer is None:
        raise Unresolved(question.error, "")
    believed = servers[question.attempt.server][0] in resolver.believed
    return question.answer if believed else dns.without_proof(question.answer)


def _attempt(question: Question, attempt: Attempt, server: Server, resolver: Resolver) -> None:
    """Ask one server, until the question knows that this attempt is over."""
    sock = _socket.socket(connect.family(server[0]), _socket.SOCK_STREAM if attempt.tcp else _socket.SOCK_DGRAM)
    try:
        sock.settimeout(attempt.wait_s)
        sock.connect(connect.name(server[0], resolver.port, server[1]))
        flags = dns.AUTHENTIC if server[0] in resolver.believed else 0
        packet = question.packet(int.from_bytes(os.urandom(2), "big"), flags)
        deadline = connect.Deadline(attempt.wait_s)
        if attempt.tcp:
            sock.sendall(len(packet).to_bytes(2, "big") + packet)
            question.hear(_receive(sock, int.from_bytes(_receive(sock, 2, deadline), "big"), deadline))
        else:
            sock.send(packet)
            while not _hear_datagram(question, sock, deadline):
                pass
    finally:
        sock.close()


def _receive(sock: _socket.socket, size: int, deadline: connect.Deadline) -> bytes:
    """Exactly so many bytes of a stream."""
    data = b""
    while len(data) < size:
        sock.settimeout(deadline.left())
        part = sock.recv(size - len(data))
        if not part:
            raise OSError(errno.EPROTO, "")
        data += part
    return data


def _hear_datagram(question: Question, sock: _socket.socket, deadline: connect.Deadline) -> bool:
    """Wait for one packet; True if the attempt is over. A server that is down shows as an error on the socket."""
    sock.settimeout(deadline.left())
    try:
        packet = sock.recv(LARGEST_DATAGRAM + 1)
    except TimeoutError:
        raise
    except OSError as e:
        return question.fail(e.errno or errno.EIO)
    return len(packet) <= LARGEST_DATAGRAM and question.hear(packet)
