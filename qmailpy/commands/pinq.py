"""NAME
    pinq - read mail from a Maildir with pine

SYNOPSIS
    pinq [ARG...]

DESCRIPTION
    pinq is for users of pine, which knows mbox files alone, whose mail is delivered to a Maildir. It runs
    maildir2mbox(1) and, if that succeeds, becomes pine, with the same arguments.

ENVIRONMENT
    MAIL         the mbox file that pine reads
    MAILTMP      a file in the same file system that may be overwritten
    MAILDIR      the Maildir
    QMAILHOME    the home of the mail system; unset, /var/qmail

EXIT STATUS
    That of pine, or of maildir2mbox if that is not 0.

    111    maildir2mbox was killed by a signal, or one of the two could not be run

SEE ALSO
    maildir2mbox(1), maildirwatch(1), qmail-local(8)
"""

from qmailpy import chain
from qmailpy.chain import Env, Exec
from qmailpy.loops.subprogram import succeeds
from qmailpy.stores.home import home
from qmailpy.stores.programs import find

PROGRAM = b"pinq"
READER = b"pine"


def main(argv: list[bytes], env: Env) -> int | Exec:
    first = Exec([find(home(env), b"maildir2mbox")], env, who=PROGRAM)
    failed = succeeds(PROGRAM, lambda: chain.spawn(lambda: first, env, "pinq"))
    return failed or Exec([READER, *argv[1:]], env, who=PROGRAM)
