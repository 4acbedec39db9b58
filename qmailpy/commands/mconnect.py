"""NAME
    mconnect - talk to a mail server by hand

SYNOPSIS
    mconnect [HOST [PORT]]

DESCRIPTION
    mconnect connects to PORT on HOST. It sends its input there, with a CR before each LF, and meanwhile prints
    whatever it receives, as it comes. It ends when the server closes the connection; the end of its input does
    not end it.

    Without PORT it uses port 25 (SMTP); without HOST it connects to the local host.

    mconnect is tcpclient(1) with mconnect-io(1).

EXIT STATUS
    0      the server has closed the connection
    111    tcpclient(1) could not connect, or could not be run

SEE ALSO
    mconnect-io(1), tcpclient(1), tcpcat(1), addcr(1)
"""

from qmailpy.chain import Env, Exec

PROGRAM = b"mconnect"
LOCAL = b"0"
PORT = b"25"


def main(argv: list[bytes], env: Env) -> int | Exec:
    host, port = argv[1:3] + [LOCAL, PORT][len(argv[1:3]) :]
    return Exec([b"tcpclient", b"-RHl0", b"--", host, port, b"mconnect-io"], env, who=PROGRAM)
