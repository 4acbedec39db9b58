"""NAME
    vapppasswd - give an account of a virtual domain passwords for programs and devices

SYNOPSIS
    vapppasswd [-jv] add|list|delete USER@DOMAIN [NAME]

DESCRIPTION
    An account may have passwords besides its own: one for each program or device that reads and sends its mail. Any of
    them can be taken away without the others, and tells when and from where it was used last. vchkpw(8) accepts them
    where the account's own password is not right.

        vapppasswd add max@host.example phone
        Random password: mq2vd-7hx3c-kn5ow-z6tbe

    add       makes a password and prints it, once: only its hash is kept
    list      prints a line for each
    delete    takes one away. Whoever has logged in with it stays so to the end of his session

    NAME has up to 64 letters, digits, dots, - and _, and does not begin with a dot. An account has 50 of them at most.

    vpasswd(8) and vchangepw(8) leave them as they are: whoever changes a password because somebody has learned it has
    to look at these, too. An account whose own password is empty or locked cannot use them.

OPTIONS
    -j    print JSON: of list an object for each, with name, made and used (seconds since 1970, or null), and ip (or
          null); of add one with name and password
    -v    print the version

FILES
    They are in the account's directory: .app-passwords/NAME is the hash, and .app-passwords/.NAME the address of the
    last use, whose time is that of the file.

ENVIRONMENT
    VPOPMAILHOME       where the domains are. Default: the home of the account vpopmail, else QMAILHOME
    QMAILHOME          the home of the mail system; unset, /var/qmail
    VPOPMAIL_DOMAIN    the domain of a name without one, before etc/defaultdomain
    TZ                 the time zone of list

EXIT STATUS
    0      done
    111    a file cannot be read or written now
    255    wrong usage; there is no such password, or one of that name already, or too many
           Other codes are those of vpopmail: 256 less the number of its error

SECURITY
    Run it as root or as the owner of the domain; files are touched with the owner's rights.

    The passwords have 100 random bits, so that a fast hash, SHA-256, will do: wrong passwords are compared with all
    that an account has.

SEE ALSO
    vchkpw(8), vpasswd(8), vuserinfo(8)
"""

import os
import time

from qmailpy.chain import Env
from qmailpy.formats import fd3, vpopmail
from qmailpy.stores.vpopmail import accounts, administration, appwords, mailboxes, vhome
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.unix import ids, timezone

PROGRAM = b"vapppasswd"
HELP = b"""vapppasswd: usage: [options] add|list|delete email_address [name]
options: -v (print version number)
         -j (display as JSON)"""

LETTERS = b"vj"

NOT_THERE = b"Error: no app password of that name"
IS_THERE = b"Error: there is an app password of that name"
TOO_MANY = b"Error: too many app passwords (max=%d)" % appwords.MOST

WHEN = "%Y-%m-%d %H:%M:%S"


def add(folder: bytes, name: bytes, json: bool) -> bytes:
    """What is said. Raises Stop, OSError."""
    password = appwords.new()
    try:
        appwords.add(folder, name, appwords.hashed(password))
    except appwords.TooMany:
        raise Stop(TOO_MANY) from None
    except FileExistsError:
        raise Stop(IS_THERE) from None
    said = bytes(password)
    fd3.wipe(password)
    if json:
        return administration.objects([{"name": name, "password": said}])
    return b"Random password: " + said


def listed(folder: bytes, json: bool) -> bytes:
    """What is said. Raises OSError."""
    found = appwords.every(folder)
    if json:
        records: list[dict[str, object]] = [
            {"name": each.name, "made": each.made, "used": each.used or None, "ip": each.address or None}
            for each in found
        ]
        return administration.objects(records)
    return b"\n".join([_line(each) for each in found])


def _line(record: appwords.Record) -> bytes:
    made, used = (time.strftime(WHEN, time.localtime(each)).encode() for each in (record.made, record.used))
    last = b"last used %s from %s" % (used, record.address) if record.used else b"never used"
    return b"%s: made %s, %s" % (record.name, made, last)


def delete(folder: bytes, name: bytes) -> bytes:
    """What is said: nothing. Raises Stop, OSError."""
    try:
        appwords.remove(folder, name)
    except FileNotFoundError:
        raise Stop(NOT_THERE) from None
    return b""


def act(verb: bytes, folder: bytes, name: bytes, json: bool) -> bytes:
    """What is said. Raises Stop, OSError."""
    if verb == b"list":
        return listed(folder, json)
    return add(folder, name, json) if verb == b"add" else delete(folder, name)


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    options, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    verb = words[0] if words else b""
    if verb not in (b"add", b"list", b"delete") or len(words) != (2 if verb == b"list" else 3):
        raise Stop(HELP)
    name = words[2] if len(words) == 3 else b""
    if name and not appwords.is_name(name):
        raise vpopmail.Invalid(vpopmail.BAD_CHARACTER)
    timezone.follow(env)
    user, domain = administration.account_of(vhome.vhome(env), env, words[1])
    with ids.Acting(domain.uid, domain.gid):
        account = accounts.get(domain, user)
        if account is None:
            raise vpopmail.Invalid(vpopmail.NO_USER)
        if verb == b"add":
            account = mailboxes.settle(domain, account)
            mailboxes.make(domain, account)
        said = act(verb, account.dir, name, bool(options))
    if said:
        administration.say(said)
    return 0


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
