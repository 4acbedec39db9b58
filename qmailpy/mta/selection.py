"""selection - which messages of the queue are meant: the conditions of qmail-queuectl's command line. Pure.

A message is chosen if every condition holds; of several numbers one is enough. Those about a recipient hold together
for one recipient to whom the message has still to go."""

from qmailpy.formats import ages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Test = Callable[["Facts"], bool]
    RecipientTest = Callable[["Recipient"], bool]

CHANNELS = (b"local", b"remote")
SIZES = {b"": 1, b"k": 1 << 10, b"m": 1 << 20, b"g": 1 << 30}

DIGITS = 19  # of a number, at most


class SelectionError(Exception):
    """args[0]: bytes, what is wrong with which word."""


class Recipient:
    """To whom a message has still to go. channel: `local` or `remote`, empty where that is not decided; error: the text
    of the last attempt, if there was one."""

    __slots__ = ("address", "channel", "error")

    def __init__(self, channel: bytes, address: bytes, error: bytes) -> None:
        self.channel = channel
        self.address = address
        self.error = error


class Facts:
    """What conditions may ask about a message. age: seconds; left: a Recipient for each that is not done."""

    __slots__ = ("age", "held", "left", "new", "number", "sender", "size")

    def __init__(
        self, number: int, sender: bytes, size: int, age: int, held: bool, new: bool, left: list[Recipient]
    ) -> None:
        self.number = number
        self.sender = sender
        self.size = size
        self.age = age
        self.held = held
        self.new = new
        self.left = left


class Selection:
    """numbers: the only ones that can be chosen, if there are any; every: `--all` was said; letters: the options; verb:
    what is to be done, if that was said."""

    __slots__ = ("_of_message", "_of_recipient", "every", "letters", "numbers", "verb")

    def __init__(self) -> None:
        self.verb = b""
        self.numbers: set[int] = set()
        self.letters = b""
        self.every = False
        self._of_message: list[Test] = []
        self._of_recipient: list[RecipientTest] = []

    @property
    def is_empty(self) -> bool:
        """Whether there is no condition."""
        return not (self.numbers or self._of_message or self._of_recipient)

    def add(self, name: bytes, value: bytes) -> None:
        """A condition with a value. Raises SelectionError."""
        if name in OF_RECIPIENT:
            self._of_recipient.append(OF_RECIPIENT[name](value))
        else:
            self._of_message.append(OF_MESSAGE[name](value))

    def flag(self, name: bytes) -> None:
        """One without a value."""
        if name == b"all":
            self.every = True
        else:
            self._of_message.append(FLAGS[name])

    def chooses(self, facts: Facts) -> bool:
        """Whether this message is meant."""
        if self.numbers and facts.number not in self.numbers:
            return False
        if not all(holds(facts) for holds in self._of_message):
            return False
        tests = self._of_recipient
        return not tests or any(all(holds(recipient) for holds in tests) for recipient in facts.left)


def parse(words: list[bytes], letters: bytes, verbs: "Collection[bytes]") -> Selection:
    """Conditions, and between them options of one letter each and one verb. Raises SelectionError."""
    selection = Selection()
    rest = iter(words)
    for word in rest:
        if word.startswith(b"--"):
            name, equals, value = word[2:].partition(b"=")
            if name not in OF_MESSAGE and name not in OF_RECIPIENT:
                if name not in FLAGS or equals:
                    raise SelectionError(b"there is no condition " + word)
                selection.flag(name)
                continue
            if not equals:
                following = next(rest, None)
                if following is None:
                    raise SelectionError(b"--%s wants a value" % name)
                value = following
            selection.add(name, value)
        elif word.startswith(b"-") and word != b"-":
            if word[1:].strip(letters):
                raise SelectionError(b"there is no option " + word)
            selection.letters += word[1:]
        elif word in verbs and not selection.verb:
            selection.verb = word
        elif word.isdigit() and len(word) <= DIGITS:
            selection.numbers.add(int(word))
        else:
            raise SelectionError(word + b" is neither a verb nor the number of a message")
    if selection.every and not selection.is_empty:
        raise SelectionError(b"--all cannot have conditions")
    return selection


def glob(pattern: bytes) -> "Callable[[bytes], bool]":
    """Whether a text is the pattern, where * stands for any bytes and ? for one; large and small letters are the same.
    Nothing else is special: senders such as #@[] exist. Takes time in proportion to pattern and text."""
    import re

    first, *others = [
        re.compile(b".".join([re.escape(part) for part in piece.lower().split(b"?")]), re.S)
        for piece in pattern.split(b"*")
    ]
    sizes = [len(piece) for piece in pattern.split(b"*")]

    def matches(text: bytes) -> bool:
        text = text.lower()
        if not others:
            return first.fullmatch(text) is not None
        at, end = sizes[0], len(text) - sizes[-1]
        if at > end or first.match(text) is None or others[-1].match(text, end) is None:
            return False
        for piece in others[:-1]:  # the leftmost place leaves most for the others
            found = piece.search(text, at, end)
            if found is None:
                return False
            at = found.end()
        return True

    return matches


def _age(name: bytes, value: bytes) -> int:
    age = ages.parse(value)
    if age is None:
        raise SelectionError(b"--%s wants an age such as 90s, 2h or 1d12h, not %s" % (name, value))
    return age


def _size(name: bytes, value: bytes) -> int:
    digits = value.rstrip(b"kKmMgG")
    unit = value[len(digits) :].lower()
    if not digits.isdigit() or len(digits) > DIGITS or unit not in SIZES:
        raise SelectionError(b"--%s wants a size such as 5000, 100k or 1M, not %s" % (name, value))
    return int(digits) * SIZES[unit]


def _from(value: bytes) -> "Test":
    matches = glob(value)
    return lambda facts: matches(facts.sender)


def _older(value: bytes) -> "Test":
    age = _age(b"older", value)
    return lambda facts: facts.age > age


def _younger(value: bytes) -> "Test":
    age = _age(b"younger", value)
    return lambda facts: facts.age < age


def _larger(value: bytes) -> "Test":
    size = _size(b"larger", value)
    return lambda facts: facts.size > size


def _smaller(value: bytes) -> "Test":
    size = _size(b"smaller", value)
    return lambda facts: facts.size < size


def _to(value: bytes) -> "RecipientTest":
    matches = glob(value)
    return lambda recipient: matches(recipient.address)


def _host(value: bytes) -> "RecipientTest":
    matches = glob(value)
    return lambda recipient: matches(recipient.address.rpartition(b"@")[2])


def _channel(value: bytes) -> "RecipientTest":
    if value not in CHANNELS:
        raise SelectionError(b"--channel is local or remote, not " + value)
    return lambda recipient: recipient.channel == value


def _error(value: bytes) -> "RecipientTest":
    matches = glob(b"*" + value + b"*")
    return lambda recipient: recipient.error != b"" and matches(recipient.error)


OF_MESSAGE = {b"from": _from, b"older": _older, b"younger": _younger, b"larger": _larger, b"smaller": _smaller}
OF_RECIPIENT = {b"to": _to, b"host": _host, b"channel": _channel, b"error": _error}
FLAGS: "dict[bytes, Test]" = {
    b"held": lambda facts: facts.held,
    b"not-held": lambda facts: not facts.held,
    b"new": lambda facts: facts.new,
    b"all": lambda facts: True,
}
