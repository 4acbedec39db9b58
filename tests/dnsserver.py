"""A DNS server for tests, on a loopback address of its own, from a zone text; and what it can do wrong."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Records = dict[tuple[str, str], list[str]]  # (name, type) -> data; a name without final dot
Twist = Callable[[bytes], list[bytes]]  # right answer -> the packets to send in place of it


Judge = Callable[[str], bool]  # name -> whether its answer is authentic


def answer(query: dns.message.Message, records: Records, judge: Judge | None = None) -> dns.message.Message:
    """What a cache would say: follows CNAME, NXDOMAIN for a name it has nothing of; AD to who asks for it, if judge
    says so of all the names on the way."""
    reply = dns.message.make_response(query, recursion_available=True)
    question = query.question[0]
    kind = dns.rdatatype.to_text(question.rdtype)
    name = question.name.to_text(omit_final_dot=True).lower()
    if not any(known == name for known, _ in records):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    authentic = judge is not None and bool(query.flags & dns.flags.AD) and judge(name)
    while (name, "CNAME") in records and kind != "CNAME":
        target = records[name, "CNAME"][0]
        reply.answer.append(dns.rrset.from_text(name + ".", 60, "IN", "CNAME", target + "."))
        name = target
        authentic = authentic and judge is not None and judge(name)
    if (name, kind) in records:
        reply.answer.append(dns.rrset.from_text(name + ".", 60, "IN", kind, *records[name, kind]))
    if authentic:
        reply.flags |= dns.flags.AD
    return reply


def _bound(family: int, ip: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port. With port 0, the kernel's choice for one may be taken for the other."""
    for tries_left in range(20, -1, -1):
        udp, tcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            udp.bind((ip, port))
            tcp.bind((ip, udp.getsockname()[1]))
            return udp, tcp
        except OSError:
            udp.close()
            tcp.close()
            if port or not tries_left:
                raise
    raise AssertionError


class Server:
    """Serves UDP and TCP on ip. twist, if given, says what is sent over UDP in place of the right answer; judge, which
    answers are authentic."""

    def __init__(self, ip: str, port: int, records: Records, twist: Twist | None, judge: Judge | None = None) -> None:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self.ip = ip
        self.asked: list[tuple[str, str, str]] = []  # transport, name, type
        self._records = records
        self._twist = twist
        self._judge = judge
        self._udp, self._tcp = _bound(family, ip, port)
        self.port: int = self._udp.getsockname()[1]
        self._tcp.listen()
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a command ask this server, and nothing else of this host count."""
        return {"DNSCACHEIP": self.ip, "QMAILPY_DNSPORT": str(self.port), "LOCALDOMAIN": "", "DNSREWRITEFILE": ""}

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _read(self, transport: str, packet: bytes) -> dns.message.Message:
        query = dns.message.from_wire(packet)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append((transport, name, dns.rdatatype.to_text(question.rdtype)))
        return answer(query, self._records, self._judge)

    def _serve_udp(self) -> None:
        while True:
            try:
                packet, client = self._udp.recvfrom(4096)
            except OSError:
                return
            if not packet:  # shutdown
                return
            reply = self._read("udp", packet)
            data = reply.to_wire(max_size=65535)
            if len(data) > 512:
                short = dns.message.make_response(dns.message.from_wire(packet))
                short.flags |= dns.flags.TC
                data = short.to_wire()
            for datagram in [data] if self._twist is None else self._twist(data):
                self._udp.sendto(datagram, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, struct.error):
                (size,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
                data = self._read("tcp", connection.recv(size, socket.MSG_WAITALL)).to_wire(max_size=65535)
                connection.sendall(struct.pack("!H", len(data)) + data)


@contextlib.contextmanager
def running(
    records: Records,
    ip: str = "127.0.0.1",
    port: int = 0,
    twist: Twist | None = None,
    judge: Judge | None = None,
) -> Iterator[Server]:
    server = Server(ip, port, records, twist, judge)
    try:
        yield server
    finally:
        server.close()
