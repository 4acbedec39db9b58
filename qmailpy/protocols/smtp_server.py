"""smtp_server - the server's side of an SMTP session (RFC 5321) as qmail-smtpd speaks it, without I/O.

Session is fed with what comes from the client, and gives in `output` what goes back. `step` runs it on until it needs
its caller, and says for what:

    event       what the caller does                      and how the session goes on
    None        sends output; ends if exit_code is set,
                else reads on                             feed
    Recipient   decides whether mail is taken for it      accept | refuse
    Message     opens a message                           begin | unable
    bytes       writes them to the message
    End         closes the message                        finish
    Login       asks a checker                            welcome | reject
    Secure      has TLS begin                             ready and then secured | unable_to_secure

What a client gets that says HELO is the original's byte for byte. After EHLO, which announces it, each reply has its
enhanced status code (RFC 2034) in front, also where the original's text has one at its end.

The end of a message is CR LF . CR LF and nothing like it, so that nobody else's mail can be smuggled in: a LF without
CR ends the session, as in the original, and a CR without LF is data; but a message in which a lone dot stands beside
such a CR is refused, as others might take that for the end when we send it on. A client that has ended all its
commands with CR LF and then a message has no reason to end a later command with LF alone: that ends the session too.
"""

from _collections_abc import Callable

from qmailpy.formats import smtpaddress
from qmailpy.formats.numbers import scan
from qmailpy.protocols import sasl

# Replies
OKAY = b"250 ok"
FLUSHED = b"250 flushed"
GO_AHEAD = b"354 go ahead"
HELP = b"214 notqmail home page: https://notqmail.org"
VERIFY = b"252 send some mail, i'll try my best"
UNIMPLEMENTED = b"502 unimplemented (#5.5.1)"
SYNTAX = b"555 syntax error (#5.5.4)"
TOO_LONG = b"500 line too long (#5.5.2)"
MAIL_FIRST = b"503 MAIL first (#5.5.1)"
RECIPIENT_FIRST = b"503 RCPT first (#5.5.1)"
NO_QUEUE = b"451 qqt failure (#4.3.0)"
LOOPING = b"554 too many hops, this message is looping (#5.4.6)"
TOO_BIG = b"552 sorry, that message size exceeds my databytes limit (#5.3.4)"
LONE_DOT = b"554 sorry, a lone dot beside a bare CR is not accepted (#5.6.0)"
MANY_RECIPIENTS = b"452 max rcpt limit exceeded (#4.5.3)"

# Replies that end the session
STRAY_NEWLINE = b"451 See https://cr.yp.to/docs/smtplf.html."
TIMEOUT = b"451 timeout (#4.4.2)"
MANY_INVALID = b"421 too many invalid addresses, goodbye (#4.3.0)"
MANY_ERRORS = b"421 too many errors, goodbye (#4.7.0)"
MANY_UNKNOWN = b"421 too many unknown commands, goodbye (#4.7.0)"
MANY_LOGINS = b"421 too many failed logins, goodbye (#4.7.0)"

# Replies to AUTH, and to MAIL without it
WELCOME = b"235 ok, go ahead (#2.0.0)"
NO_AUTH = b"503 auth not available (#5.3.3)"
NO_AUTH_IN_CLEAR = b"538 auth not available without TLS (#5.3.3)"
AUTHENTICATED = b"503 you're already authenticated (#5.5.0)"
AUTH_IN_MAIL = b"503 no auth during mail transaction (#5.5.0)"
NO_MECHANISM = b"504 auth type unimplemented (#5.5.1)"
CANCELLED = b"501 auth exchange canceled (#5.0.0)"
MALFORMED = b"501 malformed auth input (#5.5.4)"
WRONG = b"535 authentication failed (#5.7.1)"
CRASHED = b"454 oops, problem with child and I can't auth (#4.3.0)"
NO_CHILD = b"454 oops, child won't start and I can't auth (#4.3.0)"
NO_PIPE = b"454 oops, unable to open pipe and I can't auth (#4.3.0)"
AUTH_FIRST = b"530 Authorization required (#5.7.1) "

# STARTTLS, and replies without it
READY = b"220 ready for tls"
NO_PARAMETERS = b"501 Syntax error (no parameters allowed) (#5.5.4)"
NO_TLS = b"454 TLS not available due to temporary reason (#4.7.0)"
TLS_FIRST = b"530 Must issue a STARTTLS command first (#5.7.0)"

