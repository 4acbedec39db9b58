"""NAME
    tcpcat - print what a server sends

SYNOPSIS
    tcpcat [HOST [PORT]]

DESCRIPTION
    tcpcat connects to PORT on HOST and prints whatever it receives, without any conversion. It sends nothing.

    Without PORT it uses port 17 (quote of the day); without HOST it connects to the local host.

    tcpcat is tcpclient(1) with cat(1).

EXIT STATUS
    0      all is printed
    111    tcpclient(1) could not connect, or could not be run
    other  cat(1) failed

SEE ALSO
    mconnect(1), who@(1), tcpclient(1), cat(1)
"""

from qmailpy.chain import Env, Exec

PROGRAM = b"tcpcat"
LOCAL = b"0"
PORT = b"17"


def main(argv: list[bytes], env: Env) -> int | Exec:
    host, port = argv[1:3] + [LOCAL, PORT][len(argv[1:3]) :]
    return Exec([b"tcpclient", b"-RHl0", b"--", host, port, b"sh", b"-c", b"exec cat <&6"], env, who=PROGRAM)
