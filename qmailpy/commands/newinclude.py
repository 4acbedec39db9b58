"""NAME
    newinclude - compile an :include: list for fastforward

SYNOPSIS
    newinclude LIST

DESCRIPTION
    newinclude reads the file LIST, which an alias names as :include:LIST, and writes LIST.bin, which fastforward(1)
    reads. It writes LIST.tmp first and then moves it: mail goes to the old list or to the new one, at any time. After
    any trouble the old one stays in force; a line that is wrong is named. So LIST may be edited at leisure, and
    everybody may read LIST.bin, whatever the umask says.

    A line holds addresses, and :include:NAME for another list, NAME.bin, as newaliases(1) describes them. Lines that
    begin with # mean nothing. Programs and files are refused: there, .qmail files are of use.

CONTROL FILES
    me               the name of this host
    defaulthost      completes an address without a host. Default: me
    defaultdomain    completes a host without a dot. Default: me
    plusdomain       takes the place of a plus sign at the end of a host. Default: me

ENVIRONMENT
    QMAILDEFAULTHOST      instead of control/defaulthost
    QMAILDEFAULTDOMAIN    instead of control/defaultdomain
    QMAILPLUSDOMAIN       instead of control/plusdomain
    QMAILHOME             the home of the mail system; unset, /var/qmail

EXIT STATUS
    0      LIST.bin holds the list
    100    wrong usage
    111    a file could not be read, written or moved, or a line is wrong

BUGS
    Two that run at once spoil each other's file.

SEE ALSO
    newaliases(1), fastforward(1), printmaillist(1), setmaillist(1)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats.aliases import list_items
from qmailpy.stores.aliases import MASK, compile_file, names
from qmailpy.stores.home import home

PROGRAM = b"newinclude"
USAGE = b"newinclude list"


def main(argv: list[bytes], env: Env) -> int:
    os.umask(MASK)
    if len(argv) < 2:
        return strerr.usage(PROGRAM, USAGE)
    return compile_file(PROGRAM, argv[1], b".bin", lambda: names(home(env), env), list_items, cannot_open=b"write to")