# In EHLO; the originals' lines first, the others are ours. AUTH and SIZE come behind them.
EXTENSIONS = (b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"ENHANCEDSTATUSCODES")

END = b"\r\n.\r\n"
LONE_DOTS = (b"\r.\r", b"\n.\r", b"\r.\n")  # CR LF being LF
HELD = (b"\r\n.\r", b"\r\n.", b"\r.\r", b"\r\n", b"\r.", b"\r")  # what may become END, or a lone dot: longest first

HOP_WORDS = (b"\nreceived", b"\ndelivered")  # each such line of a header is a hop

LINE_LIMIT = sasl.LINE_LIMIT  # bytes of a command; RFC 5321 section 4.5.3.1.4 allows 512

DIGITS = b"0123456789"


class Recipient:
    """A recipient is proposed."""

    __slots__ = ("address",)

    def __init__(self, address: bytes) -> None:
        self.address = address


class Message:
    """A message begins, from sender to recipients. protocol is the word for its Received line."""

    __slots__ = ("auth", "protocol", "recipients", "sender")

    def __init__(self, sender: bytes, recipients: list[bytes], protocol: bytes, auth: bytes | None) -> None:
        self.sender = sender
        self.recipients = recipients
        self.protocol = protocol
        self.auth = auth  # who has written it, says a client (AUTH= of MAIL, RFC 4954 section 5); None: it does not


class End:
    """The message is there, whole. Unless failure is empty, it must not be queued."""

    __slots__ = ("failure",)

    def __init__(self, failure: bytes) -> None:
        self.failure = failure


class Login:
    """Somebody wants to log in; the third field of the checker's packet is stamp. The password is to be wiped."""

    __slots__ = ("credentials", "mechanism", "stamp")

    def __init__(self, mechanism: bytes, credentials: sasl.Credentials, stamp: bytes) -> None:
        self.mechanism = mechanism
        self.credentials = credentials
        self.stamp = stamp


class Secure:
    """TLS is to begin: as soon as the client has the reply that ready gives."""

    __slots__ = ()


Event = Recipient | Message | bytes | End | Login | Secure


class Rules:
    """What a session goes by. Limits are numbers of things in one session, but max_recipients is one of a message;
    0 is no limit."""

    __slots__ = (
        "auth_required",
        "databytes",
        "encrypted",
        "greeting",
        "knows_auth",
        "localize",
        "max_errors",
        "max_hops",
        "max_invalid",
        "max_logins",
        "max_recipients",
        "max_unknown",
        "mechanisms",
        "stamp",
        "starttls",
        "tls_required",
        "withheld",
    )

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting
        self.databytes = 0  # bytes of a message as it is stored
        self.knows_auth = False  # or AUTH is a verb like any other unknown one
        self.mechanisms: tuple[bytes, ...] = ()  # that AUTH offers
        self.withheld = False  # AUTH is not offered on this connection, as it is not encrypted
        self.auth_required = False  # for MAIL
        self.encrypted = False
        self.starttls = False  # is offered, or it is a verb like any other unknown one
        self.tls_required = False  # for MAIL
        self.stamp = b""  # the challenge of CRAM-MD5
        self.max_hops = 100  # Received and Delivered lines: a message with as many is looping
        self.max_recipients = 0
        self.max_invalid = 0  # recipients that were refused
        self.max_errors = 0  # replies that begin with 4 or 5
        self.max_unknown = 0  # commands
        self.max_logins = 0  # that failed
        self.localize: Callable[[bytes], bytes] = bytes  # puts a host name in place of an IP address of ours


