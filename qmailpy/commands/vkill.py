"""NAME
    vkill - kill processes by a part of their command line

SYNOPSIS
    vkill [-v] NAME

DESCRIPTION
    vkill sends SIGKILL to every process in whose command line, program and arguments with blanks between them, NAME
    stands somewhere:

        vkill qmail-pop3d

    It spares itself, the processes that it has been started from, kernel threads, process 1, and those in whose command
    line supervise, multilog, runsv or svscan stands.

OPTIONS
    -v    print the version

EXIT STATUS
    0      done, also if there was none
    255    wrong usage

SECURITY
    Run by root with a short NAME, it kills what nobody meant. svc(8) ends a service and nothing else.

SEE ALSO
    svc(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.stores.vpopmail import administration, tell
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.unix import processes, signals

PROGRAM = b"vkill"
HELP = b"""vkill: usage: process
options: -v (print the version)"""

SPARED = (b"supervise", b"multilog", b"runsv", b"svscan")
INIT = 1
PARENT = 1  # of processes.stat_fields


def ancestors() -> set[int]:
    """This process, and those that it descends from."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(processes.stat_fields(pid)[PARENT])
        except OSError:
            break
    return found | {INIT}


def kill(name: bytes) -> None:
    spared = ancestors()
    for pid in tell.pids():
        begin = processes.started(pid)
        line = b" ".join(tell.words(pid))
        if pid in spared or not begin or name not in line or any(word in line for word in SPARED):
            continue
        try:
            tell.send(pid, begin, signals.KILL)
        except OSError:  # another's
            continue


def run(argv: list[bytes], env: Env) -> int:
    _, words = administration.options(PROGRAM, argv, b"v", HELP)
    if not words or not words[0]:
        raise Stop(HELP)
    kill(words[0])
    return 0


def main(argv: list[bytes], env: Env) -> int:
    return administration.end(PROGRAM, lambda: run(argv, env))
