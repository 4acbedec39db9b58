"""flatfile - accounts in one text file, a line each:

    name:hash[:uid:gid:gecos:home:shell]

as in passwd(5), with the hash in its place. Fields at the end may be missing, uid and gid may both be empty.
Empty lines and lines that begin with # are nothing. The first line for a name counts. Pure.
"""

from qmailpy.formats import hashes

FIELDS = 7
MISSING = [b""] * FIELDS
LAST_ID = 0xFFFFFFFE
SAMPLED = 100  # lines; which hash is typical is found by looking at the first ones


class Entry:
    """One account: bytes; uid and gid numbers, or None where the line gives none. line: its number."""

    __slots__ = ("gid", "hash", "home", "line", "name", "shell", "uid")

    def __init__(self, line: int, fields: list[bytes]) -> None:
        self.line = line
        self.name, self.hash, uid, gid, _, self.home, self.shell = fields
        self.uid = int(uid) if uid else None
        self.gid = int(gid) if gid else None


def find(data: bytes, name: bytes) -> tuple[Entry | None, list[int], bytes]:
    """(the entry of name or None, the numbers of bad lines, a typical hash or b"").

    The whole file is always gone through, so that the time does not tell where a name stands.
    """
    found = None
    bad: list[int] = []
    stored: list[bytes] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line or line.startswith(b"#"):
            continue
        fields = _fields(line)
        if fields is None:
            bad.append(number)
            continue
        if len(stored) < SAMPLED:
            stored.append(fields[1])
        if found is None and fields[0] == name:
            found = Entry(number, fields)
    return found, bad, hashes.typical(stored)


def _fields(line: bytes) -> list[bytes] | None:
    """The seven fields of a line, those that are missing empty; None if it is bad."""
    fields = line.rstrip(b"\r").split(b":")
    fields += MISSING[len(fields) :]
    if len(fields) > FIELDS or b":" not in line or b"\0" in line:
        return None
    name, _, uid, gid, _, home, _ = fields
    if (uid or gid) and not (_id(uid) and _id(gid)):
        return None
    # Without a home the name is going to be the name of a folder.
    if not name or (not home and (b"/" in name or name in (b".", b".."))):
        return None
    return fields


def _id(word: bytes) -> bool:
    """Whether word is a uid or gid that a login may have: a number, and not root's."""
    return word.isdigit() and len(word) <= 10 and 0 < int(word) <= LAST_ID
