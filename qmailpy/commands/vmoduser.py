"""NAME
    vmoduser - change an account of a virtual domain, or all of them

SYNOPSIS
    vmoduser [-vn] [-q QUOTA] [-c GECOS] [-e CRYPT] [-C PASSWORD] [-D FOLDER] [-xdpswibouraSEfFm0123] ADDRESS

DESCRIPTION
    vmoduser changes what the options name of the account USER@DOMAIN or, if ADDRESS is DOMAIN alone, of all accounts
    of a domain, with one change of its files.

OPTIONS
    -q QUOTA       what the Maildir may hold: 10M, 500K, 10485760S,1000C (bytes and messages), or NOQUOTA
    -c GECOS       the comment, of up to 64 bytes, without colon
    -e CRYPT       the hash of the password
    -C PASSWORD    the password, of which the hash is stored; - is a line of the standard input
    -D FOLDER      where the account's Maildir is. Nothing is moved
    -x             clear all of the flags that follow, before those are set that are named
    -d             the user may not change the password
    -p             no POP3
    -s             no SMTP AUTH
    -w             no webmail: no IMAP from this host
    -i             no IMAP
    -b             mail bounces
    -o             limits of the domain do not hold for this account
    -r             logging in opens no relay
    -u             no dial-up
    -a             the user administers the domain
    -S             the user administers all domains; root only, others have it ignored
    -E             the user may edit .qmail files; root only, others have it ignored
    -f             no spamassassin
    -F             spam is deleted
    -m             no maildrop
    -0 -1 -2 -3    flags without a meaning
    -n             ignored: vpasswd.cdb is always made anew
    -v             print the version
    -h             print the options

ENVIRONMENT
    VPOPMAILHOME       where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAIL_DOMAIN    the domain of a name without one, before etc/defaultdomain

EXIT STATUS
    0      done
    111    the files are in use, or cannot be read or written now
    245    there is no such domain
    255    wrong usage, or there is no such account
           Other codes are those of vpopmail: 256 less the number of its error

SECURITY
    Run it as root or as the owner of the domain.

SEE ALSO
    vadduser(8), vpasswd(8), vsetuserquota(8), vuserinfo(8), vchkpw(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats import vpasswd, vpopmail
from qmailpy.stores.vpopmail import accounts, administration, vhome
from qmailpy.stores.vpopmail.administration import Stop

PROGRAM = b"vmoduser"
HELP = b"""vmoduser: usage: [options] email_addr or domain (for each user in domain)
options: -v ( display the vpopmail version number )
         -n ( ignored: vpasswd.cdb is always rebuilt )
         -q quota ( set quota )
         -c comment (set the comment/gecos field )
         -e encrypted_passwd (set the password field )
         -C clear_text_passwd (set the password field )
         -D directory ( set the directory field )
the following options are bit flags in the gid int field
         -x ( clear all flags )
         -d ( don't allow user to change password )
         -p ( disable POP access )
         -s ( disable SMTP AUTH access )
         -w ( disable webmail [IMAP from localhost*] access )
         -i ( disable non-webmail IMAP access )
         -b ( bounce all mail )
         -o ( user is not subject to domain limits )
         -r ( disable roaming user/pop-before-smtp )
         -a ( grant qmailadmin administrator privileges )
         -S ( grant system administrator privileges - access all domains )
         -E ( grant expert privileges - edit .qmail files )
         -f ( disable spamassassin)
         -F ( delete spam)
         -m ( disable maildrop)
  [The following flags aren't used directly by vpopmail but are]
  [included for other programs that share the user database.]
         -u ( set no dialup flag )
         -0 ( set V_USER0 flag )
         -1 ( set V_USER1 flag )
         -2 ( set V_USER2 flag )
         -3 ( set V_USER3 flag )"""

LETTERS = b"D:avunxc:q:dpswibro0123he:C:fFSEm"

FLAGS = {
    b"d": vpasswd.NO_PASSWD_CHNG,
    b"p": vpasswd.NO_POP,
    b"s": vpasswd.NO_SMTP,
    b"w": vpasswd.NO_WEBMAIL,
    b"i": vpasswd.NO_IMAP,
    b"b": vpasswd.BOUNCE_MAIL,
    b"o": vpasswd.V_OVERRIDE,
    b"r": vpasswd.NO_RELAY,
    b"u": vpasswd.NO_DIALUP,
    b"0": vpasswd.V_USER0,
    b"1": vpasswd.V_USER1,
    b"2": vpasswd.V_USER2,
    b"3": vpasswd.V_USER3,
    b"a": vpasswd.QA_ADMIN,
    b"S": vpasswd.SA_ADMIN,
    b"E": vpasswd.SA_EXPERT,
    b"f": vpasswd.NO_SPAMASSASSIN,
    b"F": vpasswd.DELETE_SPAM,
    b"m": vpasswd.NO_MAILDROP,
}
ROOTS = vpasswd.SA_ADMIN | vpasswd.SA_EXPERT


class Wish:
    """What the options ask for; None or 0 leaves it. Raises Stop, Invalid, OSError."""

    __slots__ = ("_clears", "_crypt", "_flags", "_folder", "_gecos", "_kept", "_password", "quota")

    def __init__(self, options: list[tuple[bytes, bytes]], address: bytes, kept: bool) -> None:
        words = dict(options)
        self._kept = kept
        self._clears = b"x" in words
        self._crypt = administration.crypt_of(words.get(b"e", b""))
        self._folder = words.get(b"D")
        self._gecos = administration.comment(words.get(b"c", b""))
        self.quota = administration.quota(words[b"q"]) if b"q" in words else None
        self._password = administration.password(words[b"C"], address) if b"C" in words else None
        self._flags = 0
        for letter in words:
            self._flags |= FLAGS.get(letter, 0)
        if os.getuid() != 0:
            self._flags &= ~ROOTS
        if self._folder is not None and not _is_folder(self._folder):
            raise vpopmail.Invalid(vpopmail.BAD_DIR)

    def change(self, account: vpasswd.Account) -> None:
        """Raises Invalid."""
        if self._gecos:
            account.gecos = self._gecos
        if self._folder is not None:
            account.dir = self._folder
        if self._password is not None:
            administration.set_password(account, bytearray(self._password), self._kept)
        elif self._crypt:
            account.password = self._crypt
            if account.clear:
                account.clear = b""
        if self._clears:
            account.gid = 0
        account.gid |= self._flags
        if self.quota is not None:
            account.quota = self.quota


def _is_folder(word: bytes) -> bool:
    """Whether it is an absolute path that leads where it seems to."""
    return word.startswith(b"/") and b".." not in word.split(b"/") and word == administration.comment(word)


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    options, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    if (b"h", b"") in options:
        raise Stop(HELP, 0)
    if not words:
        raise Stop(HELP)
    home = vhome.vhome(env)
    user, domain = administration.chosen(home, env, words[0])
    wish = Wish(options, words[0].lower(), administration.keeps_clear(home))
    with accounts.Change(domain) as change:
        if user is None:
            changed = list(change.every())
        else:
            account = change.get(user)
            if account is None:
                raise Stop(b"no such user %s@%s" % (user, domain.alias))
            changed = [account]
        for account in changed:
            wish.change(account)
        change.put(changed, resized=wish.quota is not None)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
