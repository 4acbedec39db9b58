"""accounts - the users of a virtual domain, as its folder has them:

    vpasswd              the accounts, formats.vpasswd
    vpasswd.cdb          the same, compiled: all that a login or a delivery reads
    .vpasswd.lock        whoever changes anything here has a write lock of fcntl(2) on it, as in the originals
    .vpasswd.journal     a change that is under way
    .dir-control         where the next account's folder goes; .dir_control_free: places that have become free
    .deleted/            folders of accounts that are gone, until they are removed

A change is written down in the journal first, as it will be when it is done: every step may be done again. Whoever
takes the lock next completes it, makes a cdb that is older than its vpasswd anew, as after an edit by hand, and removes
what is left in .deleted.

All of it is done with the rights of the domain's owner, also by root: the folder is the owner's, who may have put a
link there.
"""

import errno
import os

from qmailpy.formats import cdb as cdbfile
from qmailpy.formats import netstrings, vpasswd, vpopmail
from qmailpy.formats.vpasswd import Account, Malformed, parse
from qmailpy.stores import maildir, maildirsize, safeio
from qmailpy.stores.cdb import take
from qmailpy.stores.vpopmail import stamps, trees
from qmailpy.unix import fds, ids, recordlocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmailpy.stores.vpopmail.domains import Domain

TEXT = b"/vpasswd"  # below the domain's folder, as all of these
COMPILED = b"/vpasswd.cdb"
COMPILED_TEMPORARY = b"/cdb.tmp"
LOCK = b"/.vpasswd.lock"
JOURNAL = b"/.vpasswd.journal"
CONTROL = b"/.dir-control"
FREE = b"/.dir_control_free"
DELETED = b"/.deleted"
DEFAULT = b"/.qmail-default"
TEMPORARY = b".tmp"  # behind the name of any other file

MAILDIR = b"/Maildir"  # below an account's folder
LAST_LOGIN = b"/lastauth"
NEVER = b"0.0.0.0"  # the address of a last login that there was not

LARGEST = 1 << 28  # bytes of a file: more than a million accounts
FREE_MODE = 0o644
MODE = 0o600


def get(domain: "Domain", user: bytes) -> Account | None:
    """The account of user, in lower case; None if there is none. Raises OSError: EPROTO for a cdb that is none.

    One look-up in vpasswd.cdb; where that is missing, as while a domain is being made, in vpasswd."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = ids.open_as(domain.uid, domain.gid, domain.dir + COMPILED, flags)
    except FileNotFoundError:
        with ids.Acting(domain.uid, domain.gid):
            data = vpasswd.find(_read(domain.dir + TEXT), user)
    else:
        data = take(fd, user)
    try:  # what _account does, in the function that each login calls
        return None if data is None else parse(user, data)
    except Malformed:
        return None


def every(domain: "Domain") -> "Iterator[Account]":
    """All accounts in the order of vpasswd. Raises OSError."""
    return vpasswd.every(_read(domain.dir + TEXT))


def count(domain: "Domain") -> int:
    """How many accounts there are: the lines of vpasswd, as the domain's owner may see them. Raises OSError."""
    with ids.Acting(domain.uid, domain.gid):
        return _read(domain.dir + TEXT).count(b"\n")


def stale(domain: "Domain") -> bool:
    """Whether vpasswd.cdb is missing, or older than vpasswd. Raises OSError."""
    try:
        written = os.stat(domain.dir + TEXT).st_mtime_ns
    except FileNotFoundError:
        return False
    try:
        return os.stat(domain.dir + COMPILED).st_mtime_ns < written
    except FileNotFoundError:
        return True


def is_compiled(domain: "Domain") -> bool:
    """Whether vpasswd.cdb says what vpasswd does. Raises OSError."""
    return _read(domain.dir + COMPILED) == b"".join(cdbfile.make(vpasswd.records(_read(domain.dir + TEXT))))


def unfinished(domain: "Domain") -> bool:
    """Whether somebody's change waits to be completed, by whoever takes the lock next."""
    return os.path.lexists(domain.dir + JOURNAL) or os.path.lexists(domain.dir + DELETED) or stale(domain)


def _account(user: bytes, data: bytes | None) -> Account | None:
    if data is None:
        return None
    try:
        return vpasswd.parse(user, data)
    except vpasswd.Malformed:
        return None


