"""NAME
    setforward - make an aliases database for fastforward

SYNOPSIS
    setforward DATABASE TEMPORARY

DESCRIPTION
    setforward reads instructions from descriptor 0 and writes DATABASE, a cdb in which fastforward(1) looks for
    recipients. It writes TEMPORARY, in the same file system, and then moves it: mail is delivered by the old database
    or by the new one, at any time. After any trouble the old one stays in force; a line that is wrong is named.

        root@example.org: alice@example.org, bob@example.net;
        weather@: |weather-server;
        staff@example.org: ?owner-staff@example.org, /etc/staff.bin;

    An instruction is a target, a colon, commands with commas between, and a semicolon. # and the rest of its line
    mean nothing, nor do blanks and the ends of lines. A backslash in front of one of these bytes makes it an ordinary
    one; a NUL is never allowed.

    A target is user@host, or @host, or user@, for all users or all hosts; upper and lower case are the same. All
    commands for a target stand in one instruction, but its owner may stand in another. A command is one of these:

    &ADDRESS     forward the message there, or follow the instructions for that target; without the & too, if it begins
                 with a letter or a digit. At most 800 bytes, with a full host name: nothing is completed
    ?ADDRESS     the owner: the envelope sender of what is forwarded
    ./LIST       follow a list that setmaillist(1) or newinclude(1) has made; also /LIST
    |COMMAND     give the message to a program
    !COMMAND     the same, behind the lines of preline(1)

EXIT STATUS
    0      DATABASE holds the instructions
    100    wrong usage, or a line is wrong
    111    the input could not be read, or a file not be written or moved

SECURITY
    Whoever writes the instructions may run programs as the user who delivers mail by them.

SEE ALSO
    fastforward(1), printforward(1), newaliases(1), setmaillist(1), preline(1)
"""

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import cdb
from qmailpy.formats.forwardcdb import records
from qmailpy.stores.aliases import compile_input

PROGRAM = b"setforward"
USAGE = b"setforward data.cdb data.tmp"


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 3:
        return strerr.usage(PROGRAM, USAGE)
    return compile_input(PROGRAM, argv[1], argv[2], lambda text: cdb.make(records(text)))
