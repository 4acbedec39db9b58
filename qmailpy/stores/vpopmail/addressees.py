"""addressees - for whom there is mail in a virtual domain. vdelivermail(8) and vchkrcpt(8) both ask here, so that
nobody is refused whose mail would be delivered, and nobody taken whose mail would be returned.

Mail for LOCAL@DOMAIN belongs to the first of these that there is, of which qmail-local finds the first:

    .qmail-LOCAL, .qmail-...-default    in the domain's folder: an alias, a list, whatever valias(8) has made
    the account LOCAL
    the account whose name is LOCAL up to a hyphen, the longest; what follows is an extension
    the ACTION of .qmail-default        formats.qmaildefault; without such a file there is nobody

Whatever cannot be read raises OSError: nobody is to be told that there is no such mailbox."""

import errno
import os

from qmailpy.formats import qmaildefault, qmailfile, vpopmail
from qmailpy.stores.home import home
from qmailpy.stores.vpopmail import accounts, domains
from qmailpy.stores.vpopmail.vhome import Vhome, vhome
from qmailpy.unix import fds, ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmailpy.formats.vpasswd import Account
    from qmailpy.stores.vpopmail.domains import Domain

DASH = b"-"  # between an account's name and an extension; and before EXT, of qmail-local
DEFAULT = qmailfile.PREFIX + DASH + qmailfile.DEFAULT
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

FORMAT = 0o170000  # of a mode, stat(2)
REGULAR = 0o100000

LARGEST = 1 << 20  # bytes of a .qmail file, or of a text
NO_SUCH = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)  # qmail-local goes on to the next one

# Whose mail it is.
ALIAS = "alias"
ACCOUNT = "account"
CATCHALL = "catch-all"
NOBODY = "nobody"


class Found:
    """kind: one of the above. domain; account and ext, for an account; action, for CATCHALL: None if nobody can tell
    what .qmail-default does."""

    __slots__ = ("account", "action", "domain", "ext", "kind")

    def __init__(
        self,
        kind: str,
        domain: "Domain",
        account: "Account | None" = None,
        ext: bytes = b"",
        action: bytes | None = None,
    ) -> None:
        self.kind = kind
        self.domain = domain
        self.account = account
        self.ext = ext
        self.action = action


def domain_of(env: "Mapping[bytes, bytes]", host: bytes) -> "Domain | None":
    """The virtual domain of that name. Where the domains' home is does not matter for it. Raises OSError."""
    folder = home(env)
    found = domains.find(Vhome(b"", folder), host)
    if found is None:
        os.stat(folder)  # one that is away has no domains either
    return found


def resolve(env: "Mapping[bytes, bytes]", host: bytes, local: bytes) -> Found | None:
    """Whose mail for local@host is; None if that is no virtual domain. Raises OSError."""
    found = domain_of(env, host)
    if found is None:
        return None
    with ids.Acting(found.uid, found.gid):
        return _resolved(found, local.lower())


def _resolved(found: "Domain", lower: bytes) -> Found:
    """Raises OSError."""
    folder = os.open(found.dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # one that is away has no aliases either
    try:
        if any(is_file(name, folder) for name, _ in qmailfile.candidates(DASH, lower) if name != DEFAULT):
            return Found(ALIAS, found)
        text = read(DEFAULT, folder)
    finally:
        os.close(folder)
    if text is None:
        return Found(NOBODY, found)
    action = qmaildefault.action(text)
    if action is None:
        return Found(CATCHALL, found)
    if not is_name(lower):
        return Found(NOBODY, found)
    account, ext = account_of(found, lower)
    if account is not None:
        return Found(ACCOUNT, found, account, ext)
    return Found(NOBODY if qmaildefault.kind(action) == qmaildefault.BOUNCED else CATCHALL, found, action=action)


def is_name(local: bytes) -> bool:
    """Whether it has no character that no user's name has: mail for others is returned, whatever ACTION says."""
    return not local.translate(None, vpopmail.USER_CHARACTERS)


def account_of(domain: "Domain", local: bytes) -> "tuple[Account | None, bytes]":
    """The account, or None, that has mail for local, in lower case; and the extension. Raises OSError.

    The original takes what precedes the first hyphen: so mail for jean-luc-lists is jean's, not jean-luc's."""
    end = len(local) if len(local) <= vpopmail.USER_LENGTH else local.rfind(DASH, 0, vpopmail.USER_LENGTH + 1)
    while end > 0:
        account = accounts.get(domain, local[:end])
        if account is not None:
            return account, local[end + 1 :]
        end = local.rfind(DASH, 0, end)
    os.stat(domain.dir + accounts.TEXT)  # without it nobody knows who there is
    return None, b""


def is_file(name: bytes, folder: int) -> bool:
    """Whether there is a file that qmail-local would read. Raises OSError."""
    try:
        return os.stat(name, dir_fd=folder).st_mode & FORMAT == REGULAR
    except OSError as e:
        if e.errno in NO_SUCH:
            return False
        raise


def read(name: bytes, folder: int | None = None) -> bytes | None:
    """A .qmail file, or a text; None if there is none. Raises OSError."""
    try:
        fd = os.open(name, READ, dir_fd=folder)
    except OSError as e:
        if e.errno in NO_SUCH:
            return None
        raise
    try:
        return fds.read_all(fd, LARGEST) if os.fstat(fd).st_mode & FORMAT == REGULAR else None
    finally:
        os.close(fd)


def text(env: "Mapping[bytes, bytes]", domain: "Domain", name: bytes) -> bytes | None:
    """What somebody is to be told: DOMAIN/NAME, or VHOME/domains/NAME; None if there is neither that can be read."""
    try:
        with ids.Acting(domain.uid, domain.gid):
            found = read(domain.dir + b"/" + name)
    except OSError:
        found = None
    if found is not None:
        return found
    try:
        return read(vhome(env).domains + b"/" + name)
    except OSError:
        return None
