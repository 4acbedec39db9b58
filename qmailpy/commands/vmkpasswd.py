"""NAME
    vmkpasswd - make vpasswd.cdb of a virtual domain anew

SYNOPSIS
    vmkpasswd DOMAIN

DESCRIPTION
    vmkpasswd makes vpasswd.cdb of DOMAIN, by which accounts log in and get their mail, of vpasswd: after that was
    edited by hand. It makes cdb.tmp first and then moves it: logins go by the old file or by the new one. The
    commands that change accounts do all that themselves.

    A last line without an end counts as well; and what a killed command has begun is completed.

ENVIRONMENT
    VPOPMAILHOME    where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME       the home of the mail system; unset, /var/qmail

EXIT STATUS
    0      done
    111    the files are in use, or cannot be read or written now
    245    there is no such domain
    255    wrong usage

SECURITY
    Run it as root or as the owner of the domain.

SEE ALSO
    vadduser(8), vcheck(8), vchkpw(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.stores.vpopmail import accounts, administration, vhome
from qmailpy.stores.vpopmail.administration import Stop

PROGRAM = b"vmkpasswd"
HELP = b"vmkpasswd: usage: domain "


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    if len(argv) != 2:
        raise Stop(HELP)
    with accounts.Change(administration.domain_of(vhome.vhome(env), argv[1])) as change:
        change.compile()
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
