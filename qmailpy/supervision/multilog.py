"""multilog - a script of actions: which lines go where. Pure.

The words of a script, in order, each an action by its first character:

    t            as the first word alone: a label before each line
    -PATTERN     deselect the line if it matches
    +PATTERN     select it if it matches
    e            if selected: to descriptor 2
    =FILE        if selected: the new contents of FILE
    sN nN !WORD  size, number of files and processor of the directories that follow
    .DIR /DIR    if selected: into the log in that directory
    others       nothing

A line begins selected, so what becomes of it at some word is decided by the last action before that whose pattern
matches. A pattern matches whole lines. Its `*` skips to the first of the character behind it, and never looks for
another; as the last character it matches the rest. Only the first 1000 bytes of a line take part, the label included.
"""

from _collections_abc import Callable

from qmailpy.formats import numbers, tai64n

HEAD = 1000  # bytes of a line that decide
WINDOW = 500  # bytes: a line longer than HEAD fills at least one such piece of a block without a newline

SIZE, SMALLEST, LARGEST = 99999, 4096, 16777215  # bytes of a file
NUMBER, FEWEST = 10, 2  # files, current among them

MANY = 4096  # bytes of lines
FINDERS = 16  # compiled expressions of one script, for different pieces that are there

DESELECT, SELECT = b"-", b"+"

Choose = Callable[[bytes], bytes]
Find = Callable[[bytes], list[bytes]]


def everything(lines: bytes) -> bytes:
    """What is chosen without patterns."""
    return lines


class Output:
    """One word of a script that does something with a selected line.

    kind: b"e", b"=" or b"/" for a directory; name: of the file or directory; choose(lines): those lines, each with
    its newline, that are selected. size, number and processor (None: without) are a directory's.
    """

    __slots__ = ("choose", "kind", "name", "number", "processor", "size")

    def __init__(
        self, kind: bytes, name: bytes, choose: Choose, size: int, number: int, processor: bytes | None
    ) -> None:
        self.kind = kind
        self.name = name
        self.choose = choose
        self.size = size
        self.number = number
        self.processor = processor


def labelled(words: list[bytes]) -> bool:
    """Whether each line gets a label."""
    return words[:1] != [] and words[0].startswith(b"t")


def outputs(words: list[bytes]) -> list[Output]:
    """What a script asks for, in order."""
    size, number, processor = SIZE, NUMBER, None
    patterns: list[tuple[bytes, bytes]] = []
    choose: Choose | None = everything
    found = []
    for word in words:
        kind, rest = word[:1], word[1:]
        if kind == b"s":
            size = min(max(numbers.scan(rest)[0], SMALLEST), LARGEST)
        elif kind == b"n":
            number = max(numbers.scan(rest)[0], FEWEST)
        elif kind == b"!":
            processor = rest
        elif kind in (SELECT, DESELECT):
            patterns.append((kind, rest))
            choose = None
        elif kind and kind in b"e=./":
            if choose is None:  # outputs behind the same patterns share what they compile to
                choose = chooser(patterns)
            name = word if kind in b"./" else rest
            found.append(Output(b"/" if kind == b"." else kind, name, choose, size, number, processor))
    return found


def _expression(pattern: bytes) -> bytes:
    """A pattern as a regular expression, which need not go on to the end of the line when it has matched."""
    from re import escape

    if b"\n" in pattern:  # no line has one
        return b"(?!)"
    expression = b""
    for at in range(len(pattern)):
        character, following = pattern[at : at + 1], pattern[at + 1 : at + 2]
        if character != b"*":
            expression += escape(character)
        elif not following:
            return expression
        else:
            expression += b"[^%s\\n]*+" % escape(following)  # possessive: nothing else than following can come next
            if following == b"*":  # a star skips to this one, which then skips on
                expression += b"(?=\\*)"
    return expression + b"(?=\\n)"


