"""getopt - the command line of programs that use getopt(3) of glibc: options may stand behind other words, up to `--`,
and one with two colons takes an argument only if that is attached. Pure.

The originals of qmail and its kin read theirs otherwise: formats.options."""

from qmailpy.formats.options import OptionError


def parse(argv: list[bytes], letters: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Options of argv[1:] in order as (letter, argument), argument b"" where there is none; and the other words.

    Raises OptionError: what glibc says after `program: `."""
    options = []
    words = []
    rest = argv[:0:-1]
    while rest:
        word = rest.pop()
        if word == b"--":
            words += rest[::-1]
            break
        if not word.startswith(b"-") or word == b"-":
            words.append(word)
            continue
        at = 1
        while at < len(word):
            letter = word[at : at + 1]
            at += 1
            where = letters.find(letter) if letter != b":" else -1
            if where < 0:
                raise OptionError(b"invalid option -- '%s'" % letter)
            colons = letters[where + 1 : where + 3]
            if not colons.startswith(b":"):
                options.append((letter, b""))
                continue
            argument = word[at:]
            if not argument and colons != b"::":
                if not rest:
                    raise OptionError(b"option requires an argument -- '%s'" % letter)
                argument = rest.pop()
            options.append((letter, argument))
            break
    return options, words
