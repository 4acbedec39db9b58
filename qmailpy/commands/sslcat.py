"""NAME
    sslcat - print what a server sends under TLS

SYNOPSIS
    sslcat [-46] [HOST [PORT [OPTIONS]]]

DESCRIPTION
    sslcat connects to PORT on HOST, begins TLS, and prints whatever it receives, without any conversion. It sends
    nothing.

    Without PORT it uses port 443 (HTTPS); without HOST it connects to the local host.

    OPTIONS, and -4 or -6, are for sslclient(1). The server has to prove that it is HOST; with -X it need not.

    sslcat is sslclient(1) with cat(1).

EXIT STATUS
    0      all is printed
    111    sslclient(1) could not connect, or could not be run
    other  cat(1) failed

SEE ALSO
    tcpcat(1), sslconnect(1), https@(1), sslclient(1), cat(1)
"""

from qmailpy.chain import Env, Exec
from qmailpy.formats import options

PROGRAM = b"sslcat"
DEFAULTS = [b"0", b"443"]


def main(argv: list[bytes], env: Env) -> int | Exec:
    more, words = options.interleaved(argv, DEFAULTS)
    return Exec([b"sslclient", b"-RHl0", *more, b"--", *words, b"sh", b"-c", b"exec cat <&6"], env, who=PROGRAM)