def _finder(patterns: list[tuple[bytes, bytes]]) -> Find | None:
    """A function that gives the lines that are selected, and maybe b"" for others; None: all are.

    A regular expression takes one line at a time: an alternative for each run of actions of one kind, the last run
    first, and behind them one for any line. The first that matches decides.
    """
    runs: list[tuple[bytes, list[bytes]]] = [(SELECT, [b""])]
    for sign, pattern in patterns:
        if runs[-1][0] != sign:
            runs.append((sign, []))
        if len(runs) > 1:  # else it selects what is selected
            runs[-1][1].append(_expression(pattern))
    if len(runs) == 1:
        return None
    if b"" in runs[1][1]:  # deselects every line
        del runs[0]
        runs[0] = DESELECT, [b""]
    import re

    signs = [sign for sign, _ in reversed(runs)]
    alternatives = [b"(?:%s)[^\\n]*+\\n" % b"|".join(expressions) for _, expressions in reversed(runs)]
    one = signs.count(SELECT) <= 1
    # With one group, findall gives what that holds, and is faster than anything with match objects.
    groups = [b"(%s)" % alternative for alternative in alternatives]
    parts = [
        group if sign == SELECT or not one else bare
        for sign, group, bare in zip(signs, groups, alternatives, strict=True)
    ]
    expression = b"|".join(parts)
    try:
        compiled = re.compile(expression)
    except re.error:  # Python 3.10 knows nothing possessive, and needs longer for the same
        compiled = re.compile(expression.replace(b"]*+", b"]*"))
    if SELECT not in signs:
        return lambda lines: []
    if one:
        return compiled.findall
    refused = frozenset(number for number, sign in enumerate(signs, 1) if sign == DESELECT)
    return lambda lines: [line[0] for line in compiled.finditer(lines) if line.lastindex not in refused]


def _long(lines: bytes) -> bool:
    """Whether some line is longer than HEAD; a shorter one may be taken for it."""
    return any(lines.find(b"\n", at, at + WINDOW) < 0 for at in range(0, len(lines) - WINDOW, WINDOW))


def chooser(patterns: list[tuple[bytes, bytes]]) -> Choose:
    """The function that chooses lines by actions (SELECT or DESELECT, pattern), in their order.

    Many patterns are for what happens seldom. A look for the longest piece of a pattern, in all lines at once, costs
    a tenth of trying the pattern on each; so those that cannot match are left out.
    """
    whole = _finder(patterns)
    if whole is None:
        return everything
    find = whole
    pieces = [max(pattern.split(b"*"), key=len) for _, pattern in patterns]
    finders: dict[tuple[bool, ...], Find | None] = {(True,) * len(patterns): find}

    def choose(lines: bytes) -> bytes:
        if _long(lines):
            return b"".join([line + b"\n" for line in lines.split(b"\n")[:-1] if any(find(line[:HEAD] + b"\n"))])
        if len(lines) < MANY:
            return b"".join(find(lines))
        there = tuple([piece in lines for piece in pieces])
        if there not in finders and len(finders) < FINDERS:
            finders[there] = _finder([action for action, is_there in zip(patterns, there, strict=True) if is_there])
        chosen = finders.get(there, find)
        return lines if chosen is None else b"".join(chosen(lines))

    return choose


LINES, HEAD_OF_LINE, REST_OF_LINE = range(3)

Events = list[tuple[int, bytes]]


class Lines:
    """Cuts what is read into lines. Each read gives events in order:

    LINES           whole lines, labelled, each with its newline
    HEAD_OF_LINE    what there is of a line that is not at its end but has at least HEAD bytes: enough to decide
    REST_OF_LINE    what follows of such a line; the last has the newline

    A shorter beginning of a line is held back.
    """

    __slots__ = ("_begun", "_label", "_labelled", "_long")

    def __init__(self, labelled: bool) -> None:
        self._labelled = labelled
        self._begun = b""  # held back, with its label
        self._label = b""  # of a line whose beginning was seen, and left unread
        self._long = False  # HEAD_OF_LINE was given

    def within(self) -> bool:
        """Whether the last byte that was used ended no line."""
        return self._long or self._begun != b""

    def feed(self, data: bytes, label: bytes, leave: bool) -> tuple[Events, int]:
        """Events for data, not empty, and how many bytes of it are used.

        label: for the lines that begin in it. leave: the beginning of a line that comes behind something else need
        not be used; data will begin with it the next time.
        """
        events: Events = []
        used = 0
        if self._long:
            used = data.find(b"\n") + 1
            if not used:
                return [(REST_OF_LINE, data)], len(data)
            events.append((REST_OF_LINE, data[:used]))
            self._long = False
        end = data.rfind(b"\n") + 1
        if end > used:
            events.append((LINES, self._with_label(data[used:end], label)))
            used = end
        if used == len(data):
            return events, used
        if used and leave:
            self._label = label
            return events, used
        self._begun = self._with_label(data[used:], label)
        if len(self._begun) >= HEAD:
            events.append((HEAD_OF_LINE, self._begun))
            self._begun = b""
            self._long = True
        return events, len(data)

    def end(self) -> Events:
        """What is left when nothing more will come: a last line gets its newline."""
        if self._long:
            return [(REST_OF_LINE, b"\n")]
        return [(LINES, self._begun + b"\n")] if self._begun else []

    def _with_label(self, text: bytes, label: bytes) -> bytes:
        if self._labelled:
            text = tai64n.labels(text, self._begun or self._label or label, label)
        elif self._begun:
            text = self._begun + text
        self._begun = self._label = b""
        return text
