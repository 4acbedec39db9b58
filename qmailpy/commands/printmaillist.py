"""NAME
    printmaillist - print a binary mailing list

SYNOPSIS
    printmaillist

DESCRIPTION
    printmaillist reads a list of newinclude(1) or setmaillist(1) from descriptor 0 and prints what is in it, one
    address or name of a list on each line, in the form that setmaillist reads:

        printmaillist < /etc/staff.bin

EXIT STATUS
    0      all of it is printed
    100    it is no such list; what could be read is printed
    111    it could not be read, or the lines not be written

SEE ALSO
    setmaillist(1), newinclude(1), fastforward(1), printforward(1)
"""

from qmailpy.chain import Env
from qmailpy.formats import forwardcdb
from qmailpy.stores.aliases import show

PROGRAM = b"printmaillist"


def main(argv: list[bytes], env: Env) -> int:
    return show(PROGRAM, forwardcdb.shown_list)
