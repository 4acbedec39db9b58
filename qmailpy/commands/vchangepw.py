"""NAME
    vchangepw - change the password of one's own account in a virtual domain

SYNOPSIS
    vchangepw

DESCRIPTION
    vchangepw asks for an address, the password of that account, and twice for a new one, and stores that as vpasswd(8)
    does. Whoever knows the password may do that; so it can be the shell of an account that people log in to by ssh(1),
    started there with the rights that it needs, as by sudo(8).

    Passwords are read from the terminal, and not shown; without one, from descriptor 0, a line each. The passwords of
    vapppasswd(8) are not accepted here, and stay as they are.

    What fails, and what succeeds, is logged by syslogd(8), facility auth.

ENVIRONMENT
    VPOPMAILHOME       where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAIL_DOMAIN    the domain of a name without one, before etc/defaultdomain
    VPOPMAIL_SYSLOG    a socket in place of /dev/log; or - for descriptor 2

EXIT STATUS
    0      done; or no address was entered
    3      the account or its password is wrong, or what was entered is too long
    111    the files are in use, or cannot be read or written now
    255    the password is not to be changed (vmoduser -d), or the new one is empty
           Other codes are those of vpopmail: 256 less the number of its error

SECURITY
    It needs the rights of root or of the domain's owner. An unknown account is refused after the same work as a wrong
    password. If somebody else changes the password before the new one is entered, it stays as that one wants it.
    Nothing limits the number of attempts but whatever lets people run it.

SEE ALSO
    vpasswd(8), vchkpw(8), vapppasswd(8)
"""

import os
import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import fd3, syslog, vpasswd, vpopmail
from qmailpy.stores.accounts import Refusal
from qmailpy.stores.vpopmail import accounts, administration, domains, limits, logins, vhome
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.unix import fds, syslogd, terminal, timezone

PROGRAM = b"vchangepw"
USAGE = b"vchangepw"

STDIN, STDOUT = 0, 1

ADDRESS = b"Please enter the email address: "
OLD_PASSWORD = b"Enter old password: "
TOO_LONG_ADDRESS = b"\nError: email address too long"
TOO_LONG_PASSWORD = b"Error: password too long."
FAILED = b"Error: authentication failed!"
CHANGED = b"Password successfully changed."
NO_ADDRESS = b"\n"

WRONG = 3
LONGEST = 255  # bytes of an address

AUTH = 4 << 3
NOTICE, DEBUG = 5, 7


def log(env: Env, priority: int, text: bytes) -> None:
    path = env.get(b"VPOPMAIL_SYSLOG", syslogd.SOCKET)
    line = syslog.printable(text)
    if path == b"-":
        strerr.say(b"%s: %s\n" % (PROGRAM, line))
        return
    timezone.follow(env)
    syslogd.send(path, syslog.bsd(AUTH | priority, time.localtime(), PROGRAM, line))


def asked_address() -> bytes:
    """Raises Stop, OSError."""
    fds.write_all(STDOUT, ADDRESS)
    line = terminal.read_line(STDIN)
    if line is None:
        raise Stop(NO_ADDRESS, 0)
    if len(line) > LONGEST:
        raise Stop(TOO_LONG_ADDRESS, WRONG)
    address = bytes(line.rstrip(b"\r"))
    administration.say(address)
    return address


class Change:
    """A change of one account's password by whoever knows it."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._home = vhome.vhome(env)

    def run(self) -> int:
        """Raises whatever administration.end tells."""
        address = asked_address()
        user, name = self._home.split(address, self._env)
        old = terminal.ask(OLD_PASSWORD) or bytearray()
        try:
            if len(old) >= vpopmail.PASSWORD_LENGTH:
                log(self._env, NOTICE, b"Too long password for user <%s>" % address)
                raise Stop(TOO_LONG_PASSWORD, WRONG)
            domain = domains.find(self._home, name)
            if domain is None:
                logins.waste_time(None, old)
                log(self._env, NOTICE, b"Domain of address <%s> does not exist" % address)
                raise Stop(FAILED, WRONG)
            proven = self._check(domain, user, old, address)
        finally:
            fd3.wipe(old)
        try:
            self._store(domain, user, administration.password(None, address.lower()), proven)
        except vpopmail.Invalid as e:
            text = b"Error changing users password! User <%s>, message: %s" % (address, e.text)
            log(self._env, NOTICE, text)
            raise
        log(self._env, DEBUG, b"User <%s> changed password" % address)
        administration.say(CHANGED)
        return 0

    def _check(self, domain: domains.Domain, user: bytes, password: bytearray, address: bytes) -> bytes:
        """The hash that password is right for. Raises Stop: it is not the account's password."""
        account = accounts.get(domain, user)
        try:
            if account is None or logins.is_locked(account):
                logins.waste_time(domain, password)
            elif password and logins.proof(account, password, b""):
                return account.password
        except Refusal as refusal:
            raise Stop(b"Error: " + refusal.text, refusal.code) from None
        log(self._env, NOTICE, b"Wrong password for user <%s>" % address)
        raise Stop(FAILED, WRONG)

    def _store(self, domain: domains.Domain, user: bytes, password: bytearray, proven: bytes) -> None:
        """proven: the hash that the old password was right for. Whoever has waited with the new one until somebody else
        has changed it does not know the account's password any more. Raises Stop, Invalid, OSError."""
        made = vpasswd.Account(user, b"")
        administration.set_password(made, password, kept=True)
        with accounts.Change(domain) as change:
            account = change.get(user)
            if account is not None and account.password != proven:
                log(self._env, NOTICE, b"Password of user <%s@%s> was changed meanwhile" % (user, domain.name))
                raise Stop(FAILED, WRONG)
            if account is None or limits.flags(account, limits.read(self._home, domain)) & vpasswd.NO_PASSWD_CHNG:
                raise vpopmail.Invalid(vpopmail.ILLEGAL_USERNAME)
            account.password = made.password
            if account.clear or administration.keeps_clear(self._home):
                account.clear = made.clear
            change.put([account])


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) > 1:
        return strerr.usage(PROGRAM, USAGE)
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: Change(env).run())
