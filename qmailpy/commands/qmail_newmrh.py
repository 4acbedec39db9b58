"""NAME
    qmail-newmrh - compile control/morercpthosts for qmail-smtpd

SYNOPSIS
    qmail-newmrh

DESCRIPTION
    qmail-newmrh reads control/morercpthosts and writes control/morercpthosts.cdb, in which qmail-smtpd(8) and
    qmail-qmtpd(8) look for hosts that are not in control/rcpthosts:

        qmail-newmrh

    A line is a host's name, or .suffix for all names that end so. Upper and lower case are the same; blanks at the
    end of a line are cut; empty lines, and lines that begin with #, mean nothing.

    Put the 50 hosts that get most mail into rcpthosts and the others here: the whole of rcpthosts is read for each
    connection, and of the cdb only what is asked for. Without rcpthosts, morercpthosts is not looked at, and mail is
    taken for any host.

    qmail-newmrh writes control/morercpthosts.tmp first and then moves it: servers go by the old file or by the new
    one, from the next connection on. After any trouble the old file stays in force.

CONTROL FILES
    morercpthosts        the hosts
    morercpthosts.cdb    is made from it
    morercpthosts.tmp    is written on the way

ENVIRONMENT
    QMAILHOME    the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      morercpthosts.cdb holds the hosts
    111    a file could not be read, written or moved

BUGS
    Two that run at once spoil each other's file.

SEE ALSO
    qmail-smtpd(8), qmail-qmtpd(8), tcprules(1)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import cdb
from qmailpy.stores import control, programs, safeio
from qmailpy.stores.home import home

PROGRAM = b"qmail-newmrh"

NAME = b"morercpthosts"
MASK = 0o033  # others may read the cdb, whatever the umask says


def main(argv: list[bytes], env: Env) -> int | Exec:
    os.umask(MASK)
    try:
        folder, _ = programs.enter(env)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to chdir to ", home(env), error=e)
    try:
        hosts = control.Control(folder).lines(NAME)
        if hosts is None:
            raise control.Unreadable(NAME, FileNotFoundError(2, ""))
    except control.Unreadable as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to read control/", NAME, error=e)
    path = b"control/" + NAME
    try:
        safeio.replace(path + b".cdb", path + b".tmp", cdb.make((host.lower(), b"") for host in hosts), 0o666)
    except safeio.Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.complaint.replace(b"create", b"write to", 1), error=e)
    except cdb.TooLarge:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write to ", path, b".tmp: out of memory")
    return 0
