"""NAME
    setmaillist - make a binary mailing list for fastforward

SYNOPSIS
    setmaillist LIST TEMPORARY

DESCRIPTION
    setmaillist reads a mailing list from descriptor 0 and writes LIST, whose name usually ends in .bin, in the form
    that fastforward(1) reads. It writes TEMPORARY, in the same file system, and then moves it: mail goes to the old
    list or to the new one, at any time. After any trouble the old one stays in force; a line that is wrong is named.
    Everybody may read LIST, whatever the umask says.

    Each line is an address, with or without an & in front, or the name of another such list if it begins with a dot
    or a slash. Addresses have a full host name, as nothing is completed, and at most 800 bytes. Empty lines, lines
    that begin with #, and blanks at the ends of lines mean nothing.

        setmaillist staff.bin staff.tmp < staff

EXIT STATUS
    0      LIST holds the list
    100    wrong usage
    111    the input could not be read, a line is wrong, or a file could not be written or moved

SEE ALSO
    printmaillist(1), newinclude(1), fastforward(1), setforward(1)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats.forwardcdb import list_items
from qmailpy.stores.aliases import MASK, compile_input

PROGRAM = b"setmaillist"
USAGE = b"setmaillist list.bin list.tmp"


def main(argv: list[bytes], env: Env) -> int:
    os.umask(MASK)
    if len(argv) < 3:
        return strerr.usage(PROGRAM, USAGE)
    return compile_input(PROGRAM, argv[1], argv[2], list_items)
