"""NAME
    qmail-tcpto - show which hosts did not answer

SYNOPSIS
    qmail-tcpto

DESCRIPTION
    qmail-remote(8) keeps a table of the IPv4 hosts that did not answer in time. qmail-tcpto prints it, a line for each:

        192.0.2.7 timed out 345 seconds ago; # recent timeouts: 3

    A host that did so twice is left out for about an hour since the last time: from 64 to 97 minutes, as each
    qmail-remote happens to see it. It gets free of the table when it answers, or refuses.

    Hosts with IPv6 addresses are in no table: there is no room for them in its format.

ENVIRONMENT
    QMAILHOME    the home of the mail system, /var/qmail unless set

EXIT STATUS
    0      that is all there is
    111    the table could not be read; why is said on the output

SECURITY
    It wants to be run by root, or by whoever the table belongs to, as it locks it.

SEE ALSO
    qmail-tcpok(8), qmail-remote(8)
"""

import os
import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import addresses, numbers, tcpto
from qmailpy.stores import tcpto as store
from qmailpy.stores.home import home
from qmailpy.unix import fds, locks


def lines(table: bytes, now: int) -> bytes:
    """The table as text."""
    return b"".join([
        b"%s timed out %d seconds ago; # recent timeouts: %d\n"
        % (addresses.format_ipv4(entry.ip), (now - entry.when) % numbers.WRAP, entry.count)
        for entry in tcpto.entries(table)
        if entry.count
    ])  # fmt: skip


def read(folder: bytes) -> tuple[int, bytes]:
    """The exit code, and what to print."""
    complaint = b"chdir"
    fd = -1
    try:
        os.chdir(folder)
        os.chdir(store.FOLDER[1:])
        complaint = b"open tcpto"
        fd = os.open(store.NAME, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        complaint = b"lock tcpto"
        locks.lock(fd, wait=True)
        complaint = b"read tcpto"
        table = os.read(fd, tcpto.SIZE)
    except OSError as e:
        return strerr.LATER, b"fatal: unable to %s: %s\n" % (complaint, strerr.reason(e))
    finally:
        if fd >= 0:
            os.close(fd)
    return 0, lines(table, int(time.time()))


def main(argv: list[bytes], env: Env) -> int:
    code, text = read(home(env))
    try:
        fds.write_all(1, text)
    except OSError:  # as in the original
        pass
    return code
