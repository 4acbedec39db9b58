"""NAME
    date@ - print the time on a host

SYNOPSIS
    date@ [HOST]

DESCRIPTION
    date@ connects to TCP port 13 (daytime) on HOST, without HOST on the local host, and prints what it receives.
    It removes the CR at the end of each line and makes unprintable characters visible, as `cat -v` does.

    Some hosts answer there with the time, for example by

        tcpserver -RHl0 0 13 date

EXIT STATUS
    0      also if tcpclient(1) could not connect; it says so itself on descriptor 2
    111    the answer could not be read or printed

SEE ALSO
    who@(1), finger@(1), tcpcat(1), tcpclient(1), mconnect-io(1), delcr(1), cat(1)
"""

from qmailpy import chain
from qmailpy.chain import Env, Exec
from qmailpy.formats.newlines import DelCr
from qmailpy.formats.visible import visible
from qmailpy.loops.relay import converse

PROGRAM = b"date@"
LOCAL = b"0"
PORT = b"13"  # daytime, RFC 867


def main(argv: list[bytes], env: Env) -> int | Exec:
    host = argv[1] if len(argv) > 1 else LOCAL
    client = Exec([b"tcpclient", b"-RHl0", b"--", host, PORT, b"mconnect-io"], env, who=PROGRAM)
    lines = DelCr()
    return converse(
        PROGRAM,
        client,
        spawn=lambda child: chain.spawn(child, env, "date@"),
        request=b"",
        convert=lambda block, final: visible(lines.feed(block, final)),
    )
