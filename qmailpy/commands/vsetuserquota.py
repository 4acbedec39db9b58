"""NAME
    vsetuserquota - set the quota of an account of a virtual domain, or of all

SYNOPSIS
    vsetuserquota [-v] ADDRESS QUOTA

DESCRIPTION
    vsetuserquota limits what the Maildir of the account USER@DOMAIN may hold or, if ADDRESS is DOMAIN alone, of each
    account of a domain. QUOTA is one of, in upper or lower case:

        10485760S           bytes
        10M  10MB  500K     the same in units of 1048576 or 1024 bytes
        10485760            the same
        1000C               messages
        10M,1000C           both
        NOQUOTA             no limit

    What stands in maildirsize of the Maildir is counted anew, with the new quota, by whoever needs it next.

OPTIONS
    -v    print the version

ENVIRONMENT
    VPOPMAILHOME       where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAIL_DOMAIN    the domain of a name without one, before etc/defaultdomain

EXIT STATUS
    0      done
    111    the files are in use, or cannot be read or written now
    245    there is no such domain
    246    there is no such account
    255    wrong usage, or QUOTA is none
           Other codes are those of vpopmail: 256 less the number of its error

SECURITY
    Run it as root or as the owner of the domain.

SEE ALSO
    vmoduser(8), vuserinfo(8), vdelivermail(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats import vpopmail
from qmailpy.stores.vpopmail import accounts, administration, vhome
from qmailpy.stores.vpopmail.administration import Stop

PROGRAM = b"vsetuserquota"
HELP = b"""vsetuserquota: [options] email_address|domain_name quota
options:
-v (print version number)

If you specify a domain name rather than an email address,
the quota will be applied to all users in that domain"""

LETTERS = b"v"


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    _, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    if len(words) < 2:
        raise Stop(HELP)
    user, domain = administration.chosen(vhome.vhome(env), env, words[0])
    quota = administration.quota(words[1])
    with accounts.Change(domain) as change:
        found = change.every() if user is None else [change.get(user)]
        changed = [account for account in found if account is not None]
        if not changed and user is not None:
            raise vpopmail.Invalid(vpopmail.NO_USER)
        for account in changed:
            account.quota = quota
        change.put(changed, resized=True)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
