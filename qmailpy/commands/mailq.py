"""NAME
    mailq - list the queue

SYNOPSIS
    mailq [OPTION...]

DESCRIPTION
    mailq lists the messages in the queue and their recipients, as qmail-qread(8) does, which it becomes. It is the
    name by which users of sendmail know this. The options are those of sendmail(8); they change nothing.

ENVIRONMENT
    QMAILHOME    the home of the mail system; unset, /var/qmail

EXIT STATUS
    That of qmail-qread.

    100    wrong usage
    111    qmail-qread could not be run, or there is no home

SECURITY
    Who may not read the queue sees no list.

SEE ALSO
    qmail-qread(8), qmail-qstat(8), sendmail(8)
"""

from qmailpy import strerr
from qmailpy.chain import Env, Exec
from qmailpy.formats.sendmail import read
from qmailpy.stores import programs

PROGRAM = b"mailq"
SENDMAIL = b"sendmail"  # the original is sendmail by another name, and speaks in that one
SENDMAIL_USAGE = b"sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]"


def main(argv: list[bytes], env: Env) -> int | Exec:
    try:
        home, env = programs.enter(env)
    except OSError as e:
        return strerr.fail(strerr.LATER, SENDMAIL, b"unable to switch to qmail home directory", error=e)
    _, _, problem = read(argv)
    if problem:
        strerr.say(PROGRAM + b": " + problem + b"\n")
        return strerr.usage(SENDMAIL, SENDMAIL_USAGE)
    return Exec([programs.find(home, b"qmail-qread")], env, who=SENDMAIL, shown=b"qmail-qread")
