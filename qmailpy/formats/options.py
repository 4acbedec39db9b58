"""options - the command line of the originals (sgetopt): letters combine, an argument is attached or the next
word, options end at `--` or at the first word that is none, nothing is permuted, there are no long names.
Pure."""


class OptionError(Exception):
    """args[0]: bytes, what the originals say after `program: `, such as `illegal option -- Z`."""


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