def _read(path: bytes) -> bytes:
    """A whole file; nothing if there is none. Raises OSError."""
    try:
        return fds.read_regular(path, LARGEST)
    except FileNotFoundError:
        return b""


class _Plan:
    """What a change makes of a domain's folder. Each step may have been done before.

    lines: new ones of vpasswd, each in place of those of its name; gone: (name, folder) of accounts to remove; made:
    folders to make; resized: folders whose maildirsize is to be counted anew; control, free: the new text of these
    files, None to leave them."""

    __slots__ = ("control", "free", "gone", "lines", "made", "resized")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.gone: list[tuple[bytes, bytes]] = []
        self.made: list[bytes] = []
        self.resized: list[bytes] = []
        self.control: bytes | None = None
        self.free: bytes | None = None

    def build(self) -> bytes:
        """For the journal: pairs of netstrings, a kind and a text."""
        pairs = [(b"line", line) for line in self.lines]
        pairs += [(b"gone", name + b":" + folder) for name, folder in self.gone]
        pairs += [(b"made", folder) for folder in self.made]
        pairs += [(b"resized", folder) for folder in self.resized]
        pairs += [(b"control", self.control)] if self.control is not None else []
        pairs += [(b"free", self.free)] if self.free is not None else []
        return b"".join(netstrings.build(kind) + netstrings.build(text) for kind, text in pairs)

    @classmethod
    def parse(cls, journal: bytes) -> "_Plan":
        """Raises ValueError: it is none of ours."""
        plan = cls()
        words = netstrings.parse(journal)
        for kind, text in zip(words[::2], words[1::2], strict=True):
            if kind == b"line":
                plan.lines.append(text)
            elif kind == b"gone":
                name, _, folder = text.partition(b":")
                plan.gone.append((name, folder))
            elif kind == b"made":
                plan.made.append(text)
            elif kind == b"resized":
                plan.resized.append(text)
            elif kind == b"control":
                plan.control = text
            elif kind == b"free":
                plan.free = text
            else:
                raise ValueError(kind)
        return plan


