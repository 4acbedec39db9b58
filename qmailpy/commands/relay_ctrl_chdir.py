"""NAME
    relay-ctrl-chdir - open the directory of relay-ctrl for programs behind it

SYNOPSIS
    relay-ctrl-chdir PROGRAM [ARG...]

DESCRIPTION
    relay-ctrl-chdir opens the directory RELAY_CTRL_DIR, puts the descriptor's number into RELAY_CTRL_DIR_FD, and runs
    PROGRAM, which it leaves in the folder where it is. So relay-ctrl-allow(8) and relay-ctrl-check(8), further on in
    the chain and with other rights, reach the directory without a way to it:

        tcpserver 0 110 relay-ctrl-chdir qmail-popup mail.example \\
            checkpassword relay-ctrl-allow qmail-pop3d Maildir

        tcpserver 0 25 relay-ctrl-chdir relay-ctrl-check qmail-smtpd

    The directory itself may then be writable for everybody, if it lies in one that only root can enter:

        mkdir -m 700 /var/qmail/relay && mkdir -m 777 /var/qmail/relay/ip

    The descriptor is the highest that is free and below both 1024 and the limit, as some programs close the
    low ones.

ENVIRONMENT
    RELAY_CTRL_DIR       the directory
    RELAY_CTRL_DIR_FD    set to the descriptor's number

EXIT STATUS
    That of PROGRAM.

    1      wrong usage
    111    RELAY_CTRL_DIR is not set, cannot be opened or is no directory; or PROGRAM cannot be run

SECURITY
    Each program in the chain has the descriptor, up to relay-ctrl-allow or relay-ctrl-check: put no program between
    that lets its users run what they like.

BUGS
    The original takes the highest descriptor that the limit allows. Where that is a million, a table of that size is
    copied by each fork; hence 1024.

SEE ALSO
    relay-ctrl-allow(8), relay-ctrl-check(8), relay-ctrl-age(8), tcpserver(1)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.stores import relayctrl
from qmailpy.unix import fds

PROGRAM = b"relay-ctrl-chdir"
USAGE = b"relay-ctrl-chdir program [ arg ... ]"

MISUSE = 1
HIGHEST = 1024


def raised(fd: int) -> int:
    """fd, moved to the highest number that is free, for the next program."""
    limit = os.sysconf("SC_OPEN_MAX")
    number = (limit if 0 < limit < HIGHEST else HIGHEST) - 1
    while number > fd and _is_open(number):
        number -= 1
    try:
        fds.move(fd, number)
    except OSError:  # the limit is lower than it was said to be
        number = fd
        fds.share(fd)
    return number


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 2:
        strerr.usage(PROGRAM, USAGE)
        return MISUSE
    path = env.get(relayctrl.DIR)
    if path is None:
        return strerr.fail(strerr.LATER, PROGRAM, b"$RELAY_CTRL_DIR is not set")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to open directory ", path, error=e)
    return Exec(argv[1:], {**env, relayctrl.DIR_FD: b"%d" % raised(fd)}, who=PROGRAM)
