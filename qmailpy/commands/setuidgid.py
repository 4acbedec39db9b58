"""NAME
    setuidgid - run a program as another account

SYNOPSIS
    setuidgid ACCOUNT PROGRAM [ARG...]

DESCRIPTION
    setuidgid takes uid and gid of ACCOUNT, a name of passwd(5), drops all groups but that one, and runs PROGRAM,
    found along PATH. Only root can do that. The environment, the working folder and the descriptors stay as
    they are.

        exec setuidgid qmaill multilog t ./main

EXIT STATUS
    That of PROGRAM.

    100    wrong usage
    111    ACCOUNT is unknown or cannot be looked up, setuidgid may not become it, or PROGRAM could not be run

SECURITY
    PROGRAM cannot return to the former ids: real, effective and saved ones are all set.

BUGS
    Groups other than the primary one are not set. HOME and USER are still those of the caller: see envdir(8).

SEE ALSO
    envuidgid(8), envdir(8), softlimit(8), setlock(8), multilog(8)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.stores.accounts import Refusal, uidgid
from qmailpy.unix import ids, nss

PROGRAM = b"setuidgid"
USAGE = b"setuidgid account child"


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
    for change, number, text in ((ids.set_gid, gid, b"setgid"), (ids.set_uid, uid, b"setuid")):
        try:
            change(number)
        except OSError as e:
            return strerr.fail(strerr.LATER, PROGRAM, b"unable to ", text, error=e)
    return Exec(argv[2:], env, who=PROGRAM)
