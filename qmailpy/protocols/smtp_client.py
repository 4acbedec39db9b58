"""smtp_client - the client's side of SMTP (RFC 5321): one message to one server, without I/O.

Conversation gives in `output` what goes to the server, to be sent before anything else, and says in `wants` for what
it waits:

    REPLY      what comes from the server: feed; at the end of the connection, or of patience: lost
    MESSAGE    the message, as Body has it on the wire: end is called before its last bytes go, and what it returns goes
               with them; unsent if that fails. What comes before is fed; then the rest is sent only if MESSAGE is
               still wanted
    TLS        a handshake on the connection, unless something is early: secured once it is done
    OVER       nothing: the connection is closed once output has gone, if it can

`reports` are then those of qmail-remote: one for each recipient that the server was asked about, r, h or s, and one for
the message, K, Z or D.

What a server gets that does not know EHLO is the original's, HELO behind it, byte for byte; so are the reports. Only
what it announces is used: PIPELINING for MAIL and RCPT, SIZE, 8BITMIME, SMTPUTF8, STARTTLS and AUTH.
"""

import binascii

from qmailpy.formats import addresses822, digests, dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _collections_abc import Generator

REPLY, MESSAGE, OVER, TLS = range(4)

NEVER, MAY, MUST = range(3)  # STARTTLS

# Reports, around the address of the server, and what it has said behind them
GREETING_FAILED = b"ZConnected to ", b" but greeting failed"
NAME_REJECTED = b"ZConnected to ", b" but my name was rejected"
SENDER_REJECTED = b"Connected to ", b" but sender was rejected"
DISLIKED = b" does not like recipient.\n"
GIVING_UP = b"DGiving up on ", b""
DATA_FAILED = b"", b" failed on DATA command"
MESSAGE_FAILED = b"", b" failed after I sent the message"
ACCEPTED = b"K", b" accepted message"
DIED = b"ZConnected to %s but connection died. %s(#4.4.2)\n"
DUPLICATE = b"Possible duplicate! "

# The same about logging in, as the patches for AUTH have them, and of our own
LOGIN_REJECTED = b"ZConnected to %s but authentication was rejected (%s).\n"
PASSWORD_EXPIRED = b"ZConnected to ", b" but password expired"
NO_LOGIN = b"ZConnected to ", b" but it offers no authentication that I know"
IN_CLEAR = b"ZConnected to ", b" but I would have to send my password in clear; see control/clearauthhosts"

# Our own, about TLS
NO_TLS = b"ZConnected to %s but it does not offer TLS, which %s demands. (#4.7.10)\n"
TLS_REJECTED = b"ZConnected to %s but STARTTLS was rejected, which %s demands. (#4.7.10)\n"

# Our own
SENDER_IN_UTF8 = b"DConnected to %s but it does not support SMTPUTF8, which the sender's address needs. (#5.6.7)\n"
RECIPIENT_IN_UTF8 = b"h%s does not support SMTPUTF8, which the recipient's address needs. (#5.6.7)\n"
BROKEN_SENDER = b"DSMTP cannot transfer a sender's address with a line break in it. (#5.1.7)\n"
BROKEN_RECIPIENT = b"hSMTP cannot transfer a recipient's address with a line break in it. (#5.1.3)\n"

LONGEST_TEXT = 5000  # bytes of a reply in a report, HUGESMTPTEXT of the original
LONGEST_REPLY = 65536  # bytes of a reply, all its lines: one that is longer is no reply

WINDOW = 100  # recipients that are sent at once: their replies must fit into the buffers of the network

END = b".\r\n"

AS_ASCII = bytes(byte if byte < 128 else ord("x") for byte in range(256))


class Mail:
    """What is to be sent. size: bytes with CRLF, None if not known; eight_bit: it has other bytes than ASCII, as far as
    is known; utf8: it has come in by SMTPUTF8."""

    __slots__ = ("eight_bit", "recipients", "sender", "size", "utf8")

    def __init__(self, sender: bytes, recipients: list[bytes]) -> None:
        self.sender = sender
        self.recipients = recipients
        self.size: int | None = None
        self.eight_bit = False
        self.utf8 = False


