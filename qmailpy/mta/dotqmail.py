"""dotqmail - what is to be done with a message for a local user, by the words of his .qmail file: dot-qmail(5). Pure.

Addresses, words and lines are any bytes; an argument of a program has no NUL in it, a line of a file may."""

from qmailpy.formats import mbox
from qmailpy.formats.addresses822 import quote

OWNER = b"-owner"
OWNER_DEFAULT = b"-owner-default"
NOT_REPLACED = (b"", b"#@[]")  # senders of bounces and of double bounces: no owner ever gets theirs

# Exit codes of programs, qmail-command(8).
STOP = 99  # the message is delivered: nothing more is to be done
HARD = frozenset({64, 65, 70, 76, 77, 78, 100, 112})  # it is to be given up


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
