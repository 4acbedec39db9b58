"""NAME
    envuidgid - run a program with the numbers of an account in its environment

SYNOPSIS
    envuidgid ACCOUNT PROGRAM [ARG...]

DESCRIPTION
    envuidgid sets UID and GID to the user id and group id of ACCOUNT, a name of passwd(5), as decimal numbers, and
    runs PROGRAM, found along PATH. It needs no privileges and drops none: that is left to PROGRAM, which first
    does what takes root.

        exec envuidgid pop3 tcpserver -U 0 pop3 qmail-popup host.example ...

ENVIRONMENT
    UID    set to the user id
    GID    set to the group id

EXIT STATUS
    That of PROGRAM.

    100    wrong usage
    111    ACCOUNT is unknown or cannot be looked up, or PROGRAM could not be run

SEE ALSO
    setuidgid(8), envdir(8), tcpserver(1)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.stores.accounts import Refusal, uidgid
from qmailpy.unix import nss

PROGRAM = b"envuidgid"
USAGE = b"envuidgid account child"


def prepare() -> None:
    """Have the name service read its configuration, once for all that are forked."""
    nss.prepare()


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 3:
        return strerr.usage(PROGRAM, USAGE)
    try:
        uid, gid = uidgid.find(argv[1])
    except Refusal as refusal:
        return strerr.fail(refusal.code, PROGRAM, refusal.text, error=refusal.error)
    return Exec(argv[2:], {**env, b"GID": b"%d" % gid, b"UID": b"%d" % uid}, who=PROGRAM)