class Change:
    """The lock of a domain's accounts, in `with`; what an earlier change has begun is completed first. Each method
    returns when its change is on disk. Raises OSError, of which recordlocks.Busy is one, and Invalid: we are neither
    root nor the domain's owner."""

    __slots__ = ("_acting", "_domain", "_folder", "_lock", "_text")

    def __init__(self, domain: "Domain") -> None:
        self._domain = domain
        self._folder = domain.dir
        self._acting = ids.Acting(domain.uid, domain.gid)
        self._lock = -1
        self._text: bytes | None = None

    def __enter__(self) -> "Change":
        if os.geteuid() not in (0, self._domain.uid):
            raise vpopmail.Invalid(vpopmail.BAD_UID)
        self._acting.__enter__()
        try:
            self._lock = recordlocks.acquire(self._folder + LOCK)
            self._complete()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def _leave(self) -> None:
        try:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1
                self._sweep()
        finally:
            self._acting.__exit__()

    # what there is

    @property
    def text(self) -> bytes:
        """vpasswd."""
        if self._text is None:
            self._text = _read(self._folder + TEXT)
        return self._text

    def get(self, user: bytes) -> Account | None:
        """The account of user, in lower case, as vpasswd has it."""
        return _account(user, vpasswd.find(self.text, user))

    def every(self) -> "Iterator[Account]":
        return vpasswd.every(self.text)

    def file(self, name: bytes) -> bytes:
        """A file of the domain's folder, of a name that begins with a slash; nothing if there is none."""
        return _read(self._folder + name)

    def put_file(self, name: bytes, text: bytes) -> None:
        """Make it what text is; nothing removes it."""
        if text:
            self._replace(name, text, MODE)
        else:
            try:
                os.unlink(self._folder + name)
            except FileNotFoundError:
                pass
        safeio.sync_folder(self._folder)

    # changes

    def add(self, accounts: "list[Account]") -> None:
        """Make new accounts, their folders and Maildirs; dir is set to where they are. All are made, or none: Invalid
        says why, of the first that is not to be."""
        names = set()
        control = vpopmail.DirControl(_read(self._folder + CONTROL))
        before = _read(self._folder + FREE)
        free = before
        plan = _Plan()
        known = vpasswd.names(self.text) if len(accounts) > 1 else None
        for account in accounts:
            name = vpopmail.user(account.name)
            taken = name in known if known is not None else vpasswd.find(self.text, name) is not None
            if name != account.name or name in names or taken:
                raise vpopmail.Invalid(vpopmail.USERNAME_EXISTS)
            names.add(name)
            place, free = _take(free)
            if place is None:
                place = control.add()
            elif control.users:
                control.users += 1
            account.dir = b"/".join(part for part in (self._folder, place, name) if part)
            plan.lines.append(_line(account))
            if os.path.lexists(account.dir):
                raise vpopmail.Invalid(vpopmail.USER_DIR_EXISTS, account.dir)
            plan.made.append(account.dir)
        if not accounts:
            return
        plan.control = control.build()
        plan.free = free if free != before else None
        self._do(plan)

    def put(self, accounts: "list[Account]", resized: bool = False) -> None:
        """Have these accounts, which are there, as they are here. resized: their quotas may have changed."""
        plan = _Plan()
        plan.lines = [_line(account) for account in accounts]
        if resized:
            plan.resized = [account.dir for account in accounts if account.dir]
        if plan.lines:
            self._do(plan)

    def remove(self, user: bytes) -> bool:
        """Remove an account, with its folder. False if that is none to remove with it: it is outside of the domain's,
        or another account's, too. Raises Invalid: there is no such account."""
        account = self.get(user)
        if account is None:
            raise vpopmail.Invalid(vpopmail.NO_USER)
        inside = self._inside(account.dir) and not self._shared(account.dir)
        control = vpopmail.DirControl(_read(self._folder + CONTROL))
        control.remove()
        plan = _Plan()
        plan.gone = [(user, account.dir if inside else b"")]
        plan.control = control.build()
        place = account.dir[len(self._folder) + 1 :].rpartition(b"/")[0] if inside else b""
        if _is_place(place):
            plan.free = _read(self._folder + FREE) + place + b"\n"
        self._do(plan)
        return inside or not account.dir

    def compile(self) -> None:
        """Make vpasswd.cdb anew."""
        chunks = cdbfile.make(vpasswd.records(self.text))
        try:
            safeio.replace(self._folder + COMPILED, self._folder + COMPILED_TEMPORARY, chunks, MODE)
        except cdbfile.TooLarge:
            raise OSError(errno.EFBIG, "", self._folder + COMPILED) from None

    def _inside(self, folder: bytes) -> bool:
        """Whether folder is one that an account here may have had from the beginning."""
        name = folder[len(self._folder) + 1 :]
        return folder == self._folder + b"/" + name and all(
            part and not part.startswith(b".") for part in name.split(b"/")
        )

    def _shared(self, folder: bytes) -> bool:
        """Whether more than one account has its mail in folder."""
        return self.text.count(b":%s:" % folder) + self.text.count(b":%s/" % folder) > 1

    # the steps

    def _do(self, plan: _Plan) -> None:
        """Write plan down, and do it. A failure before vpasswd has changed leaves all as it was."""
        self._replace(JOURNAL, plan.build(), MODE)
        made: list[bytes] = []
        try:
            for folder in plan.made:
                made.append(folder)
                self._make(folder)
            self._write_text(plan)
        except OSError:
            for folder in made:
                _remove(folder)
            os.unlink(self._folder + JOURNAL)
            raise
        self._finish(plan)

    def _complete(self) -> None:
        """Whatever an earlier change has left undone."""
        journal = _read(self._folder + JOURNAL)
        if journal:
            try:
                plan = _Plan.parse(journal)
            except ValueError:
                raise OSError(errno.EPROTO, "", self._folder + JOURNAL) from None
            for folder in plan.made:
                self._make(folder)
            self._write_text(plan)
            self._finish(plan)
        elif stale(self._domain):
            self.compile()

    def _finish(self, plan: _Plan) -> None:
        self.compile()
        for name, folder in plan.gone:
            if folder:
                self._discard(name, folder)
        for folder in plan.resized:
            maildirsize.forget(folder + MAILDIR)
        if plan.control is not None:
            self._replace(CONTROL, plan.control, MODE)
        if plan.free is not None:
            self._replace(FREE, plan.free, FREE_MODE)
        safeio.sync_folder(self._folder)
        os.unlink(self._folder + JOURNAL)

    def _write_text(self, plan: _Plan) -> None:
        text = vpasswd.changed(self.text, plan.lines, [name for name, _ in plan.gone])
        self._replace(TEXT, text, MODE)
        self._text = text

    def _replace(self, name: bytes, text: bytes, mode: int) -> None:
        safeio.replace(self._folder + name, self._folder + name + TEMPORARY, (text,), mode)

    def _make(self, folder: bytes) -> None:
        """The folder of an account, unless it is there, and its Maildir."""
        self._make_parents(folder)
        for path in (folder, folder + MAILDIR, *(folder + MAILDIR + b"/" + part for part in maildir.FOLDERS)):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
        if not os.path.lexists(folder + LAST_LOGIN):  # nobody can have logged in before
            stamps.write(folder + LAST_LOGIN, NEVER)

    def _make_parents(self, folder: bytes) -> None:
        end = len(self._folder) + 1
        while (end := folder.find(b"/", end)) > 0:
            try:
                os.mkdir(folder[:end], 0o700)
            except FileExistsError:
                pass
            end += 1

    def _discard(self, name: bytes, folder: bytes) -> None:
        """Have an account's folder out of the way, to be removed when nobody waits for the lock."""
        target = self._folder + DELETED + b"/%s.%s" % (name[:64], os.urandom(8).hex().encode())
        while os.path.lexists(folder):
            try:
                os.mkdir(self._folder + DELETED, 0o700)
            except FileExistsError:
                pass
            try:
                os.rename(folder, target)
            except FileNotFoundError:  # another, who waits for no lock, has removed an empty .deleted
                continue
            except OSError as e:
                if e.errno != errno.EXDEV:
                    raise
                _remove(folder)
                return

    def _sweep(self) -> None:
        """Remove what is in .deleted: nobody's any more, so that two may do it at once."""
        try:
            names = os.listdir(self._folder + DELETED)
        except OSError:
            return
        for name in names:
            _remove(self._folder + DELETED + b"/" + name)
        try:
            os.rmdir(self._folder + DELETED)
        except OSError:
            pass


