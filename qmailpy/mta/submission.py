"""submission - what qmail-inject decides about a message that a user or a program hands in: its envelope, the fields
that are added to its header, and those that are completed or left out; qmail-header(5). Pure."""

from qmailpy.formats.addresses822 import (
    AT,
    ATOM,
    COLON,
    COMMENT,
    LEFT,
    QUOTE,
    RIGHT,
    SIGNS,
    Token,
    Tokens,
    Unparsable,
    one_line,
    parse,
    quote,
    quote_needed,
    rewrite,
    unparse,
    unquote_reversed,
)
from qmailpy.formats.header import name
from qmailpy.formats.received import MONTHS, date822
from qmailpy.mta.completion import Completion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

VERP = b"-@[]"  # qmail-send puts each recipient into such a sender

# Fields whose addresses are recipients, also if not all of the list can be read.
LISTED = frozenset({b"to", b"cc"})  # and whom a follow-up goes to
RECIPIENTS = LISTED | {b"bcc", b"apparently-to"}
RESENT_RECIPIENTS = frozenset({b"resent-to", b"resent-cc", b"resent-bcc"})

SENDERS = frozenset({
    b"sender", b"from", b"reply-to", b"return-receipt-to", b"errors-to",
    b"resent-sender", b"resent-from", b"resent-reply-to",
})  # fmt: skip

# With one of these the message is one that was resent.
RESENT = RESENT_RECIPIENTS | {
    b"resent-sender", b"resent-from", b"resent-reply-to", b"resent-date", b"resent-message-id",
}  # fmt: skip

REMOVED = frozenset({b"bcc", b"resent-bcc", b"return-path", b"content-length"})

DELETED = {b"from": b"f", b"message-id": b"i", b"return-path": b"s"}  # by a letter of QMAILINJECT

NO_RECIPIENTS = b"Cc: recipient list not shown: ;\n"

SIGN = {token[0]: token for token in SIGNS.values()}


def first_set(env: "Mapping[bytes, bytes]", *names: bytes) -> bytes | None:
    """The value of the first of these variables that is set, and be it empty; in one line."""
    for each in names:
        if each in env:
            return one_line(env[each])
    return None


