"""addresses822 - address lists of mail headers: tokens, their text folded again, and the addresses among them. Pure.

The grammar is that of qmail-inject, qmail-header(5): RFC 822, but blanks separate addresses as commas do, comments move
behind the address that they stand in, and any byte may be in a word. Lists are read from right to left, as the original
does: that way the end of each address is known before its words are.

A token is its kind and its text, which is without quotes and backslashes. Tokens of one field stand in a list; those of
one address, while it is looked at, in a reversed one, so that its host comes first."""

from _collections_abc import Callable

ATOM, QUOTE, LITERAL, COMMENT, LEFT, RIGHT, AT, COMMA, SEMICOLON, COLON, DOT = range(1, 12)

Token = tuple[int, bytes]
Tokens = list[Token]

WIDTH = 80  # columns of a folded line: none is longer, unless an address alone is

SIGNS = {
    ord("."): (DOT, b"."),
    ord(","): (COMMA, b","),
    ord("@"): (AT, b"@"),
    ord("<"): (LEFT, b"<"),
    ord(">"): (RIGHT, b">"),
    ord(":"): (COLON, b":"),
    ord(";"): (SEMICOLON, b";"),
}
COMMA_TOKEN = SIGNS[ord(",")]

# Kind of what begins with a byte, and the byte that ends it.
ENCLOSED = {ord("("): (COMMENT, ord(")")), ord('"'): (QUOTE, ord('"')), ord("["): (LITERAL, ord("]"))}
MARKS = {QUOTE: (b'"', b'"'), LITERAL: (b"[", b"]"), COMMENT: (b"(", b")"), ATOM: (b"", b"")}

WORDS = frozenset({ATOM, QUOTE, LITERAL, COMMENT})  # a space keeps two of them apart
PHRASE = frozenset({ATOM, QUOTE, COMMENT, AT, DOT})  # what may stand before <

BLANKS = b" \t\r\n"
STRAY = b")]"  # no token begins with them
BACKSLASH = ord("\\")
ENDS_ATOM = frozenset(b' \t\r\n(["<>;:@,.')
IN_ATOM = bytes(byte for byte in range(32, 127) if byte not in b")]\\")  # an atom with others is shown in quotes
ESCAPED = b'"[]()\\\r\n'

# Bytes of a local part that needs no quotes: those that RFC 821 and RFC 822 both have in atoms, and dots.
PLAIN = b"!#$%&'*+-./0123456789=?ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz{|}~"


_ONE_LINE = bytes(byte if byte not in b"\r\n" else ord(" ") for byte in range(256))


class Unparsable(Exception):
    """args[0]: the field, or what else was to be read."""


def parse(text: bytes) -> Tokens:
    """The tokens of a field, its name included, or of an address. Raises Unparsable: a comment, string or literal that
    does not end, or that only ends."""
    tokens = []
    at = 0
    while at < len(text):
        byte = text[at]
        if byte in SIGNS:
            tokens.append(SIGNS[byte])
            at += 1
        elif byte in BLANKS:
            at += 1
        elif byte in STRAY:
            raise Unparsable(text)
        elif byte in ENCLOSED:
            kind, closing = ENCLOSED[byte]
            content, at = _enclosed(text, at, closing)
            tokens.append((kind, content))
        else:
            content, at = _atom(text, at)
            tokens.append((QUOTE if content.translate(None, IN_ATOM) else ATOM, content))
    return tokens


def _enclosed(text: bytes, start: int, closing: int) -> tuple[bytes, int]:
    """What is between the byte at start and closing, and where it goes on. Only comments are nested; of those inside,
    the parentheses are lost."""
    opening = text[start] if closing == ord(")") else -1
    content = bytearray()
    at, level = start + 1, 1
    while at < len(text):
        byte = text[at]
        at += 1
        if byte == closing:
            level -= 1
            if level == 0:
                return bytes(content), at
        elif byte == opening:
            level += 1
        else:
            if byte == BACKSLASH:
                if at == len(text):
                    break
                byte = text[at]
                at += 1
            content.append(byte)
    raise Unparsable(text)


def _atom(text: bytes, at: int) -> tuple[bytes, int]:
    """The atom that begins there, and where it goes on."""
    content = bytearray()
    while True:
        if text[at] == BACKSLASH:
            at += 1
            if at == len(text):
                break
        content.append(text[at])
        at += 1
        if at == len(text) or text[at] in ENDS_ATOM:
            break
    return bytes(content), at


def _apart(last: int, kind: int) -> bool:
    """Whether a space stands between two kinds of tokens; last is 0 at the beginning."""
    if last in (0, COLON, COMMA):
        return last != 0
    return kind == LEFT or (last in WORDS and kind in WORDS)


def _shown(token: Token) -> bytes:
    kind, text = token
    if kind not in WORDS:
        return text
    if text.translate(None, ESCAPED) != text:
        text = b"".join([b"\\%c" % byte if byte in ESCAPED else b"%c" % byte for byte in text])
    before, after = MARKS[kind]
    return before + text + after


