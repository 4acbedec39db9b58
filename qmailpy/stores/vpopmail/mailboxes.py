"""mailboxes - the folder and the Maildir of an account, made when mail comes for it: an account may have been written
into vpasswd without them."""

import os

from qmailpy.formats import vpopmail
from qmailpy.stores import maildir
from qmailpy.stores.vpopmail import accounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qmailpy.formats.vpasswd import Account
    from qmailpy.stores.vpopmail.domains import Domain

MODE = 0o700


def settle(domain: "Domain", account: "Account") -> "Account":
    """The account, with a folder in its record. Raises OSError, Invalid."""
    if account.dir:
        return account
    with accounts.Change(domain) as change:
        found = change.get(account.name)
        if found is None:
            raise vpopmail.Invalid(vpopmail.NO_USER)
        if not found.dir:
            found.dir = domain.dir + b"/" + vpopmail.user(found.name)
            change.put([found])
    return found


def make(domain: "Domain", account: "Account") -> None:
    """Make what is missing of an account's folder and Maildir, as the domain's owner. What is above the domain's folder
    is not made: it may only be away. Raises OSError."""
    inside = account.dir.startswith(domain.dir + b"/")
    at = len(domain.dir) + 1 if inside else len(account.dir)
    paths = []
    while (at := account.dir.find(b"/", at)) > 0:
        paths.append(account.dir[:at])
        at += 1
    folder = account.dir + accounts.MAILDIR
    for path in (*paths, account.dir, folder, *(folder + b"/" + part for part in maildir.FOLDERS)):
        try:
            os.mkdir(path, MODE)
        except FileExistsError:
            pass