class Body:
    """A message on its way in: dots undoubled, CR LF made LF, hops and bytes counted, the end found."""

    __slots__ = ("_edge", "_first", "_held", "_tail", "done", "hops", "lone_dot", "rest", "size", "stray")

    def __init__(self) -> None:
        self._held = b"\r\n"  # a message begins as a line does
        self._first = True
        self._edge = b""  # the last two bytes before this block
        self._tail: bytes | None = b""  # the last bytes of the header so far; None behind it
        self.done = False
        self.stray = False  # a LF without CR was met: nothing of this block counts
        self.lone_dot = False
        self.rest = b""  # what stands behind the end
        self.hops = 0
        self.size = 0  # bytes stored

    def feed(self, block: bytes) -> bytes:
        """The bytes to store for the next block."""
        block = self._held + block
        end = block.find(END)
        if end >= 0:
            self.done = True
            self.rest = block[end + len(END) :]
            block = block[: end + 2]
        else:
            self._held = next((held for held in HELD if block.endswith(held)), b"")
            if self._held:
                block = block[: -len(self._held)]
        return self._stored(block)

    def _stored(self, block: bytes) -> bytes:
        """block ends within a line, and begins within one or with the CR LF before one; or it is the last."""
        text = block.replace(b"\r\n", b"\n")
        if text.count(b"\n") != len(block) - len(text):
            self.stray = True
            return b""
        if self._tail is not None:
            self._count_hops(text)
        if any(dot in self._edge + text[:2] for dot in LONE_DOTS):
            self.lone_dot = True
        self._edge = (self._edge + text[-2:])[-2:]
        if b"\r" in text and any(dot in text for dot in LONE_DOTS):
            self.lone_dot = True
            text = text.replace(b"\n.\r", b"\n..\r")  # the original keeps this dot
        if b"\n." in text:
            text = text.replace(b"\n.", b"\n")
        if self._first and text:
            self._first = False
            text = text[1:]
        self.size += len(text)
        return text

    def _count_hops(self, text: bytes) -> None:
        assert self._tail is not None
        end = (self._tail[-1:] + text).find(b"\n\n")
        header = self._tail + (text if end < 0 else text[: end + 1]).lower()
        for word in HOP_WORDS:
            self.hops += header.count(word, max(0, len(self._tail) - len(word) + 1))
        self._tail = header[1 - len(HOP_WORDS[1]) :] if end < 0 else None


