"""NAME
    vchkpw - check a password of an account of a virtual domain

SYNOPSIS
    vchkpw PROGRAM [ARG...]

DESCRIPTION
    vchkpw does what checkpassword(8) does, for the accounts of virtual domains: it reads name, password and stamp from
    descriptor 3, and if the password is right it becomes the domain's owner, changes to the account's directory, and
    runs PROGRAM:

        tcpserver 0 110 qmail-popup mail.example vchkpw qmail-pop3d Maildir

    A name is user@domain, user%domain or user/domain: it is split at the first @, or if it has none at the first %, or
    else at the first slash; or as the setting separators says. Capitals count as small letters. A name without domain
    belongs to VPOPMAIL_DOMAIN, or to the domain that vipmap(8) has given to the local address, or to the one in
    VHOME/etc/defaultdomain. Alias domains stand for their domain.

    The port TCPLOCALPORT says what the login is for: smtp (25, 465, 587), pop (110, 995) or imap (143, 993). With
    another port, or none, it is smtp if PROGRAM has the word true in it, imap if it has imap, and else pop. A pop or
    imap login from an address of the setting webmail is a webmail login.

    For smtp vchkpw stays who and where it is. So the SMTP server must run as the domains' owner, or have root ask for
    it:

        qmail-authd -T vchkpw

    as root, and as qmaild

        qmail-smtpd mail.example checkpassword-authd true

    An account may be barred from each of these uses by vmoduser(8), and so may a domain, by the words disable_pop,
    disable_imap, disable_smtp and disable_webmail in its limits.

    Hashes are those of checkpassword-flatfile(8). APOP and CRAM-MD5 need the password itself, the eighth field of
    vpasswd, which vpasswd(8) does not keep unless it is told to. No password opens an account without hash, or one
    whose hash begins with ! or *.

    If the password is not the account's, it may be one of those that vapppasswd(8) has made for it.

    After a login the account's file lastauth holds the client's address, and its time is that of the login. A directory
    that is missing is made, with its Maildir.

SMTP AFTER POP
    If the setting roaming is on, any login but one for smtp lets the client's address relay: it gets a line in
    VHOME/etc/open-smtp, and a rule in VHOME/etc/tcp.smtp.cdb behind those of VHOME/etc/tcp.smtp, unless vmoduser or
    disable_external_relay forbid it. The SMTP server is to be run by `tcpserver -x VHOME/etc/tcp.smtp.cdb`.
    clearopensmtp(8) ends it. Trouble with these files is told on descriptor 2, and keeps nobody from his mail.

SETTINGS
    Each is a variable, or else the first line of a file in VHOME/etc; 0 means no.

    VPOPMAIL_ROAMING, roaming
        whether there is SMTP after POP, and for how many minutes; an empty line stands for 180
    VPOPMAIL_REHASH, rehash
        whether a hash that is easy to guess at, such as DES or MD5, is replaced by the best that crypt(3) has, at the
        next right password
    VPOPMAIL_SYSTEM_USERS, system-users
        whether an account of the system, other than root, is looked for where there is no virtual one: for a name
        without domain, or with one that is not virtual
    VPOPMAIL_SEPARATORS, separators
        characters that may stand between user and domain, the first that a name has counting; if not set, @%/
    VPOPMAIL_WEBMAIL, webmail
        addresses, with blanks between them; if not set, 127.0.0.1 and ::1
    VPOPMAIL_LOG, log
        what is logged: n nothing, e (if not set) what fails, y all logins

LOG
    Lines go to syslogd(8), facility mail, priority notice, as

        vpopmail[123]: vchkpw-pop3: password fail max@host.example:192.0.2.1

    or to descriptor 2 if that takes none. Behind vchkpw stands smtp, smtps, submission, pop3, pop3s, imap, imaps,
    webmail, or the number of another port. In place of `password fail` there is also

        vpopmail user not found, user has no password, null user name given,
        null password given, invalid user/domain characters,
        pop access denied (or smtp, imap, webmail),
        system user not found, system password fail,
        dir auto create failed, (PLAIN) login success

    with APOP, CRAM-MD5, or APP and the password's name in place of PLAIN.

ENVIRONMENT
    VPOPMAILHOME      VHOME; default: the home of the account vpopmail, or else QMAILHOME
    QMAILHOME         default: /var/qmail
    VPOPMAIL_DOMAIN   default domain
    VPOPMAIL_SYSLOG   a socket in place of /dev/log; or - for descriptor 2
    TCPLOCALPORT, TCPLOCALIP, TCPREMOTEIP
                      see above. Where TCPREMOTEIP is unset, REMOTE_HOST counts
    USER              set to the user, without domain
    HOME              set to the account's directory
    SHELL             set to NOLOGIN
    VPOPUSER          set to the name as it was given, in small letters

EXIT STATUS
    That of PROGRAM, if the password is right.

    0      for smtp, if PROGRAM cannot be run
    1      the account may not be used for that
    2      misuse: no PROGRAM, or descriptor 3 does not hold two strings
    3      no such account, or the password is wrong
    4-6    gid, uid or directory could not be changed
    11     descriptor 3 could not be read
    12, 13 the name or the password is empty
    14     the directory could not be made
    15     the account has no password
    20     the name has characters that no name has
    21, 23 there is no such account of the system, or its password is wrong
    111    a temporary problem: a file could not be read, crypt(3) does not know this kind of hash, or PROGRAM could not
           be run

SECURITY
    vchkpw must be run as root, or as the owner of all domains. It is a script and cannot be setuid. No login becomes
    root.

    An unknown name is refused after the same work as a wrong password, with a hash of the kind that is most common in
    the domain. The password is overwritten in memory before PROGRAM runs, and never logged.

    What belongs to a domain's owner is read and written with his rights.

BUGS
    Behind `qmail-authd vchkpw`, without -T, a login is one for pop.

    The original has its settings compiled in. It makes a missing directory before it looks at the password, takes a
    name of any domain for an account of the system, says 3 where a file cannot be read, and 0 whenever PROGRAM cannot
    be run; its log may have passwords.

SEE ALSO
    vapppasswd(8), vchangepw(8), clearopensmtp(8), checkpassword(8), qmail-authd(8), qmail-popup(8), qmail-smtpd(8)
"""

