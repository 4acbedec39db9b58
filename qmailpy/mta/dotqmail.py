"""dotqmail - what is to be done with a message for a local user, by the words of his .qmail file: dot-qmail(5). Pure.

Addresses, words and lines are any bytes; an argument of a program has no NUL in it, a line of a file may."""

from qmailpy.formats import mbox
from qmailpy.formats.addresses822 import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = b".qmail"
DEFAULT = b"default"
OWNER = b"-owner"
OWNER_DEFAULT = b"-owner-default"
NOT_REPLACED = (b"", b"#@[]")  # senders of bounces and of double bounces: no owner ever gets theirs

# What a line says.
BLANK = "blank"  # nothing, and it is the first
MBOX = "mbox"
MAILDIR = "maildir"
PROGRAM = "program"
FORWARD = "forward"
FORWARD_ONLY = "forward only"  # from here on

# Exit codes of programs, qmail-command(8).
STOP = 99  # the message is delivered: nothing more is to be done
HARD = frozenset({64, 65, 70, 76, 77, 78, 100, 112})  # it is to be given up

# Bytes that a shell takes as they are, in any word of a command; and blanks.
PLAIN = b" \t%+,-./0123456789:=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"


def safe_extension(ext: bytes) -> bytes:
    """An extension as it stands in the name of a file: without capitals, and without dots, so that it cannot lead
    elsewhere."""
    return ext.lower().replace(b".", b":")


def candidates(dash: bytes, ext: bytes) -> "Iterator[tuple[bytes, bytes | None]]":
    """The names of the files that may be meant, the first that exists is, and the value that DEFAULT then has; None
    leaves it. For -a-b: .qmail-a-b, .qmail-a-default, .qmail-default."""
    safe = safe_extension(ext)
    yield PREFIX + dash + safe, ext[-len(DEFAULT) :] if safe.endswith(DEFAULT) else None
    for end in range(len(safe), -1, -1):
        if end == 0 or safe[end - 1] == ord("-"):
            yield PREFIX + dash + safe[:end] + DEFAULT, ext[end:]


def _behind(text: bytes) -> bytes:
    """What follows the first hyphen."""
    return text.partition(b"-")[2]


def _before(host: bytes) -> bytes:
    """What precedes the last dot; all, if there is none."""
    dot = host.rfind(b".")
    return host if dot < 0 else host[:dot]


def _one_line(text: bytes) -> bytes:
    """text where a newline would begin another field."""
    return text.replace(b"\n", b"_")


class Arrival:
    """A message that has come for a user. seconds: when the delivery began."""

    __slots__ = ("_ext", "_home", "_host", "_local", "_seconds", "_sender", "_user")

    def __init__(
        self, user: bytes, home: bytes, local: bytes, ext: bytes, host: bytes, sender: bytes, seconds: int
    ) -> None:
        self._user = user
        self._home = home
        self._local = local
        self._ext = ext
        self._host = host
        self._sender = sender
        self._seconds = seconds

    def delivered_to(self) -> bytes:
        """The field that tells where a message has been."""
        return b"Delivered-To: %s\n" % _one_line(self._local + b"@" + self._host)

    def return_path(self) -> bytes:
        """The field that keeps the envelope sender."""
        return b"Return-Path: <%s>\n" % _one_line(quote(self._sender))

    def from_line(self) -> bytes:
        """The line before the message in an mbox file."""
        return mbox.from_line(self._sender, self._seconds)

    def environment(self) -> dict[bytes, bytes]:
        """What a program finds in its environment, but for DEFAULT and NEWSENDER: qmail-command(8)."""
        ext2 = _behind(self._ext)
        ext3 = _behind(ext2)
        host2 = _before(self._host)
        host3 = _before(host2)
        return {
            b"USER": self._user,
            b"HOME": self._home,
            b"LOCAL": self._local,
            b"HOST": self._host,
            b"HOST2": host2,
            b"HOST3": host3,
            b"HOST4": _before(host3),
            b"EXT": self._ext,
            b"EXT2": ext2,
            b"EXT3": ext3,
            b"EXT4": _behind(ext3),
            b"RECIPIENT": self._local + b"@" + self._host,
            b"SENDER": self._sender,
            b"DTLINE": self.delivered_to(),
            b"RPLINE": self.return_path(),
            b"UFLINE": self.from_line(),
        }


def new_sender(local: bytes, host: bytes, sender: bytes, owner: bool, owner_default: bool) -> bytes:
    """The envelope sender of what is forwarded, by whether there are files for the owner's address, and for addresses
    below that: then each recipient shall have a sender of his own (VERP), which qmail-send makes."""
    if not owner or sender in NOT_REPLACED:
        return sender
    if owner_default:
        return b"%s-owner-@%s-@[]" % (local, host)
    return b"%s-owner@%s" % (local, host)


def instructions(text: bytes) -> "Iterator[tuple[str, bytes]]":
    """What each line says, and about what: the line as it is shown, of which up_to_nul is meant. Comments, lines that
    say nothing, and unknown words behind + are left out."""
    for number, whole in enumerate(text.removesuffix(b"\n").split(b"\n")):
        line = whole.rstrip(b" \t")
        first = line[:1]
        if first in (b"", b"\0"):
            if number == 0:
                yield BLANK, line
        elif first in b"./":
            yield MAILDIR if line.endswith(b"/") else MBOX, line
        elif first == b"|":
            yield PROGRAM, line[1:]
        elif first == b"+":
            if up_to_nul(line) == b"+list":
                yield FORWARD_ONLY, line
        elif first != b"#":
            yield FORWARD, line[1:] if first == b"&" else line


def up_to_nul(line: bytes) -> bytes:
    """As much as the C functions read of it."""
    return line.partition(b"\0")[0]


def plain_words(command: bytes) -> list[bytes]:
    """The words of a command, if a shell would do no more with it than find them: only blanks and single quotes mean
    something in it. Else none."""
    words: list[bytes] = []
    word = None
    parts = command.split(b"'")
    for number, part in enumerate(parts):
        if number % 2:
            word = (word or b"") + part
            continue
        if part.translate(None, PLAIN):
            return []
        first, *others = part.replace(b"\t", b" ").split(b" ")
        if first:
            word = (word or b"") + first
        for other in others:
            if word is not None:
                words.append(word)
            word = other or None
    if word is not None:
        words.append(word)
    return words if len(parts) % 2 else []