def check(domain: "Domain", account: Account) -> None:
    """Whether a new account could be added, but for others of its name. Raises Invalid."""
    if vpopmail.user(account.name) != account.name:
        raise vpopmail.Invalid(vpopmail.ILLEGAL_USERNAME)
    _line(account)


def _line(account: Account) -> bytes:
    """The line of an account whose fields are not too long. Raises Invalid."""
    for field, length, code in (
        (account.name, vpopmail.USER_LENGTH, vpopmail.USER_TOO_LONG),
        (account.password, vpopmail.PASSWORD_LENGTH, vpopmail.PASSWORD_TOO_LONG),
        (account.gecos, vpopmail.GECOS_LENGTH, vpopmail.GECOS_TOO_LONG),
        (account.dir, vpopmail.DIR_LENGTH, vpopmail.DIR_TOO_LONG),
        (account.quota, vpopmail.QUOTA_LENGTH, vpopmail.QUOTA_TOO_LONG),
        (account.clear or b"", vpopmail.PASSWORD_LENGTH, vpopmail.CLEAR_TOO_LONG),
    ):
        if len(field) > length:
            raise vpopmail.Invalid(code)
    try:
        return vpasswd.build(account)
    except vpasswd.TooLong:
        raise vpopmail.Invalid(vpopmail.NOT_UPDATED) from None
    except vpasswd.Malformed:
        raise vpopmail.Invalid(vpopmail.BAD_CHARACTER) from None


def _take(free: bytes) -> tuple[bytes | None, bytes]:
    """The first place of .dir_control_free, None if there is none, and the text without its line."""
    lines = free.split(b"\n")
    for number, line in enumerate(lines):
        place = line.partition(b"#")[0].strip()
        if _is_place(place):
            return place, b"\n".join(lines[:number] + lines[number + 1 :])
    return None, free


def _is_place(place: bytes) -> bool:
    """Whether it is a hashed directory, as .dir-control has them."""
    parts = place.split(b"/")
    return len(parts) <= vpopmail.LEVELS and all(len(part) == 1 and part in vpopmail.HASHES for part in parts)


def _remove(path: bytes) -> None:
    """Remove a folder with all that is in it, or a link in its place. Never fails."""
    trees.remove(*os.path.split(path))