class Login:
    """Who we are to the server. protected: nobody else can read what it is sent."""

    __slots__ = ("password", "protected", "user")

    def __init__(self, user: bytes, password: bytes, protected: bool) -> None:
        self.user = user
        self.password = password
        self.protected = protected


class Security:
    """start: whether to use STARTTLS; source: who demands it if it must be."""

    __slots__ = ("source", "start")

    def __init__(self, start: int = NEVER, source: bytes = b"") -> None:
        self.start = start
        self.source = source


class Unsupported(Exception):
    """The server does not take this address."""


class LineBreak(Exception):
    """What follows in this address would be a command of its own."""


class _Unfit:
    """In the place of a recipient that is not sent."""

    __slots__ = ("report",)

    def __init__(self, report: bytes) -> None:
        self.report = report


class _Ended(Exception):
    """The last report is there."""


class Conversation:
    """place: the server's address, as it stands in reports; name: our own; extended: whether to try EHLO. insecure: it
    is over because TLS is missing."""

    __slots__ = (
        "_buffer",
        "_critical",
        "_extended",
        "_greeting",
        "_line",
        "_login",
        "_mail",
        "_name",
        "_place",
        "_refusal",
        "_security",
        "_shown",
        "_steps",
        "_unproved",
        "heard",
        "insecure",
        "output",
        "reports",
        "wants",
    )

    def __init__(
        self,
        place: bytes,
        name: bytes,
        mail: Mail,
        login: "Login | None" = None,
        extended: bool = True,
        security: "Security | None" = None,
    ) -> None:
        self._place = place
        self._name = name
        self._mail = mail
        self._login = login
        self._extended = extended
        self._security = security or Security()
        self._shown = b""  # what TLS is like, as soon as there is some
        self._unproved = False  # nothing has come through TLS yet
        self.insecure = False
        self._buffer = bytearray()
        self._line = 0  # where in it the first line begins that is not known to be whole
        self._critical = False  # the message may have been accepted
        self._greeting = False  # EHLO has been sent, and not answered
        self._refusal: bytes | None = None  # of EHLO, while HELO is not answered
        self.heard = 0  # replies, whole ones
        self.output = bytearray()
        self.reports: list[bytes] = []
        self._steps = self._talk()
        self.wants = next(self._steps)

    def feed(self, data: bytes) -> None:
        """Take what has come from the server."""
        self._buffer += data
        while self.wants not in (OVER, TLS) and self._buffer:
            reply = self._cut()
            if reply is None:
                if self.wants == MESSAGE:  # the server speaks before its turn
                    self.wants = REPLY
                if len(self._buffer) > LONGEST_REPLY:
                    self.lost()
                return
            self.heard += 1
            self._unproved = False
            self._go_on(reply)

    def _go_on(self, reply: bytes) -> None:
        try:
            self.wants = self._steps.send(reply)
        except (StopIteration, _Ended):
            self.wants = OVER

    @property
    def early(self) -> bool:
        """Whether something has come behind the answer to STARTTLS: somebody on the way may have added it, to be taken
        for what comes through TLS."""
        return self.wants == TLS and bool(self._buffer)

    def begun(self, shown: bytes) -> None:
        """TLS is there before anything has been said."""
        self._shown = shown
        self._unproved = True

    def secured(self, shown: bytes) -> None:
        """TLS is there; shown: what it is like."""
        self._shown = shown
        self._unproved = True
        self._go_on(b"")

    @property
    def unproved(self) -> bool:
        """Whether nothing has come through TLS: in version 1.3 the server may refuse after we have done our part."""
        return self._unproved

    def end(self) -> bytes:
        """What ends the message."""
        self._critical = True
        self.wants = REPLY
        return END

    def unsent(self) -> None:
        """What end has returned could not go: the server has not got the whole message, whatever it says."""
        self._critical = False
        self.wants = MESSAGE

    def lost(self) -> None:
        """The connection has ended, or the server has been silent for too long."""
        if self.wants == OVER:
            return
        self.output.clear()
        if self._refusal is not None:
            self._report(*NAME_REJECTED, self._refusal)
        else:
            self.reports.append(DIED % (self._place, DUPLICATE if self._critical else b""))
        self.wants = OVER

    def stop(self, report: bytes) -> None:
        """End without the rest of the message; report says why."""
        self.reports.append(report)
        self.wants = OVER

    @property
    def hung_up_on_ehlo(self) -> bool:
        """Whether the connection, if it has ended, has done so because of EHLO: then another one without may go better
        (RFC 1869 section 4.7)."""
        return self._greeting and not self._buffer

    def _cut(self) -> bytes | None:
        """Take a whole reply out of what has come; None if there is none yet."""
        buffer = self._buffer
        start = self._line
        while True:
            end = buffer.find(b"\n", start)
            if end < 0:
                self._line = start
                return None
            if buffer[start + 3 : start + 4] != b"-" or end < start + 3:
                reply = bytes(buffer[: end + 1])
                del buffer[: end + 1]
                self._line = 0
                return reply
            start = end + 1

    def _talk(self) -> "Generator[int, bytes, None]":
        reply = yield REPLY
        if _code(reply) != 220:
            self._quit(*GREETING_FAILED, reply)
        offered = yield from self._hello()
        if self._security.start != NEVER and not self._shown:
            secure = yield from self._start_tls(offered)
            if secure:  # what was said before is forgotten, RFC 3207 section 4.2
                offered = yield from self._hello()
        if self._login is not None:
            yield from self._log_in(self._login, offered.get(b"AUTH", []))
        yield from self._envelope(offered)
        self._say(b"DATA")
        reply = yield REPLY
        if _code(reply) // 100 != 3:
            # less than 400: the original would send the message, which the server might take for commands
            self._quit(_letter(reply) + DATA_FAILED[0], DATA_FAILED[1], reply)
        reply = yield MESSAGE
        early = not self._critical
        self._critical = False
        if _code(reply) // 100 == 2 and not early:
            self._quit(*ACCEPTED, reply, self._shown and self._shown + b".\n")
        self._quit(_letter(reply) + MESSAGE_FAILED[0], MESSAGE_FAILED[1], reply)

    def _hello(self) -> "Generator[int, bytes, dict[bytes, list[bytes]]]":
        """What the server offers."""
        if self._extended:
            self._say(b"EHLO " + self._name)
            self._greeting = True
            reply = yield REPLY
            self._greeting = False
            if _code(reply) == 250:
                return extensions(reply)
            self._refusal = reply
        self._say(b"HELO " + self._name)
        reply = yield REPLY
        self._refusal = None
        if _code(reply) != 250:
            self._quit(*NAME_REJECTED, reply)
        return {}

    def _start_tls(self, offered: dict[bytes, list[bytes]]) -> "Generator[int, bytes, bool]":
        """Whether TLS is there now; if it is not, and need not be, all goes on as before."""
        must = self._security.start == MUST
        if b"STARTTLS" not in offered:
            if must and self._login is not None and not self._login.protected:
                self.insecure = True
                self._quit(*IN_CLEAR)
            if must:
                self._lack(NO_TLS)
            return False
        self._say(b"STARTTLS")
        reply = yield REPLY
        if _code(reply) == 220:
            yield TLS
            return True
        if must:
            self._lack(TLS_REJECTED, reply)
        return False

    def _lack(self, report: bytes, reply: bytes = b"") -> None:
        self.insecure = True
        self._end(report % (self._place, self._security.source) + _said(reply))

    def _log_in(self, login: Login, offered: list[bytes]) -> "Generator[int, bytes, None]":
        """AUTH, RFC 4954. Each answer waits for its challenge: some servers take no initial response."""
        if not login.protected and not self._shown:
            self._quit(*IN_CLEAR)
        if b"CRAM-MD5" in offered:
            challenge = yield from self._ask(b"AUTH CRAM-MD5", b"AUTH CRAM-MD5")
            answers = [(b"username+digest", _cram_md5(login, challenge))]
        elif b"PLAIN" in offered:
            yield from self._ask(b"AUTH PLAIN", b"AUTH PLAIN")
            answers = [(b"plain", b"\0%s\0%s" % (login.user, login.password))]
        elif b"LOGIN" in offered:
            yield from self._ask(b"AUTH LOGIN", b"AUTH LOGIN")
            answers = [(b"username", login.user), (b"password", login.password)]
        else:
            self._quit(*NO_LOGIN)
        for what, answer in answers[:-1]:
            yield from self._ask(_base64(answer), what)
        what, answer = answers[-1]
        self._say(_base64(answer))
        reply = yield REPLY
        if _code(reply) == 432:
            self._quit(*PASSWORD_EXPIRED, reply)
        if _code(reply) != 235:
            self._deny(what, reply)

    def _ask(self, line: bytes, what: bytes) -> "Generator[int, bytes, bytes]":
        """The challenge that follows a line."""
        self._say(line)
        reply = yield REPLY
        if _code(reply) != 334:
            self._deny(what, reply)
        return reply[4:].strip()

    def _deny(self, what: bytes, reply: bytes) -> None:
        self._say(b"QUIT")
        self.reports.append(LOGIN_REJECTED % (self._place, what) + _said(reply))
        raise _Ended

    def _envelope(self, offered: dict[bytes, list[bytes]]) -> "Generator[int, bytes, None]":
        """MAIL and RCPT, up to the reports of all recipients."""
        utf8 = b"SMTPUTF8" in offered
        sender, recipients = self._addresses(utf8)
        mail = b"MAIL FROM:<%s>" % sender + self._parameters(offered, utf8)
        pipelined = b"PIPELINING" in offered
        window = WINDOW if pipelined else 1
        self._say(mail)
        first = recipients[:window] if pipelined else []
        self._name_recipients(first)
        reply = yield REPLY
        if not 200 <= _code(reply) < 400:
            self._quit(_letter(reply) + SENDER_REJECTED[0], SENDER_REJECTED[1], reply)
        accepted = False
        for start in range(0, len(recipients), window):
            group = recipients[start : start + window]
            if not (first and start == 0):
                self._name_recipients(group)
            for recipient in group:
                if isinstance(recipient, _Unfit):
                    self.reports.append(recipient.report)
                    continue
                reply = yield REPLY
                if 200 <= _code(reply) < 400:
                    self.reports.append(b"r")
                    accepted = True
                else:
                    letter = b"h" if _code(reply) >= 500 else b"s"
                    self.reports.append(letter + self._place + DISLIKED + _said(reply))
        if not accepted:
            self._quit(*GIVING_UP)

    def _name_recipients(self, group: "list[bytes | _Unfit]") -> None:
        for recipient in group:
            if isinstance(recipient, bytes):
                self._say(b"RCPT TO:<%s>" % recipient)

    def _addresses(self, utf8: bool) -> "tuple[bytes, list[bytes | _Unfit]]":
        """Sender and recipients as they stand in commands, if the server can take them."""
        sender = self._mail.sender
        try:
            shown = in_command(sender, utf8)
        except Unsupported:
            self._end(SENDER_IN_UTF8 % self._place)
        except LineBreak:
            self._end(BROKEN_SENDER)
        recipients: list[bytes | _Unfit] = []
        for recipient in self._mail.recipients:
            try:
                recipients.append(in_command(recipient, utf8))
            except Unsupported:
                recipients.append(_Unfit(RECIPIENT_IN_UTF8 % self._place))
            except LineBreak:
                recipients.append(_Unfit(BROKEN_RECIPIENT))
        return shown, recipients

    def _parameters(self, offered: dict[bytes, list[bytes]], utf8: bool) -> bytes:
        mail = self._mail
        words = b""
        if mail.size is not None and b"SIZE" in offered:  # RFC 1870
            words += b" SIZE=%d" % mail.size
        if mail.eight_bit and b"8BITMIME" in offered:  # RFC 6152
            words += b" BODY=8BITMIME"
        if utf8 and (mail.utf8 or any(_is_utf8(address) for address in (mail.sender, *mail.recipients))):
            words += b" SMTPUTF8"  # RFC 6531
        return words

    def _say(self, line: bytes) -> None:
        self.output += line + b"\r\n"

    def _quit(self, before: bytes, after: bytes, reply: bytes = b"", facts: bytes = b"") -> None:
        self._say(b"QUIT")  # nobody waits for the answer
        self._report(before, after, reply, facts)
        raise _Ended

    def _end(self, report: bytes) -> None:
        self._say(b"QUIT")
        self.reports.append(report)
        raise _Ended

    def _report(self, before: bytes, after: bytes, reply: bytes, facts: bytes = b"") -> None:
        """facts stand before what the server says, which could say anything."""
        self.reports.append(before + self._place + after + b".\n" + facts + _said(reply))


