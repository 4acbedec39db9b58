"""manpage - a command's docstring as a manual page in roff, for the man(7) macros. Pure.

The docstring is plain text that reads well as it stands:

    a line at the margin      a section's heading; all else is indented by four
    lines in a row            a paragraph
    term    text              an item: two spaces or more end the term, and the text goes on in deeper lines.
                              Items without an empty line between them stand close together
    a term, deeper lines      an item too, for a term too long to have text beside it
    deeper lines after a gap  literal; but in the column of an item's text, one more paragraph of it
    lines of three columns    literal

In NAME stands the line for whatis(1), in SYNOPSIS one line per form, which may go on in deeper ones. Words in
capitals that occur in SYNOPSIS are arguments and shown as such in the whole page; options, the command's name,
references like tcpserver(1) and what stands between two `, of which nothing is seen, are bold.
"""

import re
from collections.abc import Collection, Iterator

INDENT = 4
WIDTH = 76  # of a line of roff; a word may be longer

ITEM = re.compile(r"(\S+(?: \S+)*)  +(?=\S)")
COLUMNS = re.compile(r"\S+(?: \S+)*(?:  +\S+(?: \S+)*){2,}")
ARGUMENT = re.compile(r"(?<![\w-])[A-Z][A-Z0-9_]*(?![\w-])")
BRACKETS = re.compile(r"\[[^][]*\]")
SENTENCE_END = re.compile(r"[.!?][)\]\"]*(?:\\fR)?[)\]\"]*$")

NO_BREAK = "\N{NO-BREAK SPACE}"

# What roff takes for its own, or prints as another character than the one that was meant.
SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", NO_BREAK: "\\~"}

Lines = list[str]


def literal(text: str) -> str:
    """text such that what is printed can be copied: each hyphen a minus, each quote a straight one."""
    return "".join(SPECIAL.get(c, c if " " <= c <= "~" else f"\\[u{ord(c):04X}]") for c in text)


def _line(text: str) -> str:
    """A line of roff that is text and no request, whatever it begins with."""
    return "\\&" + text if text.startswith(".") else text


