"""NAME
    vpasswd - change the password of an account in a virtual domain

SYNOPSIS
    vpasswd [-v] [-r[LENGTH]] USER@DOMAIN [PASSWORD]

DESCRIPTION
    vpasswd gives the account USER of DOMAIN another password. Without PASSWORD it is asked for, twice. PASSWORD - is a
    line of the standard input, or asked for, if that is a terminal: what stands on a command line can be seen by every
    user of the machine.

    The password is stored as a hash of the best kind that the system's crypt(3) makes; and as it is, too, if
    etc/clear-passwords exists or the account had such a one before. App passwords of vapppasswd(8) stay as they are.

OPTIONS
    -r[LENGTH]    make a random password, of 12 characters unless it is said, and print it
    -v            print the version

ENVIRONMENT
    VPOPMAILHOME       where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAIL_DOMAIN    the domain of a name without one, before etc/defaultdomain

EXIT STATUS
    0      done
    111    the files are in use, or cannot be read or written now
    255    wrong usage; or there is no such account; or its password is not to be changed (vmoduser -d)
           Other codes are those of vpopmail: 256 less the number of its error

SECURITY
    Run it as root or as the owner of the domain. Users change theirs by vchangepw(8).

SEE ALSO
    vadduser(8), vmoduser(8), vchangepw(8), vapppasswd(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats import vpasswd, vpopmail
from qmailpy.stores.vpopmail import accounts, administration, limits, vhome
from qmailpy.stores.vpopmail.administration import Stop

PROGRAM = b"vpasswd"
HELP = b"""vpasswd: usage: [options] email_address [password]
options: -v (print version number)
         -r[len] (generate a len (default 12) char random password)"""

LETTERS = b"vr::"


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    options, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    if not words:
        raise Stop(HELP)
    if options and len(words) > 1:
        raise Stop(administration.BOTH_PASSWORDS)
    home = vhome.vhome(env)
    user, domain = administration.account_of(home, env, words[0])
    shown = b""
    if options:
        password = administration.random(administration.length(options[-1][1]))
        shown = bytes(password)
    else:
        password = administration.password(words[1] if len(words) > 1 else None, words[0].lower())
    new = vpasswd.Account(user, b"")
    administration.set_password(new, password, kept=True)
    with accounts.Change(domain) as change:
        account = change.get(user)
        if account is None or limits.flags(account, limits.read(home, domain)) & vpasswd.NO_PASSWD_CHNG:
            raise vpopmail.Invalid(vpopmail.ILLEGAL_USERNAME)
        account.password = new.password
        if account.clear or administration.keeps_clear(home):
            account.clear = new.clear
        change.put([account])
    if shown:
        administration.say(b"Random password: " + shown)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
