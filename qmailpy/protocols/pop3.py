"""pop3 - both halves of a POP3 session (RFC 1939) as the originals speak it, without I/O.

Authorization is qmail-popup's half, up to the name and password; Transaction is qmail-pop3d's half, with the
list of messages. Both take a line and give the bytes of the reply. What old clients get is the originals'
byte for byte, `+OK` with its trailing blank included; a client that asks for CAPA or AUTH is a modern one and
gets response codes (RFC 2449, RFC 3206) from then on.

    state          verbs                                                  next
    AUTHORIZATION  USER PASS APOP AUTH CAPA STLS NOOP QUIT                login | TLS | end
    TRANSACTION    STAT LIST UIDL RETR TOP DELE RSET LAST NOOP CAPA QUIT  UPDATE | end
"""

from _collections_abc import Callable, Iterable, Iterator

from qmailpy.formats import fd3
from qmailpy.formats.maildirname import unique
from qmailpy.formats.numbers import scan
from qmailpy.protocols import sasl

# Replies of both halves
OKAY = b"+OK \r\n"
SYNTAX = b"-ERR syntax error\r\n"
TOO_LONG = b"-ERR line too long\r\n"

# Replies in AUTHORIZATION
USER_FIRST = b"-ERR USER first\r\n"
AUTHORIZATION_FIRST = b"-ERR authorization first\r\n"
CRASHED = b"aack, child crashed\r\n"
BAD_AUTHORIZATION = b"authorization failed\r\n"
NO_MECHANISM = b"-ERR unknown mechanism\r\n"
CANCELLED = b"-ERR authentication cancelled\r\n"
BAD_RESPONSE = b"-ERR malformed response\r\n"
TLS_FIRST = b"-ERR TLS required but not negotiated\r\n"
STARTING = b"+OK starting TLS negotiation\r\n"
NO_STLS = b"-ERR STLS not available\r\n"

# RFC 3206, by the exit code of a checker; what is not here needs the administrator.
CODES: dict[int | None, bytes] = {111: b"[SYS/TEMP] ", **dict.fromkeys(fd3.WRONG, b"[AUTH] ")}

# Replies in TRANSACTION
UNIMPLEMENTED = b"-ERR unimplemented\r\n"
DELETED = b"-ERR already deleted\r\n"
FROM_ONE = b"-ERR messages are counted from 1\r\n"
NOT_THAT_MANY = b"-ERR not that many messages\r\n"
UNABLE_TO_OPEN = b"-ERR unable to open that message\r\n"
UNABLE_TO_UNLINK = b"-ERR unable to unlink all deleted messages\r\n"

