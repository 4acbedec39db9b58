"""qmail's POP3 programs, to compare with: a slow model of qmail-pop3d made from its manual page and behaviour, and the
C programs themselves where QMAIL_BIN names their folder. They are in no Debian package, so their absence is no skip:
the model and the recorded dialogues hold for them."""

import os
import re
from pathlib import Path

OKAY = b"+OK \r\n"

_FOLDER = os.environ.get("QMAIL_BIN")


def originals(name: str) -> list[str]:
    """The path of the C program, in a list that is empty where there is none."""
    path = Path(_FOLDER, name) if _FOLDER else None
    return [str(path)] if path is not None and path.is_file() else []


class Heap:
    """Messages by time, as a binary heap that compares times only: children of the slot at are 2*at+1 and 2*at+2."""

    def __init__(self) -> None:
        self.slots: list[tuple[int, bytes]] = []

    def insert(self, time: int, name: bytes) -> None:
        """A new element rises from the end while its parent is strictly later."""
        self.slots.append((time, name))
        at = len(self.slots) - 1
        while at > 0 and self.slots[(at - 1) // 2][0] > time:
            above = (at - 1) // 2
            self.slots[at], self.slots[above] = self.slots[above], self.slots[at]
            at = above

    def remove(self) -> bytes:
        """Take the root; the last element sinks from there, to the left one of two equal children, until it is not
        later than the earlier child. It still counts as a child itself while it sinks."""
        root = self.slots[0][1]
        last = len(self.slots) - 1
        sinking = self.slots[last]
        at = 0
        while 2 * at + 2 <= last:
            left, right = 2 * at + 1, 2 * at + 2
            child = left if self.slots[left][0] <= self.slots[right][0] else right
            if sinking[0] <= self.slots[child][0]:
                break
            self.slots[at] = self.slots[child]
            at = child
        self.slots[at] = sinking
        self.slots.pop()
        return root


def transfer(text: bytes, body_lines: int | None) -> bytes:
    """A message as RETR and TOP send it, line by line."""
    lines = text.split(b"\n")
    last = lines.pop()
    wire = b""
    in_header = True
    for line in [*lines, *([last] if last else [])]:
        if body_lines is not None and not in_header:
            if body_lines == 0:
                break
            body_lines -= 1
        if not line:
            in_header = False
        wire += (b"." if line.startswith(b".") else b"") + line + b"\r\n"
    return wire + b"\r\n.\r\n"


def pop3d(messages: list[tuple[bytes, bytes]], input: bytes) -> tuple[bytes, list[bytes]]:
    """What qmail-pop3d says to input, and which files it leaves. messages: (path, text), the oldest first."""
    deleted: set[int] = set()
    last = 0
    out = OKAY
    for line in input.split(b"\n")[:-1]:
        line = line.removesuffix(b"\r").split(b"\0")[0]
        verb, _, argument = line.partition(b" ")
        verb, argument = verb.upper(), argument.lstrip(b" ")
        match = re.match(rb"([0-9]*) *([0-9]*)", argument)
        assert match is not None
        number, limit = (int(word) if word else None for word in match.groups())
        problem = (
            b"-ERR syntax error\r\n" if number is None
            else b"-ERR messages are counted from 1\r\n" if number == 0
            else b"-ERR not that many messages\r\n" if number > len(messages)
            else b"-ERR already deleted\r\n" if number in deleted
            else b""
        )  # fmt: skip
        at = number or 0
        if verb == b"QUIT":
            left = []
            for count, (path, _) in enumerate(messages, 1):
                if count not in deleted:
                    left.append(path if path.startswith(b"cur/") else b"cur/" + path[4:] + b":2,")
            return out + OKAY, sorted(left)
        if verb == b"STAT":
            total = sum(len(text) for count, (_, text) in enumerate(messages, 1) if count not in deleted)
            out += b"+OK %d %d\r\n" % (len(messages), total)
        elif verb in (b"LIST", b"UIDL"):
            rows = {
                count: b"%d " % count + (b"%d" % len(text) if verb == b"LIST" else path[4:].split(b":")[0]) + b"\r\n"
                for count, (path, text) in enumerate(messages, 1)
            }
            if argument:
                out += problem or b"+OK " + rows[at]
            else:
                out += OKAY + b"".join(row for count, row in rows.items() if count not in deleted) + b".\r\n"
        elif verb == b"DELE":
            out += problem or OKAY
            if not problem:
                deleted.add(at)
                last = max(last, at)
        elif verb in (b"RETR", b"TOP"):
            out += problem or OKAY + transfer(messages[at - 1][1], limit)
        elif verb == b"LAST":
            out += b"+OK %d\r\n" % last
        elif verb == b"RSET":
            deleted, last = set(), 0
            out += OKAY
        elif verb == b"NOOP":
            out += OKAY
        else:
            out += b"-ERR unimplemented\r\n"
    return out, sorted(path for path, _ in messages)
