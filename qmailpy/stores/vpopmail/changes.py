"""changes - domains are made and removed: one who does so at a time, and in steps of which each may be done twice.

A change is written to the journal first. Whoever takes the lock next, to change domains or to check them, does what
a journal that is still there says. So after a crash there is the state before or the one after, or the next command
makes it that.

A domain is complete, with its postmaster, before the mail system hears of it, and qmail-send knows that it is virtual
before mail is taken for it; when a domain is removed it is the other way round."""

import errno
import os

from qmailpy import strerr
from qmailpy.formats import qmaildefault, vpasswd, vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores import safeio
from qmailpy.stores.vpopmail import accounts, domains, journal, tell, trees
from qmailpy.stores.vpopmail.controls import ASSIGN, Controls
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.unix import fds, ids, recordlocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.stores.vpopmail.vhome import Vhome

DOMAINS = b"domains"  # below ROOT
CONTROL = b".dir-control"
QMAIL_DEFAULT = b".qmail-default"
TEMPORARY = b".tmp"
BOUNCE, DELETE = qmaildefault.BOUNCE, qmaildefault.DELETE
PATH_CHARACTERS = bytes(range(32, 127)).replace(b":", b"") + bytes(range(128, 256))  # users/assign has colons

ROOT_MODE = 0o750
FOLDER_MODE = 0o700
FILE_MODE = 0o600
CONTROL_LENGTH = 65536  # bytes


class Unsafe(Exception):
    """A domain's folder is none that a domain is made in: nothing of it is removed."""


class NoPostmaster(vpopmail.Invalid):
    """There can be no such account."""


