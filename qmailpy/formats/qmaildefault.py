"""qmaildefault - the .qmail-default of a virtual domain, and the words of its line. Pure.

    | VHOME/bin/vdelivermail '' ACTION

The first word is always empty. ACTION is what becomes of mail for a user that there is not:

    bounce-no-mailbox    it is returned
    delete               it is thrown away
    /DIR, ./DIR/         it goes into a folder
    |PROGRAM             it is given to a program
    ADDRESS, &ADDRESS    it is forwarded
"""

from qmailpy.formats.qmailfile import PROGRAM, instructions, plain_words

COMMAND = b"vdelivermail"
WORDS = 3

BOUNCE = b"bounce-no-mailbox"
DELETE = b"delete"

# What an ACTION is.
BOUNCED, DELETED, FOLDER, RUN, FORWARDED, WRONG = "bounced", "deleted", "folder", "run", "forwarded", "wrong"

ENDS = b"|&;<>()\n#"  # what ends the words of a simple command


def kind(action: bytes) -> str:
    """What an ACTION is."""
    if action in (BOUNCE, DELETE):
        return BOUNCED if action == BOUNCE else DELETED
    first = action[:1]
    if first in (b"/", b"."):
        return FOLDER
    if first == b"|":
        return RUN
    return FORWARDED if action.removeprefix(b"&") else WRONG


def address(action: bytes) -> bytes:
    """The address of an ACTION that is one."""
    return action.removeprefix(b"&")


def action(text: bytes) -> bytes | None:
    """The ACTION that a file has; None if none can be told: it has no such line, or one that only a shell can read."""
    for what, line in instructions(text):
        if what == PROGRAM:
            found = _action(line)
            if found is not None:
                return found
    return None


def _action(line: bytes) -> bytes | None:
    """Also of a line in which a filter stands before the program, `spamc | vdelivermail '' ACTION`, or one that runs
    it, `preline vdelivermail '' ACTION`."""
    end = line.find(COMMAND)
    while end >= 0:
        end += len(COMMAND)
        words = plain_words(COMMAND + _simple(line[end:]))
        if len(words) == WORDS and words[0] == COMMAND:
            return words[2]
        end = line.find(COMMAND, end)
    return None


def _simple(text: bytes) -> bytes:
    """text up to where a shell ends a command; what stands in single quotes ends none."""
    quoted = False
    for at in range(len(text)):
        byte = text[at : at + 1]
        if byte == b"'":
            quoted = not quoted
        elif not quoted and byte in ENDS:
            return text[:at]
    return text


def line(program: bytes, action: bytes) -> bytes:
    """The file for a program, a path, and an ACTION. Raises ValueError: there is no such line."""
    quoted = action if plain_words(action) == [action] else b"'%s'" % action
    text = b"| %s '' %s" % (program, quoted)
    if _action(text) != action or b"\n" in text or b"\0" in text:
        raise ValueError
    return text + b"\n"
