"""NAME
    preline - run a program with the From_, Return-Path and Delivered-To lines in front of a message

SYNOPSIS
    preline [-frdFRD] PROGRAM [ARG...]

DESCRIPTION
    preline is for .qmail files. It runs PROGRAM, found along PATH, and gives it as its input the lines UFLINE, RPLINE
    and DTLINE of the environment, and then the message on descriptor 0. It waits for the program to end.

        |preline procmail

    Programs that deliver mail themselves, such as procmail(1) and maildrop(1), want these lines.

OPTIONS
    -f    no From_ line; -F with it, the default
    -r    no Return-Path line; -R with it, the default
    -d    no Delivered-To line; -D with it, the default

ENVIRONMENT
    UFLINE    `From ` sender, date, and a newline
    RPLINE    `Return-Path:` sender, and a newline
    DTLINE    `Delivered-To:` recipient, and a newline

EXIT STATUS
    That of PROGRAM.

    100    wrong usage, a variable is not set, or there is no program of that name
    111    PROGRAM could not be run now, or was killed by a signal; or the message could not be read

SEE ALSO
    qmail-local(8), forward(1), condredirect(1)
"""

from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import options
from qmailpy.loops.feed import feed
from qmailpy.unix import signals

PROGRAM = b"preline"
USAGE = b"preline cmd [ arg ... ]"

LINES = {b"f": b"UFLINE", b"r": b"RPLINE", b"d": b"DTLINE"}  # in this order; a letter of option leaves its line out


def main(argv: list[bytes], env: Env) -> int:
    signals.ignore(signals.PIPE)
    if any(name not in env for name in LINES.values()):
        return strerr.usage(PROGRAM, USAGE)
    try:
        letters, words = options.parse(argv, b"frdFRD")
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    if not words:
        return strerr.usage(PROGRAM, USAGE)
    last = {letter.lower(): letter for letter, _ in letters}
    head = b"".join([env[name] for letter, name in LINES.items() if last.get(letter) != letter])

    def start(prepare: Callable[[], None]) -> int:
        def child() -> Exec:
            prepare()
            return Exec(words, env, who=PROGRAM, absent=strerr.NEVER)

        return chain.spawn(child, env, "preline")

    return feed(PROGRAM, start, head)
