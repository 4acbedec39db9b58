"""NAME
    vpopbull - put a message into the Maildirs of all users of virtual domains

SYNOPSIS
    vpopbull [-vVnchs] [-e EXCLUDEFILE] -f MAILFILE [DOMAIN...]

DESCRIPTION
    vpopbull puts the message of MAILFILE into the Maildir of each account of each DOMAIN; without any, of all domains.
    DOMAIN may be an alias; else aliases are left out, as their accounts are those of another domain. No .qmail file is
    followed, no account is locked, and none has too little room. Folders and Maildirs that are missing are made.

    A copy has a field To in front and, if MAILFILE has no field Date, that of now. It is complete when it can be seen,
    and then no crash of the machine can lose it any more.

OPTIONS
    -f MAILFILE       the message
    -e EXCLUDEFILE    leave out the addresses in this file, one in a line, without capitals
    -c                a copy for each account; the default
    -h                a hard link to MAILFILE, which becomes the domain's owner's
    -s                a symbolic link to MAILFILE, which becomes the domain's owner's
    -n                put nothing anywhere: list the addresses. There need be no -f then
    -V                list the addresses, and the aliases that are left out
    -v                show the version

ENVIRONMENT
    QMAILHOME       the home of the mail system. Default: /var/qmail
    VPOPMAILHOME    the home of the virtual domains; unset, that of the account vpopmail, or else QMAILHOME

EXIT STATUS
    0      done; descriptor 2 tells which Maildirs it could not be put into
    111    the list of domains, or descriptor 1, is out of order; or so is a domain, which descriptor 2 tells, and the
           others are done
    255    wrong usage, or MAILFILE cannot be read, or is empty

SECURITY
    Root acts as the domain's owner in the domain's folder.

    With -h and -s all users have the same file, which the owner of the domain may write; with -h it shows in all their
    quotas. Domains of a second owner, who could not read it or else would write it too, do not get it.

SEE ALSO
    vdelivermail(8), vdominfo(8), vuserinfo(8)
"""

import errno
import os
import time

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import maildirsize, vpopfields, vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores import delivery
from qmailpy.stores import maildirsize as counting
from qmailpy.stores.vpopmail import accounts, administration, domains, mailboxes
from qmailpy.stores.vpopmail.administration import Stop
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.stores.vpopmail.vhome import Vhome, vhome
from qmailpy.unix import fds, ids

PROGRAM = b"vpopbull"
HELP = b"""usage: vpopbull [options] -f [email_file] [virtual_domain] [...]
       -v (print version number)
       -V (verbose)
       -f email_file (file with message contents)
       -e exclude_email_addr_file (list of addresses to exclude)
       -n (don't mail. Use with -V to list accounts)
       -c (default, copy file)
       -h (use hard links)
       -s (use symbolic links)"""

LETTERS = b"Vvcshnf:e:"
COPY, HARD, SYMBOLIC = b"c", b"h", b"s"

LARGEST = 1 << 30  # bytes of MAILFILE
MODE = 0o600


class Bulletin:
    """What is put, and where. way: COPY, HARD or SYMBOLIC."""

    __slots__ = ("_fd", "_name", "_owner", "_path", "_text", "_way", "_with_date")

    def __init__(self, path: bytes, way: bytes) -> None:
        """Raises Stop."""
        self._path = os.path.abspath(path)
        self._way = way
        self._owner: int | None = None
        self._name = b"%d.%d.%s" % (time.time(), os.getpid(), os.fsencode(os.uname().nodename))
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._text = fds.read_all(self._fd, LARGEST)
        except OSError:
            strerr.say(b"Could not open file %s\n" % path)
            raise Stop(b"")
        if not self._text:
            strerr.say(b"Error: %s is empty\n" % path)
            raise Stop(b"")
        self._with_date = vpopfields.has_date(self._text)

    def give(self, domain: Domain) -> None:
        """Let the domain's owner have a file that is linked to. Raises OSError: another has it already."""
        if self._way != COPY:
            if self._owner not in (None, domain.uid):
                raise OSError(errno.EPERM, "")
            self._owner = domain.uid
            if os.geteuid() == 0:
                os.fchown(self._fd, domain.uid, domain.gid)
            os.fchmod(self._fd, MODE)

    def put(self, domain: Domain, account: Account) -> None:
        """As the domain's owner. Raises OSError, Undelivered, Invalid."""
        account = mailboxes.settle(domain, account)
        mailboxes.make(domain, account)
        folder = account.dir + accounts.MAILDIR
        if self._way == COPY:
            date = b"" if self._with_date else vpopfields.date(int(time.time()))
            head = b"To: %s@%s\n" % (account.name, domain.name) + date
            delivery.to_maildir(folder, head, delivery.Text(self._text), counting.Counter(maildirsize.Quota()))
            return
        new = folder + b"/new/" + self._name
        if self._way == HARD:
            os.link(b"/proc/self/fd/%d" % self._fd, new, src_dir_fd=self._fd)  # the path may be closed to the owner
        else:
            os.symlink(self._path, new)
        counting.note(folder, len(self._text))


