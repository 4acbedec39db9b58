"""options - the command line of the originals (sgetopt): letters combine, an argument is attached or the next
word, options end at `--` or at the first word that is none, nothing is permuted, there are no long names.
Pure."""

from qmailpy.formats.numbers import scan


class OptionError(Exception):
    """args[0]: bytes, what the originals say after `program: `, such as `illegal option -- Z`."""


def apply(  # type: ignore[no-untyped-def]
    settings, letter: bytes, word: bytes, flags, numbers: dict[bytes, str], words: dict[bytes, str]
) -> bool:
    """Set the attribute of settings that an option stands for: flags has letter -> (name, value), the others letter ->
    name, for a number and for the argument as it is. False for a letter that none of them has."""
    if letter in flags:
        name, value = flags[letter]
        setattr(settings, name, value)
    elif letter in numbers:
        setattr(settings, numbers[letter], scan(word)[0])
    elif letter in words:
        setattr(settings, words[letter], word)
    else:
        return False
    return True


def parse(argv: list[bytes], letters: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Options of argv[1:] in order as (letter, argument), argument b"" where it takes none; and the other words.

    letters: as for getopt(3), a colon after each letter that takes an argument. Raises OptionError.
    """
    options = []
    position = 1
    while position < len(argv):
        word = argv[position]
        if not word.startswith(b"-") or word == b"-":
            break
        position += 1
        if word.startswith(b"--"):
            break
        at = 1
        while at < len(word):
            letter = word[at : at + 1]
            at += 1
            where = letters.find(letter) if letter != b":" else -1
            if where < 0:
                raise OptionError(b"illegal option -- " + letter)
            if letters[where + 1 : where + 2] != b":":
                options.append((letter, b""))
                continue
            if at == len(word):
                if position == len(argv):
                    raise OptionError(b"option requires an argument -- " + letter)
                options.append((letter, argv[position]))
                position += 1
            else:
                options.append((letter, word[at:]))
            break
    return options, argv[position:]


def interleaved(argv: list[bytes], defaults: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """(options, words) of a command that hands options to another: -4 or -6 in front, words of which the last may be
    missing, and behind them any others."""
    words = argv[1:]
    front = [words.pop(0)] if words[:1] in ([b"-4"], [b"-6"]) else []
    count = len(defaults)
    return front + words[count:], words[:count] + defaults[len(words[:count]) :]
