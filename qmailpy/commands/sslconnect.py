"""NAME
    sslconnect - talk to a server by hand, under TLS

SYNOPSIS
    sslconnect [-46] [HOST [PORT [OPTIONS]]]

DESCRIPTION
    sslconnect connects to PORT on HOST and begins TLS. It sends its input there, with a CR before each LF, and
    meanwhile prints whatever it receives, as it comes. It ends when the server closes the connection; the end of its
    input does not end it.

    Without PORT it uses port 465 (SMTP under TLS); without HOST it connects to the local host.

    OPTIONS, and -4 or -6, are for sslclient(1). The server has to prove that it is HOST; with -X it need not.

        sslconnect mail.example 995 -V 3

    sslconnect is sslclient(1) with mconnect-io(1).

EXIT STATUS
    0      the server has closed the connection
    111    sslclient(1) could not connect, or could not be run

SEE ALSO
    mconnect(1), sslcat(1), https@(1), mconnect-io(1), sslclient(1)
"""

from qmailpy.chain import Env, Exec
from qmailpy.formats import options

PROGRAM = b"sslconnect"
DEFAULTS = [b"0", b"465"]


def main(argv: list[bytes], env: Env) -> int | Exec:
    more, words = options.interleaved(argv, DEFAULTS)
    return Exec([b"sslclient", b"-RHl0", *more, b"--", *words, b"mconnect-io"], env, who=PROGRAM)
