"""refusal - the SMTP conversation with a client whose mail is not taken: polite, and every recipient is refused.
Pure. Source: rblsmtpd of ucspi-tcp."""

from qmailpy.protocols.lines import Lines

LONGEST_LINE = 512  # bytes, RFC 5321 section 4.5.3.1.4; of a longer one only its verb counts

GREETING = b"220 rblsmtpd.local\r\n"
ACCEPTED = b"250 rblsmtpd.local\r\n"
GOODBYE = b"221 rblsmtpd.local\r\n"

# Whatever else the client says, RCPT and DATA above all, is answered with the reason.
REPLIES = {
    b"helo": ACCEPTED,
    b"ehlo": ACCEPTED,
    b"mail": ACCEPTED,
    b"rset": ACCEPTED,
    b"noop": ACCEPTED,
    b"quit": GOODBYE,
}


class Refusal:
    """One conversation: send GREETING, then the replies to each block from the client, until over."""

    __slots__ = ("_lines", "_reason", "over")

    def __init__(self, reason: bytes) -> None:
        self._reason = reason + b"\r\n"
        self._lines = Lines(LONGEST_LINE)
        self.over = False

    def feed(self, block: bytes) -> list[bytes]:
        """The replies to the lines that end in this block; nothing behind QUIT is answered."""
        replies = []
        for line in self._lines.feed(block):
            verb = line.removesuffix(b"\r").partition(b" ")[0].lower()
            replies.append(REPLIES.get(verb, self._reason))
            if verb == b"quit":
                self.over = True
                break
        return replies
