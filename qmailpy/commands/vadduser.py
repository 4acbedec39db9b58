"""NAME
    vadduser - add an account, or many at once, to a virtual domain

SYNOPSIS
    vadduser [-v] [-q QUOTA] [-c GECOS] [-e CRYPT] [-n] [-r[LENGTH]] USER@DOMAIN [PASSWORD]
    vadduser [-v] [-q QUOTA] [-c GECOS] [-n] [-H] [-r[LENGTH]] -f FILE [DOMAIN]

DESCRIPTION
    vadduser adds the account USER to DOMAIN, in vpasswd and vpasswd.cdb, and makes its folder with an empty Maildir.
    The folder is where the domain's .dir-control says: the first 99 are directly in the domain's, each hundred after
    them in one of its own. USER is lowered; it has 2 to 64 of the characters a-z 0-9 and !#$&'*+-.=?^_`{|}~ and does
    not begin with a dot. DOMAIN may be the name of an alias domain.

    Without PASSWORD it is asked for, twice. PASSWORD - is a line of the standard input, or asked for, if that is a
    terminal: what stands on a command line can be seen by every user of the machine. The password is stored as a hash
    of the best kind that the system's crypt(3) makes.

    Without -q the account has the quota that .qmailadmin-limits of the domain, or etc/vlimits.default, give for new
    ones, or none.

    With -f, vadduser adds an account for each line of FILE, or of the standard input if FILE is -:

        USER[@DOMAIN][:PASSWORD[:GECOS[:QUOTA]]]

    Fields that are missing or empty are as the options say. Empty lines, and lines that begin with #, are ignored. If
    something is wrong with a line, its number is printed, and none of them is added. All accounts of a domain appear
    at the same time, and at the price of one change of its files. A PASSWORD of a line holds no colon; vconvert(8)
    takes files that may.

    Whatever happens, an account is there as a whole or not at all: what a killed vadduser has begun, the next command
    that changes the domain completes.

OPTIONS
    -q QUOTA     what the Maildir may hold: 10M, 500K, 10485760S,1000C (bytes and messages), or NOQUOTA
    -c GECOS     a comment of up to 64 bytes, without colon. Default: USER
    -e CRYPT     the hash to store; no password is asked for
    -n           no password: nobody can log in
    -r[LENGTH]   make a random password, of 12 characters unless it is said, and print it
    -f FILE      add an account for each line of FILE
    -H           what the lines of FILE have for PASSWORD are hashes
    -v           print the version
    -s           ignored

ENVIRONMENT
    VPOPMAILHOME       where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAIL_DOMAIN    the domain of a name without one, before etc/defaultdomain

EXIT STATUS
    0      done
    111    the files are in use, or cannot be read or written now
    255    wrong usage, or no such domain, or the account exists
           Other codes are those of vpopmail: 256 less the number of its error

SECURITY
    Run it as root or as the owner of the domain. All that is made is made with the rights of the owner.

SEE ALSO
    vdeluser(8), vmoduser(8), vpasswd(8), vuserinfo(8), vconvert(8), vadddomain(8)
"""

import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores.vpopmail import accounts, administration, domains, limits, vhome
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.unix import fds, ids

PROGRAM = b"vadduser"
HELP = b"""vadduser: usage: [options] email_address [passwd]
options: -v (print the version)
         -q quota_in_bytes (sets the users quota, use NOQUOTA for unlimited)
         -c comment (sets the gecos comment field)
         -e standard_encrypted_password
         -n no_password
         -r[len] (generate a len (default 12) char random password)
         -f file (add an account for each line, user@domain:password:comment:quota)
         -H (the passwords in that file are hashes)"""

LETTERS = b"svc:nq:e:r::f:H"
NO_INDEX = b"Warning: The -s option has been disabled.\n"
NO_DOMAIN_GIVEN = b"You did not use a full email address for the user name\nOnly full email addresses should be used"
NO_DOMAIN = b"Error: Domain does not exist"
USER_EXISTS = b"Error: User already exists"

LARGEST = 1 << 30  # bytes of a file
FIELDS = 4  # of a line


class Wish:
    """What the options ask for."""

    __slots__ = ("crypt", "file", "gecos", "hashes", "no_password", "quota", "random")

    def __init__(self, options: list[tuple[bytes, bytes]]) -> None:
        self.crypt = self.gecos = self.quota = b""
        self.file: bytes | None = None
        self.random = 0
        self.no_password = self.hashes = False
        for letter, word in options:
            if letter == b"s":
                strerr.say(NO_INDEX)
            elif letter == b"c":
                self.gecos = administration.comment(word)
            elif letter == b"q":
                self.quota = administration.quota(word)
            elif letter == b"e":
                self.crypt = administration.crypt_of(word)
            elif letter == b"n":
                self.no_password = True
            elif letter == b"r":
                self.random = administration.length(word)
            elif letter == b"f":
                self.file = word
            else:
                self.hashes = True


