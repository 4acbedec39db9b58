"""dns - a question put to one server after the other until one answers it: who is asked next, by which transport,
how long that may take, what an answer is worth. Pure: the caller has the sockets, the clock and the random numbers.

Over UDP each server is asked in several rounds, the waits growing from round to round. An answer that did not fit
starts again from the first server over TCP. Source: dns_transmit of ucspi-tcp.
"""

import errno

from qmailpy.formats import dns

TCP_WAIT_S = 10.0  # to connect, and again for the answer


class Attempt:
    """One server asked once: its place in the list of servers, the transport, and how long in seconds.

    A patient attempt waits out its time although the server is down or says that it has failed: it is the pause
    before the last round, for a server that is just being started.
    """

    __slots__ = ("patient", "server", "tcp", "wait_s")

    def __init__(self, server: int, tcp: bool, wait_s: float, patient: bool) -> None:
        self.server = server
        self.tcp = tcp
        self.wait_s = wait_s
        self.patient = patient


class Question:
    """One question. For each attempt from next(), send packet() and give what comes to hear() until it is over.

    answer is the packet that answers it, or None; error is what went wrong last, an errno.
    """

    __slots__ = ("_attempts", "_kind", "_name", "_number", "_servers", "answer", "attempt", "error")

    def __init__(self, name: bytes, kind: int, servers: int, waits_s: tuple[float, ...]) -> None:
        self._name = name
        self._kind = kind
        self._number = 0
        self._servers = range(servers)
        last = len(waits_s) - 1
        self._attempts = [
            Attempt(server, False, wait_s, round_ == last - 1)
            for round_, wait_s in enumerate(waits_s)
            for server in self._servers
        ]
        self.attempt = Attempt(0, False, 0.0, False)
        self.answer: bytes | None = None
        self.error = errno.EIO

    def next(self) -> Attempt | None:
        """The next attempt; None if the question is answered, or nobody is left to ask."""
        if self.answer is not None or not self._attempts:
            return None
        self.attempt = self._attempts.pop(0)
        return self.attempt

    def packet(self, number: int, flags: int = 0) -> bytes:
        """The query to send; number, below 65536, should be impossible to guess and new for each attempt."""
        self._number = number
        return dns.query(number, self._name, self._kind, flags)

    def hear(self, packet: bytes) -> bool:
        """Take a packet; True if this attempt is over. A stray packet over UDP is as if it had never come."""
        if not dns.answers_to(packet, self._number, self._name, self._kind):
            self.error = errno.EPROTO if self.attempt.tcp else self.error
            return self.attempt.tcp
        if dns.truncated(packet):
            if not self.attempt.tcp:
                self._attempts = [Attempt(server, True, TCP_WAIT_S, False) for server in self._servers]
            return True
        if dns.rcode(packet) not in (dns.NO_ERROR, dns.NO_SUCH_NAME) or dns.lame(packet):
            return self.fail(errno.EAGAIN)
        self.answer = packet
        return True

    def fail(self, error: int) -> bool:
        """The server, or the way to it, failed with that errno; True if this attempt is over."""
        self.error = error
        return not self.attempt.patient
