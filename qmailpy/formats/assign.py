"""assign - the lines of users/assign, qmail-users(5), and the cdb that is made of them. Pure.

    =LOCAL:USER:UID:GID:HOME:DASH:EXT:     for the local part LOCAL
    +PREFIX:USER:UID:GID:HOME:DASH:PRE:    for each that begins with PREFIX; EXT is PRE and what follows
    .                                      the last line

    key                        data
    ! LOCAL NUL                USER NUL UID NUL GID NUL HOME NUL DASH NUL EXT
    ! PREFIX                   USER NUL UID NUL GID NUL HOME NUL DASH NUL PRE
    the empty key              each last character of a PREFIX, once

Keys are in lower case; those last characters are as they stand, so that a prefix that ends in a capital matches
nothing. Of two lines for the same key the first counts.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIELDS = 6  # user, uid, gid, home, dash, ext

PREFIX = b"+"
END = b"."


class Malformed(Exception):
    """line: its number, from 1; reason: bytes."""

    def __init__(self, line: int, reason: bytes) -> None:
        super().__init__(line)
        self.line = line
        self.reason = reason


def records(text: bytes) -> "Iterator[tuple[bytes, bytes]]":
    """(key, data) of each line of users/assign, and of the empty key at the end. Raises Malformed."""
    last = bytearray()
    number = 0
    for line in _lines(text):
        number += 1
        if line.startswith(END):
            yield b"", bytes(last)
            return
        name, data = _record(line, number)
        if not line.startswith(PREFIX):
            yield b"!" + name.lower() + b"\0", data
            continue
        if name and name[-1] not in last:
            last.append(name[-1])
        yield b"!" + name.lower(), data
    raise Malformed(number + 1, b"no line that begins with a dot")


def _lines(text: bytes) -> "Iterator[bytes]":
    """Each with its LF; the last one may have none."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _record(line: bytes, number: int) -> tuple[bytes, bytes]:
    """The name and the data of a line. What follows the last colon is ignored."""
    if not line.endswith(b"\n"):
        raise Malformed(number, b"no newline")
    if b"\0" in line:
        raise Malformed(number, b"NUL")
    words = line.split(b":", FIELDS + 1)
    if len(words) < FIELDS + 2:
        raise Malformed(number, b"%d colons, not %d" % (len(words) - 1, FIELDS + 1))
    if not words[0]:
        raise Malformed(number, b"no = or +")
    return words[0][1:], b"\0".join(words[1:-1])


def search(get: "Callable[[bytes], bytes | None]", local: bytes) -> bytes | None:
    """The six strings for a local part, or None, from a cdb of which get(key) gives the data, or None. Raises
    LookupError: this is no such cdb."""
    last = get(b"")
    if last is None:
        raise LookupError
    lower = b"!" + local.lower()
    data = get(lower + b"\0")
    if data is not None:
        return data
    for length in range(len(lower), 0, -1):
        if length == 1 or lower[length - 1] in last:
            data = get(lower[:length])
            if data is not None:
                return data + local[length - 1 :]
    return None


def fields(data: bytes) -> list[bytes]:
    """The six strings; what follows them is ignored. Raises ValueError: there are fewer."""
    found = data.split(b"\0")[:FIELDS]
    if len(found) < FIELDS:
        raise ValueError
    return found


class Lines:
    """The lines of users/assign for accounts, as qmail-pw2u writes them. between: the character between an account's
    name and an extension, b"" for no extensions; dash: what the names of their .qmail files go on with."""

    __slots__ = ("_between", "_dash")

    def __init__(self, between: bytes, dash: bytes) -> None:
        self._between = between
        self._dash = dash

    def everybody(self, account: bytes) -> bytes:
        """The line for all who have none. account here: `USER:UID:GID:HOME`."""
        return b"+:%s:%s::\n" % (account, self._dash)

    def user(self, name: bytes, account: bytes) -> bytes:
        """The lines for one name of an account."""
        line = b"=%s:%s:::\n" % (name, account)
        if self._between:
            line += b"+%s%s:%s:%s::\n" % (name, self._between, account, self._dash)
        return line

    def subuser(self, name: bytes, account: bytes, pre: bytes) -> bytes:
        """The lines for a name whose mail an account has under the extension pre."""
        line = b"=%s:%s:%s:%s:\n" % (name, account, self._dash, pre)
        if self._between:
            line += b"+%s%s:%s:%s:%s-:\n" % (name, self._between, account, self._dash, pre)
        return line