def extensions(reply: bytes) -> dict[bytes, list[bytes]]:
    """What the lines behind the first of an answer to EHLO offer, each with its words, all in upper case. `AUTH=` is
    how servers wrote it before there was a standard."""
    found: dict[bytes, list[bytes]] = {}
    for line in reply.upper().split(b"\n")[1:]:
        words = line[4:].replace(b"AUTH=", b"AUTH ").split()
        if words:
            found.setdefault(words[0], []).extend(words[1:])
    return found


def in_command(address: bytes, utf8: bool) -> bytes:
    """An envelope's address as it stands in MAIL and RCPT, between < and >; utf8: the server has SMTPUTF8. Raises
    Unsupported and LineBreak. What has no @ goes as it is, and so do other bytes than ASCII that are no UTF-8."""
    if b"\r" in address or b"\n" in address:
        raise LineBreak
    box, at, host = address.rpartition(b"@")
    if not at:
        return address
    if not _is_utf8(address):
        return addresses822.quote_box(box) + at + host
    if utf8:  # its local parts need no quotes for such bytes
        needed = addresses822.quote_needed(box.translate(AS_ASCII))
        return (addresses822.quote_box(box) if needed else box) + at + host
    if not box.isascii():
        raise Unsupported
    return addresses822.quote_box(box) + at + dns.a_labels(host)


