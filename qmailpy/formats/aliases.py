"""aliases - the texts in which people write where their mail goes: sendmail's aliases, its :include: lists, and
.forward files. Pure.

What stands in them are lists of addresses as in the header of a message, RFC 822, without groups; blanks separate as
commas do, and a colon does no more than end a word. They are read from right to left, as the originals do: the last
address of a line comes first, and that before the colon of an alias, last."""

from qmailpy.formats import forwardcdb
from qmailpy.formats.addresses822 import (
    AT,
    ATOM,
    COLON,
    COMMA,
    COMMENT,
    LEFT,
    LITERAL,
    PHRASE,
    QUOTE,
    RIGHT,
    SEMICOLON,
    SIGNS,
    Tokens,
    Unparsable,
    one_line,
    parse,
    unquote_reversed,
)
from qmailpy.formats.forwardcdb import Wrong
from qmailpy.formats.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Kinds of entries. An address without a host ends in @; an empty one is b"".
ADDRESS, INCLUDE, PROGRAM, FILE = range(4)
NAMED = {ADDRESS: b"recipient addresses", INCLUDE: b":include: filenames", PROGRAM: b"program names"}

Entry = tuple[int, bytes]

COMMENTED = b"#"  # begins a line that means nothing
COMPILED = b".bin"  # behind the name of a list that newinclude has compiled
BEFORE_INCLUDE = [SIGNS[ord(":")], (ATOM, b"include")]


def entries(line: bytes, includes: bool) -> "Iterator[Entry]":
    """What stands in a line, the last first. includes: whether `:include:` is one. Raises Unparsable, perhaps after
    some of them."""
    tokens = parse(line)
    address: Tokens = []
    word_may_follow = True  # on the left of what was read, without a comma
    at = len(tokens)
    while at > 0:
        at -= 1
        kind = tokens[at][0]
        if kind in (SEMICOLON, COMMENT):
            continue
        if kind == COLON:
            if includes and tokens[max(at - 2, 0) : at] == BEFORE_INCLUDE:
                yield INCLUDE, unquote_reversed(address)
                address.clear()
                at -= 2
        elif kind == RIGHT:
            if address:
                yield _entry(address)
            while at > 0 and tokens[at - 1][0] != LEFT:
                at -= 1
                address.append(tokens[at])
            yield _entry(address)
            if at == 0:
                raise Unparsable(line)
            at -= 1
            while at > 0 and tokens[at - 1][0] in PHRASE:
                at -= 1
            word_may_follow = False
        else:
            is_word = kind in (ATOM, QUOTE, LITERAL)
            if address and (kind == COMMA or (is_word and not word_may_follow)):
                yield _entry(address)
            word_may_follow = not is_word
            if kind != COMMA:
                address.append(tokens[at])
    if address:
        yield _entry(address)


def _entry(address: Tokens) -> Entry:
    """What a reversed list of tokens stands for; the list is empty then."""
    text = unquote_reversed(address)
    with_host = any(kind == AT for kind, _ in address)
    address.clear()
    if with_host or not text:
        return ADDRESS, text
    if text.startswith(b"/"):
        return FILE, text
    if text.startswith(b"|"):
        return PROGRAM, text[1:]
    return ADDRESS, text + b"@"


class Names:
    """What completes an address: control/defaulthost, defaultdomain and plusdomain."""

    __slots__ = ("_domain", "_host", "_plus")

    def __init__(self, host: bytes, domain: bytes, plus: bytes) -> None:
        self._host = host
        self._domain = domain
        self._plus = plus

    def complete(self, address: bytes) -> bytes:
        """joe@ is joe@defaulthost, joe@mail is joe@mail.defaultdomain, joe@mail+ is joe@mail.plusdomain."""
        if address.endswith(b"@"):
            address += self._host
        if address.endswith(b"+"):
            address = address[:-1] + b"." + self._plus
        host = address.rpartition(b"@")[2]
        if b"." in host or (host.startswith(b"[") and host.endswith(b"]")):  # an IPv6 address has no dot
            return address
        return address + b"." + self._domain


def in_words(text: bytes) -> bytes:
    """A line, or part of one, as people may see it."""
    return visible(one_line(text.rstrip(b"\n")))


def _unparsable(line: bytes, number: int) -> Wrong:
    return Wrong(b"unable to parse this line: " + in_words(line), number)


def _not_supported(kind: bytes, name: bytes, number: int) -> Wrong:
    return Wrong(b"%s delivery %s not supported" % (kind, in_words(name)), number)


def _lines(text: bytes) -> "Iterator[tuple[int, bytes]]":
    """Number and text of each line that is no comment, with its newline: a backslash in front may quote it."""
    lines = text.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.startswith(COMMENTED):
            yield number, line + (b"\n" if number < len(lines) else b"")


