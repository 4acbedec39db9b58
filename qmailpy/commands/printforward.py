"""NAME
    printforward - print an aliases database

SYNOPSIS
    printforward

DESCRIPTION
    printforward reads a database of newaliases(1) or setforward(1) from descriptor 0 and prints its instructions, in
    the form that setforward reads:

        printforward < /etc/aliases.cdb

    setforward makes the same database of it again.

EXIT STATUS
    0      all of it is printed
    100    it is no such database; what could be read is printed
    111    it could not be read, or the instructions not be written

SEE ALSO
    setforward(1), newaliases(1), fastforward(1), printmaillist(1)
"""

from qmailpy.chain import Env
from qmailpy.formats import forwardcdb
from qmailpy.stores.aliases import show

PROGRAM = b"printforward"


def main(argv: list[bytes], env: Env) -> int:
    return show(PROGRAM, forwardcdb.shown)
