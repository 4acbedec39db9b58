"""NAME
    vchkrcpt - tell qmail-smtpd whether a user of a virtual domain exists

SYNOPSIS
    vchkrcpt SENDER RECIPIENT

DESCRIPTION
    vchkrcpt is a program for control/rcptcheck, by which qmail-smtpd(8) refuses unknown users of virtual domains before
    it has taken their mail:

        vchkrcpt

    It exits with 0 if there would be somebody for the mail: RECIPIENT has a .qmail file in the domain's folder, as an
    alias or a list has, or an account, with an extension or without; or mail for unknown users is not returned, by the
    ACTION of the domain's .qmail-default. That is decided as vdelivermail(8) decides it. A .qmail-default that runs no
    vdelivermail, or one in a line that only a shell understands, takes mail for everybody.

    All recipients in other domains are taken: that these are for this host is what qmail-smtpd knows. SENDER is
    ignored.

    An account whose mail is to bounce is refused. One that is over its quota is not: there may be room again when the
    mail is delivered.

ENVIRONMENT
    QMAILHOME       the home of the mail system. Default: /var/qmail
    VPOPMAILHOME    the home of the virtual domains; unset, that of the account vpopmail, or else QMAILHOME

EXIT STATUS
    0      the recipient is taken
    100    there is no such mailbox; descriptor 1 says so, with the text of .no-user.msg, if there is one
    111    it cannot be known now, or wrong usage

SECURITY
    vchkrcpt reads the domain's folder, which only its owner may read: qmail-smtpd has to run as that one, or as
    vpopmail. Otherwise all mail for virtual domains has to be tried again later, and vchkrcpt says why. Root looks with
    the owner's rights.

BUGS
    It does not see what control/virtualdomains may say about a single address.

SEE ALSO
    qmail-smtpd(8), vdelivermail(8), vadddomain(8)
"""

from qmailpy import strerr
from qmailpy.chain import Env
from qmailpy.formats import vpasswd
from qmailpy.stores.vpopmail import addressees
from qmailpy.unix import fds

PROGRAM = b"vchkrcpt"
USAGE = b"vchkrcpt sender recipient"

NO_USER = b".no-user.msg"

NO_MAILBOX = b"sorry, no mailbox here by that name (#5.1.1)"
LOCKED = b"sorry, that mailbox is locked (#5.2.1)"
UNKNOWN = b"unable to look for that mailbox now (#4.3.0)"


def say(text: bytes) -> None:
    try:
        fds.write_all(1, text if text.endswith(b"\n") else text + b"\n")
    except OSError:
        pass


def check(env: Env, host: bytes, local: bytes) -> int:
    """The exit code. Raises OSError."""
    found = addressees.resolve(env, host, local)
    if found is None:
        return 0
    if found.kind == addressees.NOBODY:
        say(addressees.text(env, found.domain, NO_USER) or NO_MAILBOX)
        return strerr.NEVER
    if found.account is not None and found.account.gid & vpasswd.BOUNCE_MAIL:
        say(LOCKED)
        return strerr.NEVER
    return 0


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) != 3:
        strerr.usage(PROGRAM, USAGE)
        return strerr.LATER  # with 100 everybody would be refused
    local, _, host = argv[2].rpartition(b"@")
    try:
        return check(env, host, local)
    except OSError as e:
        say(UNKNOWN)
        return strerr.fail(strerr.LATER, PROGRAM, b"unable to look for the recipient", error=e)