class _Words:
    """How the words of one page look."""

    def __init__(self, name: str, arguments: Collection[str]) -> None:
        self.special = re.compile(
            r"`(?P<code>[^`]+)`"
            r"|(?P<reference>(?<![\w.@+/-])[a-zA-Z][\w.@+-]*(?=\([1-9][a-z]*\)))"
            r"|(?P<option>(?<![\w'\"@/.+-])-[A-Za-z0-9]+(?![\w:-]))"
            rf"|(?P<name>(?<![\w.@/+-]){re.escape(name)}(?![\w@/+-]))"
            rf"|(?P<argument>(?<![\w=$-])(?:{'|'.join(arguments) or '(?!)'})(?![\w=-]))"
        )

    def line(self, text: str) -> str:
        """Running text with its fonts."""
        result, end = "", 0
        for found in self.special.finditer(text):
            font = "I" if found["argument"] else "B"
            result += literal(text[end : found.start()]) + f"\\f{font}{literal(found['code'] or found[0])}\\fR"
            end = found.end()
        return result + literal(text[end:])

    def filled(self, text: str) -> Lines:
        """Running text as lines of roff. None ends like a sentence: after that roff would leave two spaces."""
        lines: Lines = []
        line = ""
        for word in self.line(text).split():
            if line and len(line) + 1 + len(word) > WIDTH:
                lines.append(line + "\\&" if SENTENCE_END.search(line) else line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        return [_line(each) for each in (*lines, line) if each]

    def paragraph(self, lines: Lines) -> Lines:
        return [".PP", *self.filled(" ".join(lines))] if lines else []


def sections(text: str) -> Iterator[tuple[str, Lines]]:
    """Each heading with its lines, of which the indentation of four is taken away."""
    heading = ""
    body: Lines = []
    for line in [*text.rstrip().split("\n"), "END"]:
        if not line.startswith(" ") and line:
            if heading:
                yield heading, body
            heading, body = line.rstrip(), []
        else:
            body.append(line[INDENT:].rstrip())


def arguments(synopsis: Lines) -> set[str]:
    """The words in capitals of a SYNOPSIS."""
    return {word for line in synopsis for word in ARGUMENT.findall(line)}


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _chunks(lines: Lines) -> Iterator[Lines]:
    """Lines between empty ones."""
    chunk: Lines = []
    for line in [*lines, ""]:
        if line:
            chunk.append(line)
        elif chunk:
            yield chunk
            chunk = []


def _entries(chunk: Lines) -> Iterator[tuple[str, Lines]]:
    """Each line without indentation, and the first in any case, with the deeper ones that follow it."""
    starts = [at for at, line in enumerate(chunk) if at == 0 or not line.startswith(" ")]
    for start, end in zip(starts, [*starts, len(chunk)][1:], strict=True):
        yield chunk[start].lstrip(" "), chunk[start + 1 : end]


def _literal(lines: Lines) -> Lines:
    """Lines as they are, as far to the right as they stand."""
    margin = min(map(_depth, lines))
    return [".PP", f".RS {margin}", ".nf", *(_line(literal(line[margin:])) for line in lines), ".fi", ".RE"]


def _item(head: str, deeper: Lines, words: _Words) -> tuple[int, Lines]:
    """The column of an item's text, and its roff."""
    found = ITEM.match(head)
    term, column, text = (found[1], found.end(), head[found.end() :]) if found else (head, _depth(deeper[0]), "")
    return column, [f".TP {column}", _line(words.line(term)), *words.filled(" ".join([text, *deeper]))]


def _mixed(chunk: Lines, words: _Words) -> tuple[int, Lines]:
    """Items and paragraphs without a gap between them: the column of the last item's text, and the roff."""
    column = 0
    roff: Lines = []
    paragraph: Lines = []
    for head, deeper in _entries(chunk):
        if ITEM.match(head) or (deeper and not paragraph):
            roff += words.paragraph(paragraph)
            paragraph = []
            column, item = _item(head, deeper, words)
            roff += [".PD 0", *item, ".PD"] if roff else item
        else:
            paragraph.append(head)
            if deeper:
                roff += words.paragraph(paragraph) + _literal(deeper)
                paragraph = []
    return column, roff + words.paragraph(paragraph)


def _text(lines: Lines, words: _Words) -> Lines:
    """The roff of a section like DESCRIPTION."""
    column = 0  # of the text of the item above; 0 below anything else
    roff: Lines = []
    for chunk in _chunks(lines):
        margin = min(map(_depth, chunk))
        if margin and margin == column:
            roff += [".IP", *words.filled(" ".join(chunk))]
        elif margin or (len(chunk) > 1 and all(map(COLUMNS.fullmatch, chunk))):
            roff += _literal(chunk)
        else:
            column, more = _mixed(chunk, words)
            roff += more
    return roff


def _name(lines: Lines, words: _Words) -> Lines:
    return [_line(literal(line)) for line in lines if line]


def _synopsis(lines: Lines, words: _Words) -> Lines:
    roff: Lines = []
    for form, deeper in _entries([line for line in lines if line]):
        name, _, rest = " ".join([form, *map(str.strip, deeper)]).partition(" ")
        rest = BRACKETS.sub(lambda found: found[0].replace(" ", NO_BREAK), rest)
        roff += [f".SY {literal(name)}", *words.filled(rest), ".YS", ".nh"]
    return roff


FORMS = {"NAME": _name, "SYNOPSIS": _synopsis}


def render(text: str, name: str, section: int, date: str, source: str) -> str:
    """The page of the command name, in that section of the manual; date, as 2026-11-23, and source, such as
    qmailpy 0.1.0, go into its foot."""
    parts = dict(sections(text))
    words = _Words(name, arguments(parts.get("SYNOPSIS", [])))
    lines = [f'.TH {literal(name.upper())} {section} "{date}" "{literal(source)}"', ".nh", ".ad l"]
    for heading, body in parts.items():
        roff = FORMS.get(heading, _text)(body, words)
        lines += [f".SH {literal(heading)}", *(roff[1:] if roff[:1] == [".PP"] else roff)]
    return "\n".join(lines) + "\n"