class Change:
    """The lock of all domains, in `with`; what an earlier command has begun is completed first, or undone where a
    domain cannot be made, and completed says so: no owner of a domain is to keep others from being changed. Each method
    returns when its change is on disk. Raises OSError, of which recordlocks.Busy is one, and Invalid.

    quick: the mail system is not told of new domains (vadddomain -O)."""

    __slots__ = ("_lock", "_outcome", "_removed", "_vhome", "completed", "controls", "quick")

    def __init__(self, vhome: "Vhome", quick: bool = False) -> None:
        self._vhome = vhome
        self._lock = -1
        self._outcome = b"completed"
        self._removed: list[bytes] = []
        self.controls = Controls(vhome.qmail)
        self.completed: journal.Record | None = None
        self.quick = quick

    def __enter__(self) -> "Change":
        try:
            os.mkdir(self._vhome.qmail + journal.FOLDER, 0o755)
        except FileExistsError:
            pass
        self._lock = recordlocks.acquire(self._vhome.qmail + journal.LOCK)
        try:
            record = journal.read(self._vhome.qmail)
            if record is not None:
                try:
                    self._do(record)
                except (OSError, vpopmail.Invalid):
                    if journal.read(self._vhome.qmail) is not None:
                        raise
                    self._outcome = b"undone"
                self.completed = record
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def _leave(self) -> None:
        """Nobody waits while folders are removed."""
        os.close(self._lock)
        for parent in self._removed:
            trees.sweep(parent)

    def warn(self, program: bytes) -> None:
        """Say what was completed."""
        if self.completed is not None:
            names = self.completed.get(b"names", self.completed.get(b"name", b"")).replace(b"\n", b" ")
            kind = self.completed[b"kind"]
            strerr.warn(program, self._outcome, b" what an earlier command had begun: ", kind, b" ", names)

    def find(self, name: bytes) -> Domain | None:
        """As domains.find; by users/assign, which may be newer than its cdb."""
        if self.controls.text(ASSIGN) is None:
            return None
        return next((each for each in domains.every(self._vhome) if each.alias == name), None)

    def exists(self, name: bytes) -> bool:
        """Whether users/assign has such a domain, or an account with such extensions."""
        return bool(vpopmail.assigned(self.controls.text(ASSIGN) or b"", name))

    def add(self, name: bytes, root: bytes, owner: tuple[int, int], action: bytes, postmaster: Account) -> Domain:
        """Make a domain below root. action: what vdelivermail is to do with mail for unknown users; what begins with ./
        is in the domain's folder."""
        if self.exists(name):
            raise vpopmail.Invalid(vpopmail.DOMAIN_EXISTS)
        self.controls.compiled_assign()  # Malformed now, not when half is done
        counter, place = self._next_place(root)
        folder = b"/".join(part for part in (root, DOMAINS, place, name) if part)
        if len(folder) > vpopmail.DIR_LENGTH:
            raise vpopmail.Invalid(vpopmail.DIR_TOO_LONG)
        if root.translate(None, PATH_CHARACTERS) or os.path.normpath(root) != root or b"//" in root:
            raise vpopmail.Invalid(vpopmail.BAD_DOMAIN_DIR)
        if os.path.lexists(folder):
            raise vpopmail.Invalid(vpopmail.NO_DOMAIN_DIR)
        record = {
            b"kind": journal.ADD,
            b"name": name,
            b"root": root,
            b"place": place,
            b"uid": b"%d" % owner[0],
            b"gid": b"%d" % owner[1],
            b"default": self.default_line(action, folder),
            b"control": counter,
            b"postmaster": _line(postmaster),
        }
        journal.write(self._vhome.qmail, record)
        self._do(record)
        return Domain(name, folder, *owner)

    def add_alias(self, name: bytes, domain: Domain) -> None:
        """Have name as an alias of domain."""
        if self.exists(name):
            raise vpopmail.Invalid(vpopmail.DOMAIN_EXISTS)
        self.controls.compiled_assign()
        record = {
            b"kind": journal.ALIAS,
            b"name": name,
            b"real": domain.name,
            b"dir": domain.dir,
            b"uid": b"%d" % domain.uid,
            b"gid": b"%d" % domain.gid,
        }
        journal.write(self._vhome.qmail, record)
        self._do(record)

    def delete(self, domain: Domain) -> None:
        """Remove an alias domain, or a domain with its aliases and all mail. Raises Unsafe when all but its folder is
        removed."""
        names = [domain.alias] if domain.is_alias else [each.alias for each in domains.every(self._vhome, domain.name)]
        record = {b"kind": journal.DELETE, b"names": b"\n".join(dict.fromkeys(names))}
        root = root_of(domain)
        if not domain.is_alias and root:
            record[b"dir"] = domain.dir
            record[b"aside"] = _aside(domain.name)
            record[b"root"] = root
            try:
                record[b"control"] = self._one_less(root)
            except OSError:  # its owner has closed it
                pass
        journal.write(self._vhome.qmail, record)
        self._do(record)
        if not domain.is_alias and os.path.lexists(domain.dir):
            raise Unsafe(domain.dir)

    # the steps

    def _do(self, record: journal.Record) -> None:
        """All of a change, whatever of it has been done; then there is no journal any more, nor if a domain cannot be
        made."""
        if record[b"kind"] == journal.DELETE:
            self._delete(record)
        elif record[b"kind"] == journal.ADD:
            self._add(record)
        else:
            owner = int(record[b"uid"]), int(record[b"gid"])
            self._announce(Domain(record[b"real"], record[b"dir"], *owner, record[b"name"]))
        journal.remove(self._vhome.qmail)

    def _add(self, record: journal.Record) -> None:
        folder = b"/".join(part for part in (record[b"root"], DOMAINS, record[b"place"], record[b"name"]) if part)
        domain = Domain(record[b"name"], folder, int(record[b"uid"]), int(record[b"gid"]))
        try:
            self._make_tree(record, domain)
        except (OSError, vpopmail.Invalid):
            if not self.exists(domain.name):
                self._undo(domain)
                raise
            # it has been whole once, and what is wrong with it since then is for vcheck to say
        self._announce(domain)

    def _make_tree(self, record: journal.Record, domain: Domain) -> None:
        root = record[b"root"]
        owner = domain.uid, domain.gid
        _make(root, DOMAINS, ROOT_MODE, owner, vpopmail.NO_DOMAINS_DIR)
        folder = root + b"/" + DOMAINS
        for part in record[b"place"].split(b"/") if record[b"place"] else []:
            _make(folder, part, FOLDER_MODE, None, vpopmail.NO_DOMAIN_DIR)
            folder += b"/" + part
        _make(folder, domain.name, FOLDER_MODE, owner, vpopmail.NO_DOMAIN_DIR)
        with ids.Acting(*owner):
            if not os.path.lexists(domain.dir + b"/" + QMAIL_DEFAULT):
                path = domain.dir + b"/" + QMAIL_DEFAULT
                safeio.replace(path, path + TEMPORARY, (record[b"default"],), FILE_MODE)
        with accounts.Change(domain) as change:
            postmaster = vpasswd.parse_line(record[b"postmaster"])
            if change.get(postmaster.name) is None:
                try:
                    change.add([postmaster])
                except vpopmail.Invalid as e:
                    raise NoPostmaster(e.code) from e
        _write_control(root + b"/" + DOMAINS, record[b"control"])

    def _undo(self, domain: Domain) -> None:
        """Have nothing of a domain that nobody knows of yet."""
        parent, name = os.path.split(domain.dir)
        try:
            trees.set_aside(parent, name, _aside(name))
            self._removed.append(parent)
        except OSError:
            pass
        journal.remove(self._vhome.qmail)

    def _announce(self, domain: Domain) -> None:
        name = domain.alias
        line = vpopmail.assign_line(name, domain.name, domain.uid, domain.gid, domain.dir)
        self.controls.assign(name, line)
        self.controls.virtual(name)
        if not self.quick:
            tell.reread(self._vhome.qmail)
        self.controls.accept(name)
        if not self.quick:
            self.controls.compile_morercpthosts()

    def _delete(self, record: journal.Record) -> None:
        names = record[b"names"].split(b"\n")
        self.controls.refuse(names)
        self.controls.compile_morercpthosts()
        self.controls.not_virtual(names)
        tell.reread(self._vhome.qmail)
        self.controls.unassign(names)
        if b"dir" in record:
            self._put_away(record)

    def _put_away(self, record: journal.Record) -> None:
        """Have a domain's folder where it is removed, and one domain less counted; where its owner does not let us, it
        stays."""
        parent, name = os.path.split(record[b"dir"])
        try:
            trees.set_aside(parent, name, record[b"aside"])
            self._removed.append(parent)
            if b"control" in record:
                _write_control(record[b"root"], record[b"control"])
        except OSError:
            pass

    # where the next one goes

    def _next_place(self, root: bytes) -> tuple[bytes, bytes]:
        """The counter of domains below root with one more, and the hashed directories for that."""
        if not os.path.isdir(root):
            raise vpopmail.Invalid(vpopmail.BAD_DOMAIN_DIR)
        counter = vpopmail.DirControl(_read_control(root + b"/" + DOMAINS))
        place = counter.add()
        return counter.build(), place

    def _one_less(self, root: bytes) -> bytes:
        counter = vpopmail.DirControl(_read_control(root))
        counter.remove()
        return counter.build()

    def default_line(self, action: bytes, folder: bytes) -> bytes:
        """What .qmail-default of a domain has."""
        if action.startswith(b"./"):
            action = folder + action[1:]
        program = self._vhome.path + b"/bin/" + qmaildefault.COMMAND
        if not os.path.lexists(program):
            program = qmaildefault.COMMAND  # along PATH
        try:
            return qmaildefault.line(program, action)
        except ValueError:
            raise vpopmail.Invalid(vpopmail.NO_QMAIL_DEFAULT) from None


