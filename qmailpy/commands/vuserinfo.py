"""NAME
    vuserinfo - show what is known of an account of a virtual domain, or of all

SYNOPSIS
    vuserinfo [-v] [-j] [-anpugcdqQCl] USER@DOMAIN
    vuserinfo [-v] [-j] [-anpugcdqQCl] -D DOMAIN

DESCRIPTION
    vuserinfo prints all fields of an account, or those that the options name, one on a line. With -D it does that for
    each account of a domain, with a line of dashes before each.

    Of the flags, limits lists what they mean; those with (*) are the domain's, and vmoduser -o takes an account from
    under them. usage is how many percent of the quota the Maildir holds, of bytes or messages whichever is more.

OPTIONS
    -a           all fields, as without options
    -n           the name
    -p           the hash of the password
    -u           the field uid: 1, or 2 where a login by APOP is wanted
    -g           the field gid: the account's flags, as a number
    -c           the comment
    -d           the folder
    -q           the quota
    -Q           how much of it is used
    -C           the password, where it is kept
    -l           when and from where the last login came
    -D DOMAIN    all accounts of DOMAIN
    -j           print JSON: an object for each account, on a line of its own
    -v           print the version

ENVIRONMENT
    VPOPMAILHOME       where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAIL_DOMAIN    the domain of a name without one, before etc/defaultdomain
    TZ                 the zone of times

EXIT STATUS
    0      done
    111    the files cannot be read now
    245    there is no such domain
    255    wrong usage, or there is no such account
           Other codes are those of vpopmail: 256 less the number of its error

SECURITY
    Run it as root, which it gives up before it looks at an account, or as the owner of the domain.

SEE ALSO
    vadduser(8), vmoduser(8), vdominfo(8)
"""

import os
import time

from qmailpy.chain import Env
from qmailpy.formats import maildirsize, vpasswd, vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores import maildirsize as sizes
from qmailpy.stores.vpopmail import accounts, administration, domains, limits, stamps, vhome
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.unix import ids, timezone

PROGRAM = b"vuserinfo"
HELP = b"""vuserinfo: usage: [options] email_address
options: -v (print version number)
         -a (display all fields, this is the default)
         -n (display name field)
         -p (display crypted password)
         -u (display uid field)
         -g (display gid field)
         -c (display comment field)
         -d (display directory)
         -q (display quota field)
         -Q (display quota usage)
         -C (display clear text password)
         -l (display last authentication time)
         -D domainname (show all users on this domain)
         -j (display as JSON)"""

LETTERS = b"anpugcdqQvlD:Cj"
RULE = b"-" * 42

# The flags that limits names, in that order.
LIMITS = (
    (vpasswd.NO_PASSWD_CHNG, b"password can not be changed by user"),
    (vpasswd.NO_POP, b"pop access closed"),
    (vpasswd.NO_WEBMAIL, b"webmail access closed"),
    (vpasswd.NO_IMAP, b"imap access closed"),
    (vpasswd.NO_SMTP, b"smtp access is closed"),
    (vpasswd.NO_RELAY, b"user not allowed to relay mail"),
    (vpasswd.NO_SPAMASSASSIN, b"spamassassin processing disabled"),
    (vpasswd.DELETE_SPAM, b"delete spam"),
    (vpasswd.NO_MAILDROP, b"maildrop processing disabled"),
    (vpasswd.NO_DIALUP, b"no dialup flag has been set"),
    (vpasswd.BOUNCE_MAIL, b"mail will be bounced back to sender"),
    (vpasswd.QA_ADMIN, b"has qmailadmin administrator access"),
    (vpasswd.SA_ADMIN, b"has system administrator access"),
    (vpasswd.SA_EXPERT, b"has expert access"),
    (vpasswd.V_USER0, b"user flag 0 is set"),
    (vpasswd.V_USER1, b"user flag 1 is set"),
    (vpasswd.V_USER2, b"user flag 2 is set"),
    (vpasswd.V_USER3, b"user flag 3 is set"),
    (vpasswd.V_OVERRIDE, b"user is not subject to domain limits"),
)