# aliases


def _joined(text: bytes) -> "Iterator[tuple[int, bytes]]":
    """The lines of aliases with their numbers, each with those that continue it: they begin with a blank. Empty lines
    count for nothing."""
    first, whole = 1, b""
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line:
            continue
        if line[:1] not in (b" ", b"\t"):
            if whole:
                yield first, whole
            first, whole = number, b""
        whole += line + b"\n"
    if whole:
        yield first, whole


def records(text: bytes, names: Names) -> "Iterator[tuple[bytes, bytes]]":
    """The records, as in formats.forwardcdb, that newaliases makes of aliases. Raises Wrong."""
    for number, line in _joined(text):
        if line.startswith(COMMENTED):
            continue
        try:
            yield from _alias(line, number, names)
        except Unparsable:
            raise _unparsable(line, number)


def _alias(line: bytes, number: int, names: Names) -> "Iterator[tuple[bytes, bytes]]":
    """Raises Unparsable, Wrong."""
    target = whole = b""
    data = []
    for kind, text in entries(line, includes=True):
        if kind == FILE:
            raise _not_supported(b"file", text, number)
        if kind == ADDRESS:
            if not text:
                raise Wrong(b"empty recipient addresses not permitted", number)
            if target:
                data.append(forwardcdb.ADDRESS + whole)
            target, whole = text, names.complete(text)
            if len(whole) > forwardcdb.LONGEST:
                raise Wrong(forwardcdb.TOO_LONG, number, for_ever=True)
        elif kind == PROGRAM:
            data.append(b"!" + text)
        else:
            data.append(_included(text, number))
        if b"\0" in text:
            raise Wrong(b"NUL not permitted in " + NAMED[kind], number)
    if not target and not data:
        return
    if not target or not data:
        raise Unparsable(line)
    if target.startswith(b"owner-"):
        yield forwardcdb.OWNER + target.removeprefix(b"owner-").lower(), whole
    yield forwardcdb.TARGET + target.lower(), b"".join([item + b"\0" for item in data])


def _included(name: bytes, number: int) -> bytes:
    """The file that fastforward reads for `:include:name`. Raises Wrong."""
    if not name:
        raise Wrong(b"empty :include: filenames not permitted", number)
    return (b"" if name[:1] in (b".", b"/") else b"./") + name + COMPILED


# :include: lists


def list_items(text: bytes, names: Names) -> "Iterator[bytes]":
    """The items, with their NULs, that newinclude makes of the lines of a list. Raises Wrong."""
    for number, line in _lines(text):
        try:
            for kind, entry in entries(line, includes=True):
                if kind != ADDRESS or entry:
                    yield _list_item(kind, entry, number, names) + b"\0"
        except Unparsable:
            raise _unparsable(line, number)


def _list_item(kind: int, text: bytes, number: int, names: Names) -> bytes:
    """Raises Wrong."""
    if kind == FILE:
        raise _not_supported(b"file", text, number)
    if kind == PROGRAM:
        raise _not_supported(b"program", b"|" + text, number)
    if kind == INCLUDE:
        item = _included(text, number)
        if text.endswith(COMPILED):  # the original leaves that to whoever writes the list
            item = item.removesuffix(COMPILED)
    else:
        whole = names.complete(text)
        if len(whole) > forwardcdb.LONGEST:
            raise Wrong(b"addresses must be under 800 bytes", number)
        item = forwardcdb.ADDRESS + whole
    for byte, called in ((b"\n", b"newlines"), (b"\0", b"NUL")):
        if byte in item:
            raise Wrong(called + b" not permitted in " + NAMED[kind], number)
    if kind == ADDRESS and item[-1:] in (b" ", b"\t"):
        raise Wrong(b"spaces and tabs not permitted at ends of addresses", number)
    return item


# .forward

DIRECT = FILE + 1  # to the mailbox of the user himself


def forwarding(text: bytes, user: bytes, host: bytes, names: Names) -> "Iterator[Entry]":
    """What a .forward file of user at host wants, in the order in which dot-forward does it: PROGRAM and its command,
    ADDRESS and a whole address, DIRECT. Raises Wrong, perhaps after some of them."""
    own = (user.lower() + b"@", user.lower() + b"@" + host.lower())
    for number, line in _lines(text):
        try:
            for kind, entry in entries(line, includes=False):
                if kind == FILE:
                    raise _not_supported(b"file", entry, number)
                if kind == PROGRAM:
                    yield kind, entry
                elif entry.lower() in own:
                    yield DIRECT, entry
                elif entry:
                    yield ADDRESS, names.complete(entry)
        except Unparsable:
            raise _unparsable(line, number)