def _make(parent: bytes, name: bytes, mode: int, owner: tuple[int, int] | None, code: int) -> None:
    """As trees.make. Raises Invalid with code where that cannot be."""
    try:
        trees.make(parent, name, mode, owner)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            raise
        raise vpopmail.Invalid(code) from e


def _line(postmaster: Account) -> bytes:
    try:
        return vpasswd.build(postmaster)
    except vpasswd.Malformed:
        raise NoPostmaster(vpopmail.BAD_CHARACTER) from None


def root_of(domain: Domain) -> bytes:
    """ROOT/domains of a domain's folder; nothing if it is not where a domain is made."""
    parts = domain.dir.split(b"/")
    end = len(parts) - 1
    while end > 1 and len(parts[end - 1]) == 1 and parts[end - 1] in vpopmail.HASHES:
        end -= 1
    is_made = parts[-1] == domain.name and parts[end - 1] == DOMAINS and len(parts) - 1 - end <= vpopmail.LEVELS
    clean = all(part not in (b"", b".", b"..") for part in parts[1:])
    return b"/".join(parts[:end]) if is_made and clean else b""


def _aside(name: bytes) -> bytes:
    return trees.REMOVED + name + b"." + os.urandom(8).hex().encode()


def _read_control(folder: bytes) -> bytes:
    """.dir-control; nothing if there is none. Raises OSError."""
    try:
        with trees.Inside(folder) as inside:
            fd = os.open(CONTROL, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=inside)
            try:
                return fds.read_all(fd, CONTROL_LENGTH)
            finally:
                os.close(fd)
    except FileNotFoundError:
        return b""


def _write_control(folder: bytes, text: bytes) -> None:
    with trees.Inside(folder):
        path = folder + b"/" + CONTROL
        safeio.replace(path, path + TEMPORARY, (text,), FILE_MODE)
        safeio.sync_folder(folder)
