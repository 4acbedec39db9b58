"""requests - a client on descriptors 0 and 1 who hands messages over as netstrings (QMTP, QMQP).

serve    the conversation: act(kind, value) is told each event, and returns the parts of what is to be answered
Mail     a message with its envelope, on its way into the queue
"""

from _collections_abc import Callable, Iterable, Iterator, Mapping

from qmailpy import strerr
from qmailpy.formats import envelope, received
from qmailpy.loops.connect import Deadline
from qmailpy.protocols.netstrings import END, Conversation, Malformed, TooLong
from qmailpy.protocols.qmtp import accepted
from qmailpy.unix import signals
from qmailpy.unix.timed import Peer

TIMEOUT_S = 3600  # for all that a client says, qmail-qmtpd(8), qmail-qmqpd(8)
GRACE_S = 60  # later, not even a queue that hangs is waited for

BLOCK = 65536  # bytes

Act = Callable[[int, bytes], Iterable[bytes]]


def received_line(protocol: bytes, env: Mapping[bytes, bytes], seconds: int) -> bytes:
    """The Received line for a client as tcp-environ(5) describes it."""
    return received.network_line(
        protocol,
        env.get(b"TCPREMOTEHOST", b"unknown"),
        None,
        env.get(b"TCPREMOTEINFO"),
        env.get(b"TCPREMOTEIP", b"unknown"),
        env.get(b"TCPLOCALHOST", env.get(b"TCPLOCALIP", b"unknown")),
        seconds,
    )


class Mail:
    """One message after the other. begin() opens the way into the queue, an Injection of stores/injection.py, for one;
    it raises OSError if there is none."""

    __slots__ = ("_begin", "_injection", "_recipients", "sender")

    def __init__(self, begin) -> None:  # type: ignore[no-untyped-def]
        self._begin = begin
        self._injection = None
        self._recipients = envelope.Recipients()
        self.sender = b""

    def open(self, received_line: bytes) -> None:
        """Raises OSError."""
        injection = self._injection = self._begin()
        injection.write(received_line)
        self._recipients.clear()
        self.sender = b""

    def write(self, data: bytes) -> None:
        assert self._injection is not None
        self._injection.write(data)

    def add(self, recipient: bytes) -> None:
        self._recipients.add(recipient)

    def fail(self) -> None:
        """Whatever comes, this message is not to be queued. Without one, nothing to do."""
        if self._injection is not None:
            self._injection.fail()

    def close(self, seconds: int) -> bytes:
        """What to tell the client: K if the message is safe, else Z or D, with the text. seconds since 1970."""
        assert self._injection is not None
        injection, self._injection = self._injection, None
        text: bytes = injection.close(self.sender, self._recipients)
        return text or accepted(seconds, injection.qp)


def serve(program: bytes, conversation: Conversation, act: Act, once: bool) -> int:
    """Talk to the client until it leaves, or until its first message is answered; returns the exit code.

    act may raise OSError: then the client is left without an answer.
    """
    signals.ignore(signals.PIPE)
    signals.default(signals.ALRM)
    signals.alarm(TIMEOUT_S + GRACE_S)
    deadline = Deadline(TIMEOUT_S)
    with Peer(TIMEOUT_S) as peer:
        try:
            while True:
                peer.timeout_ms = deadline.left_ms()
                block = peer.read(BLOCK)
                if not block:
                    return 0
                for answers, code in _answers(program, conversation, block, act, once):
                    if answers:
                        peer.timeout_ms = deadline.left_ms()
                        peer.write(answers)
                    if code is not None:
                        peer.drain()
                        return code
        except TimeoutError:
            return strerr.LATER
        except OSError:  # the client is gone
            return 0


def _answers(
    program: bytes, conversation: Conversation, block: bytes, act: Act, once: bool
) -> Iterator[tuple[bytearray, int | None]]:
    """What the events of a block are answered with, in blocks, and with the last one the exit code, None to go on.
    Messages that are in the queue are answered, even if nonsense follows."""
    answers = bytearray()
    code = None
    try:
        for kind, value in conversation.feed(block):
            for part in act(kind, value):
                answers += part
                if len(answers) >= BLOCK:
                    yield answers, None
                    answers = bytearray()
            if once and kind == END:
                code = 0
                break
    except Malformed:
        code = strerr.NEVER
    except TooLong:
        code = strerr.LATER
    except OSError as e:
        code = strerr.fail(strerr.LATER, program, b"unable to take a message", error=e)
    yield answers, code