def _break(shown: bytearray, line: int, fold: int) -> tuple[int, int]:
    """Begin a new line behind a comma, or at the end, and take the last break back if the line before had room.
    line: where the last line but one begins; fold: where the last break is, -1 if there is none. Returns both anew."""
    if fold >= 0 and len(shown) - line <= WIDTH:
        del shown[fold : fold + 2]
    elif fold >= 0:
        line = fold + 1
    shown += b"\n "
    return line, len(shown) - 2


def unparse(tokens: Tokens) -> bytes:
    """The field of these tokens, a newline at its end. Lines are broken behind commas only."""
    shown = bytearray()
    line, fold, last = 0, -1, 0
    for token in tokens:
        if _apart(last, token[0]):
            shown += b" "
        last = token[0]
        shown += _shown(token)
        if last == COMMA:
            line, fold = _break(shown, line, fold)
    _break(shown, line, fold)
    return bytes(shown[:-1])


def unquote(tokens: Tokens) -> bytes:
    """The address of these tokens as it stands in an envelope: without quotes, spaces and comments."""
    return b"".join([
        b"[" + text + b"]" if kind == LITERAL else text for kind, text in tokens if kind != COMMENT
    ])  # fmt: skip


def unquote_reversed(address: Tokens) -> bytes:
    """unquote for a reversed list."""
    return unquote(address[::-1])


class _Reader:
    """One list, read from right to left. Address and result are reversed until the end."""

    __slots__ = ("address", "at", "change", "result", "tokens")

    def __init__(self, tokens: Tokens, change: Callable[[Tokens], None]) -> None:
        self.tokens = tokens
        self.change = change
        self.at = len(tokens) - 1
        self.address: Tokens = []
        self.result: Tokens = []

    def more(self) -> bool:
        return self.at >= 2

    def kind(self) -> int:
        return self.tokens[self.at][0]

    def keep(self) -> None:
        """The token is no part of an address."""
        self.result.append(self.tokens[self.at])
        self.at -= 1

    def collect(self) -> None:
        """The token is part of an address."""
        self.address.append(self.tokens[self.at])
        self.at -= 1

    def finish(self) -> None:
        """An address is complete; also an empty one, from <>."""
        self.change(self.address)
        self.result += self.address
        self.address.clear()

    def flush(self, comma: bool) -> None:
        """If there is an address it is complete, and one more follows, on the left, behind a comma that was missing."""
        if self.address:
            self.finish()
            if comma:
                self.result.append(COMMA_TOKEN)

    def until(self, kind: int, step: Callable[[], None]) -> None:
        while self.more() and self.kind() != kind:
            step()


def rewrite(field: bytes, change: Callable[[Tokens], None]) -> bytes:
    """The field with each address in it changed, and folded anew.

    change(address) gets one address after the other, the last one first, as a reversed list, and changes it in place;
    that of <> is empty. Raises Unparsable; by then change may have had some of them."""
    tokens = parse(field)
    reader = _Reader(tokens, change)
    in_group = False
    word_may_follow = True  # on the left of what was read, without a comma
    while reader.more():
        kind = reader.kind()
        if kind in (ATOM, QUOTE, LITERAL):
            if not word_may_follow:
                reader.flush(comma=True)
            word_may_follow = False
            reader.collect()
        elif kind == COMMENT:
            reader.keep()
        elif kind == COMMA:
            reader.flush(comma=False)
            reader.keep()
            word_may_follow = True
        elif kind == SEMICOLON:
            reader.flush(comma=True)
            if in_group:
                raise Unparsable(field)
            in_group = word_may_follow = True
            reader.keep()
        elif kind == COLON:
            reader.flush(comma=False)
            if not in_group:
                raise Unparsable(field)
            in_group = False
            word_may_follow = True
            reader.until(COMMA, reader.keep)
            if reader.more():
                reader.keep()
        elif kind == RIGHT:
            reader.flush(comma=True)
            reader.keep()
            reader.until(LEFT, reader.collect)
            reader.finish()
            if not reader.more():
                raise Unparsable(field)
            reader.keep()
            while reader.more() and reader.kind() in PHRASE:
                reader.keep()
            word_may_follow = False
        else:
            word_may_follow = True
            reader.collect()
    reader.flush(comma=False)
    return unparse((reader.result + tokens[1::-1])[::-1])


def one_line(text: bytes) -> bytes:
    """What does not come from a header, for use in one: a newline in it, even if quoted, might begin another field."""
    return text.translate(_ONE_LINE)


def quote(address: bytes) -> bytes:
    """An envelope's address as text: the part before the last @ in quotes, where it needs them."""
    if not address:
        return b""
    box, at, host = address.rpartition(b"@")
    if not at:
        box, host = host, b""
    return quote_box(box) + at + host


def quote_needed(box: bytes) -> bool:
    """Whether a local part must stand in quotes."""
    return not box or box.translate(None, PLAIN) != b"" or box[:1] == b"." or box[-1:] == b"." or b".." in box


def quote_box(box: bytes) -> bytes:
    """A local part, in quotes where it needs them."""
    if not quote_needed(box):
        return box
    for byte in (b"\\", b'"', b"\r", b"\n"):
        box = box.replace(byte, b"\\" + byte)
    return b'"' + box + b'"'
