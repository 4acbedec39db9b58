"""NAME
    maildirmake - create a maildir for incoming mail

SYNOPSIS
    maildirmake NAME

DESCRIPTION
    maildirmake creates the directory NAME and in it tmp, new and cur, readable by their owner alone. NAME must
    not exist.

EXIT STATUS
    0      done
    100    wrong usage
    111    a directory could not be created

SEE ALSO
    qmail-pop3d(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.stores import maildir

PROGRAM = b"maildirmake"
USAGE = b"maildirmake name"


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    os.umask(0o077)
    try:
        maildir.make(argv[1])
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to mkdir ", e.filename, error=e)
    return 0
