"""NAME
    newaliases - say where aliases are kept

SYNOPSIS
    newaliases [OPTION...]

DESCRIPTION
    newaliases does nothing but say that another program of this name is meant, the one of fastforward, which
    turns /etc/aliases into a database. Without fastforward, aliases are files: what goes to postmaster is written in
    alias/.qmail-postmaster in the home of the mail system, and needs no newaliases.

EXIT STATUS
    100    always

SEE ALSO
    sendmail(8), dot-qmail(5)
"""

from qmailpy import strerr
from qmailpy.chain import Env

SENDMAIL = b"sendmail"  # the original is sendmail by another name, and speaks in that one


def main(argv: list[bytes], env: Env) -> int:
    return strerr.fail(strerr.NEVER, SENDMAIL, b"please use fastforward/newaliases instead")
