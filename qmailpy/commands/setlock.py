"""NAME
    setlock - run a program with a file locked

SYNOPSIS
    setlock [-nNxX] FILE PROGRAM [ARG...]

DESCRIPTION
    setlock opens FILE for writing, creates it if it is missing, locks it, and runs PROGRAM, found along PATH. No
    second setlock has the lock on FILE at the same time. PROGRAM gets the open descriptor, without knowing of it;
    the lock ends when PROGRAM and all who have inherited the descriptor have ended or closed it.

        setlock -nx /run/backup.lock nice backup /home

    The lock is that of flock(2). Locks of fcntl(2) are others; the two kinds do not see each other.

OPTIONS
    -n    do not wait: if another has the lock, give up
    -N    wait until the lock is free, the default
    -x    giving up, or if FILE cannot be opened or locked: end with 0 in silence
    -X    then say why and end with 111, the default

EXIT STATUS
    That of PROGRAM.

    0      with -x: no lock, and PROGRAM has not run
    100    wrong usage
    111    no lock, or PROGRAM could not be run

SEE ALSO
    setuidgid(8), softlimit(8), supervise(8), flock(2)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import options
from qmailpy.unix import fds, locks

PROGRAM = b"setlock"
USAGE = b"setlock [ -nNxX ] file program [ arg ... ]"
LETTERS = b"nNxX"


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        letters, words = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    if len(words) < 2:
        return strerr.usage(PROGRAM, USAGE)
    wait, silent = True, False
    for letter, _ in letters:
        if letter in b"nN":
            wait = letter == b"N"
        else:
            silent = letter == b"x"
    file, *program = words
    what = b"open"
    try:
        fd = fds.open_append(file)
        what = b"lock"
        locks.lock(fd, wait)
    except OSError as e:
        return 0 if silent else strerr.fail(strerr.LATER, PROGRAM, b"unable to %s %s" % (what, file), error=e)
    fds.share(fd)  # the lock lives as long as somebody has it open
    return Exec(program, env, who=PROGRAM)
