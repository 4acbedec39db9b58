"""NAME
    mailsubj - send a message with a subject

SYNOPSIS
    mailsubj SUBJECT RECIPIENT...

DESCRIPTION
    mailsubj sends what comes on descriptor 0, as the body of a message with a Subject and with a To that lists each
    RECIPIENT, commas between them.

        df | mailsubj 'disk usage' postmaster@example.org

    SUBJECT and RECIPIENT are put into the header as they are: they have to be quoted as a header needs it, and a
    RECIPIENT may be `Joe <joe@example.org>`. The rest of the header is made by qmail-inject(8); the variables that it
    knows name the sender.

    qmail-inject is that in the folder bin of the mail system's home, if it is there, and else the first along PATH.

ENVIRONMENT
    QMAILHOME    the home of the mail system; unset, /var/qmail

EXIT STATUS
    That of qmail-inject.

    100    wrong usage
    111    qmail-inject could not be run or was killed by a signal, or the input could not be read

SECURITY
    A newline within SUBJECT or RECIPIENT begins another field. Who passes on what strangers say has to look for them.

SEE ALSO
    qmail-inject(8), sendmail(8), datemail(1)
"""

from _collections_abc import Callable

from qmailpy import chain, strerr
from qmailpy.chain import Env, Exec
from qmailpy.loops.feed import feed
from qmailpy.stores import programs
from qmailpy.stores.home import home

PROGRAM = b"mailsubj"
USAGE = b"mailsubj subject recip [ recip ... ]"


def main(argv: list[bytes], env: Env) -> int:
    if len(argv) < 3:
        return strerr.usage(PROGRAM, USAGE)
    inject = programs.find(home(env), b"qmail-inject")

    def start(prepare: Callable[[], None]) -> int:
        def child() -> Exec:
            prepare()
            return Exec([inject], env, who=PROGRAM)

        return chain.spawn(child, env, "mailsubj")

    recipients = b"".join([word + (b" " if word.endswith(b",") else b", ") for word in argv[2:-1]]) + argv[-1]
    return feed(PROGRAM, start, b"Subject: %s\nTo: %s\n\n" % (argv[1], recipients))
