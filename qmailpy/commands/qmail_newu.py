"""NAME
    qmail-newu - compile users/assign for qmail-lspawn

SYNOPSIS
    qmail-newu

DESCRIPTION
    qmail-newu reads users/assign and writes users/cdb, in which qmail-lspawn(8) looks first for whose mail a delivery
    is. A line of users/assign is one of

        =LOCAL:USER:UID:GID:HOME:DASH:EXT:
        +PREFIX:USER:UID:GID:HOME:DASH:PRE:

    Mail for LOCAL, the part of an address before the @, is delivered as USER with these numbers, in the directory
    HOME, by the file .qmail followed by DASH and EXT. The second line says the same of all that begins with PREFIX,
    with PRE and what follows PREFIX for EXT; the longest PREFIX counts. Of two lines for the same, the first one does.
    Upper and lower case are the same in LOCAL and PREFIX; but a PREFIX that ends in a capital letter matches nothing.

        =joe:joe:503:78:/home/joe:::
        +joe-:joe:503:78:/home/joe:-::
        .

    A line that begins with a dot must be the last one. There are no comments and no empty lines. qmail-pw2u(8) makes
    such lines of accounts.

    qmail-newu writes users/cdb.tmp first and then moves it: qmail-lspawn goes by the old file or by the new one, from
    the next delivery on. After any trouble the old file stays in force.

ENVIRONMENT
    QMAILHOME    the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      users/cdb holds the lines
    111    a line has a bad form, or a file could not be read, written or moved

SECURITY
    Whoever can write users/assign, or the directory users, can have programs run as any user but root.

BUGS
    Two that run at once spoil each other's file.

SEE ALSO
    qmail-lspawn(8), qmail-pw2u(8), qmail-getpw(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import assign, cdb
from qmailpy.stores import programs, safeio
from qmailpy.stores.home import home
from qmailpy.unix import fds

PROGRAM = b"qmail-newu"

SOURCE = b"users/assign"
TARGET = b"users/cdb"
TEMPORARY = b"users/cdb.tmp"
MASK = 0o033  # others may read the cdb, whatever the umask says
LARGEST = 1 << 32  # bytes: a cdb of more there is not


def _fail(*text: bytes, error: OSError | None = None) -> int:
    return strerr.fail(strerr.LATER, PROGRAM, *text, error=error)


def main(argv: list[bytes], env: Env) -> int:
    os.umask(MASK)
    try:
        programs.enter(env)
    except OSError as e:
        return _fail(b"unable to chdir to ", home(env), error=e)
    try:
        fd = os.open(SOURCE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        return _fail(b"unable to open ", SOURCE, error=e)
    try:
        text = fds.read_all(fd, LARGEST)
    except OSError as e:
        return _fail(b"unable to read ", SOURCE, error=e)
    finally:
        os.close(fd)
    try:
        safeio.replace(TARGET, TEMPORARY, cdb.make(assign.records(text)))
    except assign.Malformed as e:
        return _fail(b"bad format in %s (line %d: %s)" % (SOURCE, e.line, e.reason))
    except safeio.Failed as e:
        return _fail(e.complaint.replace(b"create", b"open", 1).replace(b"write to", b"write", 1), error=e)
    except cdb.TooLarge:
        return _fail(b"unable to write ", TEMPORARY, b": it would be too large")
    return 0
