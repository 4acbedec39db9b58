"""NAME
    checkpassword-flatfile - check a password of the accounts in a text file

SYNOPSIS
    checkpassword-flatfile PROGRAM [ARG...]

DESCRIPTION
    checkpassword-flatfile does what checkpassword(8) does, for accounts that stand in a file of their own: those
    of a single-user home, or virtual ones. Each line of the file is one account:

        name:hash[:uid:gid:gecos:home:shell]

    Empty lines, and lines that begin with #, are ignored. The fields are those of passwd(5):

    name     as it is typed at login, such as max or max@host.example: any bytes but colon, not # first
    hash     of the password, below; nobody logs in where it is empty or begins with ! or *
    uid      the number that the login runs with, never 0
    gid      the same; uid and gid are given both or not at all
    gecos    a comment
    home     the login's directory, from where the file is if it is relative; default: name
    shell    default: /bin/sh

    A bad line is named by its number on descriptor 2 and ignored; the others count. If a name stands in two
    lines, the first counts.

    Run as root, checkpassword-flatfile never runs PROGRAM as root. In a file that belongs to root each line must
    give uid and gid. Logins of a file that belongs to somebody else run as its owner, with the owner's primary
    group. Run by anybody else, it cannot and does not change its uid: uid and gid of the lines do not matter.

HASHES
    $y$... $6$... $2b$... and so on: whatever crypt(3) knows. To add an account, with yescrypt or SHA-512:

        (umask 077; echo "max:$(mkpasswd)" >> users/flatfile)
        (umask 077; echo "max:$(openssl passwd -6)" >> users/flatfile)

    {CRYPT}$6$... {BLF-CRYPT}$2y$... {ARGON2ID}$argon2id$... and so on: the same, as Dovecot writes them.

    {PLAIN}secret: the password itself, without a colon in it. Such an account may also log in by APOP or
    CRAM-MD5, where the client sends a digest and STAMP is the challenge. Both orders of fields in use for
    CRAM-MD5 are understood.

    $argon2id$ $argon2i$ $argon2d$ $pbkdf2$ $pbkdf2-sha256$ $pbkdf2-sha512$ $scrypt$ $bcrypt-sha256$ $apr1$ $P$
    $H$ {SHA} {SSHA} {SSHA256} {SSHA512} {MD5} {SMD5} {PBKDF2} {PBKDF2-SHA256} {PBKDF2-SHA512}: through the Python
    package libpass, with argon2-cffi for the first three. It is loaded anew for each such login, which takes
    longer than all the rest: prefer what crypt(3) knows.

ENVIRONMENT
    CHECKPASSWORD_FILE    the file; default: users/flatfile in QMAILHOME
    QMAILHOME             default: /var/qmail
    USER                  set to the account's name
    HOME                  set to its home
    SHELL                 set to its shell

EXIT STATUS
    As for checkpassword(8). 111 also if the file cannot be read, is no regular file, is larger than 16 MB or can
    be written by everybody; if nobody is there to become; or if this kind of hash cannot be checked here.

SECURITY
    Who can write the file decides who logs in. Mode 600, or 640, keeps the hashes from others.

    Unknown names and locked accounts are refused after the same work as wrong passwords, with the kind of hash
    that is most common in the first hundred lines.

BUGS
    The password is overwritten in memory before PROGRAM runs, except for the copies that libpass makes.

SEE ALSO
    checkpassword(8), checkpassword-test(8), qmail-popup(8), crypt(5), passwd(5)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats import fd3
from qmailpy.stores.accounts import Refusal, flatfile, handover

PROGRAM = b"checkpassword-flatfile"
USAGE = b"checkpassword-flatfile program [ arg ... ]"

HOME = b"/var/qmail"


def path(env: Env) -> bytes:
    """The file with the accounts."""
    return env.get(b"CHECKPASSWORD_FILE") or (env.get(b"QMAILHOME") or HOME) + b"/users/flatfile"


def main(argv: list[bytes], env: Env) -> int | Exec:
    if len(argv) < 2:
        strerr.usage(PROGRAM, USAGE)
        return fd3.MISUSE
    try:
        name, password, stamp = handover.receive()
        try:
            account = flatfile.check(path(env), name, password, stamp, lambda text: strerr.warn(PROGRAM, text))
        finally:
            fd3.wipe(password)
        handover.become(account)
    except Refusal as refusal:
        return handover.report(PROGRAM, refusal)
    return Exec(argv[1:], {**env, **account.environment()}, who=PROGRAM)
