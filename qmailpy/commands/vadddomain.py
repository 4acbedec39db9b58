"""NAME
    vadddomain - add a virtual domain

SYNOPSIS
    vadddomain [-vO] [-q QUOTA] [-b [ACTION] | -e ADDRESS] [-u ACCOUNT] [-d DIR] [-i UID] [-g GID] [-r[LENGTH]] DOMAIN
        [PASSWORD]

DESCRIPTION
    vadddomain makes the virtual domain DOMAIN, with an account postmaster, whose password is PASSWORD. From then on
    the mail system takes mail for DOMAIN, and delivers it to the accounts that vadduser(8) adds:

        vadddomain example.com -
        vadduser joe@example.com -

    Without PASSWORD it is asked for, twice. PASSWORD - is a line of the standard input, or asked for, if that is a
    terminal: what stands on a command line can be seen by every user of the machine.

    The domain's folder is VHOME/domains/DOMAIN; after 99 domains, VHOME/domains/0/DOMAIN and so on. It belongs to the
    account vpopmail and the group vchkpw, if root runs vadddomain and they exist, else to the owner of VHOME. DOMAIN
    becomes a line in users/assign of the mail system and in its cdb, in control/virtualdomains, and in
    control/rcpthosts, or in control/morercpthosts and its cdb if rcpthosts has 50 lines or more; and it is taken out of
    control/locals. Then qmail-send(8) is told to read these files again.

    Whatever happens on the way, the domain is there as a whole or not at all: what a killed vadddomain has begun, the
    next command that changes domains completes, or vcheck(8). Of several that run at once, one works and the others
    wait, for 20 seconds at most.

OPTIONS
    -b [ACTION]    what is done with mail for unknown users. ACTION is bounce-no-mailbox, which is the default, delete,
                   an address to which they are forwarded, or the absolute name of a folder with a Maildir
    -e ADDRESS     forward them to ADDRESS; without @, deliver them to the account of this name
    -q QUOTA       what the Maildir of postmaster may hold: 10M, 10485760S,1000C, or NOQUOTA
    -r[LENGTH]     make a random password, of 12 characters unless it is said, and print it
    -u ACCOUNT     the domain belongs to this account of the system, and is in its home
    -d DIR         the folder is DIR/domains/DOMAIN
    -i UID
    -g GID         the domain belongs to these, numbers or names
    -O             do not tell qmail-send, and do not compile morercpthosts: for all but the last of many domains
    -v             print the version

CONTROL FILES
    locals           loses DOMAIN
    morercpthosts    gets it if rcpthosts is full; so does morercpthosts.cdb
    rcpthosts        gets it
    virtualdomains   gets DOMAIN:DOMAIN

ENVIRONMENT
    VPOPMAILHOME    where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME       the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      done
    111    files are in use, or cannot be read or written
    255    wrong usage, or no such account
           Other codes are those of vpopmail: 256 less the number of its error, 243 if the domain exists

SECURITY
    It is run as root, or as the owner of the mail system's home and of VHOME. What is in folders of somebody else is
    made with the rights of that one. No domain belongs to root.

SEE ALSO
    vdeldomain(8), vaddaliasdomain(8), vadduser(8), vdominfo(8), vcheck(8), vdelivermail(8), qmail-send(8)
"""

import os

from qmailpy.chain import Env
from qmailpy.formats import vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores.vpopmail import administration, changes, domains, limits, vhome
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.unix import ids, nss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = b"vadddomain"
HELP = b"""vadddomain: usage: vadddomain [options] virtual_domain [postmaster password]
options: -v prints the version
         -q quota_in_bytes (sets the quota for postmaster account)
         -b (bounces all mail that doesn't match a user, default)
         -e email_address (forwards all non matching user to this address [*])
         -u user (sets the uid/gid based on a user in /etc/passwd)
         -d dir (sets the dir to use for this domain)
         -i uid (sets the uid to use for this domain)
         -g gid (sets the gid to use for this domain)
         -O optimize adding, for bulk adds set this for all
            except the last one
         -r[len] (generate a len (default 12) char random postmaster password)

 [*] omit @-sign to deliver directly into user's Maildir: '-e postmaster'

Special bounce messages supported by vdeliver mail:
   vadddomain -b delete example.com [password]  -  delete all mail to non-existant accounts
   vadddomain -b bounce-no-mailbox example.com [password] - bounce them 
   vadddimain -b someone@somewhere.com example.com [password] - sent to another address
   vadddomain -b /path/to/Maildir example.com [password] - sent to a Maildir"""  # noqa: W291  the original's

LETTERS = b"vq:be:u:i:g:d:Or::"
POSTMASTER = b"postmaster"
GECOS = b"Postmaster"
NO_ACCOUNT = b"Error: user %s not found in /etc/passwd"

