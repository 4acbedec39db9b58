"""NAME
    softlimit - run a program with limits on memory, files and time

SYNOPSIS
    softlimit [-a ALLBYTES] [-c COREBYTES] [-d DATABYTES] [-f FILEBYTES] [-l LOCKBYTES] [-m MEMBYTES] [-o OPENFILES]
        [-p PROCESSES] [-r RESIDENTBYTES] [-s STACKBYTES] [-t CPUSECS] PROGRAM [ARG...]

DESCRIPTION
    softlimit sets soft limits, see setrlimit(2), and runs PROGRAM, found along PATH.

        exec softlimit -m 64000000 -o 100 tcpserver ...

    A limit is a number in decimal digits, or = for the hard limit. More than the hard limit is the hard limit, which
    is never changed. Of two options for the same limit the later one holds.

    The commands of this toolkit run in Python, which crashes where it has too little to start with. So if PROGRAM is
    one of them and a limit of -a, -d, -m, -o or -s is too small for it, softlimit sets none; it says in one line which
    one, and what suffices, and ends:

        softlimit: fatal: -m 5000000 is too small for tcpserver,
            which runs in Python: 37000000 suffices

    That is what this process has in use, 22000000 more for memory (800000 for the stack), rounded up to a million;
    and 16 more descriptors. Where /proc is missing, 16000 kilobytes of memory, 8000 of them data, and 8 descriptors
    are taken to be in use. All other programs get exactly what the options say.

OPTIONS
    -a ALLBYTES         address space: everything that the process has in memory
    -c COREBYTES        a core file
    -d DATABYTES        data segment
    -f FILEBYTES        each file that is written
    -l LOCKBYTES        memory locked into RAM
    -m MEMBYTES         the same as -d, -s, -l and -a with this number each
    -o OPENFILES        open descriptors
    -p PROCESSES        processes of the user
    -r RESIDENTBYTES    memory in RAM; Linux takes no notice of it
    -s STACKBYTES       stack
    -t CPUSECS          seconds of CPU time

EXIT STATUS
    That of PROGRAM.

    100    wrong usage, or a limit is too small for PROGRAM
    111    a limit could not be set, or PROGRAM could not be run

SECURITY
    A limit holds for each process of its own, but for -p: 40 children of tcpserver may take 40 times as much.

BUGS
    What PROGRAM runs in its turn is not looked at: `softlimit -m 5000000 sh -c "exec tcpserver ..."` ends as
    Python ends. What an account with very much mail, or a hash of unusual cost, needs more is not known beforehand.

SEE ALSO
    setuidgid(8), envdir(8), tcpserver(1), setrlimit(2)
"""

import resource

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import numbers, options
from qmailpy.unix import limits

PROGRAM = b"softlimit"
USAGE = (
    b"softlimit [-a allbytes] [-c corebytes] [-d databytes] [-f filebytes] [-l lockbytes] [-m membytes]"
    b" [-o openfiles] [-p processes] [-r residentbytes] [-s stackbytes] [-t cpusecs] child"
)
LETTERS = b"a:c:d:f:l:m:o:p:r:s:t:"

LIMITS = {
    b"a": (resource.RLIMIT_AS,),
    b"c": (resource.RLIMIT_CORE,),
    b"d": (resource.RLIMIT_DATA,),
    b"f": (resource.RLIMIT_FSIZE,),
    b"l": (resource.RLIMIT_MEMLOCK,),
    b"m": (resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_MEMLOCK, resource.RLIMIT_AS),
    b"o": (resource.RLIMIT_NOFILE,),
    b"p": (resource.RLIMIT_NPROC,),
    b"r": (resource.RLIMIT_RSS,),
    b"s": (resource.RLIMIT_STACK,),
    b"t": (resource.RLIMIT_CPU,),
}

ROOM = 1 << 19  # bytes for what becoming the next program takes, besides its arguments and environment


class Asked:
    """What the options ask of one limit."""

    __slots__ = ("hard", "letter", "soft")

    def __init__(self, letter: bytes, word: bytes, hard: int) -> None:
        """Raises ValueError: no number."""
        value, length = numbers.scan(word)
        if length < len(word) and word != b"=":
            raise ValueError
        self.letter = letter
        self.hard = hard
        self.soft = hard if word == b"=" else min(value, hard)


def _ask(letters: list[tuple[bytes, bytes]]) -> dict[int, Asked]:
    """What is asked of each limit in the end. Raises ValueError, and OSError."""
    return {limit: Asked(letter, word, limits.get(limit)[1]) for letter, word in letters for limit in LIMITS[letter]}


def _too_small(asked: dict[int, Asked], program: bytes) -> bytes:
    """What is wrong, if a limit would not let program, of this toolkit, run."""
    needed = limits.needed()
    for limit, suffices in needed.items():
        if limit in asked and asked[limit].soft < suffices:
            small = asked[limit]
            suffices = max(needed[other] for other in LIMITS[small.letter] if other in needed)
            hard = b", the hard limit," if small.soft == small.hard else b""
            what = b"-%s %d%s is too small for %s" % (small.letter, small.soft, hard, program)
            return what + b", which runs in Python: %d suffices" % suffices
    return b""


def _size(argv: list[bytes], env: Env) -> int:
    return sum(map(len, argv)) + sum(map(len, env)) + sum(map(len, env.values())) + 16 * (len(argv) + len(env))


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        letters, program = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(PROGRAM + b": " + e.args[0] + b"\n")
        return strerr.usage(PROGRAM, USAGE)
    try:
        asked = _ask(letters)
    except ValueError:
        return strerr.usage(PROGRAM, USAGE)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"getrlimit failed", error=e)
    if not program:
        return strerr.usage(PROGRAM, USAGE)
    if chain.command_of(program[0], {**env, chain.COLD: b""}):
        text = _too_small(asked, program[0])
        if text:
            return strerr.fail(strerr.NEVER, PROGRAM, text)
    else:
        limits.hold_memory(ROOM + 4 * _size(program, env))  # each word is copied a few times
    try:
        for limit, each in asked.items():
            limits.set_soft(limit, each.soft)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"setrlimit failed", error=e)
    return Exec(program, env, who=PROGRAM)