import os
import time

# Names out of modules, where each login needs them: a module that a forked process touches is one more page to copy.
from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import cdb, fd3, syslog, tcprules, vpasswd, vpopmail
from qmailpy.formats.numbers import scan
from qmailpy.formats.vpopmail import split
from qmailpy.stores import cdb as databases
from qmailpy.stores.accounts import Refusal, handover, passwd
from qmailpy.stores.accounts.handover import receive
from qmailpy.stores.vpopmail import appwords, domains, limits, logins, mailboxes, roaming
from qmailpy.stores.vpopmail.accounts import LAST_LOGIN
from qmailpy.stores.vpopmail.accounts import get as get_account
from qmailpy.stores.vpopmail.domains import find as find_domain
from qmailpy.stores.vpopmail.limits import COMMON as COMMON_LIMITS
from qmailpy.stores.vpopmail.limits import OWN as OWN_LIMITS
from qmailpy.stores.vpopmail.logins import PLAIN, is_weak, proof
from qmailpy.stores.vpopmail.settings import Settings
from qmailpy.stores.vpopmail.stamps import write as write_stamp
from qmailpy.stores.vpopmail.vhome import Vhome, vhome
from qmailpy.unix import crypt, ids, nss, syslogd, timezone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = b"vchkpw"
USAGE = b"vchkpw program [ arg ... ]"

DAY = 86400  # seconds

# What a login is for.
SMTP, POP, IMAP, WEBMAIL = b"smtp", b"pop", b"imap", b"webmail"

PORTS = {
    25: (b"smtp", SMTP),
    110: (b"pop3", POP),
    143: (b"imap", IMAP),
    465: (b"smtps", SMTP),
    587: (b"submission", SMTP),
    993: (b"imaps", IMAP),
    995: (b"pop3s", POP),
}
FORBIDDEN = {SMTP: vpasswd.NO_SMTP, POP: vpasswd.NO_POP, IMAP: vpasswd.NO_IMAP, WEBMAIL: vpasswd.NO_WEBMAIL}
WEBMAIL_CLIENTS = b"127.0.0.1 ::1"

MAPPED = b"::ffff:"  # before an IPv4 address

SHELL = b"NOLOGIN"

# Exit codes
DENIED = 1
WRONG = 3
NO_GID, NO_UID, NO_DIR = 4, 5, 6
NO_PACKET = 11
NULL_NAME, NULL_PASSWORD = 12, 13
NOT_MADE = 14
NO_PASSWORD = 15
ILLEGAL = 20
NO_SYSTEM_USER, WRONG_SYSTEM_PASSWORD = 21, 23

