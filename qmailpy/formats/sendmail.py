"""sendmail - the command line of sendmail, as mail programs have used it for decades. Pure.

It is read as options.parse does it, but some letters take what is left of their word as an argument, and none if
nothing is left; and what stands before a wrong option counts: `-bp -Z` lists the queue."""

LETTERS = b"vimte:f:p:o:B:F:xb:"  # the original's
LATER_LETTERS = b"nr:h:GL:N:O:R:UV:"  # of newer sendmails, which their callers expect everywhere
REST_OF_WORD = b"EJA"


def read(argv: list[bytes]) -> tuple[list[tuple[bytes, bytes]], list[bytes], bytes]:
    """Options of argv[1:] in order as (letter, argument); the other words; and what is wrong, if anything, such as
    `illegal option -- Z`. With something wrong the options are those before it."""
    letters = LETTERS + LATER_LETTERS
    options: list[tuple[bytes, bytes]] = []
    words = argv[1:]
    while words and words[0].startswith(b"-") and words[0] != b"-":
        word = words.pop(0)[1:]
        if word.startswith(b"-"):
            break
        while word:
            letter, word = word[:1], word[1:]
            where = letters.find(letter) if letter != b":" else -1
            if letter in REST_OF_WORD:
                word = b""
            elif where < 0:
                return options, words, b"illegal option -- " + letter
            elif letters[where + 1 : where + 2] == b":":
                if not word and not words:
                    return options, words, b"option requires an argument -- " + letter
                options.append((letter, word or words.pop(0)))
                break
            else:
                options.append((letter, b""))
    return options, words, b""