# Of an action, which a shell reads: none means anything to it.
ACTION_CHARACTERS = vpopmail.LETTERS + vpopmail.LETTERS.upper() + vpopmail.DIGITS + b"@.,:+=_/-"


class Wish:
    """What the command line asks for."""

    __slots__ = ("action", "domain", "folder", "gid", "password", "quick", "quota", "random", "uid")

    def __init__(self, options: list[tuple[bytes, bytes]], words: list[bytes]) -> None:
        """Raises Stop, Invalid."""
        given = dict(options)
        self.quick = b"O" in given
        self.random = administration.length(given[b"r"]) if b"r" in given else 0
        self.quota = administration.quota(given[b"q"]) if given.get(b"q") else b""
        self.action = changes.BOUNCE
        words = words.copy()
        if b"b" in given and words and _is_action(words[0]):
            self.action = _checked(words.pop(0))
        if given.get(b"e"):
            word = _checked(given[b"e"])
            self.action = word if b"@" in word else b"./" + vpopmail.user(word)
        self.folder = given.get(b"d", b"")
        self.uid = self.gid = -1
        if b"u" in given:
            self._belong(given[b"u"])
        if b"i" in given:
            self.uid = _number(ids.user, given[b"i"])
        if b"g" in given:
            self.gid = _number(ids.group, given[b"g"])
        if not words:
            raise Stop(HELP)
        self.domain = vpopmail.domain(words[0])
        self.password = words[1] if len(words) > 1 else None

    def _belong(self, account: bytes) -> None:
        entry = nss.passwd(account)
        if entry is None:
            raise Stop(NO_ACCOUNT % account)
        self.folder = self.folder or entry[5]
        self.uid, self.gid = entry[2], entry[3]

    def owner(self, home: vhome.Vhome) -> tuple[int, int]:
        """Raises Invalid: it would be root. Raises OSError."""
        uid, gid = self.uid, self.gid
        if uid < 0 or gid < 0:
            own_uid, own_gid = home.owner()
            uid, gid = uid if uid >= 0 else own_uid, gid if gid >= 0 else own_gid
        if uid == 0 or (os.geteuid() != 0 and uid != os.geteuid()):
            raise vpopmail.Invalid(vpopmail.BAD_UID)
        return uid, gid


def _number(of: "Callable[[bytes], int]", word: bytes) -> int:
    """Of a user or a group, by number or name: what is neither would be root's. Raises Invalid."""
    try:
        return of(word)
    except LookupError:
        raise vpopmail.Invalid(vpopmail.BAD_UID) from None


def _is_action(word: bytes) -> bool:
    """Whether it can be no domain."""
    return word in (changes.BOUNCE, changes.DELETE) or b"@" in word or word.startswith(b"/")


def _checked(word: bytes) -> bytes:
    if word.translate(None, ACTION_CHARACTERS) or word.startswith(b"-"):
        raise vpopmail.Invalid(vpopmail.INVALID_EMAIL)
    return word


def add(wish: Wish, home: vhome.Vhome) -> bytes:
    """Make the domain; what is to be printed, or nothing. Raises whatever administration.end tells."""
    if domains.find(home, wish.domain) is not None:  # before a password is asked for
        raise vpopmail.Invalid(vpopmail.DOMAIN_EXISTS)
    owner = wish.owner(home)
    root = wish.folder or home.path
    if not root.startswith(b"/"):
        raise vpopmail.Invalid(vpopmail.BAD_DOMAIN_DIR)
    if wish.random and wish.password is not None:
        raise Stop(administration.BOTH_PASSWORDS)
    shown = b""
    if wish.random:
        password = administration.random(wish.random)
        shown = b"Random password: " + bytes(password)
    else:
        password = administration.password(wish.password, POSTMASTER)
    future = domains.Domain(wish.domain, home.domains + b"/" + wish.domain, *owner)
    quota = wish.quota or limits.default_quota(limits.read(home, future))
    postmaster = Account(POSTMASTER, b"", gecos=GECOS, quota=quota)
    administration.set_password(postmaster, password, administration.keeps_clear(home))
    with changes.Change(home, wish.quick) as change:
        change.warn(PROGRAM)
        change.add(wish.domain, root.rstrip(b"/"), owner, wish.action, postmaster)
    return shown


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    options, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    wish = Wish(options, words)
    try:
        shown = add(wish, vhome.vhome(env))
    except changes.NoPostmaster as e:
        raise Stop(b"Error: (vadduser) " + e.text, e.code & 255) from e
    if shown:
        administration.say(shown)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o022)
    return administration.end(PROGRAM, lambda: run(argv, env))