NOT_BY_HAND = (
    b"%s: vchkpw is only for talking with qmail-popup and qmail-pop3d. It is not for runnning on the command line.\n"
)

# Levels of the log. Those with passwords are taken for those without.
NOTHING, ERRORS, ALL = b"n", b"e", b"y"
LEVELS = {b"n": NOTHING, b"0": NOTHING, b"y": ALL, b"1": ALL, b"v": ALL, b"4": ALL}
NOTICE = 5
TAG = b"vpopmail[%d]"
STDERR = b"-"

# For rehearsals
NOWHERE = b"/proc/nowhere"
NO_HOME = {
    b"VPOPMAILHOME": NOWHERE, b"QMAILHOME": NOWHERE, b"VPOPMAIL_LOG": b"n", b"TCPLOCALPORT": b"110",
    b"TCPREMOTEIP": b"192.0.2.1",
}  # fmt: skip
CHEAP = b"$5$rounds=1000$x$"
REHEARSALS = 40


def prepare() -> None:
    """Have libcrypt and the name service be linked, once for all that are forked; and rehearse logins.

    Python adapts code to what it does, from the eighth call on. Each forked process would begin that anew, and copy the
    page of each function for it: a fifth of the time of a login."""
    passwd.prepare()
    time.localtime()
    stored = crypt.crypt(bytearray(b"x"), CHEAP)
    if stored is None:  # this libcrypt has none of these
        return
    line = b"%s:1:0:x:%s:NOQUOTA" % (stored, NOWHERE)
    try:
        table = os.memfd_create(PROGRAM.decode())
    except OSError:
        return
    try:
        for part in cdb.make([(b"x", line)]):
            os.write(table, part)
        for _ in range(REHEARSALS):
            _rehearse(table, line)
    except (OSError, Refusal, Unable):  # a login will say it
        pass
    finally:
        os.close(table)


def _rehearse(table: int, line: bytes) -> None:
    """A login in a home that is not there, to an account in the cdb on table, by somebody who stays who he is. Raises
    OSError, Refusal, Unable."""
    reading, writing = os.pipe()
    os.write(writing, b"x@x.example\0x\0\0")
    os.close(writing)
    name, password, stamp = receive(reading)
    login = Login(vhome(NO_HOME), NO_HOME, b"")
    user, given = split(name)
    find_domain(login._home, given)
    domain = domains.domain(given, b"x.example\x001\x001\0%s\0-\0" % NOWHERE)
    if domain is None:
        return
    get_account(domain, user)
    databases.take(os.dup(table), user)
    account = vpasswd.parse(user, line)
    login.check(name, password, stamp, lambda home, name: domain, lambda domain, user: account)
    fd3.wipe(password)
    login._note()
    login._virtual, login._folder = None, b"."
    login.enter(_stay, _stay)
    login.next([name], name)


def _stay(number: int) -> None:
    """In place of what makes another of us."""


