"""vpasswd - the accounts of a virtual domain, one line each, sorted by name:

    name:crypt:uid:gid:gecos:dir:quota[:clear]

uid is 1, or 2 where a login by APOP is wanted, and gid holds the flags below: neither is a number of the system's.
The same lines stand in vpasswd.cdb, where the key is the name and the data is what follows its colon. Fields that a
later version may have behind these survive edits. Pure. Source: vpopmail's vcdb.c and vauth.h.
"""

from qmailpy.formats.numbers import scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = 7  # the least that a line has
LONGEST = 510  # bytes of a line, less its LF: the originals read 511 at once, and take the rest for another line

POP = 1  # uid: a login by password
APOP = 2

NO_PASSWD_CHNG = 0x01
NO_POP = 0x02
NO_WEBMAIL = 0x04
NO_IMAP = 0x08
BOUNCE_MAIL = 0x10
NO_RELAY = 0x20
NO_DIALUP = 0x40
V_USER0 = 0x80
V_USER1 = 0x100
V_USER2 = 0x200
V_USER3 = 0x400
NO_SMTP = 0x800
QA_ADMIN = 0x1000
V_OVERRIDE = 0x2000
NO_SPAMASSASSIN = 0x4000
DELETE_SPAM = 0x8000
SA_ADMIN = 0x10000
SA_EXPERT = 0x20000
NO_MAILDROP = 0x40000

NOQUOTA = b"NOQUOTA"

FEW = 3  # changes at once, or lines of one name, that are worth a search each


class Malformed(ValueError):
    """A line that has too few fields, or a field that no line can hold."""


class TooLong(Malformed):
    """A line that the originals would read as two."""


class Account:
    """One account: bytes, and the numbers uid and gid. clear is None where the line has no such field; more is what
    follows it, from its colon on."""

    __slots__ = ("clear", "dir", "gecos", "gid", "more", "name", "password", "quota", "uid")

    def __init__(
        self,
        name: bytes,
        password: bytes,
        uid: int = POP,
        gid: int = 0,
        gecos: bytes = b"",
        dir: bytes = b"",
        quota: bytes = NOQUOTA,
        clear: bytes | None = None,
        more: bytes = b"",
    ) -> None:
        self.name = name
        self.password = password
        self.uid = uid
        self.gid = gid
        self.gecos = gecos
        self.dir = dir
        self.quota = quota
        self.clear = clear
        self.more = more


def parse(name: bytes, data: bytes) -> Account:
    """The account of a record of vpasswd.cdb. Raises Malformed."""
    if b"\0" in data or b"\0" in name:
        raise Malformed(name)  # no path can be made of it
    fields = data.split(b":", FIELDS)
    if len(fields) < FIELDS - 1:
        raise Malformed(name)
    password, uid, gid, gecos, folder, quota = fields[: FIELDS - 1]
    clear = fields[FIELDS - 1] if len(fields) >= FIELDS else None
    more = b":" + fields[FIELDS] if len(fields) > FIELDS else b""
    kind = _number(uid) if uid.startswith(b"-") else scan(uid)[0]
    flags = _number(gid) if gid.startswith(b"-") else scan(gid)[0]
    return Account(name, password, kind, flags, gecos, folder, quota, clear, more)


def parse_line(line: bytes) -> Account:
    """The account of a line of vpasswd, without its LF. Raises Malformed."""
    name, _, data = line.partition(b":")
    return parse(name, data)


def build(account: Account) -> bytes:
    """The line of an account, without LF. Raises TooLong; Malformed: a colon, LF or NUL is in a field."""
    fields = [
        account.name, account.password, b"%d" % account.uid, b"%d" % account.gid, account.gecos, account.dir,
        account.quota,
    ]  # fmt: skip
    if account.clear is not None:
        fields.append(account.clear)
    line = b":".join(fields)
    if line.count(b":") != len(fields) - 1:
        raise Malformed(account.name)
    line += account.more
    if b"\n" in line or b"\0" in line or not account.name:
        raise Malformed(account.name)
    if len(line) > LONGEST:
        raise TooLong(account.name)
    return line


def _number(text: bytes) -> int:
    """A negative one, as atoi(3) reads it."""
    return -scan(text[1:])[0]


def every(text: bytes) -> "Iterator[Account]":
    """The accounts of a whole file, in its order; lines that are none are passed over."""
    for line in text.split(b"\n"):
        try:
            yield parse_line(line)
        except Malformed:
            continue


def records(text: bytes) -> "Iterator[tuple[bytes, bytes]]":
    """Key and data for vpasswd.cdb. The last line counts also without an LF, without which the originals lose it."""
    for line in text.split(b"\n"):
        name, colon, data = line.partition(b":")
        if colon:
            yield name, data


def names(text: bytes) -> set[bytes]:
    """The names of a whole file."""
    return {line.partition(b":")[0] for line in text.split(b"\n")}


def find(text: bytes, name: bytes) -> bytes | None:
    """The data of the first line of that name in a whole file; None if there is none."""
    start, end = _span(text, name + b":")
    return text[start + len(name) + 1 : end].removesuffix(b"\n") if end else None


def _span(text: bytes, beginning: bytes) -> tuple[int, int]:
    """Where the first line with that beginning starts and ends, behind its LF; (0, 0) if there is none."""
    start = 0 if text.startswith(beginning) else text.find(b"\n" + beginning) + 1
    if not start and not text.startswith(beginning):
        return 0, 0
    return start, text.find(b"\n", start) + 1 or len(text)


def changed(text: bytes, lines: list[bytes], gone: list[bytes]) -> bytes:
    """A whole file with these lines, each in place of all of the same name, and without those of the names gone.

    A few changes cost a search each, so that one among many accounts does not cost a look at each of them."""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    named = [*gone, *(line.partition(b":")[0] for line in lines)]
    if len(named) > FEW or any(text.count(b"\n%s:" % name) > FEW for name in named):
        return _rebuilt(text, lines, gone)
    for name in named:
        while (span := _span(text, name + b":"))[1]:
            text = text[: span[0]] + text[span[1] :]
    for line in lines:
        at = _place(text, line.partition(b":")[0])
        text = text[:at] + line + b"\n" + text[at:]
    return text


def _rebuilt(text: bytes, lines: list[bytes], gone: list[bytes]) -> bytes:
    new = {line.partition(b":")[0] for line in (*lines, *gone)}
    kept = [line for line in text.split(b"\n")[:-1] if line.partition(b":")[0] not in new]
    return b"".join(line + b"\n" for line in sorted(kept + lines, key=lambda line: line.partition(b":")[0]))


def _place(text: bytes, name: bytes) -> int:
    """Where the line of a new name belongs in a file that is sorted."""
    low, high = 0, len(text)
    while low < high:
        start = text.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = text.find(b"\n", start) + 1
        if text[start:end].partition(b":")[0] < name:
            low = end
        else:
            high = start
    return low
