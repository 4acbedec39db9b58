"""NAME
    who@ - list the users of a host

SYNOPSIS
    who@ [HOST]

DESCRIPTION
    who@ connects to TCP port 11 (systat) on HOST, without HOST on the local host, and prints what it receives.
    It removes the CR at the end of each line and makes unprintable characters visible, as `cat -v` does.

    Some hosts answer there with a list of the users who are logged in, for example by

        tcpserver -RHl0 0 11 who

EXIT STATUS
    0      also if tcpclient(1) could not connect; it says so itself on descriptor 2
    111    the answer could not be read or printed

SEE ALSO
    date@(1), finger@(1), tcpcat(1), tcpclient(1), mconnect-io(1), delcr(1), cat(1)
"""

from qmailpy import chain
from qmailpy.chain import Env, Exec
from qmailpy.formats.newlines import DelCr
from qmailpy.formats.visible import visible
from qmailpy.loops.relay import converse

PROGRAM = b"who@"
LOCAL = b"0"
PORT = b"11"  # systat, RFC 866


def main(argv: list[bytes], env: Env) -> int | Exec:
    host = argv[1] if len(argv) > 1 else LOCAL
    client = Exec([b"tcpclient", b"-RHl0", b"--", host, PORT, b"mconnect-io"], env, who=PROGRAM)
    lines = DelCr()
    return converse(
        PROGRAM,
        client,
        spawn=lambda child: chain.spawn(child, env, "who@"),
        request=b"",
        convert=lambda block, final: visible(lines.feed(block, final)),
    )