class Unable(Exception):
    """The login ends with `code`; text is logged as the reason, before the account."""

    def __init__(self, code: int, text: bytes, account: bytes | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.text = text
        self.account = account


class Login:
    """One login: where it comes from, what for, and whose it is."""

    __slots__ = (
        "_app", "_env", "_folder", "_gid", "_home", "_kind", "_settings", "_uid", "_virtual", "address", "domain",
        "log_name", "user", "who",
    )  # fmt: skip

    def __init__(self, home: Vhome, env: Env, word: bytes) -> None:
        self._env = env
        self._home = home
        self._settings = Settings(home, env)
        peer = env.get(b"TCPREMOTEIP", env.get(b"REMOTE_HOST", b""))  # of tcpserver, of xinetd
        self.address = peer.removeprefix(MAPPED)
        self.user = b""
        self.domain = b""
        self.who = b""  # for the log
        self._virtual: tuple[domains.Domain, vpasswd.Account] | None = None
        self._app = b""  # the name of the password
        port = scan(env.get(b"TCPLOCALPORT", b""))[0]
        name, self._kind = PORTS.get(port) or (b"%d" % port, _kind(word))
        if self._kind != SMTP:
            clients = self._settings.get(b"webmail")
            if self.address in (WEBMAIL_CLIENTS if clients is None else clients).split():
                name = self._kind = WEBMAIL
        self.log_name = b"vchkpw-" + name

    # what is said

    def _log(self, text: bytes, who: bytes, wanted: tuple[bytes, ...] = (ERRORS, ALL)) -> None:
        word = self._settings.get(b"log")
        if LEVELS.get((word or b"")[:1].lower(), ERRORS) not in wanted:
            return
        line = b"%s: %s %s:%s" % (self.log_name, text, who, self.address)
        line = syslog.printable(line.replace(b"%", b"#"))  # as the original: it was a format once
        path = self._env.get(b"VPOPMAIL_SYSLOG", syslogd.SOCKET)
        if path != STDERR:
            timezone.follow(self._env)
            packet = syslog.bsd(syslog.MAIL | NOTICE, time.localtime(), TAG % os.getpid(), line)
            if syslogd.send(path, packet):
                return
        strerr.say(line + b"\n")

    # the steps

    def check(
        self,
        name: bytes,
        password: bytearray,
        stamp: bytes,
        find: "Callable[[Vhome, bytes], domains.Domain | None]" = find_domain,
        get: "Callable[[domains.Domain, bytes], vpasswd.Account | None]" = get_account,
    ) -> None:
        """Find out whose login this is. Raises Unable: nobody's; Refusal, OSError."""
        self.who = name
        if not name:
            raise Unable(NULL_NAME, b"null user name given")
        if not password:
            raise Unable(NULL_PASSWORD, b"null password given")
        try:
            separators = self._settings.get(b"separators")
            self.user, given = split(name, vpopmail.SEPARATORS if separators is None else separators)
        except vpopmail.Invalid as e:
            raise Unable(ILLEGAL, b"invalid user/domain characters") from e
        self.domain = given or self._home.default_domain(self._env)
        self.who = self.user + b"@" + self.domain
        domain = find(self._home, self.domain)
        account = get(domain, self.user) if domain is not None else None
        if domain is not None and account is not None:
            self._check_virtual(domain, account, password, stamp)
        elif (domain is None or not given) and self._settings.is_on(b"system-users"):
            self._check_system(name, password)
        else:
            logins.waste_time(domain, password)
            raise Unable(WRONG, b"vpopmail user not found")

    def _check_virtual(
        self, domain: domains.Domain, account: vpasswd.Account, password: bytearray, stamp: bytes
    ) -> None:
        app = b""
        how = proof(account, password, stamp)
        if not how:
            app = self._app_password(domain, account, password)
            how = b"APP " + app
        flags = account.gid
        if os.access(domain.dir + OWN_LIMITS, os.F_OK) or self._settings.has_file(COMMON_LIMITS):  # few have any
            flags = limits.flags(account, limits.read(self._home, domain))
        if flags & FORBIDDEN[self._kind]:
            raise Unable(DENIED, self._kind + b" access denied")
        self._log(b"(%s) login success" % how, self.who, (ALL,))
        if not account.dir:
            account = self._settled(domain, account)
        if how == PLAIN and is_weak(account.password) and self._settings.has(b"rehash"):
            self._strengthen(domain, account, password)
        if self._kind != SMTP and not flags & vpasswd.NO_RELAY and self._settings.has(b"roaming"):
            self._open_relay()
        self._virtual, self._app = (domain, account), app
        self._uid, self._gid, self._folder = domain.uid, domain.gid, account.dir

    def _app_password(self, domain: domains.Domain, account: vpasswd.Account, password: bytearray) -> bytes:
        """The name of the password, where it is not that of the account. Raises Unable, OSError."""
        if logins.is_locked(account):
            logins.waste_time(domain, password)
            empty = not account.password
            raise Unable(NO_PASSWORD, b"user has no password") if empty else Unable(WRONG, b"password fail")
        app = b""
        if account.dir:
            with ids.Acting(domain.uid, domain.gid):
                app = appwords.match(account.dir, password)
        if not app:
            raise Unable(WRONG, b"password fail")
        return app

    def _settled(self, domain: domains.Domain, account: vpasswd.Account) -> vpasswd.Account:
        try:
            return mailboxes.settle(domain, account)
        except (OSError, vpopmail.Invalid) as e:
            raise Unable(NOT_MADE, b"dir auto create failed") from e

    def _strengthen(self, domain: domains.Domain, account: vpasswd.Account, password: bytearray) -> None:
        try:
            if self._settings.is_on(b"rehash"):
                logins.strengthen(domain, account, password)
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to replace a weak hash", error=e)
        except vpopmail.Invalid as e:
            strerr.warn(PROGRAM, b"unable to replace a weak hash: ", e.text)

    def _open_relay(self) -> None:
        try:
            if roaming.minutes(self._settings):
                roaming.allow(self._home, self.address, int(time.time()))
        except tcprules.BadRule as e:
            strerr.warn(PROGRAM, roaming.complaint(e))
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to open relaying for ", self.address, error=e)

    def _check_system(self, name: bytes, password: bytearray) -> None:
        try:
            found = passwd.check(self.user, password, int(time.time()) // DAY)
        except Refusal as refusal:
            if refusal.code != fd3.REFUSED:
                raise
            if nss.passwd(self.user) is None:
                raise Unable(NO_SYSTEM_USER, b"system user not found", self.user) from None
            raise Unable(WRONG_SYSTEM_PASSWORD, b"system password fail", name) from None
        if not found.uid:
            raise Unable(WRONG_SYSTEM_PASSWORD, b"system password fail", name)
        self._log(b"system password login success", self.user, (ALL,))
        if self._kind != SMTP:
            self._open_relay()
        self._uid, self._gid, self._folder = found.uid, found.gid, found.home

    def enter(
        self, set_gid: "Callable[[int], None]" = ids.set_gid, set_uid: "Callable[[int], None]" = ids.set_uid
    ) -> None:
        """Become who has logged in, in his directory, and leave there when and from where. For smtp, and for whoever
        is that already, nothing is given up. Raises Unable."""
        if self._kind == SMTP:
            with ids.Acting(self._uid, self._gid):
                self._note()
            return
        if os.geteuid() == 0 or (self._uid, self._gid) != (os.geteuid(), os.getegid()):
            failed = NO_GID, b"setgid", self._gid
            try:
                set_gid(self._gid)
                failed = NO_UID, b"setuid", self._uid
                set_uid(self._uid)
            except OSError as e:
                code, text, number = failed
                raise Unable(code, b"%s %d failed errno %d" % (text, number, e.errno or 0)) from e
        try:
            os.chdir(self._folder)
        except OSError as e:
            self._make_home(e)
        self._note()

    def _make_home(self, error: OSError) -> None:
        failed = b"chdir failed errno %d %s" % (error.errno or 0, self._folder)
        if self._virtual is None:
            raise Unable(NO_DIR, failed)
        try:
            mailboxes.make(*self._virtual)
            os.chdir(self._folder)
        except OSError as e:
            raise Unable(NO_DIR, b"autocreate dir errno %d %s" % (e.errno or 0, self._folder)) from e

    def _note(self) -> None:
        """A directory that is not there yet gets none."""
        if self._virtual is None:
            return
        try:
            write_stamp(self._folder + LAST_LOGIN, self.address)
            if self._app:
                appwords.used(self._folder, self._app, self.address)
        except FileNotFoundError:
            pass
        except OSError as e:
            strerr.warn(PROGRAM, b"unable to note the time of a login in ", self._folder, error=e)

    def next(self, argv: list[bytes], name: bytes) -> Exec:
        user = {b"USER": self.user, b"HOME": self._folder, b"SHELL": SHELL, b"VPOPUSER": name.lower()}
        # A missing /bin/true has never kept anybody from sending mail.
        return Exec(argv, {**self._env, **user}, who=PROGRAM, code=0 if self._kind == SMTP else strerr.LATER)

    def end(self, unable: Unable) -> int:
        self._log(unable.text, self.who if unable.account is None else unable.account)
        return unable.code


def _kind(word: bytes) -> bytes:
    """By the program that is to run."""
    if b"true" in word:
        return SMTP
    return IMAP if b"imap" in word else POP


def log_in(argv: list[bytes], env: Env) -> int | Exec:
    """Raises Refusal, OSError."""
    login = Login(vhome(env), env, argv[1])
    try:
        name, password, stamp = receive()
    except Refusal as refusal:
        if refusal.error is None:
            raise Refusal(WRONG if refusal.code == fd3.REFUSED else refusal.code, refusal.text) from None
        strerr.say(NOT_BY_HAND % login.log_name)
        return NO_PACKET
    try:
        try:
            login.check(name, password, stamp)
        finally:
            fd3.wipe(password)
        login.enter()
    except Unable as unable:
        return login.end(unable)
    return login.next(argv[1:], name)


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 2:
        strerr.usage(PROGRAM, USAGE)
        return fd3.MISUSE
    try:
        return log_in(argv, env)
    except Refusal as refusal:
        return handover.report(PROGRAM, refusal)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to look up accounts", error=e)