class Session:
    """One connection. output grows by what is to be sent; exit_code is set when the session is over."""

    __slots__ = (
        "_auth",
        "_bare",
        "_body",
        "_errors",
        "_exchange",
        "_extended",
        "_failed_logins",
        "_input",
        "_invalid",
        "_mechanism",
        "_overlong",
        "_recipients",
        "_rules",
        "_sender",
        "_strict",
        "_taken",
        "_unknown_commands",
        "_utf8",
        "exit_code",
        "helo",
        "last",
        "last_reply",
        "output",
        "user",
    )

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._input: bytes | bytearray = b""
        self._taken = 0  # bytes of it
        self._overlong = False  # the line that goes on has lost its beginning
        self._bare = False  # a command has ended in LF alone
        self._strict = False  # none may any more
        self._sender: bytes | None = None  # None: no transaction
        self._recipients: list[bytes] = []
        self._utf8 = False
        self._auth: bytes | None = None
        self._body: Body | None = None
        self._extended = False
        self._mechanism = b""
        self._exchange: sasl.Exchange | None = None
        self._errors = 0
        self._invalid = 0
        self._unknown_commands = 0
        self._failed_logins = 0
        self.helo: bytes | None = None  # what the client calls itself; None: it has not said
        self.user: bytes | None = None  # who is logged in
        self.last = b""  # the last command's verb: a word of ours, which may be logged
        self.output = bytearray(b"220 " + rules.greeting + b" ESMTP\r\n")
        self.exit_code: int | None = None
        self.last_reply = b""  # that of an end, without its enhanced status code

    # Input

    @property
    def in_message(self) -> bool:
        """Whether a message is coming: large blocks are good then."""
        return self._body is not None

    @property
    def encrypted(self) -> bool:
        return self._rules.encrypted

    def feed(self, block: "bytes | bytearray | memoryview") -> None:
        """Take a block from the client. What held it may be overwritten afterwards; passwords are, here."""
        left = len(self._input) - self._taken
        if self._body is not None and not left:
            self._input = bytes(block)
        else:
            grown = bytearray(left + len(block))
            grown[:left] = memoryview(self._input)[self._taken :]
            grown[left:] = block
            self._wipe(0)
            self._input = grown
        self._taken = 0

    def step(self) -> Event | None:
        """Go on until the caller is needed."""
        while self.exit_code is None:
            event = self._line() if self._body is None else self._block(self._body)
            if event != b"":
                return event
        return None

    def end(self, reply: bytes, code: int = 1) -> None:
        """Say reply, and end."""
        self.exit_code = code
        self.last_reply = reply
        self._say(reply)

    def _block(self, body: Body) -> Event | None:
        """b"": no event, but more to do; as in _line."""
        if body.done:
            self._body = None
            return End(self._failure(body))
        if self._taken == len(self._input):
            return None
        stored = body.feed(bytes(self._input) if not self._taken else bytes(self._input[self._taken :]))
        self._taken = len(self._input)
        if body.done:
            self._input, self._taken = bytearray(body.rest), 0
        if body.stray:
            self.end(STRAY_NEWLINE)
            return b""
        limit = self._rules.databytes
        return stored if not limit or body.size <= limit else b""

    def _failure(self, body: Body) -> bytes:
        if body.hops >= self._rules.max_hops:
            return LOOPING
        if self._rules.databytes and body.size > self._rules.databytes:
            return TOO_BIG
        return LONE_DOT if body.lone_dot else b""

    def _line(self) -> Event | None:
        end = self._input.find(b"\n", self._taken)
        if end < 0:
            if len(self._input) - self._taken > LINE_LIMIT:
                self._overlong = True
            if self._overlong:
                self._wipe(self._taken)
                self._taken = len(self._input)
            return None
        line = bytearray(memoryview(self._input)[self._taken : end])
        self._wipe(self._taken, end)
        self._taken = end + 1
        if self._overlong or len(line) > LINE_LIMIT:
            self._overlong = False
            self._exchange = None
            self._say(TOO_LONG)
            return b""
        return self._command(line)

    def _wipe(self, start: int, end: int | None = None) -> None:
        if isinstance(self._input, bytearray):
            end = len(self._input) if end is None else end
            self._input[start:end] = bytes(end - start)

    # Output

    def _say(self, reply: bytes, code: bytes = b"") -> None:
        """Send one reply; code is its enhanced status code where the text has none."""
        if self._extended:
            code = status_code(reply) or code or reply[:1] + b".0.0"
            if reply[:1] in b"245" and not reply.startswith(code + b" ", 4):
                reply = reply[:4] + code + b" " + reply[4:]
        self.output += reply
        self.output += b"\r\n"
        if reply[:1] in b"45":
            self._errors += 1
            if self._errors == self._rules.max_errors and self.exit_code is None:
                self.end(MANY_ERRORS)

    # Commands

    def _command(self, line: bytearray) -> Event:
        if line.endswith(b"\r"):
            del line[-1:]
        elif self._strict:
            self.end(STRAY_NEWLINE)
            return b""
        else:
            self._bare = True
        if self._exchange is not None:
            return self._respond(self._exchange, line)
        end = line.find(b"\0")
        if end >= 0:
            del line[end:]
        blank = line.find(b" ")
        name = bytes(line if blank < 0 else line[:blank]).upper()
        verb = VERBS.get(name)
        if verb is None or not self._knows(name):
            return self._unknown(line)
        self.last = name
        while blank >= 0 and line[blank : blank + 1] == b" ":
            blank += 1
        if blank >= 0:
            argument = line[blank:]
            line[:] = bytes(len(line))  # it may have held a password
        else:
            argument = bytearray()
        event = verb(self, argument)
        return b"" if event is None else event

    def _knows(self, name: bytes) -> bool:
        rules = self._rules
        return rules.knows_auth if name == b"AUTH" else rules.starttls if name == b"STARTTLS" else True

    def _unknown(self, line: bytearray) -> Event:
        line[:] = bytes(len(line))  # it may have been part of a login
        self.last = b"an unknown command"
        self._say(UNIMPLEMENTED)
        self._unknown_commands += 1
        if self._unknown_commands == self._rules.max_unknown and self.exit_code is None:
            self.end(MANY_UNKNOWN)
        return b""

    def _forget(self) -> None:
        """No transaction any more."""
        self._sender = None
        self._recipients = []

    def _helo(self, argument: bytearray) -> None:
        self._extended = False
        self._say(b"250 " + self._rules.greeting)
        self._forget()
        self.helo = bytes(argument)

    def _ehlo(self, argument: bytearray) -> None:
        rules = self._rules
        lines = [rules.greeting, *((b"STARTTLS",) if rules.starttls else ()), *EXTENSIONS]
        if rules.mechanisms and not rules.withheld:
            lines.append(b"AUTH " + b" ".join(rules.mechanisms))
        for line in lines:
            self.output += b"250-" + line + b"\r\n"
        self.output += b"250 SIZE %d\r\n" % rules.databytes
        self._extended = True
        self._forget()
        self.helo = bytes(argument)

    def _mail(self, argument: bytearray) -> None:
        rules = self._rules
        needs_login = rules.auth_required and self.user is None
        if rules.tls_required or (needs_login and rules.withheld and rules.starttls):
            self._say(TLS_FIRST)
            return
        if needs_login:
            self._say(AUTH_FIRST, b"5.7.0")
            return
        address, behind = smtpaddress.parse(bytes(argument))
        address = rules.localize(address)
        if unusable(address):
            self._say(SYNTAX)
            return
        wishes = smtpaddress.parameters(behind) if behind.strip() else {}
        if rules.databytes and scan(wishes.get(b"SIZE", b""))[0] > rules.databytes:
            self._say(TOO_BIG)
            return
        self._forget()
        self._sender = address
        self._utf8 = b"SMTPUTF8" in wishes
        self._auth = smtpaddress.xtext(wishes[b"AUTH"]) if b"AUTH" in wishes else None
        self._say(OKAY, b"2.1.0")

    def _rcpt(self, argument: bytearray) -> Event | None:
        if self._sender is None:
            self._say(MAIL_FIRST)
            return None
        address = self._rules.localize(smtpaddress.parse(bytes(argument))[0])
        if unusable(address):
            self._say(SYNTAX)
            return None
        if len(self._recipients) == self._rules.max_recipients and self._recipients:
            self._say(MANY_RECIPIENTS)
            return None
        return Recipient(address)

    @property
    def sender(self) -> bytes:
        """The sender, for who decides about a recipient."""
        return self._sender or b""

    def accept(self, address: bytes) -> None:
        """The recipient is taken, under this address."""
        self._recipients.append(address)
        self._say(OKAY, b"2.1.5")

    def refuse(self, reply: bytes) -> None:
        """The recipient is not taken."""
        self._say(reply)
        self._invalid += 1
        if self._invalid == self._rules.max_invalid and self.exit_code is None:
            self.end(MANY_INVALID)

    def _data(self, argument: bytearray) -> Event | None:
        if self._sender is None:
            self._say(MAIL_FIRST)
            return None
        if not self._recipients:
            self._say(RECIPIENT_FIRST)
            return None
        message = Message(self._sender, self._recipients, self._protocol(), self._auth)
        self._forget()
        return message

    def _protocol(self) -> bytes:
        """The word for Received: RFC 3848, RFC 6531. A plain session is SMTP, also after EHLO, as in the original."""
        more = (b"S" if self._rules.encrypted else b"") + (b"A" if self.user is not None else b"")
        if self._utf8:
            return b"UTF8SMTP" + more
        return b"ESMTP" + more if more else b"SMTP"

    def begin(self) -> None:
        """The message is open."""
        self._body = Body()
        self._strict = not self._bare
        self._say(GO_AHEAD)

    def unable(self) -> None:
        """There is no room for a message."""
        self._say(NO_QUEUE)

    def finish(self, end: End, why: bytes, now: int, qp: int) -> None:
        """The message is closed. why is empty if it is queued, else D or Z and a text; now in seconds."""
        if not why:
            self._say(b"250 ok %d qp %d" % (now, qp))
        elif end.failure:
            self._say(end.failure)
        else:
            self._say((b"554 " if why.startswith(b"D") else b"451 ") + why[1:])

    def _rset(self, argument: bytearray) -> None:
        self._forget()
        self._say(FLUSHED)

    def _noop(self, argument: bytearray) -> None:
        self._say(OKAY)

    def _help(self, argument: bytearray) -> None:
        self._say(HELP)

    def _vrfy(self, argument: bytearray) -> None:
        self._say(VERIFY)

    def _quit(self, argument: bytearray) -> None:
        self.end(b"221 " + self._rules.greeting, 0)

    # STARTTLS, RFC 3207

    def _starttls(self, argument: bytearray) -> Event | None:
        if argument:
            self._say(NO_PARAMETERS)
            return None
        return Secure()

    def unable_to_secure(self) -> None:
        """TLS cannot begin."""
        self._rules.starttls = False
        self._say(NO_TLS)

    def ready(self) -> None:
        """TLS begins. What the client has sent behind the command was not meant for TLS, or is another's: it is thrown
        away, and so has the caller to do with what it has not read yet, before it sends the output."""
        self._wipe(0)
        self._input, self._taken = bytearray(), 0
        self._say(READY)

    def secured(self) -> None:
        """TLS is on. What was said before may have been anybody's; only what has been counted stays."""
        rules = self._rules
        rules.encrypted = True
        rules.starttls = rules.tls_required = rules.withheld = False
        self._forget()
        self._bare = self._strict = self._extended = False
        self.helo = self.user = None

    # AUTH, RFC 4954

    def _auth_(self, argument: bytearray) -> Event | None:
        rules = self._rules
        blank = argument.find(b" ")
        mechanism = bytes(argument if blank < 0 else argument[:blank]).upper()
        refusal = (
            NO_AUTH if not rules.mechanisms
            else NO_AUTH_IN_CLEAR if rules.withheld
            else AUTHENTICATED if self.user is not None
            else AUTH_IN_MAIL if self._sender is not None
            else NO_MECHANISM if mechanism not in rules.mechanisms
            else b""
        )  # fmt: skip
        if refusal:
            argument[:] = bytes(len(argument))
            self._say(refusal)
            return None
        exchange = sasl.Exchange(mechanism, rules.stamp)
        self._mechanism = mechanism
        if blank >= 0:
            while argument[blank : blank + 1] == b" ":
                blank += 1
            text = argument[blank:]
            argument[:] = bytes(len(argument))
            return self._respond(exchange, sasl.initial(text))
        self._challenge(exchange)
        return None

    def _challenge(self, exchange: sasl.Exchange) -> None:
        self._exchange = exchange
        self.output += b"334 " + exchange.challenge + b"\r\n"

    def _respond(self, exchange: sasl.Exchange, text: bytearray) -> Event:
        self._exchange = None
        try:
            exchange.respond(text)
        except sasl.Cancelled:
            self._say(CANCELLED)
            return b""
        except sasl.Refused:
            self._say(MALFORMED)
            return b""
        found = exchange.credentials
        if found is None:
            self._challenge(exchange)
            return b""
        if not found.password:
            self._say(MALFORMED)
            return b""
        return Login(self._mechanism, found, self._rules.stamp if self._mechanism == sasl.CRAM_MD5 else b"")

    def welcome(self, name: bytes) -> None:
        """The checker has said yes."""
        self.user = name
        self._say(WELCOME)

    def reject(self, reply: bytes = WRONG) -> None:
        """The checker has said no, or could not say."""
        self._say(reply)
        self._failed_logins += 1
        if self._failed_logins == self._rules.max_logins and self.exit_code is None:
            self.end(MANY_LOGINS)


