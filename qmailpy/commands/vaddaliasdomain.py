"""NAME
    vaddaliasdomain - give a virtual domain one more name

SYNOPSIS
    vaddaliasdomain [-v] REAL ALIAS

DESCRIPTION
    vaddaliasdomain makes ALIAS another name of the virtual domain REAL: joe@ALIAS and joe@REAL are one account, whose
    mail comes by both addresses, and who may log in with both:

        vaddaliasdomain example.com example.org

    The two may stand in either order: the one that exists is REAL, which may be an alias domain itself. ALIAS becomes
    a line in users/assign of the mail system and in its cdb, in control/virtualdomains, and in control/rcpthosts, or in
    control/morercpthosts and its cdb if rcpthosts has 50 lines or more; and it is taken out of control/locals. Then
    qmail-send(8) is told to read these files again. What a killed vaddaliasdomain has begun, the next command that
    changes domains completes, or vcheck(8).

    vdeldomain(8) removes an alias; vdominfo(8) shows those of a domain.

OPTIONS
    -v    print the version

CONTROL FILES
    locals           loses ALIAS
    morercpthosts    gets it if rcpthosts is full; so does morercpthosts.cdb
    rcpthosts        gets it
    virtualdomains   gets ALIAS:ALIAS

ENVIRONMENT
    VPOPMAILHOME    where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME       the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      done
    111    files are in use, or cannot be read or written
    244    ALIAS can be no name of a domain
    255    wrong usage, or both exist, or none

SEE ALSO
    vadddomain(8), vdeldomain(8), vdominfo(8), vcheck(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats import vpopmail
from qmailpy.stores.vpopmail import administration, changes, vhome
from qmailpy.stores.vpopmail.administration import Stop

PROGRAM = b"vaddaliasdomain"
HELP = b"""vaddaliasdomain: usage: [options] real_domain alias_domain
options: -v (print version number)
note: for backward compatability, you can swap real_domain and alias_domain."""

BOTH = b"Error: Both domains already exist, unable to create alias."
NEITHER = b"Error: Neither '%s' or '%s'  exist, unable to create alias."
SAME = b"Error: real domain and alias domain are the same!\n"


def add(home: vhome.Vhome, one: bytes, other: bytes) -> None:
    """Raises whatever administration.end tells."""
    with changes.Change(home) as change:
        change.warn(PROGRAM)
        first, second = change.find(one), change.find(other)
        if first is not None and second is not None:
            raise Stop(BOTH)
        if first is not None:
            change.add_alias(vpopmail.alias(other), first)
        elif second is not None:
            change.add_alias(vpopmail.alias(one), second)
        else:
            raise Stop(NEITHER % (one, other))


def run(argv: list[bytes], env: Env) -> int:
    _, words = administration.options(PROGRAM, argv, b"v", HELP)
    if len(words) < 2 or not all(words[:2]):
        raise Stop(HELP)
    one, other = words[0].lower(), words[1].lower()
    if one == other:
        raise Stop(SAME + HELP)
    add(vhome.vhome(env), one, other)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o022)
    return administration.end(PROGRAM, lambda: run(argv, env))
