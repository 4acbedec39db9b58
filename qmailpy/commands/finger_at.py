"""NAME
    finger@ - get information about a user of a host

SYNOPSIS
    finger@ [HOST [USER]]

DESCRIPTION
    finger@ connects to TCP port 79 (finger) on HOST, without HOST on the local host. It sends a line with USER,
    without USER an empty line, and prints what it receives. It removes the CR at the end of each line and makes
    unprintable characters visible, as `cat -v` does.

    Some hosts answer there with information about USER, or to an empty line with a list of the users who are
    logged in.

EXIT STATUS
    0      also if tcpclient(1) could not connect; it says so itself on descriptor 2
    111    the answer could not be read or printed

SEE ALSO
    who@(1), date@(1), tcpcat(1), tcpclient(1), mconnect-io(1), delcr(1), cat(1)
"""

from qmailpy import chain
from qmailpy.chain import Env, Exec
from qmailpy.formats.newlines import DelCr
from qmailpy.formats.visible import visible
from qmailpy.loops.relay import converse

PROGRAM = b"finger@"
LOCAL = b"0"
PORT = b"79"  # RFC 1288


def main(argv: list[bytes], env: Env) -> int | Exec:
    host, user = argv[1:3] + [LOCAL, b""][len(argv[1:3]) :]
    client = Exec([b"tcpclient", b"-RHl0", b"--", host, PORT, b"mconnect-io"], env, who=PROGRAM)
    lines = DelCr()
    return converse(
        PROGRAM,
        client,
        spawn=lambda child: chain.spawn(child, env, "finger@"),
        request=user + b"\n",
        convert=lambda block, final: visible(lines.feed(block, final)),
    )
