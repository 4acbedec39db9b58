"""NAME
    vdeluser - remove an account from a virtual domain

SYNOPSIS
    vdeluser [-v] USER@DOMAIN

DESCRIPTION
    vdeluser removes the account USER of DOMAIN from vpasswd and vpasswd.cdb, and then its folder with all mail. The
    account that gets the mail for unknown users is not removed: it is named in .qmail-default. Files .qmail-USER in
    the domain's folder, and aliases in them, stay.

    The folder is moved to .deleted, and removed there when nobody waits for the domain any more. Whatever happens, the
    account is there as a whole or it is gone: what a killed vdeluser has begun, the next command that changes the
    domain completes. A folder that is not below the domain's, or that is another account's, too, is left alone, and
    named.

OPTIONS
    -v    print the version

ENVIRONMENT
    VPOPMAILHOME       where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAIL_DOMAIN    the domain of a name without one, before etc/defaultdomain

EXIT STATUS
    0      done
    111    the files are in use, or cannot be read or written now
    201    it is the account that gets the mail for unknown users
    245    there is no such domain
    246    there is no such account
    253    the account is gone, and its folder is none of the domain's, or another account's, too
    255    wrong usage
           Other codes are those of vpopmail: 256 less the number of its error

SECURITY
    Run it as root or as the owner of the domain. All is removed with the rights of the owner, and no link is followed.

SEE ALSO
    vadduser(8), vdeldomain(8), vmoduser(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import qmaildefault, vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores.vpopmail import accounts, administration, domains, vhome
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.stores.vpopmail.vhome import Vhome

PROGRAM = b"vdeluser"
HELP = b"""vdeluser: usage: [options] email_address
options: -v (print version number)"""

LETTERS = b"v"


def gets_all(text: bytes, account: Account, domain: Domain, home: Vhome) -> bool:
    """Whether the .qmail-default of that text has mail for unknown users go to the account."""
    action = qmaildefault.action(text)
    if action is None:
        return False
    kind = qmaildefault.kind(action)
    if kind == qmaildefault.FOLDER:
        return account.dir != b"" and action.rstrip(b"/") in (account.dir, account.dir + accounts.MAILDIR)
    user, _, name = qmaildefault.address(action).lower().rpartition(b"@")
    if kind != qmaildefault.FORWARDED or user != account.name:
        return False
    other = domains.find(home, name)
    return other is not None and other.name == domain.name


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    _, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    if not words:
        raise Stop(HELP)
    home = vhome.vhome(env)
    user, domain = administration.account_of(home, env, words[0])
    with accounts.Change(domain) as change:
        account = change.get(user)
        if account is not None and gets_all(change.file(accounts.DEFAULT), account, domain, home):
            raise vpopmail.Invalid(vpopmail.CATCHALL_ACCOUNT)
        removed = change.remove(user)
    if not removed and account is not None:
        strerr.say(b"could not remove %s\n" % account.dir)
        raise vpopmail.Invalid(vpopmail.BAD_DIR)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
