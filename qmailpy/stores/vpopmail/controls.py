"""controls - what the mail system knows of virtual domains, and how it is changed:

    users/assign, users/cdb                         whose mail it is
    control/virtualdomains, control/locals          which domains are virtual
    control/rcpthosts, morercpthosts with its cdb   for which domains mail is taken

Each file is changed while its lock, FILE.lock as vpopmail's programs have it, is held, and as a whole; a change that
is made already changes nothing."""

import errno
import os

from qmailpy import strerr
from qmailpy.formats import assign, cdb, vpopmail
from qmailpy.stores import control, safeio
from qmailpy.stores.users import CDB
from qmailpy.unix import fds, recordlocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ASSIGN = b"users/assign"
LOCALS = b"control/locals"
VIRTUALDOMAINS = b"control/virtualdomains"
RCPTHOSTS = b"control/rcpthosts"
MORERCPTHOSTS = b"control/morercpthosts"
COMPILED = b".cdb"  # behind the name

LOCK = b".lock"
TEMPORARY = b".edit"  # not .tmp: qmail-newu and qmail-newmrh have such ones
MODE = 0o644

FULL = 50  # lines of rcpthosts: further ones go to morercpthosts
LARGEST = 1 << 32  # bytes: a cdb of more there is not

UNORDERED = b"NOTICE: Out of order entries found in %s\n   Sorting...\n\n"


class Controls:
    """The files of one home. Raises OSError wherever a file cannot be read or changed: recordlocks.Busy where another
    has its lock for too long."""

    __slots__ = ("home",)

    def __init__(self, home: bytes) -> None:
        self.home = home

    def text(self, name: bytes) -> bytes | None:
        """A whole file; None if there is none."""
        try:
            fd = os.open(self._path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return fds.read_all(fd, LARGEST)
        finally:
            os.close(fd)

    # whose mail it is

    def assign(self, name: bytes, line: bytes) -> None:
        """Have line in users/assign, the only one for a domain, and in the cdb."""

        def changed(text: bytes) -> bytes:
            others = [each for each in vpopmail.assigned(text, name) if each != line]
            return self._inserted(ASSIGN, vpopmail.without(text, [_prefix(name)], True) if others else text, line)

        self._edit(ASSIGN, changed)
        self.compile_assign()

    def unassign(self, names: list[bytes]) -> None:
        """Have no line for these domains in users/assign, nor in the cdb."""
        self._edit(ASSIGN, lambda text: vpopmail.without(text, [_prefix(name) for name in names], True))
        self.compile_assign()

    def compiled_assign(self) -> bytes:
        """What users/cdb is to be. Raises assign.Malformed, OSError."""
        return b"".join(_made(assign.records(self.text(ASSIGN) or assign.END + b"\n")))

    def compile_assign(self) -> None:
        """Make users/cdb of users/assign, as qmail-newu(8) does."""
        try:
            whole = self.compiled_assign()
        except assign.Malformed as e:
            raise OSError(errno.EPROTO, "", self._path(ASSIGN)) from e
        if self.text(CDB) != whole:
            self._replace(CDB, whole)

    # which domains are virtual

    def virtual(self, name: bytes) -> None:
        """Have a domain in virtualdomains and not in locals.

        locals is made, and empty, only where it is missing and so stands for the domain itself: the original makes it
        always, and the host's own name is local no more."""
        if self.text(LOCALS) is not None or (control.Control(self.home).me() or b"").lower() == name:
            self._edit(LOCALS, lambda text: vpopmail.without(text, [name]))
        line = b"%s:%s" % (name, name)
        self._edit(VIRTUALDOMAINS, lambda text: self._inserted(VIRTUALDOMAINS, text, line))

    def not_virtual(self, names: list[bytes]) -> None:
        """Have none of these domains in virtualdomains, where it stands for itself."""
        if self.text(VIRTUALDOMAINS) is not None:
            lines = [b"%s:%s" % (name, name) for name in names]
            self._edit(VIRTUALDOMAINS, lambda text: vpopmail.without(text, lines))

    # for which domains mail is taken

    def accept(self, name: bytes) -> None:
        """Have a domain in rcpthosts, or in morercpthosts if it is there or rcpthosts is full."""
        if has(self.text(MORERCPTHOSTS), name):
            return
        full = False

        def changed(text: bytes) -> bytes:
            nonlocal full
            if has(text, name):
                return text
            full = len(text.splitlines()) >= FULL
            return text if full else self._inserted(RCPTHOSTS, text, name)

        self._edit(RCPTHOSTS, changed)
        if full:
            self._edit(MORERCPTHOSTS, lambda text: self._inserted(MORERCPTHOSTS, text, name))

    def refuse(self, names: list[bytes]) -> None:
        """Have none of these domains in rcpthosts or morercpthosts; remove that one, and its cdb, if nothing is left.
        rcpthosts stays: without it, mail is taken for any domain."""
        if self.text(RCPTHOSTS) is not None:
            self._edit(RCPTHOSTS, lambda text: vpopmail.without(text, names))
        if self.text(MORERCPTHOSTS) is not None:
            self._edit(MORERCPTHOSTS, lambda text: vpopmail.without(text, names), self._remove_morercpthosts)

    def _remove_morercpthosts(self) -> None:
        for path in MORERCPTHOSTS + COMPILED, MORERCPTHOSTS:
            try:
                os.unlink(self._path(path))
            except FileNotFoundError:
                pass
        safeio.sync_folder(self._path(b"control"))

    def compiled_morercpthosts(self) -> bytes | None:
        """What morercpthosts.cdb is to be; None if there is to be none."""
        hosts = control.Control(self.home).lines(b"morercpthosts")
        return None if hosts is None else b"".join(_made((host.lower(), b"") for host in hosts))

    def compile_morercpthosts(self) -> None:
        """Make morercpthosts.cdb of morercpthosts, as qmail-newmrh(8) does."""
        whole = self.compiled_morercpthosts()
        if whole is not None and self.text(MORERCPTHOSTS + COMPILED) != whole:
            self._replace(MORERCPTHOSTS + COMPILED, whole)

    # a file

    def _path(self, name: bytes) -> bytes:
        return self.home + b"/" + name

    def _edit(
        self, name: bytes, changed: "Callable[[bytes], bytes]", emptied: "Callable[[], None] | None" = None
    ) -> None:
        """emptied: what is done, instead, with a file in which nothing is left."""
        fd = recordlocks.acquire(self._path(name) + LOCK)
        try:
            before = self.text(name)
            after = changed(before or b"")
            if emptied is not None and not after:
                emptied()
            elif after != before:
                self._replace(name, after)
        finally:
            os.close(fd)

    def _replace(self, name: bytes, text: bytes) -> None:
        path = self._path(name)
        safeio.replace(path, path + TEMPORARY, (text,), MODE)
        safeio.sync_folder(os.path.dirname(path))

    def _inserted(self, name: bytes, text: bytes, line: bytes) -> bytes:
        after, unordered = vpopmail.inserted(text, line, name == ASSIGN)
        if unordered and after != text:
            strerr.say(UNORDERED % self._path(name))
        return after


def _prefix(name: bytes) -> bytes:
    return b"+%s-" % name


def _made(records: "Iterable[tuple[bytes, bytes]]") -> list[bytes]:
    try:
        return list(cdb.make(records))
    except cdb.TooLarge:
        raise OSError(errno.EFBIG, "") from None


def has(text: bytes | None, line: bytes) -> bool:
    """Whether a control file has a line; line is in lower case."""
    return text is not None and vpopmail.without(text, [line]) != text
