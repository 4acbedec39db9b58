"""consistency - whether all that knows of virtual domains says the same: the journal, users/assign and its cdb, the
control files, the folders, vpasswd and its cdb, the Maildirs. What can be mended without losing anything is, if that is
wanted; the rest is reported."""

import os

from qmailpy import strerr
from qmailpy.formats import assign, vpopmail
from qmailpy.formats.vpasswd import Account
from qmailpy.stores import control, maildir, safeio
from qmailpy.stores.users import CDB
from qmailpy.stores.vpopmail import accounts, changes, domains, ipmap, journal, mailboxes, tell, trees
from qmailpy.stores.vpopmail.controls import (
    ASSIGN,
    COMPILED,
    LOCALS,
    MORERCPTHOSTS,
    RCPTHOSTS,
    VIRTUALDOMAINS,
    Controls,
)
from qmailpy.stores.vpopmail.domains import Domain
from qmailpy.unix import ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmailpy.stores.vpopmail.vhome import Vhome

FILE_MODE = 0o600
TEMPORARY = b".tmp"


class Finding:
    """where: a domain, or a file; what: what is wrong there; is_mended: whether it was put right."""

    __slots__ = ("is_mended", "what", "where")

    def __init__(self, where: bytes, what: bytes, is_mended: bool = False) -> None:
        self.where = where
        self.what = what
        self.is_mended = is_mended