class Info:
    """One account, as it is shown."""

    __slots__ = ("_account", "_domain", "_flags", "_login")

    def __init__(self, account: Account, domain: Domain, allowed: vpopmail.Limits) -> None:
        self._account = account
        self._domain = domain
        self._flags = limits.flags(account, allowed)
        self._login = last_login(account)

    def whole(self) -> list[bytes]:
        """The lines of all fields."""
        account = self._account
        return [
            b"name:   " + account.name,
            b"passwd: " + account.password,
            b"clear passwd: " + (account.clear or b""),
            b"comment/gecos: " + account.gecos,
            b"uid:    %d" % account.uid,
            b"gid:    %d" % account.gid,
            b"flags:  %d" % self._flags,
            b"gecos: " + account.gecos,
            *self._limits(),
            b"dir:       " + account.dir,
            b"quota:     " + account.quota,
            b"usage:     " + self._usage(),
            *self._logins(),
        ]

    def lines(self, letters: set[bytes]) -> list[bytes]:
        """Those that the options ask for, in the originals' order."""
        account = self._account
        fields = {
            b"n": account.name,
            b"p": account.password,
            b"C": account.clear or b"",
            b"u": b"%d" % account.uid,
            b"g": b"%d" % account.gid,
            b"c": account.gecos,
            b"d": account.dir,
            b"q": account.quota,
        }
        found = [text for letter, text in fields.items() if letter in letters]
        found += [self._usage()] if b"Q" in letters else []
        return found + (self._logins() if b"l" in letters else [])

    def record(self, letters: set[bytes]) -> dict[str, object]:
        """For JSON; letters: those fields, none for all."""
        account = self._account
        when, address = self._login
        fields: dict[bytes, tuple[str, object]] = {
            b"n": ("name", account.name),
            b"p": ("passwd", account.password),
            b"C": ("clear", account.clear),
            b"u": ("uid", account.uid),
            b"g": ("gid", account.gid),
            b"c": ("gecos", account.gecos),
            b"d": ("dir", account.dir),
            b"q": ("quota", account.quota),
            b"Q": ("usage", self._percent()),
            b"l": ("last_login", {"time": when, "ip": address} if address else None),
        }
        record: dict[str, object] = {"domain": self._domain.name, "flags": self._flags} if not letters else {}
        record.update(field for letter, field in fields.items() if not letters or letter in letters)
        return record

    def _limits(self) -> list[bytes]:
        if not self._flags:
            return [b"limits: No user limits set."]
        own = self._account.gid
        found = [b"        " + text + (b"" if own & flag else b" (*)") for flag, text in LIMITS if self._flags & flag]
        return [b"limits:", *found, *([b"        * = set by domain-wide limits"] if own != self._flags else [])]

    def _percent(self) -> int | None:
        """How much of the quota is used; None where there is none."""
        quota = maildirsize.quota(self._account.quota)
        if not quota:
            return None
        try:
            return quota.percent(*sizes.used(self._account.dir + accounts.MAILDIR))
        except OSError:
            return 0

    def _usage(self) -> bytes:
        percent = self._percent()
        return self._account.quota if percent is None else b"%d%%" % percent

    def _logins(self) -> list[bytes]:
        when, address = self._login
        shown = time.asctime(time.localtime(when)).encode() if when else b""
        if address:
            return [b"last auth: " + shown, b"last auth ip: " + address]
        return ([b"account created: " + shown] if when else []) + [b"last auth: Never logged in"]


def last_login(account: Account) -> tuple[int, bytes]:
    """Second and address of the last login; no address: it is the second when the account was made; 0 and none: neither
    is known."""
    try:
        address, when = stamps.read(account.dir + accounts.LAST_LOGIN) or (b"", 0)
    except OSError:
        return 0, b""
    return when, b"" if address == accounts.NEVER else address.partition(b"\n")[0]


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    options, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    chosen = dict(options)
    if not words and b"D" not in chosen:
        raise Stop(HELP)
    home = vhome.vhome(env)
    timezone.follow(env)
    if b"D" in chosen:
        domain = administration.domain_of(home, chosen[b"D"])
        own(domain)
        found = list(accounts.every(domain))
    else:
        user, name = home.split(words[0], env)
        known = domains.find(home, name)
        account = None
        if known is not None:
            own(known)
            account = accounts.get(known, user)
        if known is None or account is None:
            raise Stop(b"no such user %s@%s" % (user, name) if name else b"no such user " + user)
        domain, found = known, [account]
    allowed = limits.read(home, domain)
    letters = chosen.keys() - {b"D", b"j", b"a"}
    if b"a" in chosen:
        letters = set()
    infos = [Info(account, domain, allowed) for account in found]
    if b"j" in chosen:
        text = administration.objects([info.record(letters) for info in infos])
    else:
        parts = [info.lines(letters) if letters else info.whole() for info in infos]
        text = b"\n".join(line for lines in parts for line in ([RULE] if b"D" in chosen else []) + lines)
    if text:
        administration.say(text)
    return 0


def own(domain: Domain) -> None:
    """Become the domain's owner, if we are root. Raises OSError."""
    if os.geteuid() == 0:
        ids.drop(domain.uid, domain.gid)


def main(argv: list[bytes], env: Env) -> int:
    return administration.end(PROGRAM, lambda: run(argv, env))