def excluded(path: bytes) -> set[bytes]:
    """The lines of EXCLUDEFILE. Raises Stop."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return set(fds.read_all(fd, LARGEST).split(b"\n"))
        finally:
            os.close(fd)
    except OSError:
        strerr.say(b"Could not open file %s\n" % path)
        raise Stop(b"")


def chosen(home: Vhome, names: list[bytes], verbose: bool) -> list[Domain]:
    """The domains. Raises Stop, OSError."""
    found = []
    for name in names:
        domain = domains.find(home, name)
        if domain is None:
            strerr.say(b"Error: domain %s does not exist\n" % name)
        else:
            found.append(domain)
    if names:
        return found
    try:
        every = list(domains.every(home))
    except OSError:
        raise Stop(b"Can't get domain entries - " + vpopmail.text(vpopmail.NO_ASSIGN))
    for domain in every:
        if not domain.is_alias:
            found.append(domain)
        elif verbose:
            strerr.say(b"skipping %s (alias of %s)\n" % (domain.alias, domain.name))
    return found


def put_all(bulletin: Bulletin | None, domain: Domain, without: set[bytes], verbose: bool) -> int:
    """To all accounts of a domain; without bulletin, list them. The exit code: LATER if its owner has left it in such a
    state that nobody can tell who they are. Raises OSError: descriptor 1."""
    with ids.Acting(domain.uid, domain.gid):
        try:
            found = accounts.every(domain)
        except OSError as e:
            return strerr.fail(strerr.LATER, PROGRAM, b"unable to read accounts of ", domain.name, error=e)
    if bulletin is not None:
        try:
            bulletin.give(domain)
        except OSError as e:
            return strerr.fail(strerr.LATER, PROGRAM, b"unable to give the message to ", domain.name, error=e)
    with ids.Acting(domain.uid, domain.gid):
        for account in found:
            address = account.name + b"@" + domain.name
            if address in without:
                continue
            if bulletin is not None:
                try:
                    bulletin.put(domain, account)
                except (OSError, delivery.Undelivered, vpopmail.Invalid):
                    strerr.say(b"%s: ERROR COPYING TO %s\n" % (address, account.dir))
                    continue
            if verbose or bulletin is None:
                administration.say(address)
    return 0


def run(argv: list[bytes], env: Env) -> int:
    """Raises whatever administration.end tells."""
    if len(argv) == 1:
        raise Stop(HELP)
    options, words = administration.options(PROGRAM, argv, LETTERS, HELP)
    given = dict(options)
    verbose, listing = b"V" in given, b"n" in given
    ways = [letter for letter, _ in options if letter in (COPY, HARD, SYMBOLIC)]
    bulletin = None
    if b"f" in given:
        bulletin = Bulletin(given[b"f"], (ways or [COPY])[-1])
    elif not listing:
        strerr.say(b"Error: email_file not specified\n")
        raise Stop(HELP)
    without = excluded(given[b"e"]) if b"e" in given else set()
    code = 0
    for domain in chosen(vhome(env), b" ".join(words).split(b" ") if words else [], verbose):
        code = put_all(None if listing else bulletin, domain, without, verbose) or code
    return code


def main(argv: list[bytes], env: Env) -> int:
    os.umask(0o077)
    return administration.end(PROGRAM, lambda: run(argv, env))
