"""qmailfile - names and lines of .qmail files: dot-qmail(5). Pure.

Words and lines are any bytes; an argument of a program has no NUL in it, a line of a file may."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = b".qmail"
DEFAULT = b"default"

# What a line says.
BLANK = "blank"  # nothing, and it is the first
MBOX = "mbox"
MAILDIR = "maildir"
PROGRAM = "program"
FORWARD = "forward"
FORWARD_ONLY = "forward only"  # from here on

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
