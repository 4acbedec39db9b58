"""NAME
    qmail-getpw - find the account that a local part belongs to

SYNOPSIS
    qmail-getpw LOCAL

DESCRIPTION
    qmail-lspawn(8) asks qmail-getpw whose mail LOCAL is, the part of an address before the @, if users/cdb does not say
    it. The answer, on descriptor 1, is six strings, each followed by a NUL:

        USER UID GID HOME DASH EXT

    LOCAL belongs to the account USER if it is USER, or USER-EXT with any EXT; the case of letters does not matter. Then
    DASH is -, or empty where there is no EXT. The account must have another number than root's, and a home that is
    there and belongs to it. Of several accounts, the one with the longest name counts. Names of more than 31 bytes are
    nobody's.

    What belongs to no account is alias's: DASH is -, and EXT is LOCAL.

    An administrator may put another program in the place HOME/bin/qmail-getpw; qmail-lspawn runs that, as the user
    qmailp. If it finds this one there, or none, it looks in the same way without running it.

EXIT STATUS
    0      the answer has been given
    100    there is no LOCAL
    115    a home could not be looked at for now
    116    there is no account alias
    118    the accounts could not be looked up, or the answer not be written

SEE ALSO
    qmail-lspawn(8), qmail-newu(8), qmail-pw2u(8), getpwnam(3)
"""

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.stores import users
from qmailpy.unix import fds

PROGRAM = b"qmail-getpw"
USAGE = b"qmail-getpw local"


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    try:
        fds.write_all(1, users.account(argv[1]) + b"\0")
    except users.Trouble as e:
        return e.code
    except OSError:
        return users.SYSTEM
    return 0