class Submission:
    """One message. seconds and pid, when and by whom it is taken in, make its Message-ID another than all others.

    sender: None until something has decided it, as finish does at last.
    """

    __slots__ = (
        "_arguments",
        "_completion",
        "_env",
        "_follow_up",
        "_id_host",
        "_kept",
        "_letters",
        "_listed",
        "_pid",
        "_recipients",
        "_resent_recipients",
        "_seconds",
        "_seen",
        "sender",
    )

    def __init__(
        self,
        env: "Mapping[bytes, bytes]",
        completion: Completion,
        id_host: bytes,
        follow_up: "Collection[bytes]",
        seconds: int,
        pid: int,
    ) -> None:
        """follow_up: addresses of mailing lists in lower case, QMAILMFTFILE."""
        self._env = env
        self._completion = completion
        self._id_host = id_host
        self._follow_up = follow_up
        self._seconds = seconds
        self._pid = pid
        self._letters = env.get(b"QMAILINJECT", b"")
        self._seen: set[bytes] = set()
        self._kept: list[bytes] = []
        self._arguments: list[bytes] = []
        self._recipients: list[bytes] = []
        self._resent_recipients: list[bytes] = []
        self._listed: list[bytes] = []
        self.sender: bytes | None = None

    # Before the message

    def _whole(self, address: bytes) -> bytes:
        tokens = parse(quote(address))[::-1]
        self._completion.complete(tokens)
        return unquote_reversed(tokens)

    def set_sender(self, address: bytes) -> None:
        """The envelope sender of -f. Raises Unparsable."""
        self.sender = self._whole(one_line(address))

    def add_recipient(self, address: bytes) -> None:
        """A recipient among the arguments. Raises Unparsable."""
        self._arguments.append(self._whole(address))

    # Its header

    def field(self, field: bytes) -> None:
        """Take in one field, with its newlines. Raises Unparsable."""
        kind = name(field)
        if kind in DELETED and DELETED[kind] in self._letters:
            return
        self._seen.add(kind)
        if kind in RECIPIENTS:
            field = _read(field, self._on_listed if kind in LISTED else self._on_recipient)
        elif kind in RESENT_RECIPIENTS:
            field = _read(field, self._on_resent_recipient)
        elif kind in SENDERS:
            field = rewrite(field, self._completion.complete)
        elif kind == b"return-path":
            rewrite(field, self._on_return_path)
        if kind not in REMOVED:
            self._kept.append(field)

    def _on_recipient(self, address: Tokens) -> None:
        self._completion.complete(address)
        self._recipients.append(_in_envelope(unquote_reversed(address)))

    def _on_listed(self, address: Tokens) -> None:
        self._on_recipient(address)
        self._listed.append(self._recipients[-1])

    def _on_resent_recipient(self, address: Tokens) -> None:
        self._completion.complete(address)
        self._resent_recipients.append(_in_envelope(unquote_reversed(address)))

    def _on_return_path(self, address: Tokens) -> None:
        self._completion.complete(address)
        if self.sender is None:
            verp = VERP if b"r" in self._letters else b""
            self.sender = _in_envelope(unquote_reversed(address) + verp)

    # At its end

    def finish(self) -> bytes:
        """The whole header, without the empty line behind it. Raises Unparsable: names in the environment may make a
        From field that none can read."""
        if self.sender is None:
            self._default_sender()
        prefix = b"Resent-" if self.is_resent() else b""
        follow_up = b"" if prefix else self._followed_up()
        return self._added(prefix) + follow_up + b"".join(self._kept)

    def is_resent(self) -> bool:
        return not RESENT.isdisjoint(self._seen)

    def recipients(self, arguments_only: bool) -> list[bytes]:
        """The envelope's recipients; those among the arguments come first."""
        if arguments_only:
            return self._arguments
        return self._arguments + (self._resent_recipients if self.is_resent() else self._recipients)

    def _added(self, prefix: bytes) -> bytes:
        """The fields that every message has, each unless there was one; prefix is before their names."""
        seen = prefix.lower()
        fields = []
        if seen + b"date" not in self._seen:
            fields.append(b"Date: %s\n" % date822(self._seconds))
        if seen + b"message-id" not in self._seen:
            fields.append(b"Message-ID: <%s.%d.qmail@%s>\n" % (stamp(self._seconds), self._pid, self._id_host))
        if seen + b"from" not in self._seen:
            fields.append(self._default_from())
        if seen + b"to" not in self._seen and seen + b"cc" not in self._seen:
            fields.append(NO_RECIPIENTS)
        return b"".join([prefix + field for field in fields])

    def _followed_up(self) -> bytes:
        """The field Mail-Followup-To, if the message goes to one of the lists."""
        if b"mail-followup-to" in self._seen or not any(each.lower() in self._follow_up for each in self._listed):
            return b""
        return b"Mail-Followup-To: " + b",\n  ".join([quote(each) for each in self._listed[::-1]]) + b"\n"

    def _user(self) -> bytes:
        user = first_set(self._env, b"QMAILUSER", b"MAILUSER", b"USER", b"LOGNAME")
        return b"anonymous" if user is None else user

    def _host(self) -> bytes | None:
        return first_set(self._env, b"QMAILHOST", b"MAILHOST")

    def _default_from(self) -> bytes:
        """The field From, of the user's name and address."""
        full_name = first_set(self._env, b"QMAILNAME", b"MAILNAME", b"NAME")
        user = self._user()
        address = _address((QUOTE if quote_needed(user) else ATOM, user), self._host())
        if full_name is not None:
            if b"c" in self._letters:
                address = [*address, (COMMENT, full_name)]
            else:
                address = [(QUOTE, full_name), SIGN[LEFT], *address, SIGN[RIGHT]]
        return rewrite(unparse([(ATOM, b"From"), SIGN[COLON], *address]), self._completion.complete)

    def _default_sender(self) -> None:
        """The user's address, or what the letters m and r make of it."""
        user = first_set(self._env, b"QMAILSUSER")
        host = first_set(self._env, b"QMAILSHOST")
        box = self._user() if user is None else user
        if b"m" in self._letters:
            box += b"-%d.%d" % (self._seconds, self._pid)
        if b"r" in self._letters:
            box += b"-"
        address = _address((QUOTE, box), self._host() if host is None else host)
        rewrite(unparse([(ATOM, b"Return-Path"), SIGN[COLON], *address]), self._on_return_path)


def _read(field: bytes, change: "Callable[[Tokens], None]") -> bytes:
    """A field of recipients with whole addresses; unchanged if the list cannot be read to its end."""
    try:
        return rewrite(field, change)
    except Unparsable:
        return field


def _in_envelope(address: bytes) -> bytes:
    """What an envelope can carry: a NUL, which quotes allow, ends the address."""
    return address.partition(b"\0")[0]


def _address(box: Token, host: bytes | None) -> Tokens:
    return [box] if host is None else [box, SIGN[AT], (ATOM, host)]


def stamp(seconds: int) -> bytes:
    """`20011105090307`, in GMT."""
    day, month, year, clock, _ = date822(seconds).split()
    return b"%s%02d%02d%s" % (year, MONTHS.index(month) + 1, int(day), clock.replace(b":", b""))