# Capabilities, RFC 2449 §6. Both states may announce what the other one has.
COMMON = (b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING")
BEFORE_LOGIN = {b"USER": b"USER", b"AUTH": b"SASL " + b" ".join(sasl.MECHANISMS)}  # by the verb they are about
AFTER_LOGIN = (*COMMON, b"EXPIRE NEVER", b"IMPLEMENTATION qmailpy")

# Verbs that TLS may be needed for
PASSWORDS = frozenset({b"USER", b"PASS", b"AUTH"})
LOGINS = PASSWORDS | {b"APOP"}

END = b".\r\n"

LINE_LIMIT = 1024  # bytes of a command in TRANSACTION; RFC 2449 §4 allows 255
LISTED_AT_ONCE = 1000  # messages


def multiline(lines: "tuple[bytes, ...] | list[bytes]", first: bytes = OKAY) -> bytes:
    """A reply of several lines; none of them may begin with a dot."""
    return first + b"".join(line + b"\r\n" for line in lines) + END


def take_verb(line: bytearray) -> bytes:
    """The verb of a line without its LF, in upper case; the argument is what stays in line. One CR at the end is
    dropped, a NUL cuts the line, only blanks separate, and those behind the argument belong to it. Nothing is
    copied, as the argument may be a password. Source: commands() of qmail."""
    if line.endswith(b"\r"):
        del line[-1:]
    end = line.find(b"\0")
    if end >= 0:
        line[end:] = b""
    end = line.find(b" ")
    verb = bytes(line[:end] if end >= 0 else line).upper()
    while line and end >= 0 and line[end : end + 1] == b" ":
        end += 1
    del line[: end if end >= 0 else len(line)]
    return verb


class Authorization:
    """The half before the login. `line` gives the reply; `login` is set when a name and password are there (then
    the reply is empty: the next program answers), `ended` when the client has said QUIT, `starting` when TLS has to
    begin behind this reply: then what the client has sent so far is to be thrown away, and `secured` to be called."""

    __slots__ = ("_exchange", "_name", "_no_stls", "_refused", "coded", "ended", "login", "starting")

    def __init__(self, stls: bool = False, refused: frozenset[bytes] = frozenset()) -> None:
        """stls: it is offered. refused: verbs that are, without TLS."""
        self._no_stls = b"" if stls else AUTHORIZATION_FIRST  # the original knows no STLS
        self._refused = refused
        self.ended = False
        self._forget()

    def _forget(self) -> None:
        self._name: bytes | None = None
        self._exchange: sasl.Exchange | None = None
        self.coded = False
        self.login: sasl.Credentials | None = None
        self.starting = False

    def secured(self) -> None:
        """TLS is on. What was said before may have been anybody's (RFC 2595 section 4)."""
        self._forget()
        self._no_stls = NO_STLS
        self._refused = frozenset()

    def unable(self) -> bytes:
        """TLS cannot begin; the reply in place of the one that said so."""
        self.starting = False
        self._no_stls = NO_STLS
        return NO_STLS

    def line(self, line: bytearray) -> bytes:
        """Take one line without its LF, which is overwritten, as it may hold a password."""
        try:
            if len(line) > sasl.LINE_LIMIT:
                self._exchange = None
                return TOO_LONG
            if self._exchange is not None:
                if line.endswith(b"\r"):
                    del line[-1:]
                return self._respond(self._exchange, line)
            verb = take_verb(line)
            if verb in self._refused:
                return TLS_FIRST
            return self._VERBS.get(verb, Authorization._unknown)(self, line)
        finally:
            line[:] = bytes(len(line))

    def _user(self, argument: bytearray) -> bytes:
        if not argument:
            return SYNTAX
        self._name = bytes(argument)
        return OKAY

    def _pass(self, argument: bytearray) -> bytes:
        if self._name is None:
            return USER_FIRST
        if not argument:
            return SYNTAX
        self.login = sasl.Credentials(self._name, argument[:])
        return b""

    def _apop(self, argument: bytearray) -> bytes:
        blank = argument.find(b" ")
        if blank < 0:
            return SYNTAX
        self.login = sasl.Credentials(bytes(argument[:blank]), argument[blank + 1 :])
        return b""

    def _auth(self, argument: bytearray) -> bytes:
        self.coded = True
        if not argument:  # before RFC 5034: the list of mechanisms
            return multiline(tuple(sasl.MECHANISMS))
        blank = argument.find(b" ")
        mechanism = bytes(argument[:blank] if blank >= 0 else argument).upper()
        if mechanism not in sasl.MECHANISMS:
            return NO_MECHANISM
        exchange = sasl.Exchange(mechanism)
        if blank >= 0:
            del argument[: blank + 1]
            return self._respond(exchange, sasl.initial(argument))
        self._exchange = exchange
        return b"+ " + exchange.challenge + b"\r\n"

    def _respond(self, exchange: sasl.Exchange, text: bytearray) -> bytes:
        self._exchange = None
        try:
            exchange.respond(text)
        except sasl.Cancelled:
            return CANCELLED
        except sasl.Refused:
            return BAD_RESPONSE
        if exchange.credentials is None:
            self._exchange = exchange
            return b"+ " + exchange.challenge + b"\r\n"
        self.login = exchange.credentials
        return b""

    def _capa(self, argument: bytearray) -> bytes:
        self.coded = True
        more = [capability for verb, capability in BEFORE_LOGIN.items() if verb not in self._refused]
        return multiline([*COMMON, *more, *(() if self._no_stls else (b"STLS",))])

    def _stls(self, argument: bytearray) -> bytes:
        if self._no_stls or argument:
            return self._no_stls or SYNTAX
        self.starting = True
        return STARTING

    def _noop(self, argument: bytearray) -> bytes:
        return OKAY

    def _quit(self, argument: bytearray) -> bytes:
        self.ended = True
        return OKAY

    def _unknown(self, argument: bytearray) -> bytes:
        return AUTHORIZATION_FIRST

    _VERBS = {  # noqa: RUF012
        b"USER": _user,
        b"PASS": _pass,
        b"APOP": _apop,
        b"AUTH": _auth,
        b"CAPA": _capa,
        b"STLS": _stls,
        b"NOOP": _noop,
        b"QUIT": _quit,
    }

    def verdict(self, exit_code: int | None) -> bytes:
        """The reply to a login whose programs have ended; exit_code is None if they crashed. Codes: RFC 3206.

        A client may forget a password that is answered with [AUTH]: nothing but wrong credentials may say so.
        """
        if exit_code == 0:
            return b""
        code = b""
        if self.coded:
            code = CODES.get(exit_code, b"[SYS/PERM] ")
        return b"-ERR " + code + (CRASHED if exit_code is None else BAD_AUTHORIZATION)


class Retrieve:
    """A message is wanted: index from 0; limit is the number of body lines, None for all."""

    __slots__ = ("index", "limit")

    def __init__(self, index: int, limit: int | None) -> None:
        self.index = index
        self.limit = limit


class Transaction:
    """The half behind the login, on the messages of the session: their paths in the Maildir and sizes in bytes.

    `line` gives the reply and, where the store has to be asked first, a Retrieve. `ended` is set by QUIT, whose
    reply is the caller's, after the update; `deleted` holds the indices to be removed then.
    """

    __slots__ = ("_last", "_paths", "_sizes", "deleted", "ended")

    def __init__(self, paths: list[bytes], sizes: list[int]) -> None:
        self._paths = paths
        self._sizes = sizes
        self._last = 0
        self.deleted: set[int] = set()
        self.ended = False

    def line(self, line: bytes) -> "tuple[Iterable[bytes], Retrieve | None]":
        """Take one line without its LF. The reply comes in pieces, as a list of all messages may be long."""
        if len(line) > LINE_LIMIT:
            return (TOO_LONG,), None
        argument = bytearray(line)
        verb = take_verb(argument)
        answer = self._VERBS.get(verb, Transaction._unknown)(self, bytes(argument))
        if isinstance(answer, Retrieve):
            return (), answer
        return ((answer,) if isinstance(answer, bytes) else answer), None

    def _number(self, argument: bytes) -> "int | bytes":
        """The index of an undeleted message, or the refusal. What follows the digits is ignored."""
        number, length = scan(argument)
        if not length:
            return SYNTAX
        if not number:
            return FROM_ONE
        if number > len(self._sizes):
            return NOT_THAT_MANY
        return number - 1 if number - 1 not in self.deleted else DELETED

    def _stat(self, argument: bytes) -> bytes:
        total = sum(self._sizes) - sum(self._sizes[index] for index in self.deleted)
        return b"+OK %d %d\r\n" % (len(self._sizes), total)  # the count includes deleted messages, qmail-pop3d(8)

    def _list(self, argument: bytes) -> "bytes | Iterable[bytes]":
        return self._listing(argument, self._scan_line)

    def _uidl(self, argument: bytes) -> "bytes | Iterable[bytes]":
        return self._listing(argument, self._unique_line)

    def _scan_line(self, index: int) -> bytes:
        return b"%d %d" % (index + 1, self._sizes[index])

    def _unique_line(self, index: int) -> bytes:
        return b"%d %b" % (index + 1, unique(self._paths[index]))

    def _listing(self, argument: bytes, line: Callable[[int], bytes]) -> "bytes | Iterable[bytes]":
        if argument:
            index = self._number(argument)
            return index if isinstance(index, bytes) else b"+OK " + line(index) + b"\r\n"
        return self._all(line)

    def _all(self, line: Callable[[int], bytes]) -> Iterator[bytes]:
        deleted, count = self.deleted, len(self._sizes)
        yield OKAY
        for start in range(0, count, LISTED_AT_ONCE):
            some = range(start, min(start + LISTED_AT_ONCE, count))
            yield b"".join([line(index) + b"\r\n" for index in some if index not in deleted])
        yield END

    def _dele(self, argument: bytes) -> bytes:
        index = self._number(argument)
        if isinstance(index, bytes):
            return index
        self.deleted.add(index)
        self._last = max(self._last, index + 1)
        return OKAY

    def _retrieve(self, argument: bytes) -> "bytes | Retrieve":
        index = self._number(argument)
        if isinstance(index, bytes):
            return index
        rest = argument[scan(argument)[1] :].lstrip(b" ")
        limit, length = scan(rest)
        return Retrieve(index, limit if length else None)

    def _rset(self, argument: bytes) -> bytes:
        self.deleted.clear()
        self._last = 0
        return OKAY

    def _last_(self, argument: bytes) -> bytes:
        return b"+OK %d\r\n" % self._last  # RFC 1460, gone since RFC 1725

    def _capa(self, argument: bytes) -> bytes:
        return multiline(AFTER_LOGIN)

    def _noop(self, argument: bytes) -> bytes:
        return OKAY

    def _quit(self, argument: bytes) -> bytes:
        self.ended = True
        return b""

    def _unknown(self, argument: bytes) -> bytes:
        return UNIMPLEMENTED

    _VERBS = {  # noqa: RUF012
        b"STAT": _stat,
        b"LIST": _list,
        b"UIDL": _uidl,
        b"DELE": _dele,
        b"RETR": _retrieve,
        b"TOP": _retrieve,
        b"RSET": _rset,
        b"LAST": _last_,
        b"CAPA": _capa,
        b"NOOP": _noop,
        b"QUIT": _quit,
    }


class Body:
    """A message on its way to the client: dots doubled, LF made CRLF, and the lines behind the header counted.

    A CR of the message stays, so CRLF becomes CR CR LF; the header ends at the first empty line, which a message
    with CRLF has none of; one blank line follows every message. All that is qmail-pop3d's.
    """

    __slots__ = ("_fresh", "_header", "_left", "done")

    def __init__(self, limit: int | None) -> None:
        """limit: lines behind the header, None for all."""
        self._fresh = True  # the next byte begins a line
        self._header = limit is not None
        self._left = limit
        self.done = False  # the limit is reached: no more is wanted

    def feed(self, block: bytes) -> bytes:
        """The bytes on the wire for the next block of the message."""
        if self._left is not None:
            block = self._cut(block)
        if not block:
            return b""
        wire = block.replace(b"\n", b"\r\n")
        if b"." in block and b"\n." in block:  # one byte is found ten times as fast, and base64 has no dot
            wire = wire.replace(b"\n.", b"\n..")
        if self._fresh and block.startswith(b"."):
            wire = b"." + wire
        self._fresh = block.endswith(b"\n")
        return wire

    def end(self) -> bytes:
        """What follows the last block."""
        return b"\r\n.\r\n" if self._fresh else b"\r\n\r\n.\r\n"

    def _cut(self, block: bytes) -> bytes:
        """The part of block that belongs to the header or to the wanted lines."""
        assert self._left is not None
        start = 0
        if self._header:
            if self._fresh and block.startswith(b"\n"):
                start = 1
            else:
                start = block.find(b"\n\n") + 2
                if start == 1:
                    return block
            self._header = False
        lines = block.count(b"\n", start)
        if lines < self._left:
            self._left -= lines
            return block
        for _ in range(self._left):
            start = block.find(b"\n", start) + 1
        self.done = True
        return block[:start]