class Check:
    """change: the lock of all domains, None if nothing is to be mended."""

    __slots__ = ("_change", "_controls", "_listed", "_reread", "_vhome")

    def __init__(self, vhome: "Vhome", change: changes.Change | None) -> None:
        self._vhome = vhome
        self._change = change
        self._controls = Controls(vhome.qmail)
        self._listed: list[Domain] = []
        self._reread = False

    def findings(self, names: list[bytes]) -> "Iterator[Finding]":
        """All that is wrong with the mail system's files, and with the domains of these names, or with all. Raises
        OSError: one of the former cannot be read, or mended."""
        yield from self._journal()
        yield from self._assign()
        yield from self._control_files()
        if self._reread:
            tell.reread(self._vhome.qmail)
        yield from self._names()
        for domain in self._listed:
            if not domain.is_alias and (not names or domain.name in names):
                yield from self._acting(domain)
        if not names:
            yield from self._roots()

    def _mended(self, mend: "Callable[[], object]") -> bool:
        if self._change is None:
            return False
        mend()
        return True

    def _acting(self, domain: Domain) -> list[Finding]:
        """What there is of a domain's folder, looked at with the rights of its owner, who may have put a link or a fifo
        there."""
        try:
            status = os.stat(domain.dir)
        except FileNotFoundError:
            return [Finding(domain.name, b"no folder " + domain.dir)]
        found = []
        if (status.st_uid, status.st_gid) != (domain.uid, domain.gid):
            what = b"folder of %d:%d, not of %d:%d" % (status.st_uid, status.st_gid, domain.uid, domain.gid)
            found.append(Finding(domain.name, what))
        try:
            with ids.Acting(domain.uid, domain.gid):
                for each in self._domain(domain):
                    found.append(each)  # one by one: what comes before an error counts
        except OSError as e:
            path = os.fsencode(e.filename) + b": " if isinstance(e.filename, str | bytes) else b""
            found.append(Finding(domain.name, b"cannot be looked at, or mended: " + path + strerr.reason(e)))
        except vpopmail.Invalid as e:
            found.append(Finding(domain.name, b"cannot be mended: " + e.text))
        return found

    # what the mail system knows

    def _journal(self) -> "Iterator[Finding]":
        record = journal.read(self._vhome.qmail) if self._change is None else self._change.completed
        if record is not None:
            names = record.get(b"names", record.get(b"name", b"")).replace(b"\n", b" ")
            yield Finding(names, b"unfinished: " + record[b"kind"], self._change is not None)

    def _assign(self) -> "Iterator[Finding]":
        text = self._controls.text(ASSIGN)
        if text is not None:
            self._listed = list(domains.every(self._vhome))
        try:
            whole = self._controls.compiled_assign()
        except assign.Malformed as e:
            yield Finding(ASSIGN, b"line %d: %s" % (e.line, e.reason))
            return
        if text is not None and self._controls.text(CDB) != whole:
            yield Finding(ASSIGN, CDB + b" says something else", self._mended(self._controls.compile_assign))

    def _control_files(self) -> "Iterator[Finding]":
        text = self._controls.text(LOCALS)
        me = control.Control(self._vhome.qmail).me() or b""
        locals_ = _lines(me if text is None else text)  # qmail-send's default
        virtual = _lines(self._controls.text(VIRTUALDOMAINS))
        accepted = _lines(self._controls.text(RCPTHOSTS)) | _lines(self._controls.text(MORERCPTHOSTS))
        for name in [each.alias for each in self._listed]:
            wrong = [b"not in " + VIRTUALDOMAINS] if b"%s:%s" % (name, name) not in virtual else []
            wrong += [b"in " + LOCALS] if name in locals_ else []
            for what in wrong:
                yield Finding(name, what, self._mended(lambda name=name: self._controls.virtual(name)))  # type: ignore[misc]
                self._reread = self._change is not None
            if name not in accepted:
                what = b"in neither %s nor morercpthosts" % RCPTHOSTS
                yield Finding(name, what, self._mended(lambda name=name: self._controls.accept(name)))  # type: ignore[misc]
        whole = self._controls.compiled_morercpthosts()
        if whole is not None and self._controls.text(MORERCPTHOSTS + COMPILED) != whole:
            mended = self._mended(self._controls.compile_morercpthosts)
            yield Finding(MORERCPTHOSTS, b"its cdb says something else", mended)
        known = {each.alias for each in self._listed}
        for line in sorted(virtual):
            name, _, behind = line.partition(b":")
            if name == behind and b"." in name.strip(b".") and name not in known:
                yield Finding(name, b"in %s, and not in %s" % (VIRTUALDOMAINS, ASSIGN))
            elif name in known and behind != name:
                yield Finding(name, b"in %s for %s, too" % (VIRTUALDOMAINS, behind or b"nobody"))
        for address, name in ipmap.pairs(self._vhome):
            if name.lower() not in known:
                yield Finding(name, b"in etc/ip_alias_map for %s, and no domain" % address)

    def _names(self) -> "Iterator[Finding]":
        real = {each.name: each for each in self._listed if not each.is_alias}
        for each in self._listed:
            if each.is_alias and each.name not in real:
                yield Finding(each.alias, b"alias of %s, which is no domain" % each.name)
            elif each.dir != real[each.name].dir or each.uid != real[each.name].uid:
                yield Finding(each.alias, b"another folder or owner than %s" % each.name)

    # a domain's folder

    def _domain(self, domain: Domain) -> "Iterator[Finding]":
        path = domain.dir + b"/" + changes.QMAIL_DEFAULT
        if not os.path.lexists(path):
            mended = self._mended(lambda: self._write_default(domain, path))
            yield Finding(domain.name, b"no .qmail-default", mended)
        if not os.path.lexists(domain.dir + accounts.TEXT):
            yield Finding(domain.name, b"no vpasswd")
            return
        if accounts.unfinished(domain):
            yield Finding(domain.name, b"a change of accounts is unfinished", self._mended(lambda: _complete(domain)))
        elif not accounts.is_compiled(domain):
            yield Finding(domain.name, b"vpasswd.cdb says something else", self._mended(lambda: _compile(domain)))
        yield from self._accounts(domain)

    def _write_default(self, domain: Domain, path: bytes) -> None:
        assert self._change is not None
        line = self._change.default_line(changes.BOUNCE, domain.dir)
        safeio.replace(path, path + TEMPORARY, (line,), FILE_MODE)

    def _accounts(self, domain: Domain) -> "Iterator[Finding]":
        homes = set()
        for account in accounts.every(domain):
            homes.add(account.dir)
            missing = [
                path
                for path in (b"", *(b"/" + part for part in maildir.FOLDERS))
                if account.dir and not os.path.isdir(account.dir + accounts.MAILDIR + path)
            ]
            if missing:
                mended = self._made(domain, account)
                yield Finding(account.name + b"@" + domain.name, b"no Maildir, or not all of it", mended)
        for folder in _folders(domain.dir):
            if folder not in homes and os.path.isdir(folder + accounts.MAILDIR):
                yield Finding(domain.name, b"a folder of no account: " + folder)

    def _made(self, domain: Domain, account: Account) -> bool:
        try:
            return self._mended(lambda: mailboxes.make(domain, account))
        except OSError:  # it is none of the domain's
            return False

    # folders that domains are in

    def _roots(self) -> "Iterator[Finding]":
        known = {each.dir for each in self._listed}
        roots = {self._vhome.domains, *(root for root in map(changes.root_of, self._listed) if root)}
        for root in sorted(roots):
            parents = sorted({root, *(os.path.dirname(folder) for folder in known if folder.startswith(root + b"/"))})
            for parent in parents:
                for name in trees.left(parent):
                    mended = self._mended(lambda parent=parent: trees.sweep(parent)) and not trees.left(parent)  # type: ignore[misc]
                    yield Finding(parent + b"/" + name, b"not removed to the end", mended)
            for folder in _folders(root):
                if folder not in known and os.path.lexists(folder + accounts.TEXT):
                    yield Finding(folder, b"a folder of no domain")


def _lines(text: bytes | None) -> set[bytes]:
    return {line.rstrip().lower() for line in (text or b"").split(b"\n")}


def _folders(parent: bytes, levels: int = vpopmail.LEVELS) -> "Iterator[bytes]":
    """The folders in parent and in its hashed directories; none whose name begins with a dot."""
    try:
        entries = sorted(os.scandir(parent), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(b".") or not entry.is_dir(follow_symlinks=False):
            continue
        if len(entry.name) == 1 and levels > 0:
            yield from _folders(entry.path, levels - 1)
        else:
            yield entry.path


def _complete(domain: Domain) -> None:
    with accounts.Change(domain):
        pass


def _compile(domain: Domain) -> None:
    with accounts.Change(domain) as change:
        change.compile()
