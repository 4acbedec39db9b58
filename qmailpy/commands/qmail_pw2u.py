"""NAME
    qmail-pw2u - make lines of users/assign of accounts

SYNOPSIS
    qmail-pw2u [-/ohHuUC] [-c CHAR]

DESCRIPTION
    qmail-pw2u reads lines of passwd(5) and writes lines for qmail-newu(8), with a last one that is a dot:

        qmail-pw2u < /etc/passwd > users/assign && qmail-newu

    An account joe gets two lines, one for its own name and one for joe- with any extension:

        =joe:joe:503:78:/home/joe:::
        +joe-:joe:503:78:/home/joe:-::

    alias, which must be among the accounts, gets a line for everybody who has none. Accounts are left out if their
    number is root's, if there are capital letters in their names, or if they do not own their homes, or these do not
    exist. With users/cdb, qmail-lspawn(8) need not ask for accounts, and those who are left out get no mail.

OPTIONS
    -o         leave out an account whose home does not exist or is not its own, the default
    -h         the same, but a home that does not exist is an error
    -H         do not look at homes
    -U         leave out accounts whose names have capital letters, the default
    -u         do not
    -c CHAR    CHAR, not -, stands between a name and an extension
    -C         no lines for extensions
    -/         the files of joe-ext are .qmail-/ext, not .qmail-ext

FILES
    users/include      if there is such a file: only the accounts that are lines of it
    users/exclude      never the accounts that are lines of it
    users/mailnames    joe:joe:joe.shmoe: has names for mail in the place of the account's own
    users/subusers     joe.shmoe:joe:shmoe: gives the account joe the mail for joe.shmoe, with the extension shmoe
    users/append       is written before the dot

    In the first three the case of letters does not matter, empty lines and those that begin with # mean nothing, and of
    two lines for the same account the last one counts.

ENVIRONMENT
    QMAILHOME    the home of the mail system. Default: /var/qmail

EXIT STATUS
    0      all lines are written
    100    wrong usage
    111    alias is missing, or a line's account or home is; a file could not be read, or the lines not be written

BUGS
    The two commands above leave an empty users/assign if qmail-pw2u fails; qmail-newu then refuses it.

SEE ALSO
    qmail-newu(8), qmail-lspawn(8), qmail-getpw(8), passwd(5)
"""

import errno
import os

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import assign, numbers, options
from qmailpy.stores import control, programs, users
from qmailpy.stores.home import home
from qmailpy.unix import fds

PROGRAM = b"qmail-pw2u"
LETTERS = b"/ohHuUc:C"

SKIP, STOP, IGNORE = b"o", b"h", b"H"  # homes that are not there

DASH, SLASH = b"-", b"-/"
LARGEST = 1 << 32  # bytes

Names = dict[bytes, bytes]


class Failed(Exception):
    """args[0]: what to say. error: why."""

    def __init__(self, text: bytes, error: OSError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.error = error


class Account:
    """One line of passwd(5)."""

    __slots__ = ("home", "name", "text", "uid")

    def __init__(self, name: bytes, uid: bytes, gid: bytes, home: bytes) -> None:
        self.name = name
        self.uid, _ = numbers.scan(uid)
        self.home = home
        self.text = b"%s:%s:%s:%s" % (name, uid, gid, home)


def parse(line: bytes) -> Account | None:
    """The account of a line; None if it is none."""
    words = line.split(b":", 6)
    if len(words) < 7 or b"\0" in line:
        return None
    return Account(words[0], words[2], words[3], words[5])


class Maker:
    """What the options and the files of users say, and the accounts that were taken."""

    def __init__(self, given: list[tuple[bytes, bytes]], files: users.Users) -> None:
        """Raises control.Unreadable."""
        dash, between = DASH, users.BREAK
        self.capitals = False
        self.homes = SKIP
        for letter, argument in given:
            if letter == b"/":
                dash = SLASH
            elif letter in (b"c", b"C"):
                between = argument[:1]
            elif letter in (b"u", b"U"):
                self.capitals = letter == b"u"
            else:
                self.homes = letter
        self.lines = assign.Lines(between, dash)
        include, exclude = (files.lines(name) for name in (b"include", b"exclude"))
        self.include = None if include is None else {line.lower() for line in include}
        self.exclude = {line.lower() for line in exclude or ()}
        self.names = _table(files.lines(b"mailnames") or [])
        self.accounts: Names = {}
        self.has_alias = False

    def takes(self, account: Account) -> bool:
        """Raises Failed: its home is to be there, and is not."""
        name = account.name.lower()
        if not account.uid or (name != account.name and not self.capitals):
            return False
        if (self.include is not None and name not in self.include) or name in self.exclude:
            return False
        if self.homes == IGNORE:
            return True
        try:
            return os.stat(account.home).st_uid == account.uid
        except OSError as e:
            if e.errno == errno.ENOENT and self.homes == SKIP:
                return False
            raise Failed(b"unable to stat " + account.home, e)

    def made_of(self, account: Account) -> bytes:
        """The lines of an account that is taken."""
        made = b""
        if account.name == users.ALIAS:
            self.has_alias = True
            made = self.lines.everybody(account.text)
        names = self.names.get(account.name.lower(), account.name)
        self.accounts[account.name.lower()] = account.text
        return made + b"".join([self.lines.user(name, account.text) for name in names.split(b":") if name])

    def made_of_subuser(self, line: bytes) -> bytes:
        """The lines of a line of subusers; none if it is no such line. Raises Failed: it has no account."""
        words = line.split(b":", 3)
        if len(words) < 3:
            return b""
        account = self.accounts.get(words[1].lower())
        if account is None:
            raise Failed(b"unable to find %s user for subuser" % words[1])
        return self.lines.subuser(words[0], account, words[2]) if len(words) > 3 else b""


def _table(lines: list[bytes]) -> Names:
    """What is behind the first colon, by what is in front of it."""
    pairs = (line.partition(b":") for line in lines)
    return {name.lower(): value for name, colon, value in pairs if colon}


def _made(maker: Maker, files: users.Users) -> "list[bytes]":
    """All the lines, in parts. Raises Failed, and control.Unreadable."""
    try:
        text = fds.read_all(0, LARGEST)
    except OSError as e:
        raise Failed(b"unable to read input", e)
    made = []
    for line in text.split(b"\n"):
        account = parse(line)
        if account is not None and maker.takes(account):
            made.append(maker.made_of(account))
    if not maker.has_alias:
        raise Failed(b"unable to find %s user" % users.ALIAS)
    subusers = (files.text(b"subusers") or b"").split(b"\n")
    for number, line in enumerate(subusers, 1):
        try:
            made.append(maker.made_of_subuser(line))
        except Failed as e:
            raise Failed(b"%s (line %d of users/subusers)" % (e.text, number))
    append = files.text(b"append") or b""
    made.append(append if append.endswith(b"\n") or not append else append + b"\n")
    made.append(b".\n")
    return made


def main(argv: list[bytes], env: Env) -> int:
    try:
        given, _ = options.parse(argv, LETTERS)
    except options.OptionError as e:
        strerr.say(b"%s: %s\n" % (PROGRAM, e.args[0]))
        return strerr.NEVER
    try:
        folder, _ = programs.enter(env)
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to chdir to ", home(env), error=e)
    files = users.Users(folder)
    try:
        made = _made(Maker(given, files), files)
    except control.Unreadable as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to read controls: users/", e.name, error=e)
    except Failed as e:
        return strerr.fail(strerr.LATER, PROGRAM, e.text, error=e.error)
    try:
        fds.write_all(1, b"".join(made))
    except OSError as e:
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to write output", error=e)
    return 0