def _is_utf8(address: bytes) -> bool:
    """Whether it has characters that only SMTPUTF8 can carry."""
    if address.isascii():
        return False
    try:
        address.decode()
    except UnicodeError:
        return False
    return True


def _code(reply: bytes) -> int:
    """0 for what is no reply: it says neither yes nor no."""
    return int(reply[:3]) if reply[:3].isdigit() else 0


def _letter(reply: bytes) -> bytes:
    """Of the report of a failure."""
    return b"D" if _code(reply) >= 500 else b"Z"


def _said(reply: bytes) -> bytes:
    text = reply.replace(b"\r", b"")[:LONGEST_TEXT].replace(b"\0", b"?")
    return b"Remote host said: " + text if text else b""


def _base64(answer: bytes) -> bytes:
    return binascii.b2a_base64(answer, newline=False)


def _cram_md5(login: Login, challenge: bytes) -> bytes:
    """The answer to a challenge (RFC 2195); to one that is none, a wrong one."""
    try:
        stamp = binascii.a2b_base64(challenge)
    except binascii.Error:
        stamp = b""
    return b"%s %s" % (login.user, digests.cram_md5(stamp, login.password))


class PartialLine(Exception):
    """The message does not end with a newline."""


class Body:
    """A message on its way to the wire, in blocks of any size: LF becomes CRLF, CRLF stays, and so that no server may
    take it for anything else, a CR alone becomes CRLF too; each line that begins with a dot, however the one before it
    has ended, gets one more."""

    __slots__ = ("_after_newline", "_held")

    def __init__(self) -> None:
        self._after_newline = True
        self._held = b""  # the CR at the end of a block waits for what comes after it

    def feed(self, block: bytes) -> bytes:
        """What to send for this block."""
        if self._held or b"\r" in block:
            block = self._held + block
            self._held = b"\r" if block.endswith(b"\r") else b""
            block = block[: len(block) - len(self._held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not block:
            return b""
        wire = block.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
        if self._after_newline and block.startswith(b"."):
            wire = b"." + wire
        self._after_newline = block.endswith(b"\n")
        return wire

    def finish(self) -> bytes:
        """What is still to be sent, before Conversation.end. Raises PartialLine."""
        if self._held:
            return b"\r\n"
        if not self._after_newline:
            raise PartialLine
        return b""