VERBS: dict[bytes, Callable[[Session, bytearray], Event | None]] = {
    b"HELO": Session._helo,
    b"EHLO": Session._ehlo,
    b"AUTH": Session._auth_,
    b"STARTTLS": Session._starttls,
    b"MAIL": Session._mail,
    b"RCPT": Session._rcpt,
    b"DATA": Session._data,
    b"RSET": Session._rset,
    b"NOOP": Session._noop,
    b"HELP": Session._help,
    b"VRFY": Session._vrfy,
    b"QUIT": Session._quit,
}


def unusable(address: bytes) -> bool:
    """Whether an address is too long, or would be a line's end in the middle of a command when we send it on."""
    return len(address) > smtpaddress.LONGEST or b"\r" in address


def status_code(reply: bytes) -> bytes:
    """The enhanced status code (RFC 3463) of a reply: in front of its text, or the originals' (#x.y.z) in it. b"" if
    there is none, or one of another class than the reply's, which RFC 2034 forbids."""
    marked = reply.rpartition(b"(#")[2].partition(b")")[0] if b"(#" in reply else b""
    for code in (reply[4:].partition(b" ")[0], marked):
        numbers = code.split(b".")
        if len(numbers) == 3 and numbers[0] == reply[:1] and all(n.isdigit() and len(n) <= 3 for n in numbers):
            return code
    return b""
