"""forwardcdb - what fastforward(1) reads: the records of an aliases database and the items of a mailing list, and the
texts in which setforward(1), printforward(1) and their like have them. Pure.

    key          data
    :target      instructions, each with a NUL behind it: &ADDRESS, |PROGRAM, !PROGRAM, ./LIST or /LIST
    ?target      the address of the owner, without a NUL

Keys are in lower case. A mailing list, NAME.bin, is a file of such instructions, but without programs."""

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = b":"
OWNER = b"?"

ADDRESS = b"&"
PROGRAMS = (b"|", b"!")
LISTS = (b".", b"/")

LONGEST = 800  # bytes of an address that goes into a database or a list
UNREAD = 900  # bytes, with the & before it, of one that is left out when they are read

HEADER = 2048  # bytes of a cdb
PAIR = Struct("<LL")

BLANKS = b"\n \t"

TOO_LONG = b"addresses over 800 bytes are not permitted"

MEANT = b"# \t\n:,;\\\0"  # bytes of setforward's text that do not stand for themselves
_MEANT = bytes(byte in MEANT for byte in range(256))

_PRINTED = [
    b"\\%c" % byte if byte <= 32 or byte >= 128 or byte in b",:;\\#" else b"%c" % byte for byte in range(256)
]  # fmt: skip


class Wrong(Exception):
    """complaint: what is wrong with a text. line: where, from 1 on; 0 if that is not known. for_ever: exit code 100."""

    def __init__(self, complaint: bytes, line: int = 0, for_ever: bool = False) -> None:
        super().__init__(complaint, line, for_ever)
        self.complaint = complaint
        self.line = line
        self.for_ever = for_ever


def items(data: bytes) -> list[bytes]:
    """The instructions of a record or of a list, without their NULs. One that has none is left out."""
    return data.split(b"\0")[:-1]


def is_address(item: bytes) -> bool:
    """Whether an instruction forwards mail."""
    return item.startswith(ADDRESS) and len(item) < UNREAD


# setforward and printforward


def _tokens(text: bytes) -> "Iterator[tuple[int, bytes]]":
    """Position and text of each sign, each byte behind a backslash, with that, and each word of other bytes; without
    blanks and comments. A backslash that is the last byte ends the text."""
    meant = text.translate(_MEANT)
    at = 0
    while at < len(text):
        begin = at
        first = text[begin : begin + 1]
        at += 1
        if not meant[begin]:
            at = meant.find(b"\1", at)
            at = len(text) if at < 0 else at
        elif first == b"#":
            at = text.find(b"\n", at)
            if at < 0:
                return
        elif first == b"\\":
            if at == len(text):
                return
            at += 1
        if first not in (b"#", b" ", b"\t", b"\n"):
            yield begin, text[begin:at]


def records(text: bytes) -> "Iterator[tuple[bytes, bytes]]":
    """The records that setforward makes of a text: `target: command, command;`. Raises Wrong."""
    target = command = data = b""
    behind_colon = False
    begin = 0
    for position, token in _tokens(text):
        if not target and not behind_colon:
            begin = position
        if token == b":":
            if behind_colon:
                raise _wrong(b"double colons are not permitted", text, position)
            behind_colon = True
        elif token in (b",", b";"):
            if not behind_colon:
                raise _wrong(b"commas are not permitted before colons", text, position)
            if command.startswith(OWNER):
                yield OWNER + target.lower(), command[1:]
            elif command:
                item = _item(command)
                if item is None:
                    raise _wrong(TOO_LONG, text, position)
                data += item
            command = b""
            if token == b";":
                if data:
                    yield TARGET + target.lower(), data
                target = data = b""
                behind_colon = False
        else:
            token = token.removeprefix(b"\\")
            if token == b"\0":
                raise _wrong(b"NUL bytes are not permitted", text, position)
            if behind_colon:
                command += token
            else:
                target += token
    if target or behind_colon:
        raise _wrong(b"final instruction must end with semicolon", text, begin)


def _wrong(complaint: bytes, text: bytes, position: int) -> Wrong:
    return Wrong(complaint, text.count(b"\n", 0, position) + 1, for_ever=True)


def _item(command: bytes) -> bytes | None:
    """The instruction for a command, with its NUL; None if it is an address that is too long."""
    if command[:1] in PROGRAMS + LISTS:
        return command + b"\0"
    address = command.removeprefix(ADDRESS)
    return None if len(address) > LONGEST else ADDRESS + address + b"\0"


def shown(file: bytes) -> "Iterator[bytes]":
    """What printforward prints of a database, record by record. Raises Wrong."""
    if len(file) < HEADER:
        raise _bad_database()
    end = PAIR.unpack_from(file)[0]
    at = HEADER
    while at < end:
        if len(file) < at + PAIR.size:
            raise _bad_database()
        key_length, length = PAIR.unpack_from(file, at)
        at += PAIR.size
        key, data = file[at : at + key_length], file[at + key_length : at + key_length + length]
        at += key_length + length
        if at > min(end, len(file)):
            raise _bad_database()
        yield _shown_record(key, data)


def _bad_database() -> Wrong:
    return Wrong(b"bad database format", for_ever=True)


def _shown_record(key: bytes, data: bytes) -> bytes:
    """Raises Wrong."""
    if key.startswith(OWNER):
        return _escaped(key[1:]) + b": ?" + _escaped(data) + b";\n"
    if not key.startswith(TARGET) or (data and not data.endswith(b"\0")):
        raise _bad_database()
    for item in items(data):
        if item[:1] not in PROGRAMS + LISTS and not is_address(item):
            raise _bad_database()
    return b"".join([_escaped(key[1:]), b":\n", *[b", " + _escaped(item) + b"\n" for item in items(data)], b";\n"])


def _escaped(text: bytes) -> bytes:
    return b"".join([_PRINTED[byte] for byte in text])


# setmaillist and printmaillist


def list_items(text: bytes) -> "Iterator[bytes]":
    """The items, with their NULs, that setmaillist makes of the lines of a text. Raises Wrong."""
    for number, line in enumerate(text.split(b"\n"), 1):
        line = line.rstrip(BLANKS)
        if b"\0" in line:
            raise Wrong(b"NUL in input", number)
        if not line or line.startswith(b"#"):
            continue
        if line[:1] in LISTS:
            yield line + b"\0"
            continue
        address = line.removeprefix(ADDRESS)
        if len(address) > LONGEST:
            raise Wrong(b"addresses must be under 800 bytes", number)
        yield ADDRESS + address + b"\0"


def shown_list(file: bytes) -> "Iterator[bytes]":
    """The lines that printmaillist prints of a list. Raises Wrong."""
    for item in items(file):
        if b"\n" in item or not (item[:1] in LISTS or is_address(item)):
            raise _bad_list()
        yield item + b"\n"
    if file and not file.endswith(b"\0"):
        raise _bad_list()


def _bad_list() -> Wrong:
    return Wrong(b"bad mailing list format", for_ever=True)
