"""NAME
    datemail - send mail with the date in local time

SYNOPSIS
    datemail [ARG...]

DESCRIPTION
    datemail is sendmail(8), with the same options and arguments ARG, behind predate(1): a field Date that shows the
    local time zone is put before the message. qmail-inject(8), behind sendmail, adds its own date, in GMT, only if
    the message has none.

    predate and sendmail are those in the folder bin of the mail system's home, if they are there, and else the first
    ones along PATH.

ENVIRONMENT
    TZ           the time zone, tzset(3)
    QMAILHOME    the home of the mail system; unset, /var/qmail

EXIT STATUS
    That of sendmail.

    111    predate or sendmail could not be run

SEE ALSO
    predate(1), sendmail(8), qmail-inject(8), mailsubj(1)
"""

from qmailpy.chain import Env, Exec
from qmailpy.stores import programs
from qmailpy.stores.home import home

PROGRAM = b"datemail"


def main(argv: list[bytes], env: Env) -> Exec:
    folder = home(env)
    words = [programs.find(folder, name) for name in (b"predate", b"sendmail")]
    return Exec([*words, *argv[1:]], env, who=PROGRAM)
