"""NAME
    qmail-tcpok - forget which hosts did not answer

SYNOPSIS
    qmail-tcpok

DESCRIPTION
    qmail-remote(8) keeps a table of the IPv4 hosts that did not answer in time, and leaves out for about an hour
    those that did so twice. qmail-tcpok empties it, as is of use when your own network was down. qmail-rspawn(8)
    does the same when it starts.

    Messages that have been put off wait for their own time nevertheless: qmail-queuectl(8) can have them tried at
    once.

ENVIRONMENT
    QMAILHOME    the home of the mail system, /var/qmail unless set

EXIT STATUS
    0      the table is empty
    111    it could not be emptied

SECURITY
    It wants to be run by root, or by whoever the table belongs to.

SEE ALSO
    qmail-tcpto(8), qmail-remote(8), qmail-rspawn(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.stores import tcpto
from qmailpy.stores.home import home
from qmailpy.unix import locks

PROGRAM = b"qmail-tcpok"


def main(argv: list[bytes], env: Env) -> int:
    folder = home(env)
    verb, place = b"chdir to", folder
    fd = -1
    try:
        os.chdir(folder)
        place += tcpto.FOLDER
        os.chdir(tcpto.FOLDER[1:])
        verb, place = b"write", place + b"/" + tcpto.NAME
        fd = os.open(tcpto.NAME, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        verb = b"lock"
        locks.lock(fd, wait=True)
        verb = b"clear"
        tcpto.empty(fd)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to %s %s" % (verb, place), error=e)
    finally:
        if fd >= 0:
            os.close(fd)
    return 0