class Adding:
    """One run."""

    __slots__ = ("_env", "_found", "_kept", "_vhome", "_wish")

    def __init__(self, wish: Wish, env: Env) -> None:
        self._wish = wish
        self._env = env
        self._vhome = vhome.vhome(env)
        self._kept = administration.keeps_clear(self._vhome)
        self._found: dict[bytes, Domain | None] = {}

    def one(self, words: list[bytes]) -> int:
        if not words:
            raise Stop(HELP)
        if self._wish.random and len(words) > 1 and not self._wish.no_password:
            raise Stop(administration.BOTH_PASSWORDS)
        user, domain = self._account(words[0])
        with ids.Acting(domain.uid, domain.gid):
            if accounts.get(domain, user) is not None:
                raise Stop(USER_EXISTS)
        account = Account(user, self._wish.crypt, gecos=self._wish.gecos or user, quota=self._quota(domain))
        shown = b""
        if self._wish.random:
            shown = self._set_random(account)
        elif not (self._wish.crypt or self._wish.no_password):
            try:
                password = administration.password(words[1] if len(words) > 1 else None, words[0].lower())
            except Stop as stop:
                raise Stop(stop.text + b"\n" + HELP)
            administration.set_password(account, password, self._kept)
        with accounts.Change(domain) as change:
            change.add([account])
        if shown:
            administration.say(b"Random password: " + shown)
        return 0

    def many(self, words: list[bytes], file: bytes) -> int:
        default = words[0] if words else b""
        wrong = []
        by_domain: dict[bytes, tuple[Domain, list[Account]]] = {}
        shown = []
        for number, line in enumerate(_text(file).split(b"\n"), 1):
            line = line.rstrip(b"\r")
            if not line or line.startswith(b"#"):
                continue
            try:
                domain, account, password = self._of_line(line, default)
            except Stop as stop:
                wrong.append(b"line %d: %s" % (number, stop.text))
            except vpopmail.Invalid as invalid:
                wrong.append(b"line %d: Error: %s" % (number, invalid.text))
            else:
                by_domain.setdefault(domain.name, (domain, []))[1].append(account)
                shown += [account.name + b"@" + domain.name + b" " + password] if password else []
        for domain, added in by_domain.values():
            wrong += _twice(domain, added)
        if wrong:
            raise Stop(b"\n".join(wrong))
        for domain, added in by_domain.values():
            with accounts.Change(domain) as change:
                change.add(added)
        if shown:
            administration.say(b"\n".join(shown))
        return 0

    def _of_line(self, line: bytes, default: bytes) -> tuple[Domain, Account, bytes]:
        """Domain, account and random password of a line. Raises Stop, Invalid."""
        fields = line.split(b":")
        if len(fields) > FIELDS:
            raise Stop(b"Error: more than %d fields" % FIELDS)
        name, word, gecos, quota = fields + [b""] * (FIELDS - len(fields))
        if default and vpopmail.split(name)[1] == b"":
            name += b"@" + default
        user, domain = self._account(name)
        vpopmail.user(user)
        account = Account(user, self._wish.crypt, gecos=administration.comment(gecos) or self._wish.gecos or user)
        account.quota = administration.quota(quota) if quota else self._quota(domain)
        shown = b""
        if word and self._wish.hashes:
            account.password = administration.crypt_of(word)
        elif word:
            administration.set_password(account, bytearray(word), self._kept)
        elif self._wish.random:
            shown = self._set_random(account)
        elif not (self._wish.crypt or self._wish.no_password):
            raise Stop(administration.NO_PASSWORD)
        return domain, account, shown

    def _set_random(self, account: Account) -> bytes:
        """Give account a random password, which is returned. Raises Invalid."""
        password = administration.random(self._wish.random)
        shown = bytes(password)
        administration.set_password(account, password, self._kept)
        return shown

    def _account(self, name: bytes) -> tuple[bytes, Domain]:
        """User and domain that a name means. Raises Stop, Invalid."""
        user, name = self._vhome.split(name, self._env)
        if not name:
            raise Stop(NO_DOMAIN_GIVEN)
        if name not in self._found:
            self._found[name] = domains.find(self._vhome, name)
        domain = self._found[name]
        if domain is None:
            raise Stop(NO_DOMAIN)
        return user, domain

    def _quota(self, domain: Domain) -> bytes:
        return self._wish.quota or limits.default_quota(limits.read(self._vhome, domain))


def _twice(domain: Domain, added: list[Account]) -> list[bytes]:
    """What is wrong with names that are there, or come twice."""
    with ids.Acting(domain.uid, domain.gid):
        known = {account.name for account in accounts.every(domain)}
    wrong = []
    for account in added:
        if account.name in known:
            wrong.append(b"%s@%s: %s" % (account.name, domain.name, USER_EXISTS))
        known.add(account.name)
    return wrong


def _text(file: bytes) -> bytes:
    """The whole file; `-` is descriptor 0. Raises OSError."""
    if file == b"-":
        return fds.read_all(administration.STDIN, LARGEST)
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fds.read_all(fd, LARGEST)
    finally:
        os.close(fd)


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    options, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    wish = Wish(options)
    adding = Adding(wish, env)
    return adding.one(words) if wish.file is None else adding.many(words, wish.file)


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
