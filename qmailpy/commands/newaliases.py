"""NAME
    newaliases - compile /etc/aliases for fastforward

SYNOPSIS
    newaliases [-OPTION...] [FILE]

DESCRIPTION
    newaliases reads aliases in the form of sendmail from FILE, /etc/aliases unless named, and writes FILE.cdb, in
    which fastforward(1) looks for recipients. It writes FILE.tmp first and then moves it: mail is delivered by the
    old database or by the new one, at any time. After any trouble the old one stays in force; a line that is wrong is
    named. Options, such as those of sendmail, mean nothing.

    A line is an alias, a colon, and what it stands for:

        root: alice, bob@example.org
        weather: "|weather-server"
        staff: :include:/etc/staff
        owner-staff: alice
        billing@example.net: alice
        @example.net: bob

    The alias is user, for that user at all hosts, or user@host, or @host for all users there; upper and lower case
    are the same. If an alias is there twice, the first counts.

    A line that begins with a blank continues the one before, empty lines count for nothing, and lines that begin with
    #, with those that continue them, are comments. Whether there is a colon makes no difference: the first word of a
    line is the alias.

    What stands for an alias, one or more of these, with commas or blanks between:

    ADDRESS             as in the header of a message: comments, Name <user@host>, quotes around special characters.
                        One without a host, or whose host has no dot, is completed, qmail-header(5). If it is an alias
                        itself, that one's instructions are followed
    "|COMMAND"          the message is given to a program, behind the lines of preline(1)
    :include:NAME       all that is listed in the file NAME, which newinclude(1) has compiled as NAME.bin. A name that
                        begins with neither . nor / is one in the folder where fastforward runs

    Without an @, what begins with / is an mbox file for sendmail. It is refused here, as fastforward delivers to no
    files: a .qmail file does.

    If there is an alias owner-LIST, that address becomes the envelope sender of what goes out through LIST.

CONTROL FILES
    me               the name of this host
    defaulthost      completes an address without a host. Default: me
    defaultdomain    completes a host without a dot. Default: me
    plusdomain       takes the place of a plus sign at the end of a host. Default: me

ENVIRONMENT
    QMAILHOME    the home of the mail system; unset, /var/qmail

EXIT STATUS
    0      FILE.cdb holds the aliases
    100    an address has more than 800 bytes
    111    a file could not be read, written or moved, or a line is wrong

SECURITY
    Whoever may write FILE may run programs as the user who delivers mail for aliases.

BUGS
    Two that run at once spoil each other's file. sendmail by this name is another program, which says so.

SEE ALSO
    fastforward(1), newinclude(1), printforward(1), setforward(1), sendmail(8), dot-qmail(5), qmail-header(5)
"""

import os
from _collections_abc import Iterable

from qmailpy.chain import Env
from qmailpy.formats import aliases, cdb
from qmailpy.stores.aliases import MASK, compile_file, names
from qmailpy.stores.home import home

PROGRAM = b"newaliases"
ALIASES = b"/etc/aliases"


def make(text: bytes, completion: aliases.Names) -> Iterable[bytes]:
    return cdb.make(aliases.records(text, completion))


def main(argv: list[bytes], env: Env) -> int:
    os.umask(MASK)
    path = next((word for word in argv[1:] if word and not word.startswith(b"-")), ALIASES)
    return compile_file(PROGRAM, path, b".cdb", lambda: names(home(env), {}), make)
